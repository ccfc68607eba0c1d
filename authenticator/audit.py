"""The audit log: everything that happens at the gate, in the database, as JSON lines, and counted.

No secret is in it. A name is only written down where it is an account's: what else was typed there may be a
password.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from prometheus_client import Counter
from sqlalchemy.exc import SQLAlchemyError

from carme_hub.authenticator.database import write
from carme_hub.authenticator.files import open_private
from carme_hub.authenticator.tables import account, audit

TOKEN_MADE = "token-made"  # noqa: S105 - an event: by somebody who was signed in, or had one already
SUCCESS, REFUSED, ERROR = "success", "refused", "error"
MAX_ENTRIES = 1_000_000  # in the database; the file is the admin's to rotate
PRUNE_EVERY = 1000  # entries
PRUNE_AT_ONCE = 5000
DAY = 86400

LENGTHS = {column.name: column.type.length for column in audit.c if isinstance(column.type, sa.String)}

# What a person is told at the next login, whoever did it.
NOTICES = (
    "enrol",
    "device-added",
    "device-removed",
    "recovery-used",
    "recovery-new",
    "reset",
    "unlock",
    "password-changed",
)

EVENTS = Counter(
    "carme_gate_events", "What happened at the login gate (carme-hub)", ["event", "outcome", "reason"]
)


@dataclass(frozen=True)
class Event:
    """
    Something that happened.

    Parameters
    ----------
    event
        What: login, token, prove, enrol-token, enrol, device-added, ...
    outcome
        success, refused or error.
    reason
        Of a refusal or an error, in one word.
    account
        Whose account, empty where that is not known.
    actor
        Who did it, where that is somebody else.
    address
        The client's.
    detail
        What a person wants to read beside it, for example the device's name.
    """

    event: str
    outcome: str = SUCCESS
    reason: str = ""
    account: str = ""
    actor: str = ""
    address: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Entry(Event):
    """An event as it was kept: with its number and its time (seconds since 1970)."""

    id: int = 0
    time: float = 0.0


class Audit:
    """
    The audit log.

    Parameters
    ----------
    engine
        The gate's database.
    path
        File for JSON lines; empty for none. It is opened anew for each line, so that it can be moved away
        (logrotate) at any time.
    days
        How long entries stay in the database.
    report
        Called with a sentence when the file cannot be written.
    """

    def __init__(self, engine: sa.Engine, path: str, days: int, report: Callable[[str], None]) -> None:
        self._engine = engine
        self._path = path
        self._days = days
        self._report = report

    def write(self, event: Event) -> None:
        """Write an event down. A file that cannot be written is reported and stops nobody."""
        now = time.time()
        EVENTS.labels(event.event, event.outcome, event.reason).inc()
        values = {name: text[: LENGTHS[name]] for name, text in asdict(event).items()}
        self._append(now, values)
        with write(self._engine) as connection:
            made = connection.execute(audit.insert().values(time=now, **values)).inserted_primary_key
        if made is not None and made[0] % PRUNE_EVERY == 0:
            self._prune(now, made[0])

    def _prune(self, now: float, newest: int) -> None:
        """Remove some of what is too old or too much: not all at once, which would hold up a login."""
        old = sa.or_(audit.c.time < now - self._days * DAY, audit.c.id <= newest - MAX_ENTRIES)
        some = sa.select(audit.c.id).where(old).order_by(audit.c.id).limit(PRUNE_AT_ONCE)
        with suppress(SQLAlchemyError), write(self._engine) as connection:
            connection.execute(audit.delete().where(audit.c.id.in_(some)))

    def _append(self, now: float, values: dict[str, str]) -> None:
        if not self._path:
            return
        moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": moment, **{name: text for name, text in values.items() if text}}) + "\n"
        try:
            # One write to a file open for appending: lines of two processes do not mix (write(2)). No link is
            # followed: root, too, writes here, into a folder of the hub's.
            descriptor = open_private(self._path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            self._report(f"The audit log {self._path} cannot be written: {error.strerror}.")

    def entries(self, username: str | None = None, limit: int = 50, since: float = 0.0) -> list[Entry]:
        """Return the newest entries, newest first: of one account, or of all."""
        query = sa.select(audit).where(audit.c.time >= since).order_by(audit.c.id.desc()).limit(limit)
        if username is not None:
            query = query.where(audit.c.account == username)
        return self._entries(query)

    def logins(self, username: str, limit: int = 5) -> list[Entry]:
        """Return an account's last logins and tokens that were let in, newest first; no flood hides them."""
        query = (
            sa.select(audit)
            .where(
                audit.c.account == username, audit.c.outcome == SUCCESS, audit.c.event.in_(("login", "token"))
            )
            .order_by(audit.c.id.desc())
            .limit(limit)
        )
        return self._entries(query)

    def notices(self, username: str) -> list[Entry]:
        """Return what an account's owner has not been told yet, newest first."""
        seen = sa.select(account.c.notices_seen).where(account.c.username == username).scalar_subquery()
        query = (
            sa.select(audit)
            .where(
                audit.c.account == username,
                audit.c.outcome == SUCCESS,
                audit.c.event.in_(NOTICES),
                audit.c.id > sa.func.coalesce(seen, 0),
            )
            .order_by(audit.c.id.desc())
            .limit(50)
        )
        return self._entries(query)

    def seen(self, username: str, last_id: int) -> None:
        """Remember up to which entry the owner has been told."""
        update = (
            account.update()
            .where(account.c.username == username, account.c.notices_seen < last_id)
            .values(notices_seen=last_id)
        )
        with write(self._engine) as connection:
            connection.execute(update)

    def _entries(self, query: sa.Select[tuple[object, ...]]) -> list[Entry]:
        with self._engine.connect() as connection:
            return [Entry(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - public in SQLAlchemy
