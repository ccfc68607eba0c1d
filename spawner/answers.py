"""What Slurm's commands print, read into values. Pure functions, and the table of fields to ask for."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from carme_hub.spawner import units

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

SEPARATOR = "\x1f"
# Name of a value -> conversion of "squeue --format" (man squeue). The answer holds other people's jobs, too:
# only what Slurm itself writes is asked for. A name or a comment may hold line ends, and so a forged line.
QUEUE = {
    "job_id": "%A",
    "state": "%T",
    "reason": "%r",
    "node": "%B",
    "start": "%S",
    "end": "%e",
    "partition": "%P",
    "priority": "%Q",
    "owner": "%U",
}
ACCOUNTING = ("JobIDRaw", "State", "ExitCode", "Reason", "TimelimitRaw", "AllocTRES", "NNodes")
_NEEDED = 4  # of these; the others make a sentence better
NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_EXIT = re.compile(r"([0-9]{1,3}):([0-9]{1,3})")


class Phase(Enum):
    """What a job's state means for its session."""

    PENDING = "pending"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"


# Every state of Slurm 22.05 to 26.05 (man squeue, JOB STATE CODES), each mapped on purpose. A job that waits
# to start again, is paused or being moved is alive; PREEMPTED is shown when preemption has ended the job.
_STATES = {
    Phase.PENDING: "PENDING CONFIGURING POWER_UP_NODE EXPEDITING SPECIAL_EXIT"
    " REQUEUED REQUEUE_FED REQUEUE_HOLD RESV_DEL_HOLD",
    Phase.RUNNING: "RUNNING SUSPENDED STOPPED SIGNALING RESIZING UPDATE_DB",
    Phase.ENDING: "COMPLETING STAGE_OUT",
    Phase.ENDED: "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED LAUNCH_FAILED NODE_FAIL OUT_OF_MEMORY"
    " PREEMPTED RECONFIG_FAIL REVOKED TIMEOUT",
}
PHASES = {state: phase for phase, states in _STATES.items() for state in states.split()}


# Jobs that wait for one of these stand in no line: it is not other jobs that hold them up.
NOT_IN_LINE = frozenset(
    {
        "BeginTime",
        "Dependency",
        "DependencyNeverSatisfied",
        "JobArrayTaskLimit",
        "JobHeldAdmin",
        "JobHeldUser",
    }
)

# No word of Slurm's: the state of a job that it has forgotten.
UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class QueueEntry:
    """One job as squeue shows it.

    Attributes
    ----------
    state
        Slurm's word, for example ``PENDING``.
    reason
        Why it waits or how it ended, Slurm's word; empty when there is none.
    node
        The node the batch script runs on; empty while there is none.
    start, end
        Seconds since 1970, expected or real; None when Slurm does not say.
    place
        Its place among the pending jobs of its partition by priority, 1 for the first; with several
        partitions, the best of its places. None for a job that stands in no line.
    owner
        The user's number; None when it is not known.
    """

    job_id: int
    state: str
    reason: str = ""
    node: str = ""
    start: int | None = None
    end: int | None = None
    place: int | None = None
    owner: int | None = None


@dataclass(frozen=True)
class Picture:
    """The answer to one squeue: complete for the jobs that were asked for.

    Attributes
    ----------
    taken_at
        ``time.monotonic()`` before squeue was started.
    complete
        False when something in the answer was not squeue's: nothing follows from a missing job then.
    """

    taken_at: float
    jobs: Mapping[int, QueueEntry]
    complete: bool = True


@dataclass(frozen=True)
class Ending:
    """How a job ended, from accounting or the controller's memory.

    Attributes
    ----------
    limit
        The job's time limit at its end, in minutes: it may have been changed since it was asked for. None
        where there is none, or nobody says.
    memory
        MiB that it could have on each node at its end; None where nobody says.
    """

    state: str
    reason: str = ""
    exit_code: int = 0
    signal: int = 0
    limit: int | None = field(default=None, compare=False)
    memory: int | None = field(default=None, compare=False)


