"""What everybody is told: an admin's announcements, from one moment until another."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from carme_hub.authenticator.database import write
from carme_hub.records.tables import announcement
from carme_hub.records.values import LARGEST, shortened

LEVELS = ("info", "warning", "danger")


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """An announcement.

    Attributes
    ----------
    text
        Markdown as it was typed: whoever shows it renders it, and cleans what comes out.
    level
        One of `LEVELS`.
    starts, ends, created
        Seconds since 1970; without an end it is shown until it is removed.
    """

    title: str
    text: str = ""
    level: str = "info"
    starts: int = 0
    ends: int | None = None
    author: str = ""
    created: int = 0
    id: int = 0


# By how much it matters, then the newest first.
_RANK = {level: -rank for rank, level in enumerate(LEVELS)}


def current(engine: sa.Engine, now: float | None = None) -> list[Announcement]:
    """Return what is announced now, what matters most first."""
    moment = int(time.time() if now is None else now)
    ended = sa.and_(announcement.c.ends.is_not(None), announcement.c.ends <= moment)
    found = _find(engine, sa.select(announcement).where(announcement.c.starts <= moment, ~ended))
    return sorted(found, key=lambda one: (_RANK.get(one.level, 0), -one.starts, -one.id))


def all(engine: sa.Engine, limit: int = 200) -> list[Announcement]:  # noqa: A001 - announcements.all
    """Return all announcements, the newest first."""
    return _find(engine, sa.select(announcement).order_by(announcement.c.id.desc()).limit(limit))


def get(engine: sa.Engine, number: int) -> Announcement | None:
    """Return one announcement; None when it is gone."""
    found = _find(engine, sa.select(announcement).where(announcement.c.id == min(number, LARGEST)))
    return found[0] if found else None


def add(engine: sa.Engine, what: Announcement) -> int:
    """Announce something; returns its number. It starts now unless it says when."""
    now = int(time.time())
    values = _values(what) | {"author": what.author, "created": now, "starts": what.starts or now}
    with write(engine) as connection:
        made = connection.execute(
            announcement.insert().values(shortened(announcement, values))
        ).inserted_primary_key
    return int(made[0]) if made is not None else 0


def change(engine: sa.Engine, what: Announcement) -> bool:
    """Change title, text, level, start and end of the announcement with this number; False: it is gone."""
    update = announcement.update().where(announcement.c.id == min(what.id, LARGEST))
    with write(engine) as connection:
        return connection.execute(update.values(shortened(announcement, _values(what)))).rowcount > 0


def remove(engine: sa.Engine, number: int) -> bool:
    """Remove an announcement; False when it was gone already."""
    with write(engine) as connection:
        return (
            connection.execute(
                announcement.delete().where(announcement.c.id == min(number, LARGEST))
            ).rowcount
            > 0
        )


def _values(what: Announcement) -> dict[str, Any]:
    return {name: getattr(what, name) for name in ("title", "text", "level", "starts", "ends")}


def _find(engine: sa.Engine, query: sa.Select[tuple[Any, ...]]) -> list[Announcement]:
    with engine.connect() as connection:
        return [Announcement(**row) for row in connection.execute(query).mappings()]
