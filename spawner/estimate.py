"""What ``sbatch --test-only`` says of a job: when it would start, or why Slurm would not take it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

# Slurm 22.05 to 26.05; the nodes' names hold no space. The time is seconds where SLURM_TIME_FORMAT=%s got
# through, else the machine's local time.
_STARTS = re.compile(
    r"Job [0-9]+ to start at (?P<start>\S+)(?: on cluster \S+)? using [0-9]+ processors"
    r" on (?:nodes )?(?P<nodes>\S+)(?: in partition (?P<partition>\S+))?"
)
# With nodes drained or down, Slurm says this of jobs that it takes.
_NOT_NOW = re.compile(r"requested node configuration is not available", re.IGNORECASE)
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
    (r"partition not available|partition .*(down|drain)", "profile", "its partition takes no sessions now."),
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
    (r"job violates accounting|QOSMax|AssocMax|AssocGrp|QOSGrp", "", "It is more than Slurm allows you."),
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


def read(text: str) -> Estimate | Refusal:
    """Read what ``sbatch --test-only`` printed on standard error.

    Parameters
    ----------
    text
        All of it, with what else sbatch and its plugins had to say.
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
    for pattern, field, meaning in _REFUSALS:
        if re.search(pattern, text, re.IGNORECASE):
            return Refusal(field, f"{meaning} Slurm says: {words(text)}")
    return Refusal("", f"Slurm would not accept the session: {words(text)}")


def _epoch(text: str) -> int | None:
    if text.isascii() and text.isdigit():
        return int(text[:12]) or None
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        return None


def words(text: str) -> str:
    """Make one readable line of a command's complaints."""
    lines = [
        re.sub(r"^(\w+: (error: )?|allocation failure: )", "", line.strip())
        for line in text.splitlines()
        if line.strip()
    ]
    return " ".join(dict.fromkeys(lines))[:500] or "no reason given"
