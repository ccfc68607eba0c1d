"""CarmeAuthenticator: holds the steps of a login together. Page and token API both end in `authenticate`."""

import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from carme_hub.authenticator import answers, credentials, pages, tokens, totp
from carme_hub.authenticator.directory import (
    Directory,
    DirectoryUnreachableError,
    Person,
    WrongPasswordError,
)
from carme_hub.authenticator.secretbox import SecretBox, SecretUnreadableError
from carme_hub.authenticator.store import Store
from carme_hub.authenticator.threads import Threads
from carme_hub.authenticator.traits import GateTraits

STORE_THREADS = 8
STORE_SECONDS = 15.0  # longer than one process waits for another one's write (`tables.BUSY_SECONDS`)

Result = TypeVar("Result")


class CarmeAuthenticator(GateTraits):
    """LDAP password and one-time code, decided together."""

    # ---- what the steps need, made at first use

    _directory: Directory | None = None
    _store: Store | None = None

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        # Its own: in asyncio's threads, a slow database would hold up whatever else the hub does there.
        self._store_threads = Threads(STORE_THREADS, "carme-store")

    @property
    def directory(self) -> Directory:
        """The directory, as configured."""
        if self._directory is None:
            self._directory = Directory(self.directory_settings(), self.log.warning)
        return self._directory

    @property
    def store(self) -> Store:
        """The database of devices."""
        if self._store is None:
            self._store = Store(self.database_url, SecretBox.load(self.secret_key_file))
        return self._store

    def close(self) -> None:
        """End threads and connections."""
        self._store_threads.close()
        if self._directory is not None:
            self._directory.close()
        if self._store is not None:
            self._store.close()

    # ---- login

    async def authenticate(self, handler: Any, data: Any) -> dict[str, Any] | None:  # noqa: ARG002 - JupyterHub's signature
        """
        Decide a login; the form and the token API both call this.

        Parameters
        ----------
        handler
            Of the request; not used.
        data
            What the request carried: ``username``, ``password`` and ``otp`` count, nothing else does.

        Returns
        -------
        dict or None
            ``name``, ``groups``, and ``admin`` where `admin_groups` is set. None for every kind of refusal.

        Raises
        ------
        GateUnavailableError
            With a sentence where directory or database do not answer: no failed attempt.
        """
        asked = credentials.parse(data, self.valid_username_regex)
        if asked is None:
            self._refused("(not a name)", "malformed")
            return None
        # Rule 8 comes in here: who has to wait is refused before the directory is asked.
        person = await self.check_password(asked.username, asked.password)
        if person is None:
            self._refused(asked.username, "password")
            return None
        if not await self._consume_code(person.username, asked.code):
            # Rule 8 counts here, after a right password: the code's own counter.
            self._refused(person.username, "code")
            return None
        return self._model(person)

    async def check_password(self, username: str, password: str) -> Person | None:
        """
        Ask the directory; None for a wrong password.

        Raises
        ------
        GateUnavailableError
            Where the directory does not answer.
        """
        try:
            person = await self.directory.authenticate(username, password)
        except WrongPasswordError:
            return None
        except DirectoryUnreachableError as error:
            # Without a traceback: the sentence names server and reason.
            self.log.error(  # noqa: TRY400
                "Login of %s could not be decided: %s", username, error
            )
            raise answers.GateUnavailableError(answers.DIRECTORY_DOWN) from error
        known = credentials.canonical_name(person.username, self.valid_username_regex)
        return person if known == person.username else None

    async def _consume_code(self, username: str, code: str) -> bool:
        for device in await self.in_thread(lambda: self.store.totp_devices(username)):
            step = self.code_step(device.secret, code)
            if step is None:
                continue
            if await self.in_thread(partial(self.store.consume_step, username, device.id, step)):
                return True
        return False

    def code_step(self, secret: str, code: str) -> int | None:
        """Say which time step a code belongs to now; None for none of those that are accepted."""
        return totp.matching_step(secret, code, time.time(), self.totp_window)

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """
        Run a piece of the store's work in a thread.

        Raises
        ------
        GateUnavailableError
            Where the database does not answer in time, or it or a secret in it cannot be read.
        """
        try:
            return await self._store_threads.run(work, STORE_SECONDS)
        except TimeoutError:
            self.log.error("The database of devices did not answer within %g s.", STORE_SECONDS)  # noqa: TRY400
            raise answers.GateUnavailableError(answers.STORE_DOWN) from None
        except (SQLAlchemyError, SecretUnreadableError) as error:
            # The text of a database error can hold the values it was about.
            what = str(error) if isinstance(error, SecretUnreadableError) else type(error).__name__
            self.log.error("The database of devices failed: %s", what)  # noqa: TRY400
            raise answers.GateUnavailableError(answers.STORE_DOWN) from None

    def _refused(self, username: str, reason: str) -> None:
        # The one place where a refusal is written down (the audit log of rule 12 comes in here).
        self.log.warning("Login refused: account=%s reason=%s", username, reason)

    def _model(self, person: Person) -> dict[str, Any]:
        model: dict[str, Any] = {"name": person.username, "groups": sorted(person.groups)}
        if self.admin_groups:
            # False, not None: None would leave the right with those who have lost it.
            is_admin = bool(person.groups & self.admin_groups) or person.username in self.admin_users
            model["admin"] = is_admin
        return model

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """Say whether somebody who proved who they are may come in: by name, by group, or as admin."""
        if self.allow_all or username in self.allowed_users:
            return True
        model = auth_model or {}
        return bool(self.allowed_groups.intersection(model.get("groups") or ())) or model.get("admin") is True

    async def may_come_in(self, person: Person) -> bool:
        """Decide by name and groups as JupyterHub does after `authenticate`: blocked, allowed."""
        model = self._model(person)
        if not self.check_blocked_users(person.username, model):
            return False
        return await self.check_allowed(person.username, model)

    async def refresh_user(self, user: Any, handler: Any = None) -> bool | dict[str, Any]:  # noqa: ARG002
        """
        Read a person's groups anew, where there is a service account; False once there is no such person.

        An unreachable directory changes nothing.
        """
        if not self.directory.can_look_up:
            return True
        try:
            person = await self.directory.look_up(user.name)
        except DirectoryUnreachableError as error:
            self.log.warning("%s could not be refreshed: %s", user.name, error)
            return True
        if person is None or person.username != user.name:
            return False
        model = self._model(person)
        return model if await self.check_allowed(user.name, model) else False

    async def delete_user(self, user: Any) -> None:
        """Forget an account's devices together with the account."""
        super().delete_user(user)
        await self.in_thread(lambda: self.store.reset(user.name))

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:  # noqa: ARG002
        """
        Add the pages. Directory and database are opened here, so that a mistake ends the start.

        Raises
        ------
        ValueError
            With the sentence of whatever cannot be used.
        """
        try:
            for part in (self.directory, self.store):
                self.log.debug("%s is ready.", type(part).__name__)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(
                f"CarmeAuthenticator.ca_file {self.ca_file!r} cannot be used: {error}"
            ) from error
        if not self.directory.can_look_up:
            self.log.warning(
                "CarmeAuthenticator.lookup_dn_search_user is not set: who leaves the directory or a group "
                "keeps logins and rights until the next login. Name an account that may read the directory."
            )
        return [*pages.handlers, *tokens.handlers]
