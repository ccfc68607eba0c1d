"""What a person is told: a session started, failed, ended, ends soon; a message of an admin's."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from carme_hub.authenticator.database import write
from carme_hub.records.tables import notice
from carme_hub.records.values import LARGEST, numbers, shortened

if TYPE_CHECKING:
    from collections.abc import Collection

KINDS = ("started", "failed", "ended", "ends_soon", "message")
LEVELS = ("info", "success", "warning", "danger")  # Bootstrap's words
MOST_UNREAD = 50


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something a person is told.

    Attributes
    ----------
    at, read_at
        Seconds since 1970; `read_at` is None as long as it is new to them.
    kind, level
        One of `KINDS` and of `LEVELS`.
    title, text
        Plain text, no HTML and no Markdown: whatever is in it is shown as it is.
    server
        The name of the server it is about. Empty also means the default one, where the kind is one about
        sessions.
    about
        What is told once: of two notices of a person with the same text here the second one is not taken.
        Empty for what may be repeated.
    """

    user: str
    kind: str
    title: str
    text: str = ""
    level: str = "info"
    server: str = ""
    about: str = ""
    at: int = 0
    id: int = 0
    read_at: int | None = None


def add(engine: sa.Engine, *told: Notice) -> list[int]:
    """Tell people something; returns the numbers of what was new. `at` is now unless it is given."""
    now = int(time.time())
    made_now = []
    with write(engine) as connection:
        for one in told:
            values = shortened(
                notice,
                {
                    "username": one.user,
                    "at": one.at or now,
                    "kind": one.kind,
                    "level": one.level,
                    "title": one.title,
                    "text": one.text,
                    "server": one.server,
                    "about": one.about or None,
                },
            )
            if one.about:
                same = sa.select(notice.c.id).where(
                    notice.c.username == values["username"], notice.c.about == values["about"]
                )
                if connection.execute(same).first() is not None:
                    continue
            made = connection.execute(notice.insert().values(values)).inserted_primary_key
            made_now += [int(made[0])] if made is not None else []
    return made_now


def unread(engine: sa.Engine, user: str, limit: int = MOST_UNREAD) -> list[Notice]:
    """Return what a person has not read, the newest first."""
    return _find(engine, limit, notice.c.username == user, notice.c.read_at.is_(None))


def recent(engine: sa.Engine, user: str, n: int = 20, before: int | None = None) -> list[Notice]:
    """Return what a person was told, read or not, the newest first.

    Parameters
    ----------
    before
        The number of a notice: only older ones are returned.
    """
    older = [] if before is None else [notice.c.id < min(before, LARGEST)]
    return _find(engine, n, notice.c.username == user, *older)


def after(engine: sa.Engine, number: int, limit: int = 1000) -> list[Notice]:
    """Return what was told to anybody after a notice, the oldest first: one question for all open pages."""
    query = sa.select(notice).where(notice.c.id > number).order_by(notice.c.id).limit(limit)
    return _notices(engine, query)


def newest(engine: sa.Engine) -> int:
    """Return the number of the newest notice, to begin `after`; 0 when there is none."""
    with engine.connect() as connection:
        return connection.execute(sa.select(sa.func.max(notice.c.id))).scalar() or 0


def mark_read(engine: sa.Engine, user: str, ids: Collection[int] | None = None) -> int:
    """Remember what a person has read; numbers of other people's notices are left out. Returns how many.

    Parameters
    ----------
    ids
        Numbers of notices, 1,000 at most; None for all.
    """
    mine = [notice.c.username == user, notice.c.read_at.is_(None)]
    if ids is not None:
        mine.append(notice.c.id.in_(numbers(ids)))
    with write(engine) as connection:
        change = notice.update().where(*mine).values(read_at=int(time.time()))
        return connection.execute(change).rowcount


def remove_older(engine: sa.Engine, than: float, at_once: int) -> int:
    """Remove what was told so long ago; says how many."""
    some = sa.select(notice.c.id).where(notice.c.at < int(than)).order_by(notice.c.id).limit(at_once)
    with write(engine) as connection:
        return connection.execute(notice.delete().where(notice.c.id.in_(some))).rowcount


def _find(engine: sa.Engine, limit: int, *conditions: sa.ColumnElement[bool]) -> list[Notice]:
    return _notices(engine, sa.select(notice).where(*conditions).order_by(notice.c.id.desc()).limit(limit))


def _notices(engine: sa.Engine, query: sa.Select[tuple[Any, ...]]) -> list[Notice]:
    with engine.connect() as connection:
        return [
            Notice(
                user=row.username,
                kind=row.kind,
                title=row.title,
                text=row.text,
                level=row.level,
                server=row.server,
                about=row.about or "",
                at=row.at,
                id=row.id,
                read_at=row.read_at,
            )
            for row in connection.execute(query)
        ]
