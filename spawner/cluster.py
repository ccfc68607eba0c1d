"""A cluster's nodes and partitions as values, read from what sinfo and scontrol print. Pure functions.

Sources: man sinfo and man scontrol of Slurm 22.05 to 26.05.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from carme_hub.spawner import units
from carme_hub.spawner.answers import NODE, SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Name of a value -> field of "sinfo --Format" (man sinfo). One line for each node in each of its partitions.
NODES = {
    "name": "NodeList",
    "state": "StateLong",
    "cpus": "CPUsState",
    "memory": "Memory",
    "memory_used": "AllocMem",
    "gres": "Gres",
    "gres_used": "GresUsed",
    "partition": "Partition",
    "partition_state": "Available",
    "max_time": "Time",
    "default_time": "DefaultTime",
    "size": "Size",
    "reason": "Reason",
}
# After each field its separator, because a field without one is cut to 20 characters.
NODES_FORMAT = ",".join(f"{field_name}:{SEPARATOR}" for field_name in NODES.values())

# Nodes in these states take jobs, now or when what runs on them has ended.
USABLE = frozenset({"idle", "mixed", "allocated", "completing", "planned"})
# What sinfo adds to a state: not responding, and on its way down, out of power or to a reboot (man sinfo,
# NODE STATE CODES). Powered off to save energy (~), powering up (#) and planned (-) take jobs.
_UNUSABLE_MARKS = frozenset("*!%$@^")
_MARKS = "*~#!%$@^-+"
_UNSET = {"", "(null)", "n/a", "N/A", "none"}
_COUNT = re.compile(r"([0-9]{1,18})([KMGTP]?)")
_COUNT_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4, "P": 1024**5}
_PARENTHESES = re.compile(r"\([^()]*\)")
_WORD = re.compile(r"(?:^|\s)([A-Za-z]+)=(\S*)")


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes
    ----------
    state
        Slurm's word without its marks: ``idle``, ``mixed``, ``allocated``, ``drained``, ``down``, ...
    mark
        The marks sinfo puts after the state (man sinfo): ``*`` does not respond, ``~`` is powered off, ...
    reason
        Why an admin or Slurm took it out of service, free text; empty when nobody said.
    cpus, cpus_used
        All, and those that jobs hold.
    cpus_idle
        Those that a job could have now; 0 on a node that is out of service.
    memory, memory_used
        MiB, all and held by jobs.
    gres, gres_used
        Count by name, for example ``{"gpu:a100": 4, "shard": 32}``; all, and held by jobs.
    """

    name: str
    state: str
    mark: str = ""
    reason: str = ""
    partitions: tuple[str, ...] = ()
    cpus: int = 0
    cpus_used: int = 0
    cpus_idle: int = 0
    memory: int = 0
    memory_used: int = 0
    gres: Mapping[str, int] = field(default_factory=dict)
    gres_used: Mapping[str, int] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Say whether the node takes jobs, now or when what runs on it has ended."""
        return self.state in USABLE and not _UNUSABLE_MARKS.intersection(self.mark)

    @property
    def memory_free(self) -> int:
        """Return the MiB that a job could have now."""
        return max(self.memory - self.memory_used, 0) if self.usable else 0

    @property
    def gres_free(self) -> dict[str, int]:
        """Return what of each gres a job could have now.

        Shards of a GPU that is given away as a whole still count, and Slurm 22.05 shows how many GPUs have
        shards in use, not how many shards are (recorded in tests/fixtures/slurm-22.05/sinfo.txt).
        """
        if not self.usable:
            return dict.fromkeys(self.gres, 0)
        return {name: max(count - self.gres_used.get(name, 0), 0) for name, count in self.gres.items()}


@dataclass(frozen=True)
class Rules:
    """Who may use a partition; None is everybody. ``own_qos`` is the partition's QOS, with its limits."""

    allow_accounts: frozenset[str] | None = None
    deny_accounts: frozenset[str] = frozenset()
    allow_qos: frozenset[str] | None = None
    deny_qos: frozenset[str] = frozenset()
    allow_groups: frozenset[str] | None = None
    own_qos: str = ""

    def account(self, name: str) -> bool:
        """Say whether jobs of an account may be in the partition."""
        # slurm.conf: DenyAccounts counts only where AllowAccounts is not set. Accounts are lower case.
        if self.allow_accounts is not None:
            return name.lower() in self.allow_accounts
        return name.lower() not in self.deny_accounts

    def qos(self, name: str) -> bool:
        """Say whether jobs of a QOS may be in the partition."""
        if self.allow_qos is not None:
            return name.lower() in self.allow_qos
        return name.lower() not in self.deny_qos


@dataclass(frozen=True)
class Partition:
    """One partition that has nodes.

    Attributes
    ----------
    state
        ``up``, ``down``, ``drain`` or ``inact``; jobs start only in one that is up.
    max_time, default_time
        Minutes; None for no limit, and for no default.
    max_nodes
        Of one job; None for no limit.
    nodes
        Names of its nodes.
    cpus, cpus_idle
        Of all its nodes together.
    rules
        Who may use it; None while that is not known.
    """

    name: str
    state: str
    default: bool = False
    max_time: int | None = None
    default_time: int | None = None
    max_nodes: int | None = None
    nodes: tuple[str, ...] = ()
    cpus: int = 0
    cpus_idle: int = 0
    rules: Rules | None = None


@dataclass(frozen=True)
class Cluster:
    """All nodes and partitions at one time.

    Attributes
    ----------
    taken_at
        ``time.monotonic()`` before Slurm was asked.
    """

    taken_at: float
    nodes: Mapping[str, Node]
    partitions: Mapping[str, Partition]

    def members(self, partition: str) -> list[Node]:
        """Return the nodes of a partition; none for one that is not known."""
        found = self.partitions.get(partition)
        return [self.nodes[name] for name in found.nodes] if found else []