def parse_queue(text: str, wanted: Collection[int]) -> tuple[dict[int, QueueEntry], bool]:
    """Read squeue's answer; lines that are none of its own are left out.

    Parameters
    ----------
    text
        All jobs of the cluster.
    wanted
        The numbers of the jobs to return. The others only count for the place in the queue.

    Returns
    -------
    tuple of dict and bool
        The jobs, and whether all of the answer is squeue's own: no error message, no half a line.
    """
    whole = True
    entries: dict[int, QueueEntry] = {}
    pending: dict[int, tuple[int, list[str]]] = {}
    lines: dict[str, list[tuple[int, int]]] = {}
    for line in text.splitlines():
        words = line.split(SEPARATOR)
        if len(words) != len(QUEUE) or not (words[0].isascii() and words[0].isdigit()):
            whole = whole and not line.strip()
            continue
        number, state, reason, node, start, end, partition, priority, owner = words
        job_id = int(number)
        if state == "PENDING" and reason.partition(",")[0] not in NOT_IN_LINE:
            # Slurm takes the highest priority first, and of equal ones the oldest job.
            rank, names = -(_number(priority) or 0), partition.split(",")
            for name in names:
                lines.setdefault(name, []).append((rank, job_id))
            if job_id in wanted:
                pending[job_id] = (rank, names)
        if job_id in wanted:
            entries[job_id] = QueueEntry(
                job_id=job_id,
                state=state.strip(),
                reason="" if reason == "None" else reason,
                node=node if NODE.fullmatch(node) else "",
                start=_number(start),
                end=_number(end),
                owner=_number(owner),
            )
    for waiting in lines.values():
        waiting.sort()
    for job_id, (rank, names) in pending.items():
        place = min(bisect_right(lines[name], (rank, job_id)) for name in names)
        entries[job_id] = replace(entries[job_id], place=place)
    return entries, whole


def one_line(text: str, left_out: str = r"\w+: (error: )?") -> str:
    """Make one readable line of a command's complaints.

    Parameters
    ----------
    left_out
        Pattern of what says nothing to a person at the beginning of a line; the command's name, as a rule.
    """
    lines = [re.sub(f"^(?:{left_out})", "", line.strip()) for line in text.splitlines() if line.strip()]
    return " ".join(dict.fromkeys(lines))[:500] or "no reason given"


def parse_job(text: str, owner: int | None = None) -> Ending | None:
    """Read ``scontrol --oneliner show job``; None for a job of somebody else than the owner."""
    state = re.search(r"\sJobState=([A-Z_]+)", text)
    user = re.search(r"\sUserId=[^\s(]*\((\d+)\)", text)
    if state is None or (owner is not None and user is not None and int(user[1]) != owner):
        return None
    reason = re.search(r"\sReason=(\S+)", text)
    code = re.search(r"\sExitCode=([0-9:]+)", text)
    limit = re.search(r"\sTimeLimit=(\S+)", text)
    # The first are what was allocated (AllocTRES since Slurm 23.02).
    tres, nodes = re.search(r"\s(?:Alloc)?TRES=(\S+)", text), re.search(r"\sNumNodes=(\d+)", text)
    return replace(
        _ending(state[1], reason[1] if reason else "", code[1] if code else ""),
        limit=units.minutes_or_none(limit[1]) if limit else None,
        memory=_memory(tres[1] if tres else "", nodes[1] if nodes else ""),
    )


def _memory(tres: str, nodes: str) -> int | None:
    """Return the MiB on each node, of what Slurm writes as ``cpu=4,mem=4G,node=2``."""
    total, count = re.search(r"(?:^|,)mem=([0-9]+(?:\.[0-9]+)?)([KMGT]?)", tres), _number(nodes)
    if total is None or not count:
        return None
    size = {"K": 1 / 1024, "": 1.0, "M": 1.0, "G": 1024.0, "T": 1024.0**2}[total[2]]
    return round(float(total[1]) * size / count)


def parse_accounting(text: str, job_id: int) -> Ending | None:
    """Read sacct's line about the job itself; an out-of-memory of its batch step counts for the job."""
    found = None
    for line in text.splitlines():
        values = dict(zip(ACCOUNTING, line.split(SEPARATOR), strict=False))
        if len(values) < _NEEDED:
            continue
        if values["JobIDRaw"] == str(job_id):
            found = replace(
                _ending(values["State"], values["Reason"], values["ExitCode"]),
                limit=_number(values.get("TimelimitRaw", "")),
                memory=_memory(values.get("AllocTRES", ""), values.get("NNodes", "")),
            )
        elif (
            found is not None
            and values["JobIDRaw"] == f"{job_id}.batch"
            and values["State"] == "OUT_OF_MEMORY"
        ):
            found = replace(found, state="OUT_OF_MEMORY")
    return found


def _ending(state: str, reason: str, code: str) -> Ending:
    match = _EXIT.fullmatch(code)
    numbers = (int(match[1]), int(match[2])) if match else (0, 0)
    # sacct says "CANCELLED by 1000".
    return Ending(state.partition(" ")[0], "" if reason == "None" else reason, *numbers)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
