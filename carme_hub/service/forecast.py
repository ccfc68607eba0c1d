"""What a cluster will do: when waiting jobs start at the latest, and what is in use then. No I/O.

From what Slurm says now (nodes, jobs, reservations) follows when running jobs end at the latest: by their
time limits. Waiting jobs are put behind them: those first whose start Slurm itself expects, not before that
time; then the others by priority, each at the earliest moment at which it fits without being in the way of
those before it (`carme_hub.service.timeline`). As most jobs end before their limits, it will be sooner as a
rule; new jobs of a higher priority can make it later.

What this does not know, Slurm does: preemption, tiers of partitions, features, licences, fair shares that
change. A job that Slurm holds for a limit of its owner's is put where Slurm expects its start, and nowhere
when Slurm expects none. How many cores and GPUs a job has on each of several nodes is taken for the same on
all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carme_hub.service.timeline import EVER, UNLIMITED, Need, Search, Timeline, take
from carme_hub.service.usage import Demand, Kind, in_line, in_words_of, kind_of, releases, used_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from carme_hub.service.queue import Job
    from carme_hub.spawner.cluster import Cluster, Node

WINDOW = 7 * 86400  # seconds; what starts later is left out
# Of searching, in the units of `Search.effort`: half a second or so. The rest of a long queue is put nowhere,
# as in Slurm's own backfill (bf_max_job_test).
MOST_EFFORT = 1_500_000


@dataclass(frozen=True)
class Closed:
    """A reservation: these nodes are for nobody who waits. Seconds since 1970."""

    nodes: frozenset[str]
    start: int
    end: int


@dataclass(frozen=True)
class Request:
    """What somebody might ask for, of each node.

    Attributes
    ----------
    partition
        Slurm's default one when it is empty.
    memory
        MiB.
    minutes
        Time limit; None for none.
    """

    partition: str
    nodes: int = 1
    cpus: int = 1
    memory: int = 0
    gres: Mapping[str, int] = field(default_factory=dict)
    minutes: int | None = 60


@dataclass(frozen=True)
class Placed:
    """A waiting job, or a task of one, where it was put.

    Attributes
    ----------
    start, end
        Seconds since 1970; `EVER` is no end.
    nodes
        Their names; empty when only Slurm knows.
    holds
        Resource -> how much of it on all these nodes together.
    """

    job: Job
    start: int
    end: int
    nodes: tuple[str, ...]
    holds: Mapping[str, int]


@dataclass(frozen=True)
class _Shape:
    """What makes two jobs the same to a search: where they may run, and what they need of each node."""

    partition: str
    only: frozenset[str]
    cpus: int
    memory: int
    gres: tuple[tuple[str, int], ...]
    exclusive: bool


class Forecast:
    """One forecast.

    Parameters
    ----------
    cluster, jobs
        What sinfo and squeue say.
    now
        When they said it, in seconds since 1970.
    closed
        Reservations that have not ended.

    Attributes
    ----------
    starts
        Number of a waiting job -> when it starts at the latest (of an array: its first task); jobs for which
        nobody can say are left out.
    placed
        All starts, also of each task, in the order of being put there.
    releases
        What running jobs give back.
    demand
        What waiting jobs ask for.
    """

    def __init__(
        self, cluster: Cluster, jobs: Sequence[Job], now: int, closed: Iterable[Closed] = ()
    ) -> None:
        self.now = now
        self.demand = Demand(cluster)
        self.starts: dict[int, int] = {}
        self.placed: list[Placed] = []
        self._nodes: list[Node] = [node for node in cluster.nodes.values() if node.usable]
        self._numbers = {node.name: number for number, node in enumerate(self._nodes)}
        self._kinds = [kind_of(node) for node in self._nodes]
        self._members = {
            name: members
            for name, partition in cluster.partitions.items()
            if partition.state == "up"
            and (members := [self._numbers[node] for node in partition.nodes if node in self._numbers])
        }
        self._default = next((name for name, one in cluster.partitions.items() if one.default), "")
        # Cores and memory of the largest node of a partition.
        self._largest = {
            name: tuple(max(self._kinds[number][index][1] for number in members) for index in (0, 1))
            for name, members in self._members.items()
        }
        self._searches: dict[_Shape, Search] = {}
        self._effort = 0
        self.releases = list(releases(cluster, jobs, now))
        self._timelines = self._free(cluster, closed)
        self._place([job for job in jobs if in_line(job)])

    def start_of(self, request: Request) -> int | None:
        """Return when a request would start at the latest, if it were made now; None when nobody can say.

        Everything that waits already comes first. What is asked leaves nothing behind: anybody may ask
        anything, as often as they like.
        """
        gres = tuple(sorted((name, count) for name, count in request.gres.items() if count > 0))
        partition = request.partition or self._default
        shape = _Shape(partition, frozenset(), request.cpus, request.memory, gres, exclusive=False)
        seconds = UNLIMITED if request.minutes is None else max(request.minutes * 60, 1)
        place = self._made(shape).find(request.nodes, seconds, self.now, self.now + WINDOW)
        return place.start if place else None

    def _free(self, cluster: Cluster, closed: Iterable[Closed]) -> list[Timeline]:
        used = used_of(cluster, self.releases)
        timelines = [
            Timeline(self.now, [max(whole - used[node.name][name], 0) for name, whole in kind])
            for node, kind in zip(self._nodes, self._kinds, strict=True)
        ]
        for release in self.releases:
            number = self._numbers.get(release.node)
            if number is not None and release.at < EVER:
                index = [name for name, _ in self._kinds[number]].index(release.name)
                timelines[number].change([(index, release.amount)], release.at)
        for one in closed:
            for name in one.nodes & self._numbers.keys():
                if one.end > self.now:
                    timelines[self._numbers[name]].close(max(one.start, self.now), one.end)
        return timelines

    def _place(self, waiting: list[Job]) -> None:
        promised = [job for job in waiting if job.start is not None and job.reason != "BeginTime"]
        for job in sorted(promised, key=lambda job: (job.start, -job.priority, job.job_id)):
            self._put(job, max(job.start or 0, self.now), 1)
            self._promise(job)
        known = {job.job_id for job in promised}
        for job in sorted(waiting, key=lambda job: (-job.priority, job.job_id)):
            begin = max(job.start or 0, self.now) if job.reason == "BeginTime" else self.now
            self._put(job, begin, job.tasks - (job.job_id in known))

    def _put(self, job: Job, not_before: int, tasks: int) -> None:
        """Place so many jobs of a kind, all that fit into the window."""
        if tasks <= 0 or self._effort > MOST_EFFORT:
            return
        choices = list(self._choices(job))
        seconds = UNLIMITED if job.limit is None else max(job.limit * 60, 1)
        for _ in range(tasks):
            found = []
            for search, count in choices:
                before = search.effort
                place = search.find(count, seconds, not_before, self.now + WINDOW)
                self._effort += search.effort - before
                if place is not None:
                    found.append((place, search))
            if not found or self._effort > MOST_EFFORT:
                return
            place, search = min(found, key=lambda pair: pair[0].start)
            take(self._timelines, search.needs, place, seconds)
            holds: dict[str, int] = {}
            for number in place.nodes:
                for index, amount in search.needs[number]:
                    name = self._kinds[number][index][0]
                    holds[name] = holds.get(name, 0) + amount
            self.starts.setdefault(job.job_id, place.start)
            end = EVER if job.limit is None else place.start + seconds
            names = tuple(self._nodes[number].name for number in place.nodes)
            self.placed.append(Placed(job, place.start, end, names, holds))

    def _promise(self, job: Job) -> None:
        """Believe Slurm where nothing is found: it knows of ways to spread a job that are not tried here."""
        if job.job_id not in self.starts and job.start is not None and job.start <= self.now + WINDOW:
            start = self.starts[job.job_id] = max(job.start, self.now)
            end = EVER if job.limit is None else start + job.limit * 60
            self.placed.append(Placed(job, start, end, (), self.demand.of(job)))

    def _choices(self, job: Job) -> Iterator[tuple[Search, int]]:
        """Yield where to look for a place for a job: its partitions, each with its number of nodes there."""
        only = frozenset(job.required_nodes) if job.nodes <= len(job.required_nodes) else frozenset()
        for partition in job.partitions:
            if partition not in self._largest:
                continue
            # Many tasks without a number of nodes go on as many as they need.
            cpus, memory = self._largest[partition]
            count = max(job.nodes, -(-job.cpus // max(cpus, 1)), -(-job.memory // max(memory, 1)))
            gres = tuple(sorted((name, -(-n // count)) for name, n in job.gres.items() if n))
            share = -(-job.cpus // count), -(-job.memory // count)
            yield self._search(_Shape(partition, only, *share, gres, job.exclusive)), count

    def _search(self, shape: _Shape) -> Search:
        known = self._searches.get(shape)
        if known is None:
            known = self._searches[shape] = self._made(shape)
            self._effort += known.effort
        return known

    def _made(self, shape: _Shape) -> Search:
        of_kind: dict[Kind, Need | None] = {}
        needs = {}
        for number in self._members.get(shape.partition, ()):
            kind = self._kinds[number]
            if kind not in of_kind:
                of_kind[kind] = _need(kind, shape)
            need = of_kind[kind]
            if need is not None and (not shape.only or self._nodes[number].name in shape.only):
                needs[number] = need
        return Search(self._timelines, needs)


def _need(kind: Kind, shape: _Shape) -> Need | None:
    """Return what a shape needs of such nodes, by their indexes; None when it can never run there."""
    known = dict(kind)
    cpus = known["cpu"] if shape.exclusive else shape.cpus
    wanted = in_words_of(kind, {"cpu": max(cpus, 1), "memory": shape.memory, **dict(shape.gres)})
    if any(amount > known.get(name, 0) for name, amount in wanted.items()):
        return None
    return tuple((index, wanted[name]) for index, (name, _) in enumerate(kind) if wanted.get(name))
