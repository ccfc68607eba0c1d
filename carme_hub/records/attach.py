"""Ties the records to a hub: what happens to sessions is written down, and maintenance closes the doors."""

from __future__ import annotations

import asyncio
import atexit
import time
from typing import TYPE_CHECKING

from carme_hub.records import maintenance
from carme_hub.records.recorder import Database, Recorder
from carme_hub.spawner import closed, events

if TYPE_CHECKING:
    import logging

    from carme_hub.records.maintenance import Maintenance

FRESH = 3.0  # seconds for which an answer of the database counts, and between two looks for the pages
PATIENCE = 2.0  # seconds that a start waits for it
CLOSED = "This site is in maintenance and takes no new sessions at the moment."
USUAL = "Running sessions are not affected. Please try again later."


class Door:
    """Knows whether the site is in maintenance, from the database, and asks it seldom.

    Parameters
    ----------
    database
        Where admins set it. While it does not answer, what it said last counts; before it ever did, the
        site is open.
    log
        Told when it does not answer.
    """

    def __init__(self, database: Database, log: logging.Logger) -> None:
        self._database = database
        self._log = log
        self._known = maintenance.Maintenance()
        self._asked = -FRESH
        self._asking: asyncio.Task[Maintenance] | None = None
        self._following: asyncio.Task[None] | None = None

    def notice(self) -> str | None:
        """Return the admins' text while the site is in maintenance, else None: as it was seconds ago."""
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow(), name="carme-maintenance-pages")
        return self._known.text.strip() if self._known.on else None

    async def _follow(self) -> None:
        """Look every few seconds, so that a page never waits for the database."""
        while True:
            await self.sentence()
            await asyncio.sleep(FRESH)

    async def sentence(self) -> str:
        """Return what people read who want a session; empty while they can have one."""
        if time.monotonic() - self._asked >= FRESH:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(asyncio.to_thread(self._ask), name="carme-maintenance")
                self._asking.add_done_callback(self._answered)
            await asyncio.wait([self._asking], timeout=PATIENCE)
        return f"{CLOSED} {self._known.text.strip() or USUAL}" if self._known.on else ""

    def set(self, now: Maintenance) -> None:
        """Know at once what has just been written; a look that is under way has seen what was before."""
        self._known, self._asked, self._asking = now, time.monotonic(), None

    def _ask(self) -> Maintenance:
        return maintenance.get(self._database.engine())

    def _answered(self, task: asyncio.Task[Maintenance]) -> None:
        if task.cancelled() or task is not self._asking:
            return
        self._asked = time.monotonic()
        if (error := task.exception()) is not None:
            self._log.warning("Whether the site is in maintenance is not known: %s", type(error).__name__)
        else:
            self._known = task.result()


def attach(url: str, log: logging.Logger) -> Recorder:
    """Write down what happens to the sessions of this hub, and ask about maintenance before each start.

    Parameters
    ----------
    url
        Address of the database; it is opened later, in a thread: a hub starts without it.
    """
    database = Database(url)
    recorder = Recorder(database, log)
    events.listen(recorder.take)
    closed.ask(Door(database, log))
    atexit.register(recorder.close)
    return recorder
