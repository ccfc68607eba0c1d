"""What of a profile is free now, by the watcher's last picture of the cluster. Pure; no question to Slurm.

The figures are for people who choose: what a partition has of it, what of that nobody holds, and the largest
session that would fit. When a session really starts is for Slurm to say (`carme_hub.spawner.estimate`): it
also knows the queue, reservations and priorities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from carme_hub.spawner.bounds import partition_of
from carme_hub.spawner.request import gres

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carme_hub.spawner.catalog import Profile
    from carme_hub.spawner.cluster import Cluster, Node

OLD = 60.0  # seconds from which on a picture's age is told
_MOST = 2000  # figures to remember
CORES = ""


@dataclass(frozen=True)
class Count:
    """How many of one thing a partition has.

    Attributes
    ----------
    name
        A GPU type as the profile and Slurm call it ("a100", "1g.10gb", "shard", "gpu" for any of them);
        `CORES` for cores.
    free
        Those that a session could have now.
    total
        All, those of nodes that are out of service included.
    down
        Those of nodes that are out of service.
    """

    name: str
    free: int
    total: int
    down: int = 0


@dataclass(frozen=True)
class Shape:
    """A session's size: nodes, and on each of them GPUs of a type, or cores where there are none."""

    nodes: int
    gpus: int = 0
    gpu_type: str = ""
    cpus: int = 0


