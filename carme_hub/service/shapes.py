"""What pages are told of a cluster: its numbers, nodes and forecast as plain values for JSON. Pure functions.

Numbers only, and what Slurm says of its nodes: nobody's name, no job's number.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from carme_hub.service.timeline import EVER
from carme_hub.service.usage import Demand, in_line, releases, used_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from carme_hub.service.forecast import Forecast
    from carme_hub.service.queue import Job
    from carme_hub.spawner.cluster import Cluster, Node

SHAPE = 1  # of a picture; what is kept of another one is not shown
HORIZON = 86400  # seconds that a forecast shows
STEP = 300  # seconds between two of its points
MOST_NODES = 40  # in the stream, which goes to every open page; `api/nodes` has all

Resources = dict[str, dict[str, int]]


def resources_of(cluster: Cluster, jobs: Sequence[Job], now: int) -> Resources:
    """Count what there is of each resource: ``total``, ``used``, ``down`` and ``queued``.

    Returns
    -------
    dict
        By name: GPUs first, then other gres, ``cpu`` last. ``down`` is what is out of service and in nobody's
        use; what is neither used nor down is free. ``queued`` is what jobs in line ask for; those that are
        held, or wait for another job, are in no line.
    """
    names = {name for node in cluster.nodes.values() for name in node.gres}
    order = [*sorted(names, key=lambda name: (not name.startswith("gpu"), name)), "cpu"]
    found: Resources = {name: {"total": 0, "used": 0, "down": 0, "queued": 0} for name in order}
    used = used_of(cluster, releases(cluster, jobs, now))
    for node in cluster.nodes.values():
        for name, whole in {"cpu": node.cpus, **node.gres}.items():
            taken = min(used[node.name][name], whole)
            found[name]["total"] += whole
            found[name]["used"] += taken
            if not node.usable:
                found[name]["down"] += whole - taken
    demand = Demand(cluster)
    for job in jobs:
        if in_line(job):
            for name, amount in demand.of(job).items():
                if name in found:
                    found[name]["queued"] += amount * job.tasks
    return found


def picture_of(
    name: str, at: int, cluster: Cluster, jobs: Sequence[Job], resources: Resources
) -> dict[str, Any]:
    """Return one cluster for pages, with all its nodes; ``at`` is when, in seconds since 1970."""
    return {
        "shape": SHAPE,
        "name": name,
        "at": at,
        "resources": [{"name": what, **counts} for what, counts in resources.items()],
        "partitions": [
            {
                "name": one.name,
                "state": one.state,
                "cpus": one.cpus,
                "cpus_idle": one.cpus_idle,
                "max_time": one.max_time,
            }
            for one in cluster.partitions.values()
        ],
        "nodes": [_node(node) for node in cluster.nodes.values()],
        "running": sum(job.runs for job in jobs),
        "pending": sum(job.tasks for job in jobs if job.waits),
    }


def shortened(picture: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cluster with all its nodes if they are few, and with none but their number if not."""
    nodes = picture["nodes"]
    return {**picture, "nodes": nodes if len(nodes) <= MOST_NODES else [], "nodes_total": len(nodes)}


def _node(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "state": node.state,
        "usable": node.usable,
        "reason": node.reason,
        "partitions": list(node.partitions),
        "cpus": node.cpus,
        "cpus_used": node.cpus_used,
        "gres": dict(node.gres),
        "gres_used": dict(node.gres_used),
        "memory": node.memory,
        "memory_used": node.memory_used,
    }


def forecast_chart(forecast: Forecast, resources: Resources) -> dict[str, Any]:
    """Return what will be in use and in line over the next day: times, and series by resource."""
    at = list(range(forecast.now, forecast.now + HORIZON + 1, STEP))
    used: dict[str, list[tuple[int, int]]] = {name: [] for name in resources}
    queued: dict[str, list[tuple[int, int]]] = {name: [] for name in resources}
    for release in forecast.releases:
        if release.name in used and release.at < EVER:
            used[release.name].append((release.at, -release.amount))
    for placed in forecast.placed:
        for name, amount in placed.holds.items():
            if name in used:
                used[name] += [(placed.start, amount), (placed.end, -amount)]
        for name, amount in forecast.demand.of(placed.job).items():
            if name in queued:
                queued[name].append((placed.start, -amount))
    series = {
        name: {
            "used": [min(n, counts["total"]) for n in _steps(counts["used"], used[name], at)],
            "queued": _steps(counts["queued"], queued[name], at),
            "total": [counts["total"]] * len(at),
            "down": [counts["down"]] * len(at),
        }
        for name, counts in resources.items()
    }
    return {"as_of": forecast.now, "at": at, "series": series}


def _steps(first: int, changes: Iterable[tuple[int, int]], at: Sequence[int]) -> list[int]:
    """Return the value at each time of something that starts with a value and changes by amounts."""
    ordered = sorted(changes)
    times = [moment for moment, _ in ordered]
    values = [first, *accumulate((amount for _, amount in ordered), initial=first)][1:]
    return [max(values[bisect_right(times, moment)], 0) for moment in at]


def past_chart(moments: Iterable[tuple[int, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return what was: the samples of `carme_hub.records.samples.since`; None where there was none."""
    known = list(moments)
    names = sorted({name for _, counts in known for name in counts})
    kinds = ("used", "queued", "total", "down")
    return {
        "at": [moment for moment, _ in known],
        "series": {
            name: {
                kind: [getattr(counts[name], kind) if name in counts else None for _, counts in known]
                for kind in kinds
            }
            for name in names
        },
    }
