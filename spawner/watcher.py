"""One watcher for all jobs of a cluster: it wakes whoever waits for one, and every page reads its picture."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from carme_hub.spawner.answers import PHASES, Ending, Phase
from carme_hub.spawner.slurm import SlurmError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carme_hub.spawner.answers import Picture, QueueEntry

LONG = 30.0
SHORT = 0.5
# The longer somebody waits already, the less half a second matters.
PATIENT = 5.0
# The longest pause after failures, while somebody waits and while nobody does.
SLOWEST_WAITING = 10.0
SLOWEST = 120.0


class Source(Protocol):
    """What the watcher needs of `carme_hub.spawner.slurm.Slurm`."""

    async def queue(self, job_ids: Sequence[int]) -> Picture:
        """Ask for the state of jobs."""

    async def ending(self, job_id: int) -> Ending | None:
        """Ask how a job ended."""


@dataclass(frozen=True)
class View:
    """What is known about one job. Equal views mean that nothing changed."""

    phase: Phase
    state: str
    reason: str = ""
    node: str = ""
    start: int | None = None
    end: int | None = None
    ending: Ending | None = None


@dataclass
class _Watched:
    since: float  # time.monotonic() when the job was known to exist
    view: View | None = None


class Watcher:
    """Reads the state of all watched jobs with one squeue per interval.

    Parameters
    ----------
    source
        Where the answers come from.
    log
        Warnings go here, never a job's environment.

    Notes
    -----
    A job is gone only if Slurm says so: its state is final, or a complete answer that is younger than the
    submission does not have it. Then accounting is asked once. A failed or slow answer changes nothing.
    The task that asks starts when the first job is watched and ends when there is none.
    """

    def __init__(self, source: Source, log: logging.Logger | None = None) -> None:
        self._source = source
        self._log = log or logging.getLogger(__name__)
        self._jobs: dict[int, _Watched] = {}
        self._waiting: list[float] = []
        self._hurry = asyncio.Event()
        self._news: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._unknown: set[str] = set()

    def watch(self, job_id: int, *, submitted: bool = False) -> None:
        """Begin to watch a job; watching it again changes nothing.

        Parameters
        ----------
        submitted
            True right after sbatch: an answer that is older than now says nothing about this job. False for
            a job of before the hub's restart.
        """
        if job_id not in self._jobs:
            self._jobs[job_id] = _Watched(time.monotonic() if submitted else 0.0)
            self._hurry.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="carme-watcher")

    def forget(self, job_id: int) -> None:
        """Stop watching a job."""
        self._jobs.pop(job_id, None)
        self._hurry.set()
        self._wake()

    def view(self, job_id: int) -> View | None:
        """Return what is known about a job now, without waiting; None before the first answer."""
        watched = self._jobs.get(job_id)
        return watched.view if watched else None

    def look(self) -> None:
        """Ask Slurm now: something is known to have changed."""
        self._hurry.set()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Ask often while the block runs: somebody waits for a start or a stop."""
        began = time.monotonic()
        self._waiting.append(began)
        self._hurry.set()
        try:
            yield
        finally:
            self._waiting.remove(began)

    async def changed(self, job_id: int, seen: View | None) -> View | None:
        """Wait until a job looks different from what was seen, and return how; None if it is not watched."""
        while (watched := self._jobs.get(job_id)) is not None:
            if watched.view is not None and watched.view != seen:
                return watched.view
            if self._news is None or self._news.done():
                self._news = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._news)
        return None

    def _interval(self) -> float:
        if not self._waiting:
            return LONG
        # The one who has waited for the shortest time decides.
        return min(max(0.05 * (time.monotonic() - max(self._waiting)), SHORT), PATIENT)

    async def _run(self) -> None:
        failures = 0
        while self._jobs:
            self._hurry.clear()
            began = time.monotonic()
            try:
                await self._ask()
                failures = 0
            except SlurmError as error:
                failures += 1
                self._log.log(
                    logging.WARNING if failures == 1 else logging.DEBUG, "Slurm was not readable: %s", error
                )
            except Exception:  # noqa: BLE001 - logged with its traceback
                # The only watcher must not die of one answer it does not understand.
                failures += 1
                self._log.exception("The watcher could not read Slurm's answer")
            # A slow controller is asked at most a fifth of the time.
            pause = max(self._interval() * 2 ** min(failures, 8), 4 * (time.monotonic() - began))
            await self._rest(min(pause, SLOWEST_WAITING if self._waiting else SLOWEST), failures)

    async def _rest(self, pause: float, failures: int) -> None:
        """Sleep until it is time or somebody is in a hurry; after a failure nobody may be."""
        if failures:
            await asyncio.sleep(pause)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._hurry.wait()

    async def _ask(self) -> None:
        open_jobs = [
            number for number, job in self._jobs.items() if not job.view or job.view.phase is not Phase.ENDED
        ]
        if not open_jobs:
            return
        picture = await self._source.queue(open_jobs)
        changed = False
        for number in open_jobs:
            watched = self._jobs.get(number)
            if watched is None:
                continue
            view = await self._seen(number, watched, picture)
            if view is not None and view != watched.view:
                watched.view = view
                changed = True
        if changed:
            self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _seen(self, number: int, watched: _Watched, picture: Picture) -> View | None:
        entry = picture.jobs.get(number)
        if entry is None:
            if picture.taken_at <= watched.since:
                return None
            ending = await self._source.ending(number)
            return View(Phase.ENDED, ending.state if ending else "UNKNOWN", ending=ending)
        phase = self._phase(entry)
        ending = await self._source.ending(number) if phase is Phase.ENDED else None
        return View(phase, entry.state, entry.reason, entry.node, entry.start, entry.end, ending)

    def _phase(self, entry: QueueEntry) -> Phase:
        phase = PHASES.get(entry.state)
        if phase is None:
            if entry.state not in self._unknown:
                self._unknown.add(entry.state)
                self._log.warning("Slurm's job state %r is not known; the job counts as alive", entry.state)
            return Phase.RUNNING
        return phase
