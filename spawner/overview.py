"""One picture of a cluster's nodes for all pages: read while somebody looks, seldom when nobody does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Protocol

from carme_hub.spawner.freshness import Freshness
from carme_hub.spawner.slurm import SlurmError

if TYPE_CHECKING:
    from carme_hub.spawner.cluster import Cluster

# Seconds between two readings while pages ask, and while none does.
OFTEN = 15.0
SELDOM = 300.0
# Seconds for which one question counts as somebody who looks, and after which nothing is read any more.
LOOKING = 60.0
FORGOTTEN = 3600.0
# The longest pause after failures.
SLOWEST = 120.0
NOT_UNDERSTOOD = "The answer was not understood; the log has the details."


def pause(failures: int, took: float) -> float:
    """Return the seconds until the next reading, after so many failures and one that took so long."""
    return max(min(OFTEN * 2.0 ** min(failures, 8), SLOWEST), 4 * took)


class ClusterSource(Protocol):
    """What the overview needs of `carme_hub.spawner.slurm.Slurm`."""

    async def cluster(self) -> Cluster:
        """Ask for all nodes and partitions."""


class Overview:
    """Reads a cluster's nodes and partitions, and keeps the last picture.

    Parameters
    ----------
    source
        Where the answers come from.
    log
        Warnings go here.

    Notes
    -----
    However many pages ask, Slurm is asked once in `OFTEN` seconds; a page gets the last picture, whose
    ``taken_at`` says its age. A controller that is slow is asked at most a fifth of the time, one that fails
    less and less often; the old picture stays. The task that reads starts with the first question and ends
    when nobody has asked for `FORGOTTEN` seconds.
    """

    def __init__(self, source: ClusterSource, log: logging.Logger | None = None) -> None:
        self._source = source
        self._log = log or logging.getLogger(__name__)
        self._asked_at = 0.0
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._first = asyncio.Event()
        self._read = asyncio.Event()
        self._failures = 0
        self._sleeping = False
        self.cluster: Cluster | None = None
        self.freshness = Freshness()

    def need(self) -> Cluster | None:
        """Say that somebody looks at the cluster, and return the last picture; None before the first one."""
        self._asked_at = time.monotonic()
        self._wanted.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="carme-overview")
        return self.cluster

    async def first(self, patience: float) -> Cluster | None:
        """Like `need`, and wait at most ``patience`` seconds when there is no picture at all yet."""
        if self.need() is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._first.wait()
        return self.cluster

    async def fresh(self, age: float, patience: float) -> Cluster | None:
        """Like `need`, and wait at most ``patience`` seconds where the picture is older than ``age`` seconds.

        Who comes after a pause would see how it was before the pause, with a new picture a moment away. While
        Slurm is slow or does not answer, none is that near, and nobody waits.
        """
        cluster = self.need()
        if cluster is not None and time.monotonic() - cluster.taken_at > age and self._due:
            self._read.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._read.wait()
        return self.cluster

    @property
    def _due(self) -> bool:
        """Whether a reading is under way or begins with this question, and the last one succeeded."""
        return not self._sleeping and not self._failures

    async def close(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while time.monotonic() - self._asked_at < FORGOTTEN:
            self._wanted.clear()
            began = time.monotonic()
            try:
                self.cluster = await self._source.cluster()
                self._first.set()
                self.freshness.succeeded(time.monotonic() - began)
                self._failures = 0
            except SlurmError as error:
                self._failures += 1
                self.freshness.failed(str(error))
                self._log.log(
                    logging.WARNING if self._failures == 1 else logging.DEBUG,
                    "The cluster's nodes were not readable: %s",
                    error,
                )
            except Exception:  # noqa: BLE001 - logged with its traceback
                self._failures += 1
                self.freshness.failed(NOT_UNDERSTOOD)
                self._log.exception("The answer about the cluster's nodes was not understood")
            self._read.set()
            least = pause(self._failures, time.monotonic() - began)
            self._sleeping = True
            await asyncio.sleep(least)
            self._sleeping = False
            if time.monotonic() - self._asked_at >= LOOKING:
                # Nobody looks: wait long, but for nobody who begins to.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(SELDOM - least, 0)):
                        await self._wanted.wait()
