"""How much of a cluster was in use: what the chart of the last days is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from carme_hub.authenticator.database import write
from carme_hub.records.tables import sample
from carme_hub.records.values import cut

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Sample:
    """How much there was of one kind at one moment, in numbers of cores or GPUs.

    Attributes
    ----------
    queued
        What the jobs ask for that wait.
    down
        What is part of `total` and cannot be used.
    """

    total: int
    used: int
    queued: int = 0
    down: int = 0


def add(engine: sa.Engine, at: float, cluster: str, counts: Mapping[str, Sample]) -> None:
    """Write down a moment; one that is there already is replaced.

    Parameters
    ----------
    counts
        "cpu" or a gres in Slurm's words ("gpu:a100") -> how much of it.
    """
    moment, cluster = int(at), cut(sample.c.cluster, cluster)
    rows = [
        {
            "cluster": cluster,
            "at": moment,
            "name": cut(sample.c.name, name),
            "total": one.total,
            "used": one.used,
            "queued": one.queued,
            "down": one.down,
        }
        for name, one in counts.items()
    ]
    with write(engine) as connection:
        connection.execute(sample.delete().where(sample.c.cluster == cluster, sample.c.at == moment))
        if rows:
            connection.execute(sample.insert(), rows)


def since(
    engine: sa.Engine, cluster: str, at: float, until: float | None = None
) -> list[tuple[int, dict[str, Sample]]]:
    """Return the moments of a cluster from then on, the oldest first: seconds since 1970, and the counts."""
    query = sa.select(sample).where(sample.c.cluster == cluster, sample.c.at >= int(at))
    if until is not None:
        query = query.where(sample.c.at < int(until))
    moments: dict[int, dict[str, Sample]] = {}
    with engine.connect() as connection:
        for row in connection.execute(query.order_by(sample.c.at, sample.c.name)):
            moments.setdefault(row.at, {})[row.name] = Sample(row.total, row.used, row.queued, row.down)
    return list(moments.items())


def remove_older(engine: sa.Engine, than: float, at_once: int) -> int:
    """Remove what was so long ago; says how many rows of it."""
    oldest = sa.select(sample.c.at).where(sample.c.at < int(than)).order_by(sample.c.at).limit(at_once)
    with write(engine) as connection:
        moments = set(connection.execute(oldest).scalars())
        if not moments:
            return 0
        return connection.execute(sample.delete().where(sample.c.at <= max(moments))).rowcount
