"""What profiles offer, against what Slurm has: names, sizes, times, and who may use a partition."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carme_hub.checks.values import Check, failed, ok, warning
from carme_hub.spawner import units
from carme_hub.spawner.bounds import partition_of
from carme_hub.spawner.cluster import gres_of
from carme_hub.spawner.mistakes import unknown
from carme_hub.spawner.request import gres
from carme_hub.spawner.slurm import SlurmUnavailable
from carme_hub.spawner.values import MAX_GPUS, MAX_NODES, MAX_TIME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carme_hub.spawner.catalog import Profile
    from carme_hub.spawner.cluster import Cluster, Node, Partition
    from carme_hub.spawner.slurm import Slurm

_FEATURE = re.compile(r"[A-Za-z][A-Za-z0-9_.=-]*")


@dataclass(frozen=True)
class Known:
    """The names that Slurm has; None where they are not known, and nothing is said of them."""

    accounts: frozenset[str] | None = None
    qos: frozenset[str] | None = None
    reservations: frozenset[str] | None = None
    features: frozenset[str] | None = None


async def look(slurm: Slurm, profiles: Sequence[Profile], of: str) -> list[Check]:
    """Ask Slurm for what profiles name, and judge each profile."""
    try:
        cluster = await slurm.cluster()
    except SlurmUnavailable:
        return []  # that is told where partitions are looked at
    known = Known(
        accounts=await _names(slurm, "sacctmgr", "-nP", "show", "account", "format=Account"),
        qos=await _names(slurm, "sacctmgr", "-nP", "show", "qos", "format=Name"),
        reservations=await _names(slurm, "scontrol", "--oneliner", "show", "reservation"),
        features=await _names(slurm, "sinfo", "--all", "--noheader", "--format=%f"),
    )
    return [judge(profile, cluster, known, of) for profile in profiles]


async def _names(slurm: Slurm, program: str, *words: str) -> frozenset[str] | None:
    try:
        done = await slurm.run([f"{slurm.folder}/{program}", *words])
    except SlurmUnavailable:
        return None
    if done.code:
        return None
    if program == "scontrol":
        return frozenset(re.findall(r"ReservationName=(\S+)", done.out))
    names = frozenset(re.split(r"[\s,|]+", done.out.lower() if program == "sacctmgr" else done.out)) - {""}
    # Without accounting there are none, and any will do.
    return names or None


def judge(profile: Profile, cluster: Cluster, known: Known, of: str = "") -> Check:
    """Judge one profile; all its mistakes stand in one sentence each."""
    title = f'Profile "{profile.name}"{of}'
    partition = partition_of(cluster, profile.partition)
    if partition is None:
        return ok(title, "Its partition is looked at by itself.")
    nodes = cluster.members(partition.name)
    wrong = [*_unknown(profile, partition, known), *_too_large(profile, partition, nodes)]
    if wrong:
        return failed(title, " ".join(one if one.endswith("?") else f"{one}." for one in wrong))
    if profile.groups and _takes_everybody(partition):
        groups = ", ".join(profile.groups)
        sentence = (
            f"It is for {groups}, but partition {partition.name} takes everybody's jobs: `sbatch -p "
            f"{partition.name}` in any session goes around the profile. Set AllowAccounts or AllowGroups of "
            "the partition in slurm.conf."
        )
        return warning(title, sentence)
    return ok(title, f"Partition {partition.name} has what it offers.")


def _takes_everybody(partition: Partition) -> bool:
    rules = partition.rules
    return rules is not None and not (
        rules.allow_accounts is not None
        or rules.allow_groups is not None
        or rules.allow_qos is not None
        or rules.deny_accounts
    )


def _unknown(profile: Profile, partition: Partition, known: Known) -> Iterator[str]:
    rules = partition.rules
    for what, has, names, takes in (
        ("account", "Slurm has no account", known.accounts, rules.account if rules else None),
        ("qos", "Slurm has no QOS", known.qos, rules.qos if rules else None),
        ("reservation", "Slurm has no reservation", known.reservations, None),
    ):
        for name in filter(None, getattr(profile, what)):
            # Accounts and QOS are lower case to Slurm.
            if names is not None and not {name, name.lower()} & names:
                yield f"{what}: {unknown(name, names, has)}"
            elif takes is not None and not takes(name):
                yield f'{what}: partition {partition.name} does not take jobs of the {what} "{name}"'
    for constraint in filter(None, profile.constraint):
        for feature in _FEATURE.findall(constraint):
            if known.features is not None and feature not in known.features:
                yield f"constraint: {unknown(feature, known.features, 'no node has the feature')}"


def _too_large(profile: Profile, partition: Partition, nodes: Sequence[Node]) -> Iterator[str]:
    where = f"partition {partition.name}"
    yield from _gpus(profile, nodes, where)
    yield from _cores_and_memory(profile, nodes, where)
    most = min(partition.max_nodes or len(nodes), len(nodes))
    if profile.max_nodes != MAX_NODES and profile.max_nodes > most:
        yield f"max_nodes: {profile.max_nodes} nodes are offered, but a job in {where} can have {most}"
    # An extension ends at the partition's limit, too, whatever max_extended_time says.
    longest = partition.max_time
    if profile.max_time != MAX_TIME and longest is not None and profile.max_time > longest:
        asked, limit = units.show_minutes(profile.max_time), units.show_minutes(longest)
        yield f"max_time: {asked} is offered, but {where} ends jobs after {limit}"


def _gpus(profile: Profile, nodes: Sequence[Node], where: str) -> Iterator[str]:
    if not profile.max_gpus_per_node or profile.max_gpus_per_node == MAX_GPUS:
        return
    for kind in profile.gpu_types or ("gpu",):
        most = max((gres_of(node, gres(kind)) for node in nodes), default=0)
        # None at all is told with the partition.
        if 0 < most < profile.max_gpus_per_node:
            offered = f"{profile.max_gpus_per_node} of {gres(kind)}"
            yield f"max_gpus_per_node: {offered} are offered, but no node of {where} has more than {most}"


def _cores_and_memory(profile: Profile, nodes: Sequence[Node], where: str) -> Iterator[str]:
    types = profile.gpu_types or ("gpu",)
    there = max((gres_of(node, gres(kind)) for node in nodes for kind in types), default=0)
    gpus = min(profile.max_gpus_per_node, there)
    cores = profile.max_cpus or profile.cpus_for(gpus, profile.max_tasks_per_node)
    most = max((node.cpus for node in nodes), default=0)
    if cores > most > 0:
        name = "cpus_per_gpu" if profile.cpus_per_gpu else "max_cpus" if profile.max_cpus else "cpus"
        how = f" for {gpus} GPUs" if profile.cpus_per_gpu else ""
        yield f"{name}: {cores} cores{how} on a node, but no node of {where} has more than {most}"
    memory = profile.max_memory or profile.memory_for(gpus) or 0
    largest = max((node.memory for node in nodes), default=0)
    if memory > largest > 0:
        name = (
            "memory_per_gpu" if profile.memory_per_gpu else "max_memory" if profile.max_memory else "memory"
        )
        how = f" for {gpus} GPUs" if profile.memory_per_gpu else ""
        amount, limit = units.show_mebibytes(memory), units.show_mebibytes(largest)
        yield f"{name}: {amount}{how} on a node, but no node of {where} has more than {limit}"
