"""What ``sbatch --test-only`` says of a job: when it would start, or why Slurm would not take it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from carme_hub.spawner import units
from carme_hub.spawner.answers import one_line
from carme_hub.spawner.cluster import gres_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from carme_hub.spawner.cluster import Cluster, Partition
    from carme_hub.spawner.request import JobRequest

# Slurm 22.05 to 26.05; the nodes' names hold no space. The time is seconds where SLURM_TIME_FORMAT=%s got
# through, else the machine's local time.
_STARTS = re.compile(
    r"Job [0-9]+ to start at (?P<start>\S+)(?: on cluster \S+)? using [0-9]+ processors"
    r" on (?:nodes )?(?P<nodes>\S+)(?: in partition (?P<partition>\S+))?"
)
# With nodes drained, down, reserved or busy, Slurm says this of jobs that it takes.
_NOT_NOW = re.compile(
    r"requested node configuration is not available|required node not available|requested nodes are busy"
    r"|requested partition configuration not available now|temporarily unavailable",
    re.IGNORECASE,
)
# What decides: sbatch's last word, and the names of limits before it. Plugins and scripts of the site may say
# anything beside it, of jobs that are taken as well.
_VERDICT = re.compile(r"^(?:\w+: )?allocation failure: .*|\b(?:QOS|Assoc)(?:Max|Grp|Min)\w+", re.MULTILINE)
_NO_NEWS = r"\w+: (error: )?|allocation failure: "
# What Slurm says -> the option it is about, and what it means. The first that fits counts.
_REFUSALS = (
    (r"account or account/partition combination", "account", "Slurm does not let you use it here."),
    (r"invalid qos|qos .*not permitted", "qos", "Slurm does not let you use it with this account."),
    (r"time limit (is )?invalid|WallDuration", "time", "it is longer than Slurm allows you."),
    (r"reservation", "reservation", "it cannot be used."),
    (r"invalid feature|constraint", "constraint", "no node of the cluster has it."),
    (
        r"gres|generic resource|trackable resource",
        "gpus",
        "Slurm allows you fewer, or has none of this type.",
    ),
    (r"mem(ory)?.*(limit|not available|invalid)|MaxMem|Mem(Per|Limit)", "memory", "Slurm allows you less."),
    (
        r"processors requested|MaxCpu|cpu count",
        "cpus",
        "it is more than the nodes have, or Slurm allows you.",
    ),
    (r"node count|MaxNode|too many nodes", "nodes", "it is more than there are, or Slurm allows you."),
    (r"required partition not available", "profile", "its partition takes no sessions now."),
    (
        r"invalid partition|partition name",
        "profile",
        "its partition does not exist; please tell the administrators.",
    ),
    (
        r"user'?s? group not permitted|not permitted to use this partition",
        "profile",
        "its partition is not for you.",
    ),
    (
        r"job violates accounting|(QOS|Assoc)(Max|Grp|Min)",
        "",
        "It is more than Slurm allows you.",
    ),
)


@dataclass(frozen=True)
class Estimate:
    """What Slurm expects of a job, if it were submitted now.

    Attributes
    ----------
    start
        Seconds since 1970; None when Slurm sees no node that could take it at the moment.
    nodes, partition
        As Slurm writes them; empty when it does not say.
    sentence
        For the person, without the time.
    """

    start: int | None
    nodes: str
    partition: str
    sentence: str


@dataclass(frozen=True)
class Refusal:
    """Slurm would not take the job: ``field`` is the option it is about, empty when that is not known."""

    field: str
    sentence: str


def read(text: str, code: int = 1) -> Estimate | Refusal:
    """Read what ``sbatch --test-only`` printed on standard error.

    Only what is known to be a refusal is one. Of anything else there is no estimate, and sbatch decides when
    the session is started.

    Parameters
    ----------
    text
        All of it, with what else sbatch and its plugins had to say.
    code
        How it ended; 0 when Slurm takes the job.
    """
    match = _STARTS.search(text)
    if match is not None:
        nodes, partition = match["nodes"], match["partition"] or ""
        sentence = f"It would start on {nodes}" + (f" in the partition {partition}." if partition else ".")
        return Estimate(_epoch(match["start"]), nodes, partition, sentence)
    if _NOT_NOW.search(text):
        return Estimate(
            None,
            "",
            "",
            "At the moment no node can take it: it is too much for one, or nodes are out of service.",
        )
    verdict = "" if code == 0 else " ".join(_VERDICT.findall(text))
    for pattern, field, meaning in _REFUSALS:
        if re.search(pattern, verdict, re.IGNORECASE):
            return Refusal(field, f"{meaning} Slurm says: {one_line(text, _NO_NEWS)}")
    return Estimate(None, "", "", f"Slurm gives no estimate: {one_line(text, _NO_NEWS)}")


def told(refusal: Refusal, request: JobRequest, cluster: Cluster | None, partition: Partition | None) -> str:
    """Say of a refusal what was asked for, and what there is where that is less.

    Parameters
    ----------
    refusal, request
        What Slurm said, and of what.
    cluster, partition
        The last picture of the cluster, and the request's partition in it; None when it is not known.
    """
    nodes = cluster.members(partition.name) if cluster and partition else []
    each = " on each node" if request.nodes > 1 else ""
    asked, most = "", None
    if refusal.field == "gpus" and request.gres is not None:
        asked = f"{request.gpus} of {request.gres}{each}"
        most = _most(request.gpus, (gres_of(node, request.gres) for node in nodes))
    elif refusal.field == "cpus":
        asked = f"{request.cpus}{each}"
        most = _most(request.cpus, (node.cpus for node in nodes))
    elif refusal.field == "memory" and request.memory is not None:
        asked = f"{units.show_mebibytes(request.memory)}{each}"
        most = _most(request.memory, (node.memory for node in nodes), units.show_mebibytes)
    elif refusal.field == "nodes":
        asked = str(request.nodes)
        most = _most(request.nodes, [(partition and partition.max_nodes) or len(nodes)])
        return _joined(asked, most and f"the partition has {most}", refusal)
    elif refusal.field == "time":
        asked = units.show_minutes(request.time)
        longest = partition.max_time if partition else None
        most = _most(request.time, [longest] if longest else [], units.show_minutes)
        return _joined(asked, most and f"the partition allows {most}", refusal)
    elif refusal.field in {"account", "qos", "reservation", "constraint"}:
        asked = repr(getattr(request, refusal.field) or "Slurm's default")
    return _joined(asked, most and f"a node has at most {most}", refusal)


def _joined(asked: str, most: str | None, refusal: Refusal) -> str:
    if not asked:
        return refusal.sentence
    return f"{asked} asked, {most + '; ' if most else 'but '}{refusal.sentence}"


def _most(asked: int, there: Iterable[int], show: Callable[[int], str] = str) -> str | None:
    """Write the most there is, when it is less than what was asked for."""
    most = max(there, default=0)
    return show(most) if 0 < most < asked else None


def _epoch(text: str) -> int | None:
    if text.isascii() and text.isdigit():
        return int(text[:12]) or None
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        return None