def parse_gres(text: str) -> dict[str, int]:
    """Read generic resources as Slurm prints them for a node.

    Parameters
    ----------
    text
        For example ``gpu:a100:4(S:0-1),shard:32``, ``gpu:1g.10gb:2(IDX:0-1)`` or ``(null)``.

    Returns
    -------
    dict of str to int
        Count by name with type; the same name several times is added up, what has no count is left out.
    """
    found: Counter[str] = Counter()
    # What stands in parentheses (sockets, indexes) may hold commas.
    for item in _PARENTHESES.sub("", text).split(","):
        name, _, count = item.strip().rpartition(":")
        match = _COUNT.fullmatch(count)
        if name and match:
            found[name.replace(":no_consume", "")] += int(match[1]) * _COUNT_UNITS[match[2]]
    return dict(found)


def parse_nodes(text: str, taken_at: float) -> Cluster:
    """Read sinfo's answer (`NODES_FORMAT`); lines that are none of its own are left out."""
    first: dict[str, dict[str, str]] = {}
    of_node: dict[str, list[str]] = {}
    of_partition: dict[str, list[str]] = {}
    partitions: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        words = line.split(SEPARATOR)
        # The last separator makes one more word, unless an admin's reason has a line end before it.
        if len(words) not in {len(NODES), len(NODES) + 1} or not NODE.fullmatch(words[0]):
            continue
        values = dict(zip(NODES, words, strict=False))
        name, partition = values["name"], values["partition"].removesuffix("*")
        first.setdefault(name, values)
        partitions.setdefault(partition, values)
        if partition:
            of_node.setdefault(name, []).append(partition)
            of_partition.setdefault(partition, []).append(name)
    nodes = {name: _node(values, of_node.get(name, [])) for name, values in first.items()}
    partitions.pop("", None)
    return Cluster(
        taken_at,
        nodes,
        {
            name: _partition(name, values, [nodes[node] for node in of_partition[name]])
            for name, values in partitions.items()
        },
    )


def _node(values: Mapping[str, str], partitions: Iterable[str]) -> Node:
    state = values["state"].strip()
    word = state.rstrip(_MARKS)
    used, idle, _other, total = _cpus(values["cpus"])
    return Node(
        name=values["name"],
        state=word.lower(),
        mark=state[len(word) :],
        reason="" if values["reason"] in _UNSET else values["reason"],
        partitions=tuple(partitions),
        cpus=total,
        cpus_used=used,
        cpus_idle=idle,
        memory=_number(values["memory"]) or 0,
        memory_used=_number(values["memory_used"]) or 0,
        gres=parse_gres(values["gres"]),
        gres_used={name: count for name, count in parse_gres(values["gres_used"]).items() if count},
    )


def _partition(name: str, values: Mapping[str, str], nodes: list[Node]) -> Partition:
    return Partition(
        name=name,
        state=values["partition_state"],
        default=values["partition"].endswith("*"),
        max_time=units.minutes_or_none(values["max_time"]),
        default_time=units.minutes_or_none(values["default_time"]),
        # "1-infinite", "2-4", or one number for both ends.
        max_nodes=_number(values["size"].rpartition("-")[2]),
        nodes=tuple(node.name for node in nodes),
        cpus=sum(node.cpus for node in nodes),
        cpus_idle=sum(node.cpus_idle for node in nodes),
    )


def parse_partitions(text: str) -> dict[str, Rules]:
    """Read ``scontrol --oneliner show partition``: who may use which partition."""
    found = {}
    for line in text.splitlines():
        values = dict(_WORD.findall(line))
        if values.get("PartitionName"):
            found[values["PartitionName"]] = Rules(
                allow_accounts=_names(values.get("AllowAccounts", "ALL")),
                deny_accounts=_names(values.get("DenyAccounts", "")) or frozenset(),
                allow_qos=_names(values.get("AllowQos", "ALL")),
                deny_qos=_names(values.get("DenyQos", "")) or frozenset(),
                allow_groups=_names(values.get("AllowGroups", "ALL"), lower=False),
                own_qos="" if values.get("QoS", "N/A") in _UNSET else values["QoS"].lower(),
            )
    return found


def gres_of(node: Node, wanted: str) -> int:
    """Return how many of a gres a node has; one without a type ("gpu") counts all its types."""
    whole = ":" not in wanted
    return sum(
        count
        for name, count in node.gres.items()
        if name == wanted or (whole and name.startswith(f"{wanted}:"))
    )


def with_rules(cluster: Cluster, rules: Mapping[str, Rules]) -> Cluster:
    """Return the same cluster with what is known of who may use its partitions."""
    partitions = {
        name: replace(partition, rules=rules.get(name)) for name, partition in cluster.partitions.items()
    }
    return replace(cluster, partitions=partitions)


def _names(text: str, *, lower: bool = True) -> frozenset[str] | None:
    if text.upper() == "ALL":
        return None
    return frozenset(name.lower() if lower else name for name in text.split(",") if name not in _UNSET)


def _cpus(text: str) -> tuple[int, int, int, int]:
    numbers = [_number(word) for word in text.split("/")]
    if len(numbers) != 4 or None in numbers:  # noqa: PLR2004 - allocated/idle/other/total
        return 0, 0, 0, 0
    return tuple(numbers)  # type: ignore[return-value]


def _number(text: str) -> int | None:
    word = text.strip()
    return int(word) if word.isascii() and word.isdigit() else None
