"""Password and code, asked and counted: login page, token API and forms that ask again all end here."""

import asyncio
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from carme_hub.authenticator import answers, audit, client, credentials, throttle, totp
from carme_hub.authenticator.attempts import password_counters
from carme_hub.authenticator.audit import ERROR, REFUSED, Event
from carme_hub.authenticator.credentials import Credentials
from carme_hub.authenticator.directory import (
    Directory,
    DirectoryUnreachableError,
    Person,
    WrongPasswordError,
)
from carme_hub.authenticator.secretbox import SecretBox, SecretKeyError, SecretUnreadableError
from carme_hub.authenticator.store import RECOVERY, Store, Used
from carme_hub.authenticator.threads import Threads
from carme_hub.authenticator.traits import GateTraits
from carme_hub.authenticator.turns import Turns

STORE_THREADS = 8
STORE_SECONDS = 25.0  # longer than one process waits for another one's write (`database.BUSY_SECONDS`)
AT_ONCE_FROM_ONE_PLACE = 64  # undecided logins; of so many at one instant, none is counted too late

Result = TypeVar("Result")


class _NoError(Exception):
    """Somebody is refused; the reason is for the audit log alone. The account where it is known better."""

    def __init__(self, reason: str, username: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.username = username


class Proofs(GateTraits):
    """The part of the authenticator that decides whether somebody is who they say."""

    # ---- what the steps need, made at first use

    _directory: Directory | None = None
    _store: Store | None = None

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        # Its own: in asyncio's threads, a slow database would hold up whatever else the hub does there.
        self._store_threads = Threads(STORE_THREADS, "carme-store")
        self._places = Turns(AT_ONCE_FROM_ONE_PLACE)
        self._passwords = Turns(1)
        self._last_seen: dict[str, float] = {}  # when the directory last knew somebody (`time.monotonic`)

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
            box = SecretBox.load(self.secret_key_file)
            self._store = Store(self.database_url, box, self.audit_file, self.audit_days, self.log.error)
        return self._store

    def close(self) -> None:
        """End threads and connections."""
        self._store_threads.close()
        if self._directory is not None:
            self._directory.close()
        if self._store is not None:
            self._store.close()

    @abstractmethod
    async def may_come_in(self, person: Person) -> bool:
        """Say whether somebody with this name and these groups is let in at all."""

    # ---- the proofs

    async def prove(self, handler: Any, event: str, username: str, password: str, code: str) -> Person:
        """
        Ask somebody who is logged in for password and code again, as a login does.

        Parameters
        ----------
        handler
            Of the request.
        event
            What the audit log calls it.
        username, password, code
            Canonical name of who is logged in; the rest as typed.

        Raises
        ------
        RefusedError, WaitError, GateUnavailableError
            As at a login; each has a sentence for the page.
        """
        data = {"username": username, "password": password, "otp": code}
        person = await self.prove_login(handler, event, credentials.parse(data, self.valid_username_regex))
        if person.username != username:
            raise answers.RefusedError
        return person

    async def prove_invited(
        self, handler: Any, username: str, password: str, is_invited: Callable[[], bool]
    ) -> Person:
        """
        Ask somebody who has no code yet for another secret, and then for the password.

        Parameters
        ----------
        handler
            Of the request.
        username, password
            As typed.
        is_invited
            Run in a thread: whether that other secret is right. Without it, nothing is said about passwords.

        Raises
        ------
        RefusedError, WaitError, GateUnavailableError
            As at a login.
        """
        data = {"username": username, "password": password, "otp": ""}
        asked = credentials.parse(data, self.valid_username_regex)

        async def decide(place: str) -> Person:
            if not await self.in_thread(is_invited):
                raise _NoError("token")
            if asked is None:
                raise _NoError("malformed")
            return await self._check_password(place, asked)

        return await self._answered(handler, "enrol", asked.username if asked else "", decide)

    async def prove_login(self, handler: Any, event: str, asked: Credentials | None) -> Person:
        """Decide about name, password and code; raises as `prove` does."""

        async def decide(place: str) -> Person:
            if asked is None:
                raise _NoError("malformed")
            person = await self._check_password(place, asked)
            await self._check_code(handler, event, person.username, asked.code)
            return person

        return await self._answered(handler, event, asked.username if asked else "", decide)

    async def _answered(
        self, handler: Any, event: str, username: str, decide: Callable[[str], Awaitable[Result]]
    ) -> Result:
        """Decide, told the place; every refusal is written down, and the same answer after the same time."""
        arrived = time.monotonic()
        place = client.source_of(handler, username)
        async with self._places.turn(place):
            await self._check_place(event, place)
            try:
                return await decide(place)
            except _NoError as no:
                refused = Event(event, REFUSED, no.reason, no.username or username)
                await self._write_down(handler, refused, place)
            except answers.GateUnavailableError as error:
                if error.what != "store":
                    await self.record(handler, Event(event, ERROR, error.what))
                raise
        if self.refusal_seconds:
            # So that the time does not tell what was wrong.
            spent = time.monotonic() - arrived
            await asyncio.sleep(self.refusal_seconds - spent % self.refusal_seconds)
        raise answers.RefusedError

    async def _check_place(self, event: str, place: str) -> None:
        """Raise `WaitError` where too many were refused at this address, or in this known browser."""
        count = await self.in_thread(lambda: self.store.attempts.count(throttle.ADDRESS, place))
        now = int(time.time())
        if throttle.verdict(count, throttle.ADDRESS, now) != throttle.ALLOWED:
            # Counted, not written down: else a flood would push out of the log what was done before it.
            audit.EVENTS.labels(event, REFUSED, "address").inc()
            raise answers.WaitError(count.wait_until - now)

    async def _check_password(self, place: str, asked: Credentials) -> Person:
        attempts = self.store.attempts
        counters = password_counters(asked.username, place)
        # One after the other, and counted when it is known to be wrong: of many at one instant no more get
        # through, and while a directory is slow nobody is told to wait who has made no mistake.
        async with self._passwords.turn(counters[0][1]):
            verdict, has_failed = await self.in_thread(lambda: attempts.look(counters))
            if verdict != throttle.ALLOWED:
                raise _NoError(verdict)
            person = await self._ask_directory(asked)
            if person is None:
                await self.in_thread(lambda: attempts.fail_all(counters))
                raise _NoError("password")
            if has_failed:
                await self.in_thread(lambda: attempts.clear_all(counters))
        if not await self.may_come_in(person):
            raise _NoError("not-allowed", person.username)
        return person

    async def _ask_directory(self, asked: Credentials) -> Person | None:
        try:
            person = await self.directory.authenticate(asked.username, asked.password)
        except WrongPasswordError:
            return None
        except DirectoryUnreachableError as error:
            # Without a traceback: the sentence names server and reason.
            self.log.error("A login could not be decided: %s", error)  # noqa: TRY400
            raise answers.GateUnavailableError(answers.DIRECTORY_DOWN, "directory") from error
        self._last_seen[person.username] = time.monotonic()
        known = credentials.canonical_name(person.username, self.valid_username_regex)
        return person if known == person.username else None

    async def _check_code(self, handler: Any, event: str, username: str, code: str) -> None:
        """Check the second factor, use it up and write it down; only ever called after a right password."""
        address = client.address_of(handler)

        def check() -> tuple[str, Used | None, int]:
            attempts = self.store.attempts
            verdict = attempts.begin(throttle.CODE, username)
            if verdict != throttle.ALLOWED:
                return verdict, None, 0
            # Before the code: a reset after this moment ends what the code is about to open (`admit`).
            generation, _ = self.store.generations(username)
            try:
                used = self.store.use_code(username, code, time.time(), self.totp_window, self.passkey_origin)
            except (SQLAlchemyError, SecretUnreadableError):
                attempts.give_back(throttle.CODE, username)
                raise
            if used is not None:
                attempts.clear(throttle.CODE, username)
                write_down(used)
            return "code", used, generation

        def write_down(used: Used) -> None:
            done = Event(event, account=username, address=address, detail=f"{used.kind}: {used.detail}")
            self.store.audit.write(done)
            if used.kind == RECOVERY:
                self.store.audit.write(replace(done, event="recovery-used", detail=used.detail))

        reason, used, generation = await self.in_thread(check)
        if used is None:
            raise _NoError(reason, username)
        if handler is not None:
            handler.gate_generation = generation
        self.log.info("Gate: event=%s account=%s", event, username)

    async def _write_down(self, handler: Any, event: Event, place: str) -> None:
        """Write a refusal to the audit log, and count it for the place it came from."""
        address = client.address_of(handler)

        def write() -> None:
            # What is no account's name may be a misplaced password.
            known = event.account if event.account and self.store.knows(event.account) else ""
            self.store.audit.write(replace(event, account=known, address=address))
            if self.store.attempts.fail(throttle.ADDRESS, place).wait_until:
                self.store.audit.write(Event(event.event, REFUSED, "address", address=address))

        await self.in_thread(write)
        self.log.warning("Refused: event=%s reason=%s", event.event, event.reason)

    async def record(self, handler: Any, event: Event) -> None:
        """Write an event to the audit log, with the client's address."""
        whole = replace(event, address=event.address or client.address_of(handler))
        await self.in_thread(lambda: self.store.audit.write(whole))
        self.log.info("Gate: event=%s account=%s actor=%s", event.event, event.account, event.actor)

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
            raise answers.GateUnavailableError(answers.STORE_DOWN, "store") from None
        except (SQLAlchemyError, SecretKeyError, SecretUnreadableError) as error:
            # The text of a database error can hold the values it was about.
            what = type(error).__name__ if isinstance(error, SQLAlchemyError) else str(error)
            self.log.error("The database of devices failed: %s", what)  # noqa: TRY400
            raise answers.GateUnavailableError(answers.STORE_DOWN, "store") from None
