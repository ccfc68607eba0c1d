"""Completes the history from Slurm's accounting: what a job used, and what was missed without a hub."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from carme_hub.records import history
from carme_hub.spawner.answers import PHASES, UNKNOWN, Phase
from carme_hub.spawner.slurm import SlurmError

if TYPE_CHECKING:
    import logging
    from collections.abc import Collection, Mapping

    import sqlalchemy as sa

    from carme_hub.records.history import Row
    from carme_hub.spawner.slurm import Slurm
    from carme_hub.spawner.usage import Record

AT_ONCE = 200  # jobs in one sacct
SETTLED = 60  # seconds after a job's end from which on accounting has all of it
FORGOTTEN = 86400  # seconds after which accounting is not expected to know a job any more
SKEW = 300  # seconds by which the clocks of hub and controller may differ


async def reconcile(
    engine: sa.Engine,
    clusters: Mapping[str, Slurm],
    alive: Collection[tuple[str, int]],
    log: logging.Logger,
    now: float | None = None,
) -> int:
    """Ask accounting about all sessions that it has not said its last word about, and write that down.

    Parameters
    ----------
    engine
        Of `carme_hub.records.open_records`.
    clusters
        The site's clusters by name; sessions on others are left as they are until they are old.
    alive
        Cluster and number of each job that the hub has a session for. What is not among them and of which
        accounting knows nothing has ended.
    log
        Told when a cluster's accounting does not answer.
    now
        Seconds since 1970; the present without it.

    Returns
    -------
    int
        How many rows changed.

    Notes
    -----
    One sacct for each cluster and 200 jobs; sessions that run are not asked for. Call it every few minutes.
    """
    moment = time.time() if now is None else now
    rows = await asyncio.to_thread(history.unaccounted, engine)
    changes: dict[int, dict[str, Any]] = {}
    for cluster in {row.cluster for row in rows}:
        mine = [row for row in rows if row.cluster == cluster and (cluster, row.job) not in alive]
        slurm = clusters.get(cluster)
        for begin in range(0, len(mine), AT_ONCE):
            some = mine[begin : begin + AT_ONCE]
            try:
                records = await slurm.records([row.job for row in some]) if slurm is not None else {}
            except SlurmError as error:
                log.warning("The history of cluster %r is completed later: %s", cluster, error)
                break
            for row in some:
                change = change_of(row, records.get(row.job), moment)
                if change:
                    changes[row.id] = change
    if changes:
        await asyncio.to_thread(history.change, engine, changes)
    return len(changes)


def change_of(row: Row, record: Record | None, now: float) -> dict[str, Any]:
    """Return what accounting adds to a row of a session that the hub does not have any more. Pure.

    Parameters
    ----------
    row
        The session.
    record
        What accounting says; None when it does not know the job.
    now
        Seconds since 1970.

    Returns
    -------
    dict
        Columns and their values; empty when nothing is known yet.

    Notes
    -----
    Slurm's numbers of jobs come again some day: a record of a job that was submitted before the session is
    another one's.
    """
    if record is not None and record.submitted is not None and record.submitted < row.submitted - SKEW:
        record = None
    if record is None:
        return _unknown(row, now)
    change: dict[str, Any] = {}
    if record.started is not None and PHASES.get(record.state) is not Phase.PENDING:
        change["started"] = record.started
    if PHASES.get(record.state) is not Phase.ENDED or record.ended is None:
        return change if row.started is None and change else {}
    if record.ended + SETTLED > now and row.ended is not None:
        return {}
    # A job that was cancelled in the queue has a start in accounting, which is its end.
    if record.started is not None and record.ended <= record.started and row.started is None:
        change.pop("started", None)
    change |= {"ended": record.ended, "state": record.state, "exit_code": record.exit_code}
    change["accounted"] = record.ended + SETTLED <= now
    change |= _held(row, record)
    if record.cpu_seconds is not None:
        change["cpu_seconds"] = record.cpu_seconds
    if record.max_memory is not None:
        # Slurm looks now and then; a session that ran out of memory has told its peak itself.
        change["max_memory"] = max(record.max_memory, row.max_memory or 0)
    return change


def _held(row: Row, record: Record) -> dict[str, int]:
    """Return what was allocated where it is more than what was asked for.

    Not where it is less: of a job on several nodes, 24.11 and 26.05 count the GPUs of one of them.
    """
    names = {"nodes": "node", "cpus": "cpu", "gpus": "gres/gpu", "memory": "mem"}
    return {
        column: record.tres[name]
        for column, name in names.items()
        if record.tres.get(name, 0) > getattr(row, column)
    }


def _unknown(row: Row, now: float) -> dict[str, Any]:
    """Close a row that nobody will ever say more about."""
    if row.ended is None and now - row.submitted > SKEW:
        return {"ended": int(now), "state": UNKNOWN}
    if row.ended is not None and now - row.ended > FORGOTTEN:
        return {"accounted": True}
    return {}
