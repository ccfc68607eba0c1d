"""How long a forecast of a large cluster takes: ``python -m tests.benchmarks.forecast [--nodes N]``.

Prints the seconds of processor time of each step: reading squeue's answer, counting what there is, the
forecast with its chart, and one question when something would start.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from typing import Any

from carme_hub.service import queue, shapes
from carme_hub.service.forecast import Forecast, Request
from carme_hub.service.queue import Job
from carme_hub.spawner.answers import SEPARATOR
from carme_hub.spawner.cluster import Cluster, Node, Partition

NOW = 1_800_000_000
MARK = "0123456789abcdef"
CORES, MEMORY, GPUS = 64, 256_000, 4  # of a node; every other one has GPUs
LIMITS = (30, 60, 120, 240, 480, 720, 1440, 2880)  # minutes
SIZES = (1,) * 12 + (2, 4, 8, 16)  # nodes of a job
GPU = "gpu:a100"


def world(nodes: int, jobs: int, seed: int = 1) -> tuple[Cluster, list[Job]]:
    """Make a full cluster: two thirds of the jobs run as far as there is room, the others wait."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    names = [f"n{number:04}" for number in range(nodes)]
    free = {name: [CORES, MEMORY, GPUS * (place % 2)] for place, name in enumerate(names)}
    made: list[Job] = []
    for number in range(1, jobs + 1):
        need, size, limit = _need(dice), dice.choice(SIZES), dice.choice(LIMITS)
        on: list[str] = []
        if number <= jobs * 2 // 3:
            fit = [
                n for n in dice.sample(names, 60) if all(a >= b for a, b in zip(free[n], need, strict=True))
            ]
            on = fit[: max(min(size, len(fit)), 1)]
            size = len(on) or size
        for name in on:
            free[name] = [a - b for a, b in zip(free[name], need, strict=True)]
        made.append(_job(number, need, size, limit, tuple(on), dice))
    return _cluster(names, free), made


def _need(dice: random.Random) -> tuple[int, int, int]:
    """Return cores, memory and GPUs of one node."""
    gpus = dice.choice((0, 0, 1, 2, 4))
    cores = gpus * dice.choice((4, 8, 16)) if gpus else dice.choice((1, 2, 4, 8, 16))
    return cores, cores * dice.choice((2000, 4000)), gpus


def _job(  # noqa: PLR0917 - one caller
    number: int, need: tuple[int, int, int], size: int, limit: int, on: tuple[str, ...], dice: random.Random
) -> Job:
    start = NOW - dice.randrange(limit * 60) if on else None
    return Job(
        number,
        "RUNNING" if on else "PENDING",
        "" if on else "Priority",
        ("gpu" if need[2] else "cpu",),
        dice.randrange(10_000),
        size,
        on,
        cpus=need[0] * size,
        memory=need[1] * size,
        gres={GPU: need[2] * size} if need[2] else {},
        start=start,
        end=start + limit * 60 if start else None,
        limit=limit,
    )


def _cluster(names: list[str], free: dict[str, list[int]]) -> Cluster:
    nodes = {}
    for place, name in enumerate(names):
        cores, memory, gpus = free[name]
        nodes[name] = Node(
            name,
            "mixed",
            partitions=("cpu", "gpu") if place % 2 else ("cpu",),
            cpus=CORES,
            cpus_used=CORES - cores,
            memory=MEMORY,
            memory_used=MEMORY - memory,
            gres={GPU: GPUS} if place % 2 else {},
            gres_used={GPU: GPUS - gpus} if place % 2 else {},
        )
    partitions = {
        "cpu": Partition("cpu", "up", nodes=tuple(names)),
        "gpu": Partition("gpu", "up", nodes=tuple(names[1::2])),
    }
    return Cluster(0.0, nodes, partitions)


def written(jobs: list[Job]) -> str:
    """Write jobs as squeue does."""
    return "".join(map(_line, jobs))


def _line(job: Job) -> str:
    gpus = sum(job.gres.values())
    tres = f"cpu={job.cpus},mem={job.memory}M,node={job.nodes},billing={job.cpus}"
    values = dict.fromkeys(queue.FIELDS, "N/A") | {
        "job_id": job.job_id,
        "state": job.state,
        "reason": job.reason or "None",
        "partition": job.partitions[0],
        "priority": job.priority,
        "nodes": job.nodes,
        "node_names": ",".join(job.node_names),
        "cpus": job.cpus,
        "tres": f"{tres},gres/gpu={gpus}" if gpus else tres,
        "tres_per_node": f"gres:{GPU}:{gpus // job.nodes}" if gpus else "N/A",
        "start": job.start or "N/A",
        "end": job.end or "N/A",
        "limit": f"{job.limit}:00",
        "shared": "OK",
    }
    first, *rest = map(str, values.values())
    return SEPARATOR.join([first, MARK, *rest, "\n"])


def measure(nodes: int, jobs: int, say: Callable[[str], object]) -> dict[str, float]:
    """Return the seconds of processor time of each step."""
    cluster, made = world(nodes, jobs)
    text = written(made)
    took: dict[str, float] = {}

    def timed(what: str, step: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = step()
        took[what] = time.process_time() - began
        say(f"{what:<34}{took[what]:7.3f} s")
        return result

    running = sum(job.runs for job in made)
    say(f"{nodes} nodes, {jobs} jobs, of which {running} run")
    read, whole = timed("reading squeue's answer", lambda: queue.parse(text, MARK))
    assert whole
    assert len(read) == jobs
    resources = timed("counting", lambda: shapes.resources_of(cluster, read, NOW))
    made_of_it = timed("the forecast", lambda: Forecast(cluster, read, NOW))
    timed("its chart", lambda: shapes.forecast_chart(made_of_it, resources))
    timed("when would one more start?", lambda: made_of_it.start_of(Request("gpu", 2, 8, 16_000, {GPU: 2})))
    say(f"{len(made_of_it.starts)} of {jobs - running} waiting jobs have a start")
    return took


def main() -> None:
    """Measure what is asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=10_000)
    given = parser.parse_args()
    measure(given.nodes, given.jobs, print)


if __name__ == "__main__":
    main()
