"""Finds the jobs that no session of the hub knows, by the mark in their comment, and has them ended.

How a job loses its session: the hub is killed between Slurm's answer and its own database's; sbatch is given
up although Slurm took the job; a job that was to be cancelled is still there when the hub is restarted.

The comment is the person's to change (``scontrol update comment=``), so it is believed only about that very
person: a job is ended only when its Slurm account is the one in its mark, and as that account. Who writes a
mark into another job of theirs, ends that one; who takes one away, keeps a job that they could have anyway.
A comment with a line end can even forge the line of somebody else's job: so each job is asked for by itself
before it is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, unquote

from carme_hub.spawner.answers import PHASES, SEPARATOR, Phase

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Collection, Iterable, Iterator

FIRST = 60.0  # seconds until the second look: what the hub of before handed to Slurm last may arrive late
INTERVAL = 300.0  # seconds between two looks
MOST = 50  # jobs that are asked for after one look; somebody may have marked thousands of theirs
# Conversions of "squeue --format" (man squeue). The comment is last: it may hold anything.
FIELDS = {"job_id": "%A", "username": "%u", "state": "%T", "mark": "%k"}
_MARK = re.compile(r"carme:([0-9a-f]{16}):([^/\s]{1,1000})/([^/\s]{0,1000})")


@dataclass(frozen=True)
class MarkedJob:
    """A job that has not ended and whose comment is a mark of this hub.

    Attributes
    ----------
    username
        The account that Slurm runs it for.
    owner
        The account in the mark.
    """

    job_id: int
    username: str
    owner: str
    mark: str


def hub_id(cookie_secret: bytes) -> str:
    """Return what tells this hub's jobs from those of others on the same cluster.

    Two hubs in containers may have the same address, and a hub may get another one. What is its own, and
    stays, is the secret; a digest says nothing of it.
    """
    return hashlib.sha256(b"carme-hub sessions\0" + cookie_secret).hexdigest()[:16]


def mark(hub: str, username: str, server: str) -> str:
    """Return the comment of a session's job; the name is the account's, as Slurm shows it."""
    return f"carme:{hub}:{quote(username, safe='')}/{quote(server, safe='')}"


def parse(text: str, hub: str) -> list[MarkedJob]:
    """Read squeue's answer about all jobs; what is not marked by this hub, or has ended, is left out."""
    found = []
    for line in text.split("\n"):
        parts = line.split(SEPARATOR, len(FIELDS) - 1)
        if len(parts) < len(FIELDS):
            continue
        values = dict(zip(FIELDS, parts, strict=True))
        match = _MARK.fullmatch(values["mark"].strip())
        number, phase = values["job_id"], PHASES.get(values["state"].strip())
        if match is None or match[1] != hub or not (number.isascii() and number.isdigit()):
            continue
        if phase in {Phase.PENDING, Phase.RUNNING}:
            found.append(MarkedJob(int(number), values["username"].strip(), unquote(match[2]), match[0]))
    return found


def orphans(
    jobs: Iterable[MarkedJob],
    known: Collection[int],
    submitting: Collection[str],
    leaving: Collection[int] = (),
) -> list[MarkedJob]:
    """Return the jobs to end.

    Parameters
    ----------
    jobs
        What Slurm shows.
    known
        Numbers of the jobs that sessions have; read after `submitting`.
    submitting
        Marks of the sessions that are being handed to Slurm now; read after Slurm was asked.
    leaving
        Jobs that are seen to their end already.
    """
    return [
        job
        for job in jobs
        if job.username == job.owner
        and job.job_id not in known
        and job.job_id not in leaving
        and job.mark not in submitting
    ]


_SUBMITTING: set[str] = set()


@contextlib.contextmanager
def submitting(of: str) -> Iterator[None]:
    """Tell the sweep that a job with this mark may turn up before it is in the database."""
    _SUBMITTING.add(of)
    try:
        yield
    finally:
        _SUBMITTING.discard(of)


def submitted_now() -> frozenset[str]:
    """Return the marks of the jobs that are being handed to Slurm."""
    return frozenset(_SUBMITTING)


class Cluster(Protocol):
    """What the sweep needs of `carme_hub.spawner.slurm.Slurm`."""

    async def marked(self, hub: str, job_id: int | None = None) -> list[MarkedJob]:
        """Ask for all jobs with this hub's mark; or for one job, if there is such a job with its mark."""


class Sweep:
    """Looks for orphans when the hub starts and then again and again.

    Parameters
    ----------
    cluster
        Where the jobs are.
    hub
        The hub's `hub_id`.
    known
        Returns the numbers of the jobs that sessions have, from the database; called in a thread.
    leaving
        Returns the jobs that are seen to their end already.
    end
        Has a job ended as a person; returns at once.
    """

    def __init__(  # noqa: PLR0917 - one caller
        self,
        cluster: Cluster,
        hub: str,
        known: Callable[[], Collection[int]],
        leaving: Callable[[], Collection[int]],
        end: Callable[[MarkedJob], None],
        log: logging.Logger,
    ) -> None:
        self._cluster, self._hub, self._known = cluster, hub, known
        self._leaving, self._end, self._log = leaving, end, log
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; doing it again changes nothing."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="carme-sweep")

    async def _run(self) -> None:
        pause = FIRST
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - Slurm or the database may be away; it goes on
                self._log.warning("Jobs without a session could not be looked for: %s", error)
                pause = FIRST
            await asyncio.sleep(pause)
            pause = INTERVAL

    async def look(self) -> list[MarkedJob]:
        """Ask Slurm once, and once more for each orphan, and have them ended; returns them."""
        jobs = await self._cluster.marked(self._hub)
        # In this order: a job of the answer whose submission has returned by now is in the database when that
        # is read.
        submitting = submitted_now()
        known = await asyncio.to_thread(self._known)
        # Any of these lines may be forged. In no order: nobody's many keep the others' waiting for ever.
        suspects = list({job.job_id for job in orphans(jobs, known, submitting, self._leaving())})
        random.shuffle(suspects)
        ended = []
        for number in suspects[:MOST]:
            real = await self._cluster.marked(self._hub, number)
            for job in orphans(real, known, submitting, self._leaving()):
                self._log.warning("Job %s of %s has no session (any more): it is ended", number, job.owner)
                self._end(job)
                ended.append(job)
        return ended
