"""What sessions held within a period, one by one: for sums over any group of people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from carme_hub.records.tables import session

if TYPE_CHECKING:
    from collections.abc import Iterator

_AT_ONCE = 5000


@dataclass(frozen=True)
class Use:
    """What one session held within a period.

    Attributes
    ----------
    seconds
        For how long it ran, as far as that is within the period.
    waited
        Seconds in the queue; None for one that did not start.
    gpus, cpus
        All nodes together.
    """

    user: str
    profile: str
    image: str
    seconds: int
    waited: int | None
    gpus: int
    cpus: int


def within(
    engine: sa.Engine, since: float, until: float, now: float, user: str | None = None
) -> Iterator[Use]:
    """Return the sessions that waited or ran within a period.

    Parameters
    ----------
    since, until, now
        Seconds since 1970. Those that run have done so until `now`.
    user
        Whose; None for everybody's.
    """
    first, last, present = int(since), int(until), int(now)
    query = sa.select(
        session.c.username,
        session.c.profile,
        session.c.image,
        session.c.submitted,
        session.c.started,
        session.c.ended,
        session.c.gpus,
        session.c.cpus,
    ).where(session.c.submitted < last, sa.func.coalesce(session.c.ended, present) >= first)
    if user is not None:
        query = query.where(session.c.username == user)
    with engine.connect() as connection:
        for row in connection.execution_options(yield_per=_AT_ONCE).execute(query):
            ends = min(present if row.ended is None else row.ended, last)
            ran = row.started is not None
            yield Use(
                user=row.username,
                profile=row.profile,
                image=row.image,
                seconds=max(ends - max(row.started, first), 0) if ran else 0,
                waited=max(row.started - row.submitted, 0) if ran else None,
                gpus=row.gpus,
                cpus=row.cpus,
            )
