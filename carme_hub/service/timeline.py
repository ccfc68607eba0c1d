"""What is free on each node from now on, and the earliest place for a job in it. No I/O, no words of Slurm's.

A job is put where it fits for the whole of its time limit, one after the other, the most important first, and
nothing that has a place is moved again. So no job waits for one that comes after it ("conservative
backfill", D. Feitelson and A. Weil, Utilization and predictability in scheduling the IBM SP2 with
backfilling, IPPS 1998), and a small one passes a big one only where that costs the big one nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

EVER = 1 << 60  # seconds; an end that never comes
UNLIMITED = EVER // 2  # seconds; how long a job lasts that has no limit
RENEW = 12  # how much more it takes to find a stretch than to look at one

# What a job needs of one node: index of a resource of that node, and how much of it.
Need = tuple[tuple[int, int], ...]


class Place(NamedTuple):
    """Where a job was put: from when on (seconds), and on which nodes (numbers)."""

    start: int
    nodes: tuple[int, ...]


class Timeline:
    """What is free on one node, from a moment on: constant between its times.

    Parameters
    ----------
    start
        The first moment, in seconds.
    free
        How much of each resource is free at that moment.
    """

    __slots__ = ("free", "times", "version")

    def __init__(self, start: int, free: Sequence[int]) -> None:
        self.times = [start]
        self.free = [list(free)]
        self.version = 0

    def change(self, amounts: Iterable[tuple[int, int]], start: int, end: int = EVER) -> None:
        """Add amounts (negative: take them) from one moment until another."""
        first, last = self._cut(start), self._cut(end)
        for index, amount in amounts:
            for free in self.free[first:last]:
                free[index] += amount
        self.version += 1

    def close(self, start: int, end: int) -> None:
        """Let nothing be free between two moments."""
        first, last = self._cut(start), self._cut(end)
        for free in self.free[first:last]:
            free[:] = [0] * len(free)
        self.version += 1

    def runs(self, need: Need, start: int, end: int) -> list[tuple[int, int]]:
        """Return the longest stretches, within two moments, in which there is all that is needed."""
        found, since = [], -1
        first = max(bisect_right(self.times, start) - 1, 0)
        for begin, free in zip(self.times[first:], self.free[first:], strict=True):
            if begin >= end:
                break
            for index, amount in need:
                if free[index] < amount:
                    if since >= 0:
                        found.append((since, begin))
                        since = -1
                    break
            else:
                if since < 0:
                    since = max(begin, start)
        if since >= 0:
            found.append((since, end))
        return found

    def _cut(self, moment: int) -> int:
        """Return where in the lists a moment begins, after making one begin there."""
        if moment >= EVER:
            return len(self.times)
        place = bisect_right(self.times, moment) - 1
        if place < 0:
            return 0
        if self.times[place] != moment:
            place += 1
            self.times.insert(place, moment)
            self.free.insert(place, self.free[place - 1].copy())
        return place


class Search:
    """Where one kind of need fits, on some of the nodes.

    Parameters
    ----------
    timelines
        All nodes.
    needs
        Number of a node -> what is needed of it. Other nodes do not count.

    Attributes
    ----------
    effort
        What this took so far: how often a stretch was looked at, and `RENEW` for each that was made.

    Notes
    -----
    All stretches in which it fits are kept in the order of their starts. What is free only ever shrinks, so a
    stretch that was found earlier contains what is left of it: it is looked at again only when a search comes
    by and its node has changed. With many jobs of few kinds, most answers are at the top of the list.
    """

    def __init__(self, timelines: Sequence[Timeline], needs: Mapping[int, Need]) -> None:
        self._timelines = timelines
        self.needs = needs
        self._begin = timelines[0].times[0] if timelines else 0
        # start, node, end, and the version of the node's timeline that it was found in
        self._runs = [
            (begin, node, until, timelines[node].version)
            for node, need in needs.items()
            for begin, until in timelines[node].runs(need, self._begin, EVER)
        ]
        self._runs.sort()
        self._hopeless: list[tuple[int, int, int]] = []
        self._earliest: dict[tuple[int, int], int] = {}
        self.effort = RENEW * len(needs)

    def find(self, count: int, seconds: int, not_before: int, not_after: int) -> Place | None:
        """Return the earliest place for so many nodes and seconds; None when there is none.

        Nodes that come first are taken first, as Slurm does it.
        """
        if count > len(self.needs) or any(
            count >= more and seconds >= longer and not_after <= after
            for more, longer, after in self._hopeless
        ):
            return None
        # Nothing becomes longer: what was found for such a job before is the earliest still possible.
        earliest = self._earliest.get((count, seconds), self._begin)
        place = self._find(count, seconds, max(not_before, earliest), not_after, earliest)
        if not_before <= earliest:
            if place is None:
                self._hopeless.append((count, seconds, not_after))
            else:
                self._earliest[count, seconds] = place.start
        return place

    def _find(self, count: int, seconds: int, not_before: int, not_after: int, earliest: int) -> Place | None:
        runs, timelines = self._runs, self._timelines
        there: list[tuple[int, int]] = []  # until when, and which node
        # What begins before that is too short for a job on one node; several may need it together.
        begin = bisect_left(runs, (earliest, -1, 0, 0)) if count == 1 else 0
        position, found = begin, None
        while position < len(runs):
            start, node, end, version = runs[position]
            if start > not_after:
                break
            moment = start if start > not_before else not_before  # noqa: FURB136 - the hot spot
            if end - moment < seconds:
                position += 1
            elif version != timelines[node].version:
                self._renew(position)
                self.effort += RENEW
            else:
                heappush(there, (end, node))
                while there[0][0] - moment < seconds:
                    heappop(there)
                if len(there) >= count:
                    found = Place(moment, tuple(sorted(node for _, node in there)))
                    break
                position += 1
        self.effort += position - begin
        return found

    def _renew(self, position: int) -> None:
        """Put what is left of a stretch in its place."""
        start, node, end, _ = self._runs[position]
        timeline = self._timelines[node]
        left = [
            (begin, node, until, timeline.version)
            for begin, until in timeline.runs(self.needs[node], start, end)
        ]
        if left and left[0][0] == start:
            self._runs[position] = left.pop(0)
        else:
            del self._runs[position]
        for run in left:
            insort(self._runs, run, lo=position)


def take(timelines: Sequence[Timeline], needs: Mapping[int, Need], place: Place, seconds: int) -> None:
    """Give a job its place."""
    end = EVER if seconds >= UNLIMITED else place.start + seconds
    for node in place.nodes:
        timelines[node].change([(index, -amount) for index, amount in needs[node]], place.start, end)
