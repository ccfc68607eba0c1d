"""What is in use on each node, by which job until when, and what is asked for. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carme_hub.service.timeline import EVER
from carme_hub.spawner.answers import NOT_IN_LINE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from carme_hub.service.queue import Job
    from carme_hub.spawner.cluster import Cluster, Node

# What a node has of each resource, with its name.
Kind = tuple[tuple[str, int], ...]

# Reasons of jobs that nothing but a person can start.
_STUCK = re.compile(
    r"PartitionDown|PartitionInactive|PartitionConfig|PartitionNodeLimit|PartitionTimeLimit|BadConstraints"
    r"|Account|Invalid|InactiveLimit|Deadline|FedJobLock|SystemFailure|.*NotAllowed|.*NotSupported"
    r"|.*launch failed.*|.*requeued.*held.*|.*not permitted",
    re.IGNORECASE,
)
# Reasons of jobs that other jobs of the same owner, or a calendar, keep waiting: only Slurm knows until when.
_HELD_BY_LIMIT = re.compile(r"BeginTime|QOS|Assoc|Licenses|Reservation|Max.*PerAccount", re.IGNORECASE)
_SOON = 60  # seconds until a job is gone that should have ended already


def kind_of(node: Node) -> Kind:
    """Return what a node has; memory in MiB."""
    return ("cpu", node.cpus), ("memory", node.memory), *node.gres.items()


def in_words_of(kind: Kind, wanted: Mapping[str, int]) -> dict[str, int]:
    """Write what is wanted with the names of a kind of nodes: "gpu" is whatever GPUs they have most of."""
    known = dict(kind)
    found: dict[str, int] = {}
    for name, amount in wanted.items():
        here = name
        if name not in known:
            family = [other for other in known if other.startswith(f"{name}:")]
            here = max(family, key=lambda other: known[other], default=name)
        found[here] = found.get(here, 0) + amount
    return found


def in_line(job: Job) -> bool:
    """Say whether a job that waits starts by itself when it is its turn."""
    if not job.waits:
        return False
    if _HELD_BY_LIMIT.match(job.reason) and not _STUCK.match(job.reason):
        return job.start is not None
    return job.reason.partition(",")[0] not in NOT_IN_LINE and not _STUCK.match(job.reason)


@dataclass(frozen=True, slots=True)
class Release:
    """What becomes free on a node when a running job ends (at `EVER` when nobody knows)."""

    node: str
    name: str
    amount: int
    at: int


def releases(cluster: Cluster, jobs: Iterable[Job], now: int) -> Iterator[Release]:
    """Yield what running jobs give back, as far as the nodes say that it is in use.

    squeue does not say how much a job holds of each of its nodes, so that it is taken for the same on all;
    what is left of that on a node becomes free with the last job there.
    """
    on: dict[str, list[tuple[int, dict[str, int]]]] = {}
    for job in jobs:
        if job.runs:
            share = _share(job)
            end = EVER if job.end is None else max(job.end, now + _SOON)
            for name in job.node_names:
                on.setdefault(name, []).append((end, share))
    for name, held in on.items():
        node = cluster.nodes.get(name)
        if node is None:
            continue
        held.sort(key=lambda pair: pair[0])
        kind = kind_of(node)
        shares = [in_words_of(kind, share) for _, share in held]
        left = _in_use(node, shares)
        for place, (end, _) in enumerate(held):
            for resource, rest in left.items():
                last = place == len(held) - 1
                amount = rest if last else min(shares[place].get(resource, 0), rest)
                if amount > 0:
                    left[resource] -= amount
                    yield Release(name, resource, amount, end)


def used_of(cluster: Cluster, released: Iterable[Release]) -> dict[str, dict[str, int]]:
    """Return what is in use now on each node: what sinfo says, or what the jobs there say when that is more.

    Slurm 22.05 shows how many GPUs have shards in use, not how many shards are.
    """
    by_jobs: dict[tuple[str, str], int] = {}
    for release in released:
        key = release.node, release.name
        by_jobs[key] = by_jobs.get(key, 0) + release.amount
    return {
        name: {what: max(count, by_jobs.get((name, what), 0)) for what, count in _used(node).items()}
        for name, node in cluster.nodes.items()
    }


class Demand:
    """What jobs that wait ask for, in words of their partitions' nodes."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._gres: dict[str, Kind] = {}

    def of(self, job: Job) -> dict[str, int]:
        """Return what a job asks for, of all its nodes together."""
        known = next((gres for name in job.partitions if (gres := self._of_partition(name))), ())
        return {"cpu": job.cpus, **in_words_of(known, job.gres)}

    def _of_partition(self, name: str) -> Kind:
        if name not in self._gres:
            counts: dict[str, int] = {}
            for node in self._cluster.members(name):
                for gres, count in node.gres.items():
                    counts[gres] = counts.get(gres, 0) + count
            self._gres[name] = tuple(counts.items())
        return self._gres[name]


def _in_use(node: Node, shares: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return what jobs hold of a node: sinfo's numbers, and of gres what the jobs say when that is more."""
    used = _used(node)
    wanted: dict[str, int] = {}
    for share in shares:
        for name, count in share.items():
            wanted[name] = wanted.get(name, 0) + count
    for name, whole in node.gres.items():
        used[name] = min(max(used[name], wanted.get(name, 0)), whole)
    return used


def _used(node: Node) -> dict[str, int]:
    gres = {name: node.gres_used.get(name, 0) for name in node.gres}
    return {"cpu": node.cpus_used, "memory": node.memory_used, **gres}


def _share(job: Job) -> dict[str, int]:
    """Return what a running job holds of each of its nodes."""
    count = max(len(job.node_names), 1)
    whole = {"cpu": job.cpus, "memory": job.memory, **job.gres}
    return {name: -(-amount // count) for name, amount in whole.items()}
