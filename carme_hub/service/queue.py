"""All jobs of a cluster as values, read from one squeue. Pure functions, and the table of fields to ask for.

Sources: man squeue of Slurm 22.05 to 26.05.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from carme_hub.spawner import units
from carme_hub.spawner.answers import NODE, PHASES, SEPARATOR, Phase
from carme_hub.spawner.cluster import parse_gres

if TYPE_CHECKING:
    from collections.abc import Mapping

# Name of a value -> field of "squeue --Format" (man squeue). No field says who a job's owner is or what they
# call it: numbers about the cluster are nobody's.
FIELDS = {
    "job_id": "JobID",
    "tasks": "ArrayTaskID",
    "state": "State",
    "reason": "Reason",
    "partition": "Partition",
    "priority": "PriorityLong",
    "nodes": "NumNodes",
    "node_names": "NodeList",
    "expected_nodes": "SchedNodes",
    "required_nodes": "ReqNodes",
    "cpus": "NumCPUs",
    "tres": "tres-alloc",
    "tres_per_node": "tres-per-node",
    "start": "StartTime",
    "end": "EndTime",
    "limit": "TimeLimit",
    "submitted": "SubmitTime",
    "shared": "OverSubscribe",
}
# Which nodes somebody wants, and which gres, are the owner's words, though Slurm takes no wrong ones. So each
# line has a word in it that nobody can know before squeue is asked: what follows a line end in one of those
# fields is no job.

_MOST_NAMES = 20_000  # of nodes, in one list; more than any cluster has
_GROUPS = re.compile(r"\[([0-9,-]+)\]")
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_TASKS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?")


@dataclass(frozen=True, slots=True)
class Job:
    """One line of squeue: a job, or all the tasks of an array that still wait.

    Attributes
    ----------
    state, reason
        Slurm's words; no reason is empty.
    partitions
        Those it may start in; of a running job the one it is in.
    nodes
        How many.
    node_names
        Those it is on; empty while it waits.
    expected_nodes
        Those on which Slurm means to start it; empty when it does not say.
    required_nodes
        Those it has to have.
    cpus, memory, gres
        All nodes together; MiB; count by Slurm's name (``gpu:a100``, ``gpu`` without a type, ``shard``).
    start, end, submitted
        Seconds since 1970, real or expected; None when Slurm does not say.
    limit
        Minutes; None for no limit.
    exclusive
        Whether it has its nodes to itself; not known with Slurm 26.05.
    tasks
        How many jobs of this kind the line stands for.
    """

    job_id: int
    state: str
    reason: str = ""
    partitions: tuple[str, ...] = ()
    priority: int = 0
    nodes: int = 1
    node_names: tuple[str, ...] = ()
    expected_nodes: tuple[str, ...] = ()
    required_nodes: tuple[str, ...] = ()
    cpus: int = 1
    memory: int = 0
    gres: Mapping[str, int] = field(default_factory=dict)
    start: int | None = None
    end: int | None = None
    limit: int | None = None
    submitted: int | None = None
    exclusive: bool = False
    tasks: int = 1

    @property
    def waits(self) -> bool:
        """Say whether it has no nodes yet."""
        return PHASES.get(self.state) is Phase.PENDING and not self.node_names

    @property
    def runs(self) -> bool:
        """Say whether it holds nodes."""
        return bool(self.node_names)


def wanted(mark: str) -> str:
    """Return what to ask for with ``squeue --Format``.

    Parameters
    ----------
    mark
        A word that is new for each question, of letters and digits.
    """
    # After each field its separator, because a field without one is cut to 20 characters.
    first, *rest = FIELDS.values()
    return ",".join([f"{first}:{SEPARATOR}{mark}{SEPARATOR}", *(f"{name}:{SEPARATOR}" for name in rest)])


def parse(text: str, mark: str) -> tuple[list[Job], bool]:
    """Read squeue's answer.

    Parameters
    ----------
    text
        All jobs of the cluster, asked for with `wanted`.
    mark
        The word that was asked with.

    Returns
    -------
    tuple of list and bool
        The jobs, and whether everything in the answer was squeue's own and could be read.
    """
    whole = True
    jobs: list[Job] = []
    for line in text.split("\n"):
        words = line.split(SEPARATOR)
        # The last separator makes one more word; the mark is one, too.
        if len(words) == len(FIELDS) + 2 and words[1] == mark:
            job = _job(dict(zip(FIELDS, [words[0], *words[2:]], strict=False)))
            if job is not None:
                jobs.append(job)
                continue
        whole = whole and not line.strip()
    # Slurm 26.05 says of every job that it is not shared.
    if all(job.exclusive for job in jobs):
        jobs = [replace(job, exclusive=False) for job in jobs]
    return jobs, whole


def _job(values: Mapping[str, str]) -> Job | None:
    number = _number(values["job_id"])
    if number is None:
        return None
    tres = _tres(values["tres"])
    # Of a job with many tasks, tres counts one node, and squeue itself how many it takes at least.
    nodes = max(_number(tres.get("node", "")) or 1, _number(values["nodes"].partition("-")[0]) or 1)
    return Job(
        job_id=number,
        state=values["state"].strip(),
        reason="" if values["reason"] in {"None", ""} else values["reason"],
        partitions=tuple(name for name in values["partition"].split(",") if name),
        priority=_number(values["priority"]) or 0,
        nodes=nodes,
        node_names=tuple(names(values["node_names"])),
        expected_nodes=tuple(names(values["expected_nodes"])),
        required_nodes=tuple(names(values["required_nodes"])),
        cpus=max(_number(tres.get("cpu", "")) or _number(values["cpus"]) or 1, 1),
        memory=_memory(tres.get("mem", "")),
        gres=_gres(tres, values["tres_per_node"], nodes),
        start=_number(values["start"]),
        end=_number(values["end"]),
        limit=units.minutes_or_none(values["limit"].strip()),
        submitted=_number(values["submitted"]),
        exclusive=values["shared"].strip() == "NO",
        tasks=_tasks(values["tasks"]),
    )


def _tres(text: str) -> dict[str, str]:
    """Read ``cpu=4,mem=8G,node=2,billing=4,gres/gpu=2``."""
    pairs = (item.partition("=") for item in text.strip().split(","))
    return {name: value for name, sep, value in pairs if sep}


def _gres(tres: Mapping[str, str], per_node: str, nodes: int) -> dict[str, int]:
    """Return a job's gres on all its nodes together.

    Slurm counts ``gres/gpu`` and ``gres/gpu:a100`` in TRES only where the site has it count them
    (AccountingStorageTRES); a job's own wish, for each node, has the rest.
    """
    counted = {name[5:]: _number(value) or 0 for name, value in tres.items() if name.startswith("gres/")}
    # "gres:gpu:a100:2" (22.05 to 23.11), "gres/gpu:a100:2" (24.05 and later).
    wish = parse_gres(re.sub(r"(^|,)gres[:/]", r"\1", per_node.strip()))
    # One without a count ("gres:gpu") means one.
    wish |= dict.fromkeys(re.findall(r"(?:^|,)gres[:/]([a-z_]+)(?=,|$)", per_node.strip()), 1)
    found = {name: count * nodes for name, count in wish.items()}
    for family in {name.partition(":")[0] for name in counted}:
        typed = {name: n for name, n in counted.items() if name.startswith(f"{family}:") and n}
        if typed or not any(_family(name) == family for name in found):
            found = {name: n for name, n in found.items() if _family(name) != family}
            found |= typed or ({family: counted[family]} if counted.get(family) else {})
    return found


def _family(name: str) -> str:
    return name.partition(":")[0]


def names(text: str) -> list[str]:
    """Write out a list of nodes as Slurm writes it: ``n[1-3,07],gpu[1-2]-[1-4]``; empty for none.

    Raises nothing: what is no list of nodes is none, and so is one of more than 20,000 names.
    """
    found: list[str] = []
    for item in re.findall(r"(?:\[[^\]]*\]|[^,\[\]])+", text.strip()):
        parts = _GROUPS.split(item)
        # The texts between the brackets, and what is in them, alternate.
        choices = [_numbers(part) if index % 2 else [part] for index, part in enumerate(parts)]
        if len(found) + math.prod(len(choice) for choice in choices) > _MOST_NAMES:
            return []
        written = ["".join(words) for words in itertools.product(*choices)]
        if not all(NODE.fullmatch(name) for name in written) or "/" in item:
            return []
        found += written
    return found


def _numbers(text: str) -> list[str]:
    found: list[str] = []
    for item in text.split(","):
        match = _RANGE.fullmatch(item)
        if match is None:
            return []
        first, last = match[1], match[2] or match[1]
        if int(last) - int(first) >= _MOST_NAMES:
            return [""] * (_MOST_NAMES + 1)  # too many, whatever they are called
        found += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return found


def _tasks(text: str) -> int:
    """Count the tasks of an array that wait: ``1-3%1``, ``0-98:2``, ``7``; 1 for a job that is no array."""
    return max(sum(_of_range(item) for item in text.strip().partition("%")[0].split(",")), 1)


def _of_range(text: str) -> int:
    match = _TASKS.fullmatch(text)
    if match is None:
        return 0
    first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
    return len(range(first, last + 1, max(step, 1)))


def _memory(text: str) -> int:
    """Read ``8G``, ``100M`` or ``1.50T`` into MiB, rounded up."""
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)([KMGTP]?)", text)
    if match is None:
        return 0
    return math.ceil(
        float(match[1]) * {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 2**20, "P": 2**30}[match[2]]
    )


def _number(text: str) -> int | None:
    word = text.strip()
    return int(word) if word.isascii() and word.isdigit() else None
