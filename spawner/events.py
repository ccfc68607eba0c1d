"""What happens to sessions, told to whoever listens: the records, and pages that wait for news.

Nothing here waits, and a listener that fails disturbs nobody.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from carme_hub.spawner.request import JobRequest

_log = logging.getLogger(__name__)

# Who asked for what is being done, where that is not the session's owner; empty otherwise.
ACTING: ContextVar[str] = ContextVar("carme_acting", default="")


class Kind(Enum):
    """What happened."""

    SUBMITTED = "submitted"
    RUNNING = "running"  # its job has a node
    READY = "ready"  # its server listens
    ENDS_SOON = "ends_soon"
    OUT_OF_MEMORY = "out_of_memory"  # one of its programs was killed for want of memory; it goes on
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A session's job as it was submitted; a restarted hub finds them in the session's state.

    Attributes
    ----------
    submitted
        Seconds since 1970.
    title
        The profile's title.
    cpus, gpus, memory
        All nodes together; memory in MiB, 0 where Slurm's default counts.
    limit
        Minutes.
    """

    submitted: int = 0
    profile: str = ""
    title: str = ""
    image: str = ""
    partition: str = ""
    nodes: int = 1
    cpus: int = 0
    gpus: int = 0
    gpu_type: str = ""
    memory: int = 0
    limit: int | None = None

    @classmethod
    def of(cls, request: JobRequest, submitted: float) -> Facts:
        """Return the facts of a request."""
        return cls(
            submitted=int(submitted),
            profile=request.profile.name,
            title=request.profile.title,
            image=request.image.name,
            partition=request.partition or "",
            nodes=request.nodes,
            cpus=request.nodes * request.cpus,
            gpus=request.nodes * request.gpus,
            gpu_type=request.gpu_type or "",
            memory=request.nodes * (request.memory or 0),
            limit=request.time,
        )

    @classmethod
    def read(cls, stored: object, otherwise: Mapping[str, Any], now: float) -> Facts:
        """Return the facts of a stored state.

        Parameters
        ----------
        stored
            What `kept` gave; anything else in the state of an older hub.
        otherwise
            The options of the session, which say some of it, too.
        now
            Stands for the submission that nobody wrote down.
        """
        if isinstance(stored, dict) and stored.keys() == {one.name for one in fields(cls)}:
            return cls(**stored)
        nodes = int(otherwise.get("nodes", 1))
        return cls(
            submitted=int(now),
            profile=str(otherwise.get("profile", "")),
            title=str(otherwise.get("profile", "")),
            image=str(otherwise.get("image", "")),
            nodes=nodes,
            gpus=nodes * int(otherwise.get("gpus", 0)),
            gpu_type=str(otherwise.get("gpu_type", "")),
        )

    def kept(self) -> dict[str, Any]:
        """Return this for a session's state."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a session.

    Attributes
    ----------
    at
        When, in seconds since 1970, as `started` and `end`.
    user, server
        Whose, and the name of the server; empty for the default one.
    display_name
        What its owner calls it; may be empty.
    cluster, job
        The name of the cluster, and the number of the job there.
    options
        As they were asked for.
    started
        Since when the job runs; None when it never did, or nobody knows.
    node
        Where its server runs.
    end
        When its time limit ends; of `Kind.ENDS_SOON`.
    left
        So many seconds before the end the owner wants to be warned; of `Kind.ENDS_SOON`.
    limit
        The job's time limit at its end, in minutes, which may have been changed; of `Kind.ENDED`, None where
        Slurm does not say.
    state, exit_code, sentence
        Slurm's final word, and what its owner is told; of `Kind.ENDED`. No sentence: nothing went wrong. The
        sentence of `Kind.OUT_OF_MEMORY`, too.
    was_ready
        Whether its server had been up; of `Kind.ENDED`.
    stopped
        Whether somebody asked for its end; `by` says who, where it was not the owner.
    """

    kind: Kind
    at: int
    user: str
    server: str = ""
    display_name: str = ""
    cluster: str
    job: int
    facts: Facts = field(default_factory=Facts)
    options: Mapping[str, Any] = field(default_factory=dict)
    started: int | None = None
    node: str = ""
    end: int | None = None
    left: int = 0
    state: str = ""
    exit_code: int | None = None
    sentence: str = ""
    limit: int | None = None
    was_ready: bool = False
    stopped: bool = False
    by: str = ""


_LISTENERS: list[Callable[[Event], None]] = []


def listen(callback: Callable[[Event], None]) -> Callable[[], None]:
    """Have a function called with each event, in the hub's loop: it must not wait.

    Returns
    -------
    callable
        Ends it.
    """
    _LISTENERS.append(callback)

    def unlisten() -> None:
        if callback in _LISTENERS:
            _LISTENERS.remove(callback)

    return unlisten


def publish(event: Event) -> None:
    """Tell everybody who listens."""
    for callback in tuple(_LISTENERS):
        try:
            callback(event)
        except Exception:  # noqa: BLE001 - logged with its traceback; a session goes on, whatever becomes of what is told about it
            _log.exception("Nobody was told of %s of job %s", event.kind.value, event.job)
