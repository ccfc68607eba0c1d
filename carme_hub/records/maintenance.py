"""Whether the site takes new sessions, and what it says when it does not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from carme_hub.authenticator.database import write
from carme_hub.records.tables import setting

KEY = "maintenance"


@dataclass(frozen=True)
class Maintenance:
    """What an admin set.

    Attributes
    ----------
    on
        Whether new sessions are refused, but for admins.
    text
        What people read then, plain text; empty for our own words.
    by
        Who set it.
    since
        When, in seconds since 1970.
    """

    on: bool = False
    text: str = ""
    by: str = ""
    since: int = 0


def get(engine: sa.Engine) -> Maintenance:
    """Return what is set; off when nothing was."""
    query = sa.select(setting.c.value).where(setting.c.key == KEY)
    with engine.connect() as connection:
        return _read(connection.execute(query).scalar())


def set(engine: sa.Engine, what: Maintenance) -> None:  # noqa: A001 - maintenance.set
    """Set it."""
    with write(engine) as connection:
        connection.execute(setting.delete().where(setting.c.key == KEY))
        connection.execute(setting.insert().values(key=KEY, value=asdict(what)))


def _read(value: Any) -> Maintenance:
    if not isinstance(value, dict):
        return Maintenance()
    return Maintenance(
        on=value.get("on") is True,
        text=str(value.get("text", "")),
        by=str(value.get("by", "")),
        since=int(value.get("since", 0)),
    )
