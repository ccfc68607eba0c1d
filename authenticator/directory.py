"""The directory: who has this password, and in which groups.

ldap3 blocks, so its calls run in threads of their own, each step with a time-out and all of them together
with a deadline: a server that is silent costs a thread for seconds, and the hub's loop nothing.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ldap3
from ldap3.core.exceptions import LDAPException
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import escape_rdn, parse_dn
from ldapauthenticator.ldapauthenticator import TlsStrategy

from carme_hub.authenticator.connection import (
    Target,
    VerifiedTls,
    Way,
    WrongPasswordError,
    bound,
    search,
    values_of,
)
from carme_hub.authenticator.servers import Server
from carme_hub.authenticator.threads import Threads

__all__ = ["Directory", "DirectoryUnreachableError", "Person", "Settings", "WrongPasswordError"]

MAX_THREADS = 64  # logins that may wait for the directory at once; the rest queues until its deadline
FAILED_SECONDS = 30  # for so long a server that failed is tried last
MAX_GROUP_NAME = 255  # characters, the width of JupyterHub's column

Result = TypeVar("Result")


class DirectoryUnreachableError(Exception):
    """The directory gave no usable answer, which says nothing about the password. The text is for the log."""


@dataclass(frozen=True)
class Person:
    """Somebody the directory knows: canonical name, distinguished name, names (cn) of the groups."""

    username: str
    dn: str
    groups: frozenset[str]


@dataclass(frozen=True)
class Settings:
    """How to reach the directory, and what is where in it. Times in seconds."""

    servers: Sequence[Server]
    tls: TlsStrategy
    ca_file: str | None
    connect_timeout: float
    receive_timeout: int
    deadline: float
    dn_templates: Sequence[str]
    lookup: bool
    lookup_filter: str
    user_search_base: str
    user_attribute: str
    user_filter: str
    group_search_base: str
    group_filter: str
    service_dn: str
    service_password: str = field(repr=False)


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
        self._way = Way(settings.tls, verified, settings.connect_timeout, settings.receive_timeout)
        self._threads = Threads(MAX_THREADS, "carme-ldap")
        self._failed_at: dict[Server, float] = {}

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
        return await self._run(lambda target: self._authenticate(target, username, password))

    async def look_up(self, username: str) -> Person | None:
        """
        Read who a person is now, through the service account; None where the directory has no such person.

        Raises
        ------
        DirectoryUnreachableError
            No server answered in time.
        """
        return await self._run(lambda target: self._look_up(target, username))

    @property
    def can_look_up(self) -> bool:
        """Whether there is a service account, so that persons can be read without their password."""
        return bool(self._settings.service_dn)

    def close(self) -> None:
        """End the threads as they become free."""
        self._threads.close()

    # ---- in a thread

    async def _run(self, ask: Callable[[Target], Result]) -> Result:
        seconds = self._settings.deadline
        until = time.monotonic() + seconds
        try:
            return await self._threads.run(lambda: self._first_answer(ask, until), seconds)
        except TimeoutError:
            raise DirectoryUnreachableError(f"No directory server answered within {seconds:g} s.") from None

    def _first_answer(self, ask: Callable[[Target], Result], until: float) -> Result:
        """Ask one server after the other until one gives an answer, be it yes or no."""
        failures: list[str] = []
        servers = self._in_order()
        for number, server in enumerate(servers):
            now = time.monotonic()
            if now >= until:
                failures.append("no time left for further servers")
                break
            # Each gets its share of what is left, so that one that is slow leaves time for the next.
            target = Target(server, now + (until - now) / (len(servers) - number))
            try:
                return ask(target)
            except (LDAPException, OSError) as error:
                self._failed_at[server] = time.monotonic()
                # At its deadline it was us who broke the connection off, whatever the error says.
                reason = str(error) if time.monotonic() < target.until else "no whole answer in time"
                failures.append(f"{server}: {reason}")
                self._report(f"Directory server {server} failed: {reason}")
        raise DirectoryUnreachableError("; ".join(failures))

    def _in_order(self) -> list[Server]:
        """List the servers as configured, but last those that failed a moment ago."""
        recent = time.monotonic() - FAILED_SECONDS
        return sorted(self._settings.servers, key=lambda server: self._failed_at.get(server, recent) > recent)

    def _authenticate(self, target: Target, username: str, password: str) -> Person:
        if not password:
            raise WrongPasswordError
        for dn in self._dns(target, username):
            with suppress(WrongPasswordError), self._bound(target, dn, password) as own:
                if not self._settings.service_dn:
                    return self._read(own, dn, username)
                with self._service(target) as service:
                    return self._read(service, dn, username)
        raise WrongPasswordError

    def _look_up(self, target: Target, username: str) -> Person | None:
        with self._service(target) as service:
            for dn in self._dns(target, username):
                found = search(service, dn, "(objectClass=*)", ldap3.BASE, ["1.1"])
                if found:
                    with suppress(WrongPasswordError):
                        return self._read(service, found[0]["dn"], username)
        return None

    def _dns(self, target: Target, username: str) -> list[str]:
        """List the distinguished names a person may have: by template, or by search."""
        settings = self._settings
        if not settings.lookup:
            return [template.format(username=escape_rdn(username)) for template in settings.dn_templates]
        query = settings.lookup_filter.format(
            login_attr=settings.user_attribute, login=escape_filter_chars(username)
        )
        with self._service(target) as service:
            found = search(service, settings.user_search_base, query, ldap3.SUBTREE, ["1.1"])
        if len(found) > 1:
            self._report(f"The directory has {len(found)} entries for {username}: none of them may log in.")
            return []
        return [entry["dn"] for entry in found]

    def _read(self, connection: Any, dn: str, username: str) -> Person:
        """Read an entry's canonical name and its groups."""
        settings = self._settings
        query = settings.user_filter.format(
            userattr=settings.user_attribute, username=escape_filter_chars(username)
        )
        found = search(connection, dn, query or "(objectClass=*)", ldap3.BASE, [settings.user_attribute])
        if query and not found:
            self._report(f"{username} does not fit search_filter.")
            raise WrongPasswordError
        values = values_of(found[0], settings.user_attribute) if found else []
        canonical = _canonical(dn, settings.user_attribute, values, username)
        if canonical is None:
            self._report(
                f"{dn} has several values of {settings.user_attribute}: which is the name is unclear."
            )
            raise WrongPasswordError
        return Person(canonical, dn, self._groups(connection, dn, canonical))

    def _groups(self, connection: Any, dn: str, username: str) -> frozenset[str]:
        settings = self._settings
        if not settings.group_search_base:
            return frozenset()
        query = settings.group_filter.format(
            userdn=escape_filter_chars(dn), uid=escape_filter_chars(username)
        )
        found = search(connection, settings.group_search_base, query, ldap3.SUBTREE, ["cn"])
        # cn may have several values; the first is the group's name, as for everybody who shows groups.
        names = {name for entry in found for name in values_of(entry, "cn")[:1]}
        return frozenset(name for name in names if name.strip() and len(name) <= MAX_GROUP_NAME)

    # ---- connections

    def _bound(self, target: Target, dn: str, password: str) -> AbstractContextManager[Any]:
        return bound(self._way, target, dn, password)

    @contextmanager
    def _service(self, target: Target) -> Iterator[Any]:
        """Connect as the service account, or as nobody where there is none."""
        settings = self._settings
        with ExitStack() as stack:
            try:
                opened = self._bound(target, settings.service_dn, settings.service_password)
                connection = stack.enter_context(opened)
            except WrongPasswordError:
                # Ours was wrong, which must not be told to a person as theirs.
                raise LDAPException("the service account's password was refused") from None
            yield connection


def _canonical(dn: str, attribute: str, values: Sequence[str], asked: str) -> str | None:
    """
    Say which name an entry has here, in lower case; None where that is unclear.

    An entry with two uids must not become two accounts, each with its own second factor: the value in the
    distinguished name counts, then the only value there is.
    """
    for name, value, _ in parse_dn(dn)[:1]:
        if name.lower() == attribute.lower():
            return str(value).lower()
    if len(values) > 1:
        return None
    return values[0].lower() if values else asked