@dataclass(frozen=True)
class Free:
    """What is free for one profile.

    Attributes
    ----------
    counts
        One for each type of GPU the profile offers, or one of cores.
    largest
        The largest session within the profile's bounds that fits now; None when not the smallest one does.
    usual
        Whether what the form begins with fits now.
    closed
        Whether the partition starts nothing at all now.
    taken_at
        ``time.monotonic()`` of the picture.
    """

    counts: tuple[Count, ...]
    largest: Shape | None
    usual: bool
    closed: bool
    taken_at: float

    def age(self, now: float) -> int:
        """Return the minutes since the picture, rounded up, when it is old; else 0.

        Parameters
        ----------
        now
            ``time.monotonic()``.
        """
        seconds = now - self.taken_at
        return 0 if seconds < OLD else int(-(-seconds // 60))


def free_now(profile: Profile, cluster: Cluster | None) -> Free | None:
    """Count what is free for a profile.

    Parameters
    ----------
    profile
        As its person can have it (`carme_hub.spawner.bounds.within`).
    cluster
        The picture; None when there is none yet.

    Returns
    -------
    Free or None
        None where the picture cannot tell: the partition is not known, or sessions are confined to a
        reservation's nodes or to those with a feature, and the picture does not say which these are.
    """
    partition = partition_of(cluster, profile.partition)
    if cluster is None or partition is None or any(profile.reservation[:1]) or any(profile.constraint[:1]):
        return None
    all_left = _all_left(cluster)
    nodes = cluster.members(partition.name)
    left = [all_left[node.name] for node in nodes]
    largest: Shape | None = None
    if profile.max_gpus_per_node:
        counts = []
        usual = False
        for place, kind in enumerate(profile.gpu_types or ("gpu",)):
            name = gres(kind)
            spare = [_of(each.gres, name) for each in left]
            counts.append(_count(kind, [_of(node.gres, name) for node in nodes], spare, nodes))
            rooms = [_room(profile, number, each) for number, each in zip(spare, left, strict=True)]
            if place == 0:  # the default
                usual = _fits(rooms, profile.default_nodes, profile.default_gpus_per_node)
            best = _best(rooms, profile, profile.min_gpus_per_node)
            if best and (largest is None or best[0] * best[1] > largest.nodes * largest.gpus):
                largest = Shape(best[0], best[1], kind)
    else:
        counts = [_count(CORES, [node.cpus for node in nodes], [each.cpus for each in left], nodes)]
        rooms = [_cores_room(profile, each) for each in left]
        usual = _fits(rooms, profile.default_nodes, profile.cpus_for(0, profile.default_tasks_per_node))
        best = _best(
            rooms, profile, (1 if profile.max_cpus else profile.cpus or 1) * profile.min_tasks_per_node
        )
        largest = Shape(best[0], cpus=best[1]) if best else None
    if partition.state != "up":
        # sinfo calls CPUs that nobody holds idle, whether the partition starts jobs or not.
        none = tuple(replace(count, free=0) for count in counts)
        return Free(none, None, usual=False, closed=True, taken_at=cluster.taken_at)
    return Free(tuple(counts), largest, usual, closed=False, taken_at=cluster.taken_at)


def _count(name: str, totals: Sequence[int], spare: Sequence[int], nodes: Sequence[Node]) -> Count:
    down = sum(total for total, node in zip(totals, nodes, strict=True) if not node.usable)
    return Count(name, sum(spare), sum(totals), down)


_known: dict[tuple[object, ...], tuple[Cluster, Free | None]] = {}


def remembered(profile: Profile, cluster: Cluster | None) -> Free | None:
    """Return what `free_now` says, worked out once for a picture and all people whose profile is the same."""
    if cluster is None:
        return None
    key = tuple(getattr(profile, name) for name in _COUNTS)
    known = _known.get(key)
    if known is None or known[0] is not cluster:
        if len(_known) >= _MOST:
            _known.clear()
        known = _known[key] = (cluster, free_now(profile, cluster))
    return known[1]


# What of a profile the figures depend on; everybody's profile is an object of their own.
_COUNTS = (
    "cluster",
    "partition",
    "reservation",
    "constraint",
    "gpu_types",
    "min_gpus_per_node",
    "max_gpus_per_node",
    "default_gpus_per_node",
    "min_nodes",
    "max_nodes",
    "default_nodes",
    "min_tasks_per_node",
    "max_tasks_per_node",
    "default_tasks_per_node",
    "cpus",
    "max_cpus",
    "cpus_per_gpu",
    "memory",
    "memory_per_gpu",
)


def _of(counts: Mapping[str, int], wanted: str) -> int:
    """Count a gres by Slurm's name; one without a type counts all its types."""
    if ":" in wanted:
        return counts.get(wanted, 0)
    return sum(count for name, count in counts.items() if name.partition(":")[0] == wanted)


def gres_left(node: Node) -> dict[str, int]:
    """Return what of each gres of a node a session could have now, with GPUs that are given away in shards.

    Slurm has no GPU both as a whole and in shards at once: a whole one takes its shards away, and the first
    shard takes the whole GPU. Both counts are shown to others as if that were not so.
    """
    left = node.gres_free
    if not node.usable:
        return left
    for name in [name for name in left if name.partition(":")[0] == "shard"]:
        whole = "gpu" + name.removeprefix("shard")
        gpus, shards = _of(node.gres, whole), node.gres[name]
        if not gpus:
            continue
        each = max(shards // gpus, 1)
        used, taken = _of(node.gres_used, whole), node.gres_used.get(name, 0)
        left[name] = max(shards - used * each - taken, 0)
        split = -(-taken // each)  # GPUs that have shards in use, at least
        for kind in [kind for kind in left if kind == whole or kind.startswith(f"{whole}:")]:
            split_here = min(split, left[kind])
            left[kind] -= split_here
            split -= split_here
    return left


@dataclass(frozen=True)
class _Left:
    """What a session could have of a node now."""

    cpus: int
    memory: int
    gres: Mapping[str, int]


def _left_of(node: Node) -> _Left:
    return _Left(node.cpus_idle if node.usable else 0, node.memory_free, gres_left(node))


_left: tuple[Cluster, dict[str, _Left]] | None = None


def _all_left(cluster: Cluster) -> dict[str, _Left]:
    """Return what is left of each node, worked out once for a picture, however many profiles look at it."""
    global _left  # noqa: PLW0603 - the last picture's; it is made anew when it is another one
    if _left is None or _left[0] is not cluster:
        _left = cluster, {name: _left_of(node) for name, node in cluster.nodes.items()}
    return _left[1]


def _room(profile: Profile, spare: int, left: _Left) -> int:
    """Return how many of a node's spare GPUs one session could have, with cores and memory for them."""
    most = min(spare, profile.max_gpus_per_node)
    if profile.cpus_per_gpu:
        most = min(most, left.cpus // profile.cpus_per_gpu)
    elif left.cpus < (profile.cpus or 1) * profile.min_tasks_per_node:
        return 0
    if profile.memory_per_gpu:
        most = min(most, left.memory // profile.memory_per_gpu)
    elif profile.memory and left.memory < profile.memory:
        return 0
    return most


def _cores_room(profile: Profile, left: _Left) -> int:
    if profile.memory and left.memory < profile.memory:
        return 0
    each = 1 if profile.max_cpus else profile.cpus or 1
    most = (profile.max_cpus or each) * profile.max_tasks_per_node
    return min(left.cpus // each * each, most)


def _fits(rooms: Sequence[int], nodes: int, each: int) -> bool:
    return sum(room >= each for room in rooms) >= nodes


def _best(rooms: Sequence[int], profile: Profile, least: int) -> tuple[int, int] | None:
    """Return nodes and amount on each, of the most in all; of two that are the same, the one on fewer nodes.

    Parameters
    ----------
    rooms
        For each node, what fits on it.
    profile
        Says how many nodes a session may have.
    least
        The least on each node.
    """
    best: tuple[int, int] | None = None
    # The n nodes with the most room have room for what the last of them has.
    for number, room in enumerate(sorted(rooms, reverse=True)[: profile.max_nodes], 1):
        if number < profile.min_nodes or room < max(least, 1):
            continue
        if best is None or number * room > best[0] * best[1]:
            best = number, room
    return best
