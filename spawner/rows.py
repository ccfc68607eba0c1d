"""What the hub's database says of sessions, for those who look at all of them; read behind nobody's back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyterhub import orm
from sqlalchemy import select
from sqlalchemy.orm import Session, object_session

from carme_hub.spawner.slurm import Slurm, account_of
from carme_hub.spawner.sweep import MarkedJob, Sweep

if TYPE_CHECKING:
    import logging

    from sqlalchemy import Connection, Engine

    from carme_hub.spawner.backends import Backend

# One for each cluster, by its watcher: there is one of those.
_SWEEPS: dict[int, Sweep] = {}


def known_jobs(engine: Engine | Connection) -> set[int]:
    """Return the numbers of all jobs that sessions have, as the database has it.

    A row that has a state and no server is of a session that JupyterHub has given up.
    """
    # A session of its own: the hub's may be in the middle of something.
    with Session(engine) as own:
        states = own.scalars(select(orm.Spawner.state).where(orm.Spawner.server_id.is_not(None)))
        numbers = [str((state or {}).get("job_id", "")) for state in states]
    return {int(number) for number in numbers if number.isascii() and number.isdigit()}


def begin_sweep(backend: Backend, hub: str, orm_spawner: Any, log: logging.Logger) -> None:
    """Begin to look for jobs of a cluster that no session has; doing it again changes nothing."""
    session, runner, watcher = object_session(orm_spawner), backend.runner, backend.watcher
    if id(watcher) in _SWEEPS or session is None or not isinstance(runner, Slurm):
        return
    engine = session.get_bind()

    def end(job: MarkedJob) -> None:
        async def cancel() -> None:
            await runner.cancel(job.job_id, await account_of(job.owner))

        watcher.abandon(job.job_id, cancel)

    _SWEEPS[id(watcher)] = Sweep(runner, hub, lambda: known_jobs(engine), lambda: watcher.abandoned, end, log)
    _SWEEPS[id(watcher)].start()
