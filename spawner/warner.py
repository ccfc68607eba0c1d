"""Tells, some minutes before, that a session's time limit ends: an event for each moment of ``warn_before``.

Within the session `carme_hub.spawner.timekeeper` does so by itself; this is for the hub's pages.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import TYPE_CHECKING

from carme_hub.spawner.answers import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carme_hub.spawner.session import Session
    from carme_hub.spawner.watcher import View

INTERVAL = 20.0  # seconds between two looks at the clock

_WATCHED: weakref.WeakKeyDictionary[Session, set[tuple[int, int]]] = weakref.WeakKeyDictionary()
_tasks: list[asyncio.Task[None]] = []


def due(view: View | None, levels: Iterable[float], now: float) -> int | None:
    """Return which warning there is to give now.

    Parameters
    ----------
    view
        What is known of the job.
    levels
        Seconds before the end in which to warn.
    now
        Seconds since 1970.

    Returns
    -------
    int or None
        The latest of the levels that has been reached. A session that is not longer than a level in all has
        nothing to be told of it.
    """
    if view is None or view.phase is not Phase.RUNNING or view.start is None or view.end is None:
        return None
    left, whole = view.end - now, view.end - view.start
    return min((int(level) for level in levels if 0 < left <= level < whole), default=None)


def begin(session: Session) -> None:
    """Warn of the end of a session, for as long as it has a job; beginning again changes nothing."""
    _WATCHED.setdefault(session, set())
    if not _tasks or _tasks[0].done():
        _tasks[:] = [asyncio.get_running_loop().create_task(_run(), name="carme-warner")]


async def _run() -> None:
    while _WATCHED:
        for session, told in list(_WATCHED.items()):
            _look(session, told)
        await asyncio.sleep(INTERVAL)


def _look(session: Session, told: set[tuple[int, int]]) -> None:
    if not session.job_id:
        _WATCHED.pop(session, None)
        return
    view = session.view
    level = due(view, [60 * minutes for minutes in session.warn_before], time.time())
    if level is None or view is None or view.end is None or session.chronicle is None:
        return
    # Slurm counts in minutes: an end that moves by less is the same one.
    which = (view.end // 60, level)
    if which not in told:
        told.add(which)
        session.chronicle.warn(end=view.end, left=level)
