"""A cluster whose future can be worked out by hand, minute by minute: what forecasts are compared with.

It knows nothing of `carme_hub.service.timeline`: usage is a table of minutes, and a job goes to the first
minute from which on enough nodes have room for it in every minute of its limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from carme_hub.service.forecast import Forecast
from carme_hub.service.queue import Job
from carme_hub.spawner.cluster import Cluster, Node, Partition

NOW = 1_800_000_000
MINUTES = 200  # that the table has; more than all limits of a generated queue together
GPU = "gpu:a100"


@dataclass
class World:
    """A cluster with jobs. The nodes' numbers follow from what runs."""

    cpus: list[int]
    gpus: list[int]
    running: list[Job] = field(default_factory=list)
    waiting: list[Job] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [f"n{number}" for number in range(len(self.cpus))]

    @property
    def whole(self) -> dict[str, dict[str, int]]:
        return {
            name: {"cpu": cpus, GPU: gpus}
            for name, cpus, gpus in zip(self.names, self.cpus, self.gpus, strict=True)
        }

    def cluster(self, **changes) -> Cluster:
        """Return what sinfo would say; changes are of nodes by name."""
        nodes = {}
        for name, whole in self.whole.items():
            here = [job for job in self.running if name in job.node_names]
            nodes[name] = Node(
                name,
                "mixed",
                partitions=("p",),
                cpus=whole["cpu"],
                cpus_used=sum(share(job)["cpu"] for job in here),
                memory=1000,
                gres={GPU: whole[GPU]} if whole[GPU] else {},
                gres_used={GPU: sum(share(job)[GPU] for job in here)} if whole[GPU] else {},
            )
            nodes[name] = replace(nodes[name], **changes.get(name, {}))
        return Cluster(0.0, nodes, {"p": Partition("p", "up", nodes=tuple(nodes))})

    def forecast(self) -> Forecast:
        return Forecast(self.cluster(), [*self.running, *self.waiting], NOW)

    def simulated(self) -> dict[int, int]:
        """Return when each waiting job starts, worked out minute by minute."""
        used = {name: [{"cpu": 0, GPU: 0} for _ in range(MINUTES)] for name in self.names}
        for job in self.running:
            for name in job.node_names:
                _hold(used[name], job, 0, (job.end - NOW) // 60)
        starts = {}
        for job in sorted(self.waiting, key=lambda job: (-job.priority, job.job_id)):
            for minute in range(MINUTES - job.limit):
                begun = {
                    name: since
                    for name in self.names
                    if (since := self._fits_since(used[name], name, job, minute)) is not None
                }
                if len(begun) >= job.nodes:
                    # Where it fits for the longest time already, then the first nodes.
                    for name in sorted(begun, key=lambda name: (begun[name], self.names.index(name)))[
                        : job.nodes
                    ]:
                        _hold(used[name], job, minute, minute + job.limit)
                    starts[job.job_id] = NOW + 60 * minute
                    break
        return starts

    def _fits_since(self, table, name, job, minute) -> int | None:
        whole, need = self.whole[name], share(job)

        def room(at):
            return all(table[at][what] + need[what] <= whole[what] for what in need)

        if not all(room(at) for at in range(minute, minute + job.limit)):
            return None
        while minute and room(minute - 1):
            minute -= 1
        return minute


def share(job: Job) -> dict[str, int]:
    """Return what a job holds of each node."""
    return {"cpu": job.cpus // job.nodes, GPU: job.gres.get(GPU, 0) // job.nodes}


def _hold(table, job, start, end):
    for minute in range(start, min(end, MINUTES)):
        for what, amount in share(job).items():
            table[minute][what] += amount


def runs(number, names, minutes, cpus=1, gpus=0) -> Job:
    """Return a job that runs for so many minutes more, with so much of each node."""
    count = len(names)
    return Job(
        number,
        "RUNNING",
        partitions=("p",),
        nodes=count,
        node_names=tuple(names),
        cpus=cpus * count,
        gres={GPU: gpus * count} if gpus else {},
        end=NOW + 60 * minutes,
        limit=minutes,
    )


def waits(number, minutes, *, nodes=1, cpus=1, gpus=0, priority=0, **more) -> Job:
    """Return a job that waits for so much of so many nodes."""
    known = {
        "reason": "Priority",
        "partitions": ("p",),
        "gres": {GPU: gpus * nodes} if gpus else {},
        "limit": minutes,
    }
    return Job(number, "PENDING", nodes=nodes, cpus=cpus * nodes, priority=priority, **{**known, **more})


@st.composite
def worlds(draw) -> World:
    """Make a cluster of a few nodes that is partly in use, and a queue."""
    count = draw(st.integers(1, 4))
    world = World(
        draw(st.lists(st.integers(1, 4), min_size=count, max_size=count)),
        draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)),
    )
    free = {name: dict(whole) for name, whole in world.whole.items()}
    for number in range(draw(st.integers(0, 5))):
        cpus, gpus = draw(st.integers(1, 3)), draw(st.integers(0, 1))
        room = [name for name, left in free.items() if left["cpu"] >= cpus and left[GPU] >= gpus]
        wanted = draw(st.integers(1, 2))
        if len(room) >= wanted:
            # From 2 minutes on: what should be over already is given a minute more.
            job = runs(number, room[:wanted], draw(st.integers(2, 20)), cpus, gpus)
            world.running.append(job)
            for name in job.node_names:
                for what, amount in share(job).items():
                    free[name][what] -= amount
    for number in range(draw(st.integers(1, 8))):
        world.waiting.append(
            waits(
                100 + number,
                draw(st.integers(1, 20)),
                nodes=draw(st.integers(1, 3)),
                # What fits on no node is spread over several, which the table does not do.
                cpus=draw(st.integers(1, max(world.cpus))),
                gpus=draw(st.integers(0, 2)),
                priority=draw(st.integers(0, 3)),
            )
        )
    return world
