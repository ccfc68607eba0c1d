"""One watcher for a cluster: it wakes whoever waits for a job, and every page reads its pictures."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from carme_hub.spawner.answers import PHASES, UNKNOWN, Ending, Phase
from carme_hub.spawner.freshness import Freshness
from carme_hub.spawner.overview import NOT_UNDERSTOOD, ClusterSource, Overview
from carme_hub.spawner.slurm import SlurmError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator

    from carme_hub.spawner.answers import Picture, QueueEntry
    from carme_hub.spawner.cluster import Cluster

# While nobody waits. A job that is killed at once is noticed no earlier, and its port is anybody's: see
# `carme_hub.spawner.reporter.see_off`.
LONG = 10.0
SHORT = 0.5
# At least so long between two questions, however many are in a hurry.
GAP = 0.1
# The longer somebody waits already, the less half a second matters.
PATIENT = 5.0
# How many endings are asked for at once; accounting may be slow.
ENDINGS = 4
# The longest pause after failures, while somebody waits and while nobody does.
SLOWEST_WAITING = 10.0
SLOWEST = 120.0


class Source(ClusterSource, Protocol):
    """What the watcher needs of `carme_hub.spawner.slurm.Slurm`."""

    async def queue(self, job_ids: Collection[int]) -> Picture:
        """Ask for the state of jobs."""

    async def ending(self, job_id: int, owner: int | None = None) -> Ending | None:
        """Ask how a job of its owner ended."""


class JobRef(NamedTuple):
    """Which job is meant; a number alone may mean another one later.

    Attributes
    ----------
    number
        Slurm's. A controller that is killed before it has written a job down gives it to the next one.
    owner
        The number of the user whose job it is; None where nobody wrote it down: it is anybody's then.
    """

    number: int
    owner: int | None = None


@dataclass(frozen=True)
class View:
    """What is known about one job. Equal views mean that nothing changed.

    Attributes
    ----------
    place
        Of a job that stands in line, 1 for the first; see `carme_hub.spawner.answers.QueueEntry`.
    ending
        None until it is known, which is later than the phase. One with the state "UNKNOWN" is final, too.
    """

    phase: Phase
    state: str
    reason: str = ""
    node: str = ""
    start: int | None = None
    end: int | None = None
    ending: Ending | None = None
    place: int | None = None


@dataclass
class _Watched:
    since: float  # time.monotonic() when the job was known to exist
    view: View | None = None
    keepers: int = 0
    forgotten: bool = False  # but for the keepers


@dataclass(frozen=True)
class _Abandoned:
    cancel: Callable[[], Awaitable[None]]
    due: float  # time.monotonic() from which on the job is cancelled


class Watcher:
    """Reads the state of all watched jobs with one squeue per interval.

    Parameters
    ----------
    source
        Where the answers come from.
    log
        Warnings go here, never a job's environment.
    on_news
        Called when a job looks different from before; it must not wait.

    Notes
    -----
    A job is gone only if Slurm says so: its state is final, or a complete answer that is younger than the
    submission does not have it, or has somebody else's under its number. Then accounting is asked once, while
    the watch goes on. A failed or slow answer changes nothing. The task that asks starts when the first
    job is watched and ends when there is none.
    """

    def __init__(
        self,
        source: Source,
        log: logging.Logger | None = None,
        on_news: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = source
        self._on_news = on_news
        self._log = log or logging.getLogger(__name__)
        self._jobs: dict[JobRef, _Watched] = {}
        self._abandoned: dict[JobRef, _Abandoned] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._few = asyncio.Semaphore(ENDINGS)
        self._waiting: list[float] = []
        self._hurry = asyncio.Event()
        self._news: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._unknown: set[str] = set()
        self._whole = True
        self._overview = Overview(source, log)
        self._freshness = Freshness()

    @property
    def cluster(self) -> Cluster | None:
        """Return the last picture of nodes and partitions, old as it may be; None before the first."""
        return self._overview.cluster

    def need_cluster(self) -> Cluster | None:
        """Say that a page shows the cluster, and return the last picture, without waiting.

        Slurm is asked every `carme_hub.spawner.overview.OFTEN` seconds while pages do so, however many.
        """
        return self._overview.need()

    async def first_cluster(self, patience: float) -> Cluster | None:
        """Like `need_cluster`, and wait at most ``patience`` seconds when there is no picture at all yet."""
        return await self._overview.first(patience)

    async def fresh_cluster(self, age: float, patience: float) -> Cluster | None:
        """Like `need_cluster`, and wait a moment for a new picture where the last one is old."""
        return await self._overview.fresh(age, patience)

    def state(self) -> dict[str, Any]:
        """Say for JSON what is watched, and how fresh the pictures of jobs and nodes are."""
        cluster = self._overview.cluster
        return {
            "watched": len(self._jobs),
            "abandoned": len(self._abandoned),
            "waiting": len(self._waiting),
            "jobs": self._freshness.model(),
            "nodes": self._overview.freshness.model(),
            "seen_nodes": len(cluster.nodes) if cluster is not None else None,
        }

    async def close(self) -> None:
        """Forget all jobs and end the tasks."""
        self._jobs.clear()
        self._abandoned.clear()
        tasks = [task for task in (self._task, *self._background) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(self._overview.close(), *tasks, return_exceptions=True)
        self._wake()

    def watch(self, ref: JobRef, *, submitted: bool = False) -> None:
        """Begin to watch a job; watching it again changes nothing.

        Parameters
        ----------
        submitted
            True right after sbatch: an answer that is older than now says nothing about this job. False for
            a job of before the hub's restart.
        """
        job = self._jobs.get(ref)
        if job is None:
            self._jobs[ref] = _Watched(time.monotonic() if submitted else 0.0)
            self._hurry.set()
        else:
            job.forgotten = False
        self._awake()

    def _awake(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="carme-watcher")

    def abandon(self, ref: JobRef, cancel: Callable[[], Awaitable[None]], after: float = 0.0) -> None:
        """See to the end of a job that no session belongs to any more: cancel it at every look at it.

        Parameters
        ----------
        ref
            The job; it need not be watched.
        cancel
            Cancels the job as its owner; a SlurmError means that it has to be tried again.
        after
            Seconds in which the job may end by itself; one that waits to start again does not.
        """
        self._abandoned.setdefault(ref, _Abandoned(cancel, time.monotonic() + after))
        self._hurry.set()
        self._awake()

    @property
    def abandoned(self) -> frozenset[int]:
        """The numbers of the jobs that are seen to their end."""
        return frozenset(ref.number for ref in self._abandoned)

    @contextlib.contextmanager
    def kept(self, ref: JobRef) -> Iterator[None]:
        """Watch a job while the block runs, even if it is forgotten meanwhile: how it ended is asked once."""
        self.watch(ref)
        job = self._jobs[ref]
        job.keepers += 1
        try:
            yield
        finally:
            job.keepers -= 1
            if job.forgotten and self._jobs.get(ref) is job:
                self.forget(ref)

    def forget(self, ref: JobRef) -> None:
        """Stop watching a job, as soon as nobody keeps it."""
        job = self._jobs.get(ref)
        if job is not None and job.keepers:
            job.forgotten = True
            return
        self._jobs.pop(ref, None)
        self._hurry.set()
        self._wake()

    def view(self, ref: JobRef) -> View | None:
        """Return what is known about a job now, without waiting; None before the first answer."""
        watched = self._jobs.get(ref)
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

    async def changed(self, ref: JobRef, seen: View | None) -> View | None:
        """Wait until a job looks different from what was seen, and return how; None if it is not watched."""
        while (watched := self._jobs.get(ref)) is not None:
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
        while self._jobs or self._abandoned:
            self._hurry.clear()
            began = time.monotonic()
            try:
                await self._ask()
                self._freshness.succeeded(time.monotonic() - began)
                failures = 0
            except SlurmError as error:
                failures += 1
                self._freshness.failed(str(error))
                self._log.log(
                    logging.WARNING if failures == 1 else logging.DEBUG, "Slurm was not readable: %s", error
                )
            except Exception:  # noqa: BLE001 - logged with its traceback
                # The only watcher must not die of one answer it does not understand.
                failures += 1
                self._freshness.failed(NOT_UNDERSTOOD)
                self._log.exception("The watcher could not read Slurm's answer")
            slowest = SLOWEST_WAITING if self._waiting else SLOWEST
            pause = min(self._interval() * 2 ** min(failures, 8), slowest)
            # A slow controller is asked at most a fifth of the time; after a failure nobody may hurry.
            await self._rest(pause if failures else max(4 * (time.monotonic() - began), GAP), pause)

    async def _rest(self, least: float, most: float) -> None:
        """Sleep until it is time or, after the least pause, until somebody is in a hurry."""
        await asyncio.sleep(least)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(most - least, 0)):
                await self._hurry.wait()

    async def _ask(self) -> None:
        open_jobs = [
            ref for ref, job in self._jobs.items() if not job.view or job.view.phase is not Phase.ENDED
        ]
        asked = [*open_jobs, *self._abandoned]
        if not asked:
            return
        picture = await self._source.queue({ref.number for ref in asked})
        if picture.complete is not self._whole:
            self._whole = picture.complete
            if not self._whole:
                self._log.warning("Not all of squeue's answer could be read; no job counts as gone meanwhile")
        changed = False
        for ref in open_jobs:
            watched = self._jobs.get(ref)
            if watched is None:
                continue
            view = self._seen(ref, watched, picture)
            if view is not None and view != watched.view:
                watched.view = view
                changed = True
                if view.phase is Phase.ENDED:
                    self._start(self._learn_ending(ref, watched, view))
        if changed:
            self._wake()
        self._clear_away(asked, picture)

    def _clear_away(self, asked: Iterable[JobRef], picture: Picture) -> None:
        """Cancel the abandoned jobs that are still there."""
        # Of those that were abandoned after the question, the answer says nothing.
        for ref in asked:
            job = self._abandoned.get(ref)
            if job is None:
                continue
            entry = _entry(picture, ref)
            if entry is None and not picture.complete:
                continue
            if entry is None or self._phase(entry) is Phase.ENDED:
                del self._abandoned[ref]
            elif self._phase(entry) is Phase.PENDING or time.monotonic() >= job.due:
                self._start(self._cancel(ref.number, job))

    async def _cancel(self, number: int, job: _Abandoned) -> None:
        try:
            await job.cancel()
        except SlurmError as error:
            self._log.warning("Job %s has no session any more and is not cancelled yet: %s", number, error)

    async def _learn_ending(self, ref: JobRef, watched: _Watched, view: View) -> None:
        async with self._few:
            ending = await self._source.ending(ref.number, ref.owner)
        if ending is None or (view.state == UNKNOWN and PHASES.get(ending.state) is not Phase.ENDED):
            # Accounting still has a job as it was when the controller forgot it.
            ending = Ending(view.state)
        watched.view = replace(
            view, ending=ending, state=ending.state if view.state == UNKNOWN else view.state
        )
        self._log.info("Job %s ended: %s, exit code %s", ref.number, ending.state, ending.exit_code)
        self._wake()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        """Do something that may take long, while the watch goes on."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("The watcher could not do its work", exc_info=error)

    def _wake(self) -> None:
        self._on_news()
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _seen(self, ref: JobRef, watched: _Watched, picture: Picture) -> View | None:
        entry = _entry(picture, ref)
        if entry is None:
            known_gone = picture.complete and picture.taken_at > watched.since
            return View(Phase.ENDED, UNKNOWN) if known_gone else None
        return View(
            self._phase(entry),
            entry.state,
            entry.reason,
            entry.node,
            entry.start,
            entry.end,
            place=entry.place,
        )

    def _phase(self, entry: QueueEntry) -> Phase:
        phase = PHASES.get(entry.state)
        if phase is None:
            if entry.state not in self._unknown:
                self._unknown.add(entry.state)
                self._log.warning("Slurm's job state %r is not known; the job counts as alive", entry.state)
            return Phase.RUNNING
        return phase


def _entry(picture: Picture, ref: JobRef) -> QueueEntry | None:
    """Return the owner's job as squeue shows it; None when that number is not the owner's."""
    entry = picture.jobs.get(ref.number)
    if entry is None or ref.owner is None or entry.owner in {None, ref.owner}:
        return entry
    return None
