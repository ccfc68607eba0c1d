"""CarmeAuthenticator: what JupyterHub asks of the gate: a login, who may stay in, and the pages."""

import asyncio
import gc
import ssl
import time
from functools import partial
from typing import Any

from carme_hub.authenticator import answers, credentials, logins, sign_out
from carme_hub.authenticator.audit import REFUSED, Event
from carme_hub.authenticator.directory import DirectoryUnreachableError, Person
from carme_hub.authenticator.doors import handlers
from carme_hub.authenticator.proofs import Proofs

PAUSE_SECONDS = 0.002  # between two logins


class CarmeAuthenticator(Proofs):
    """LDAP password and one-time code, decided together."""

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._began = time.monotonic()
        self._handing_over = asyncio.Lock()

    async def authenticate(self, handler: Any, data: Any) -> dict[str, Any] | None:
        """
        Decide a login; the form and the token API both call this.

        Parameters
        ----------
        handler
            Of the request; its address and its cookie of a known browser count, nothing else does.
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
        WaitError
            Too many were refused at this address.
        """
        asked = credentials.parse(data, self.valid_username_regex)
        try:
            person = await self.prove_login(handler, getattr(handler, "gate_event", "login"), asked)
        except answers.RefusedError:
            return None
        # What JupyterHub does next, in the loop, takes some 20 ms for each: of many who come at one instant,
        # one after the other is handed over, so that everybody else gets a turn in between.
        async with self._handing_over:
            await asyncio.sleep(PAUSE_SECONDS)
        return self._model(person)

    # ---- who may come in

    def _model(self, person: Person) -> dict[str, Any]:
        model: dict[str, Any] = {"name": person.username, "groups": sorted(person.groups)}
        if self.admin_groups:
            # False, not None: None would leave the right with those who have lost it.
            is_admin = bool(person.groups & self.admin_groups) or person.username in self.admin_users
            model["admin"] = is_admin
        return model

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """Say whether somebody who proved who they are may come in: by name, by group, or as admin."""
        if self.allow_all or username in self.allowed_users or username in self.admin_users:
            return True
        model = auth_model or {}
        return bool(self.allowed_groups.intersection(model.get("groups") or ())) or model.get("admin") is True

    async def is_admin_by_now(self, username: str) -> bool:
        """
        Say whether somebody is an admin by configuration or directory, also before the first login here.

        Raises
        ------
        GateUnavailableError
            The directory does not answer.
        """
        if username in self.admin_users:
            return True
        if not self.admin_groups or not self.directory.can_look_up:
            return False
        try:
            person = await self.directory.look_up(username)
        except DirectoryUnreachableError as error:
            raise answers.GateUnavailableError(answers.DIRECTORY_DOWN, "directory") from error
        return person is not None and bool(self._model(person)["admin"])

    async def may_come_in(self, person: Person) -> bool:
        """Decide by name and groups as JupyterHub does after `authenticate`: blocked, allowed."""
        model = self._model(person)
        if not self.check_blocked_users(person.username, model):
            return False
        return await self.check_allowed(person.username, model)

    # ---- while somebody is in

    async def refresh_user(self, user: Any, handler: Any = None) -> bool | dict[str, Any]:
        """
        Say whether somebody may stay in, and with which groups.

        False after a reset, and for those whom the directory (where there is a service account) does not know
        any more. While it is unreachable nothing changes for `refresh_grace` seconds.
        """
        if handler is not None and not hasattr(handler, "_token_authenticated"):
            # On pages that take no tokens JupyterHub 6.1 never sets it, reads it after a no, and fails.
            handler._token_authenticated = False  # noqa: SLF001
        try:
            if await self.end_old_logins(user):
                return False
        except answers.GateUnavailableError:
            pass  # nobody new gets in either, and those who are in stay: the log says so
        if not self.directory.can_look_up:
            return True
        try:
            person = await self.directory.look_up(user.name)
        except DirectoryUnreachableError as error:
            return self._within_grace(user.name, error)
        if person is None or person.username != user.name:
            # Over and not only refused: the name may be given to somebody else one day.
            logins.end_logins(user)
            return False
        self._last_seen[user.name] = time.monotonic()
        return self._model(person) if await self.may_come_in(person) else False

    def _within_grace(self, username: str, error: Exception) -> bool:
        # Of those who came before this hub started, it knows no better moment than its own start.
        unseen = time.monotonic() - self._last_seen.get(username, self._began)
        stays = bool(unseen < self.refresh_grace)
        self.log.warning(
            "%s %s: the directory cannot say whether they belong to it since %d s (%s)",
            username,
            "stays in" if stays else "is not let in",
            unseen,
            error,
        )
        return stays

    async def admit(self, handler: Any, user: Any) -> None:
        """
        Ask once more before a login or a token begins: since its code was used, there may have been a reset.

        Raises
        ------
        RefusedError
            There was.
        """
        cookie_id = user.cookie_id
        generation, ended, notices = await self.in_thread(lambda: self._before_login(user.name))
        # Whatever ended logins while the database was asked ended this one.
        if generation != handler.gate_generation or user.cookie_id != cookie_id:
            await self.record(handler, Event(handler.gate_event, REFUSED, "reset", user.name))
            raise answers.RefusedError
        # A reset after what was just read is not marked as ended here, and ends this login like all others.
        await self._end_logins_before(user, generation, ended)
        handler.gate_notices = notices

    def _before_login(self, username: str) -> tuple[int, int, bool]:
        notices = bool(self.store.audit.notices(username))
        return *self.store.generations(username), notices

    async def end_old_logins(self, user: Any) -> bool:
        """End the logins and tokens from before a reset, where there was one; says whether there was."""
        generation, ended = await self.in_thread(partial(self.store.generations, user.name))
        return await self._end_logins_before(user, generation, ended)

    async def _end_logins_before(self, user: Any, generation: int, ended: int) -> bool:
        if ended >= generation:
            return False
        logins.end_logins(user)
        await self.in_thread(lambda: self.store.logins_ended(user.name, generation))
        return True

    async def delete_user(self, user: Any) -> None:
        """Forget all about an account together with the account; the audit log keeps what happened."""
        super().delete_user(user)
        await self.in_thread(lambda: self.store.reset(user.name))
        await self.record(None, Event("deleted", account=user.name))

    # ---- start

    def get_handlers(self, app: Any) -> list[tuple[Any, ...]]:  # noqa: ARG002
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
        if self.enrolment == "first-login":
            self.log.warning(
                "CarmeAuthenticator.enrolment is 'first-login': a stolen password is enough to become "
                "somebody who has not enrolled yet."
            )
        sign_out.install()
        # What the hub is made of stays: looking through it for garbage stopped the loop for 0.2 s at a time.
        gc.collect()
        gc.freeze()
        return handlers
