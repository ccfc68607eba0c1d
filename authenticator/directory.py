"""The directory: who has this password, and in which groups.

ldap3 blocks, so its calls run in threads of their own, each step with a time-out and all of them together
with a deadline: a server that is silent costs a thread for seconds, and the hub's loop nothing.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from ldap3.core.exceptions import LDAPException
from ldapauthenticator.ldapauthenticator import TlsStrategy

from carme_hub.authenticator import credentials
from carme_hub.authenticator.connection import Target, VerifiedTls, Way
from carme_hub.authenticator.directory_errors import (
    ChangeUnclearError,
    DirectoryUnreachableError,
    PasswordPolicyError,
    WrongPasswordError,
)
from carme_hub.authenticator.health import Health, ServerHealth
from carme_hub.authenticator.password_change import ElsewhereError
from carme_hub.authenticator.questions import Person, Questions, Settings
from carme_hub.authenticator.threads import Threads

__all__ = [
    "ChangeUnclearError",
    "Directory",
    "DirectoryUnreachableError",
    "PasswordPolicyError",
    "Person",
    "ServerHealth",
    "Settings",
    "WrongPasswordError",
]

MAX_THREADS = 64  # logins that may wait for the directory at once; the rest queues until its deadline
REFRESH_THREADS = 8  # the same for refreshes, which come by the thousand and may wait
MAX_REASON = 300  # characters of what is kept and logged of a server's failure
UNUSABLE = "The new password is empty, too long, or has characters that cannot be used. Choose another one."

Result = TypeVar("Result")


class Directory:
    """
    The directory as the gate sees it.

    Parameters
    ----------
    settings
        Where it is and how it is laid out.
    report
        Called with a sentence for the log when a server fails or an entry makes no sense; no secret is in it.

    Raises
    ------
    OSError, ssl.SSLError
        The CA file cannot be read.
    """

    def __init__(self, settings: Settings, report: Callable[[str], None]) -> None:
        self._settings = settings
        self._report = report
        verified = None if settings.tls is TlsStrategy.insecure else VerifiedTls(settings.ca_file)
        way = Way(settings.tls, verified, settings.connect_timeout, settings.receive_timeout)
        self._questions = Questions(settings, way, report)
        self._threads = Threads(MAX_THREADS, "carme-ldap")
        self._refreshes = Threads(REFRESH_THREADS, "carme-ldap-refresh")
        self._health = Health(settings.servers)

    async def authenticate(self, username: str, password: str) -> Person:
        """
        Check a password and read who that is.

        Parameters
        ----------
        username
            Canonical form of what was typed.
        password
            Not blank.

        Raises
        ------
        WrongPasswordError
            No such person, or another password; which of the two is not told.
        DirectoryUnreachableError
            No server answered in time.
        """
        return await self._run(
            self._threads, lambda target: self._questions.authenticate(target, username, password)
        )

    async def look_up(self, username: str) -> Person | None:
        """
        Read who a person is now, through the service account; None where the directory has no such person.

        Raises
        ------
        DirectoryUnreachableError
            No server answered in time.
        """
        return await self._run(self._refreshes, lambda target: self._questions.look_up(target, username))

    async def change_password(self, username: str, old: str, new: str) -> None:
        """
        Give a person another password, with the person's own rights (RFC 3062).

        Raises
        ------
        WrongPasswordError
            The old one is not right.
        PasswordPolicyError
            The directory does not take the new one, or does not let the person change it; with a sentence.
        ChangeUnclearError
            It was sent, and no answer came in time: either may be right now.
        DirectoryUnreachableError
            No server answered in time; the old one stays.
        """
        if credentials.usable_password(old) is None:
            raise WrongPasswordError
        if credentials.usable_password(new) is None:
            raise PasswordPolicyError(UNUSABLE)
        await self._run(
            self._threads,
            lambda target: self._questions.change(target, username, old, new),
            ChangeUnclearError,
        )

    @property
    def can_look_up(self) -> bool:
        """Whether there is a service account, so that persons can be read without their password."""
        return bool(self._settings.service_dn)

    def health(self) -> list[ServerHealth]:
        """Say how the servers are doing, in the configured order."""
        return self._health.states()

    def close(self) -> None:
        """End the threads as they become free."""
        self._threads.close()
        self._refreshes.close()

    # ---- in a thread

    async def _run(
        self,
        threads: Threads,
        ask: Callable[[Target], Result],
        late: type[DirectoryUnreachableError] = DirectoryUnreachableError,
    ) -> Result:
        seconds = self._settings.deadline
        until = time.monotonic() + seconds
        try:
            return await threads.run(lambda: self._first_answer(ask, until), seconds)
        except TimeoutError:
            raise late(f"No directory server answered within {seconds:g} s.") from None

    def _first_answer(self, ask: Callable[[Target], Result], until: float) -> Result:
        """Ask one server after the other until one gives an answer, be it yes or no."""
        failures: list[str] = []
        servers = self._health.order()
        for number, server in enumerate(servers):
            now = time.monotonic()
            if now >= until:
                failures.append("no time left for further servers")
                break
            # Each gets its share of what is left, so that one that is slow leaves time for the next.
            target = Target(server, now + (until - now) / (len(servers) - number))
            try:
                answer = ask(target)
            except ElsewhereError as error:
                failures.append(f"{server}: {error}")
            except ChangeUnclearError as error:
                self._failed(target, error)
                raise  # a second server is not asked
            except (LDAPException, OSError) as error:
                failures.append(f"{server}: {self._failed(target, error)}")
            except (WrongPasswordError, PasswordPolicyError):
                self._health.answered(server)
                raise
            else:
                self._health.answered(server)
                return answer
        raise DirectoryUnreachableError("; ".join(failures))

    def _failed(self, target: Target, error: Exception) -> str:
        """Remember and report a server's failure; returns the reason."""
        # At its deadline it was us who broke the connection off, whatever the error says.
        reason = str(error)[:MAX_REASON] if time.monotonic() < target.until else "no whole answer in time"
        self._health.failed(target.server, reason)
        self._report(f"Directory server {target.server} failed: {reason}")
        return reason
