"""A profile as one person can use it: with Slurm's bounds where the site has none, and own accounts. Pure.

What Slurm does not say leaves the profile as it is; `associations.check` and Slurm itself have the last word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carme_hub.spawner.associations import accounts_of, qos_of
from carme_hub.spawner.cluster import gres_of
from carme_hub.spawner.request import gres
from carme_hub.spawner.values import MAX_GPUS, MAX_NODES, MAX_TIME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carme_hub.spawner.accounting import Accounting, Membership
    from carme_hub.spawner.catalog import Profile
    from carme_hub.spawner.cluster import Cluster, Node, Partition


def partition_of(cluster: Cluster | None, name: str | None) -> Partition | None:
    """Return a partition of the cluster's picture, its default one for None; None when it is not known."""
    if cluster is None:
        return None
    if name is not None:
        return cluster.partitions.get(name)
    return next((partition for partition in cluster.partitions.values() if partition.default), None)


def within(
    profile: Profile,
    cluster: Cluster | None,
    accounting: Accounting | None,
    membership: Membership | None,
    max_time: int | None = None,
) -> Profile:
    """Narrow a profile to what its partition has and its person may use.

    Parameters
    ----------
    profile
        As the site describes it. What it bounds itself stays; where it has no bound, the partition's counts.
    cluster, accounting, membership
        What Slurm says of nodes and partitions, of itself, and of the person; None when it is not known.
    max_time
        Minutes that a session of this person may last at most; None for no such limit.
    """
    partition = partition_of(cluster, profile.partition)
    nodes = cluster.members(partition.name) if cluster and partition else []
    changes: dict[str, object] = {}
    if partition is not None and nodes:
        changes |= _sizes(profile, partition, nodes)
    longest = [limit for limit in (profile.max_time, max_time) if limit is not None]
    if profile.max_time == MAX_TIME and partition is not None and partition.max_time is not None:
        longest.append(partition.max_time)
    changes["max_time"] = min(longest)
    changes["min_time"] = min(profile.min_time, *longest)
    changes["default_time"] = min(profile.default_time, *longest)
    if accounting is not None and membership is not None and "associations" in accounting.enforced:
        changes |= _names(profile, partition, membership, with_qos="qos" in accounting.enforced)
    return profile.model_copy(update=changes)


def _sizes(profile: Profile, partition: Partition, nodes: Sequence[Node]) -> dict[str, object]:
    changes: dict[str, object] = {}
    if profile.max_nodes == MAX_NODES:
        most = max(min(partition.max_nodes or len(nodes), len(nodes)), 1)
        changes["max_nodes"] = most
        changes["min_nodes"] = min(profile.min_nodes, most)
        changes["default_nodes"] = min(profile.default_nodes, most)
    if not profile.max_gpus_per_node:
        return changes
    if not profile.gpu_types:
        kinds = sorted({name for node in nodes for name in node.gres if name.partition(":")[0] == "gpu"})
        if len(kinds) > 1:
            # "gpu" is any of them.
            types = [name.removeprefix("gpu:") for name in kinds if name != "gpu"]
            changes["gpu_types"] = ("gpu", *types)
    if profile.max_gpus_per_node == MAX_GPUS:
        types = list(profile.gpu_types) or ["gpu"]
        most = max((_most(nodes, name) for name in types), default=0)
        if most:
            changes["max_gpus_per_node"] = most
            changes["min_gpus_per_node"] = min(profile.min_gpus_per_node, most)
            changes["default_gpus_per_node"] = min(profile.default_gpus_per_node, most)
    return changes


def _most(nodes: Sequence[Node], gpu_type: str) -> int:
    """Return how many of a type one node has at most."""
    return max(gres_of(node, gres(gpu_type)) for node in nodes)


def _names(
    profile: Profile, partition: Partition | None, membership: Membership, *, with_qos: bool
) -> dict[str, object]:
    """Leave the accounts and QOS that the person has; where none is left, `associations.check` says why."""
    changes: dict[str, object] = {}
    usable = accounts_of(membership, partition)
    accounts = _shared(profile.account, usable) if profile.account else usable
    if accounts:
        changes["account"] = accounts
    if with_qos:
        # "" leaves the account to Slurm, which takes the default one.
        qualities = qos_of(
            membership, partition, [name.lower() or membership.default_account for name in accounts or usable]
        )
        if profile.qos:
            qos = _shared(profile.qos, qualities)
        else:
            # The first is Slurm's own default.
            qos = ("", *qualities) if len(qualities) > 1 else ()
        if qos:
            changes["qos"] = qos
    return changes


def _shared(allowed: tuple[str, ...], usable: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in allowed if not name or name.lower() in usable)
