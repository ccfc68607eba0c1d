"""What the sessions that somebody looks at held, all together."""

from __future__ import annotations

import time
from dataclasses import dataclass

import sqlalchemy as sa

from carme_hub.records.history import EVERYTHING, HOUR, Filter, conditions_of
from carme_hub.records.tables import session


@dataclass(frozen=True)
class Sums:
    """What sessions held.

    Attributes
    ----------
    sessions
        How many there are; `started` of them ran.
    gpu_hours, core_hours
        From start to end, times the number that was held.
    mean_wait
        Seconds in the queue, of those that started.
    """

    sessions: int = 0
    started: int = 0
    gpu_hours: float = 0.0
    core_hours: float = 0.0
    mean_wait: float = 0.0


def sums(
    engine: sa.Engine, user: str | None = None, wanted: Filter = EVERYTHING, now: float | None = None
) -> Sums:
    """Return what all sessions held that `history.find` would find without a limit.

    Parameters
    ----------
    user
        Whose; None for everybody's.
    now
        Seconds since 1970: until then, those that run have done so.
    """
    present = int(time.time() if now is None else now)
    ran = session.c.started.is_not(None)
    lasted = sa.func.coalesce(session.c.ended, present) - session.c.started
    seconds = sa.case((sa.and_(ran, lasted > 0), lasted), else_=0)
    query = sa.select(
        sa.func.count().label("sessions"),
        sa.func.count(session.c.started).label("started"),
        sa.func.sum(session.c.gpus * seconds).label("gpus"),
        sa.func.sum(session.c.cpus * seconds).label("cores"),
        sa.func.sum(sa.case((ran, session.c.started - session.c.submitted), else_=0)).label("waited"),
    ).where(*conditions_of(user, wanted))
    with engine.connect() as connection:
        row = connection.execute(query).one()
    return Sums(
        sessions=int(row.sessions),
        started=int(row.started),
        gpu_hours=float(row.gpus or 0) / HOUR,
        core_hours=float(row.cores or 0) / HOUR,
        mean_wait=float(row.waited or 0) / row.started if row.started else 0.0,
    )
