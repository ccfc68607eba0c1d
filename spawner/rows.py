"""What the hub's database says of sessions, for those who look at all of them; read behind nobody's back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jupyterhub.utils import utcnow
from sqlalchemy import text
from sqlalchemy.orm import Session, object_session

from carme_hub.spawner import saver
from carme_hub.spawner.slurm import Slurm, account_of
from carme_hub.spawner.sweep import MarkedJob, Sweep
from carme_hub.spawner.watcher import JobRef

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from sqlalchemy import Engine

    from carme_hub.spawner.backends import Backend

# JupyterHub's table keeps the state as JSON (jupyterhub.orm.JSONDict).
_STATES = "SELECT state FROM spawners WHERE server_id IS NOT NULL AND state IS NOT NULL"


def known_jobs(engine: Engine) -> set[int]:
    """Return the numbers of all jobs that sessions have, as the database has it.

    A row that has a state and no server is of a session that JupyterHub has given up. Each cluster has
    numbers of its own, and all count on all clusters: two names may mean one, and to leave an orphan alone is
    better than to end a session.
    """
    # A session of its own: the hub's may be in the middle of something.
    with Session(engine) as own:
        states = [json.loads(state) for state in own.scalars(text(_STATES))]
    numbers = [str(state.get("job_id", "")) for state in states if isinstance(state, dict)]
    return {int(number) for number in numbers if number.isascii() and number.isdigit()}


async def until_writable(orm_spawner: Any, log: logging.Logger, also: Callable[[], None]) -> None:
    """Wait until the database takes what is written about a session, and what else there is to write.

    JupyterHub writes right after this and has no second try: a session whose end it could not write down
    would stay in its pages for ever.
    """

    def write() -> None:
        orm_spawner.last_activity = utcnow(with_tz=False)
        also()

    await saver.save(orm_spawner, write, log)


def begin_sweep(backend: Backend, hub: str, orm_spawner: Any, log: logging.Logger) -> None:
    """Begin to look for jobs of a cluster that no session has; doing it again changes nothing."""
    session, runner, watcher = object_session(orm_spawner), backend.runner, backend.watcher
    if backend.sweep is not None or session is None or not isinstance(runner, Slurm):
        return
    engine: Engine = session.get_bind().engine

    def end(job: MarkedJob) -> None:
        async def cancel() -> None:
            await runner.cancel(job.job_id, await account_of(job.owner))

        watcher.abandon(JobRef(job.job_id), cancel)

    backend.sweep = Sweep(runner, hub, lambda: known_jobs(engine), lambda: watcher.abandoned, end, log)
    backend.sweep.start()
