"""What is to be measured, and about how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PAGES = 5  # start pages that each of 50 people asks for

# Seconds on a 2-core machine, measured: a cluster, a hub's start, 100 sessions more at a hub, one idle job.
_CLUSTER, _HUB, _HUNDRED, _JOB = 25, 4, 3, 0.12
_CLICKS, _CLASS, _PAGES, _PENDING, _STREAMS = 25, 20, 12, 26, 30
FEW = 100  # sessions; less of them are measured in the first round only: their figures hardly vary


@dataclass(frozen=True)
class Plan:
    """What the command line asks for."""

    rounds: int
    only: Sequence[int]
    sessions: Sequence[int]
    minutes: float

    def wants(self, *figures: int) -> bool:
        """Say whether one of these figures is asked for."""
        return not self.only or not set(self.only).isdisjoint(figures)

    def cases(self, round_: int) -> list[int]:
        """Return the numbers of idle sessions that a round measures."""
        most = [number for number in self.sessions if number >= FEW]
        return list(self.sessions) if round_ == 0 or not most else most

    def seconds(self, systems: int) -> float:
        """Estimate how long all of it takes."""
        idle = [number for round_ in range(self.rounds) for number in self.cases(round_)]
        per_system = 0.0
        if self.wants(3, 4, 5):
            per_system += _HUB + _CLICKS * self.wants(3) + _CLASS * self.wants(4) + _PAGES * self.wants(5)
        if self.wants(2):
            per_system += 60 * self.minutes + _HUB + _PENDING
        prepared = _JOB * max(self.sessions) + 3 * _HUB if self.wants(1, 2, 6, 7) else 0
        opened = self.rounds * 3 * (60 * self.minutes + _STREAMS) * self.wants(7)
        looks = sum(60 * self.minutes + _HUB + _HUNDRED * number / 100 for number in idle)
        looked = looks if self.wants(1, 6) else 0
        floors = 2 * self.rounds * (_CLICKS * self.wants(3) + _CLASS * self.wants(4))
        return _CLUSTER + floors + prepared + opened + systems * (self.rounds * per_system + looked)
