"""From what was measured to a table and a verdict. No I/O."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.figures import IDLE, aligned, cell, percentile, spell

OURS, FLOOR = "carme-hub", "plain srun"
# What all sessions of hubs are. Slurm gives srun its nodes at once, batch jobs when it looks at its queue.
BATCH_FLOOR = "plain sbatch"
COLUMNS = (OURS, "batchspawner", "jupyterhub_moss")

OVERHEAD = 0.5  # seconds, wanted, median
PAGE = 0.1  # seconds, wanted, p95
PER_PAGE = 0.1  # RPCs; the watcher's own looks go on while pages are asked for
# Independent of the number: not more than so much between the fewest and the most sessions.
GROWTH = 1.5
# One squeue each half second, whoever waits; 3 RPCs each.
PENDING = 360.0


@dataclass(frozen=True)
class Sample:
    """One measurement.

    Attributes
    ----------
    figure
        "idle", "pending", "click", "class", "page" or "streams".
    case
        How many sessions, or streams; 0 where that is no question.
    others
        Share of the processors that others used meanwhile, from 0 to 1.
    values
        By name: "rpcs" (per minute; for pages, per page), "types", "cpu" and "commands" (seconds of
        processor time a minute, of the hub and of what it runs), "rss" and "pss" (MiB), "seconds"; for
        streams what `streams.measure` returns.
    """

    figure: str
    system: str
    case: int
    round: int
    others: float
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """Whether ours reached what is wanted; None when it could not be told."""

    reached: bool | None
    sentence: str

    def __str__(self) -> str:
        word = {None: "NOT JUDGED", True: "reached", False: "MISSED"}[self.reached]
        return f"- {word}: {self.sentence}"


class Samples:
    """All that was measured."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.all = list(samples)

    def of(self, figure: str, system: str, case: int = 0) -> list[Sample]:
        return [s for s in self.all if (s.figure, s.system, s.case) == (figure, system, case)]

    def cases(self, figure: str) -> list[int]:
        return sorted({sample.case for sample in self.all if sample.figure == figure})

    def value(self, name: str, figure: str, system: str, case: int = 0) -> list[float]:
        """Return one number of each round."""
        return [float(sample.values[name]) for sample in self.of(figure, system, case)]

    def seconds(self, figure: str, system: str) -> list[list[float]]:
        """Return the times of each round."""
        return [list(sample.values["seconds"]) for sample in self.of(figure, system)]

    def overheads(self, system: str, percent: float, floor: str = FLOOR) -> list[float]:
        """Return for each round what a click costs beyond the same round's median floor."""
        floors = {s.round: statistics.median(s.values["seconds"]) for s in self.of("click", floor)}
        return [
            percentile(sample.values["seconds"], percent) - floors[sample.round]
            for sample in self.of("click", system)
            if sample.round in floors
        ]

    def class_overheads(self, system: str, floor: str = FLOOR) -> list[float]:
        floors = {s.round: s.values["seconds"] for s in self.of("class", floor)}
        return [s.values["seconds"] - floors[s.round] for s in self.of("class", system) if s.round in floors]

    def per_hundred(self, name: str, system: str) -> list[float]:
        """Return what 100 idle sessions cost, from the fewest and the most that were measured, each round."""
        cases = self.cases("idle")
        if len(cases) < 2:
            return []
        least, most = cases[0], cases[-1]
        few = self.value(name, "idle", system, least)
        if not few:
            return []
        return [
            (value - statistics.median(few)) * 100 / (most - least)
            for value in self.value(name, "idle", system, most)
        ]

    def busiest(self, *figures: str) -> float:
        """Return the largest share of the processors that others had."""
        return max((s.others for s in self.all if s.figure in figures), default=0.0)


def count(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def small(value: float) -> str:
    return f"{value:.2f}"


def cpu(value: float) -> str:
    return f"{value:.2f} s/min"


def mebibytes(value: float) -> str:
    return f"{value:.1f} MiB"


def time(value: float) -> str:
    return f"-{spell(-value)}" if value < 0 else spell(value)


Row = tuple[str, Callable[[str], Sequence[float]], Callable[[float], str]]


def rows(found: Samples) -> list[Row]:
    """Return a line's title, what it shows of a system, round by round, and how that is written."""
    lines: list[Row] = [
        (f"1. RPCs/min, {case} idle sessions", _value(found, "rpcs", "idle", case), count)
        for case in found.cases("idle")
    ]
    for case in found.cases("pending"):
        lines.append((f"2. RPCs/min, {case} pending", _value(found, "rpcs", "pending", case), count))
        lines.append((f"2. hub and its commands, {case} pending", _all_cpu(found, "pending", case), cpu))
    return [
        *lines,
        (
            "3. click to usable, median",
            lambda s: [percentile(x, 50) for x in found.seconds("click", s)],
            time,
        ),
        ("3. beyond plain srun, median", lambda s: found.overheads(s, 50), time),
        ("3. beyond plain srun, p95", lambda s: found.overheads(s, 95), time),
        ("3. beyond plain sbatch, median", lambda s: found.overheads(s, 50, BATCH_FLOOR), time),
        ("4. 30 click, the last one works", _value(found, "seconds", "class", 0), time),
        ("4. beyond plain srun", found.class_overheads, time),
        ("4. beyond plain sbatch", lambda s: found.class_overheads(s, BATCH_FLOOR), time),
        ("5. start page, 50 ask, p50", lambda s: [percentile(x, 50) for x in found.seconds("page", s)], time),
        ("5. start page, 50 ask, p95", lambda s: [percentile(x, 95) for x in found.seconds("page", s)], time),
        ("5. RPCs per page", _value(found, "rpcs", "page", 0), small),
        ("6. hub, per 100 idle sessions", lambda s: found.per_hundred("cpu", s), cpu),
        ("6. its commands, per 100", lambda s: found.per_hundred("commands", s), cpu),
        ("6. hub's PSS, per 100", lambda s: found.per_hundred("pss", s), mebibytes),
        ("6. hub's RSS, per 100", lambda s: found.per_hundred("rss", s), mebibytes),
        *_streams(found),
    ]


def _streams(found: Samples) -> list[Row]:
    names = (("hub", "hub", cpu), ("service", "service", cpu), ("events heard a minute", "events", count))
    return [
        (f"7. {title}, {case} dashboards", _value(found, name, "streams", case), say)
        for case in found.cases("streams")
        for title, name, say in names
    ]


def _value(found: Samples, name: str, figure: str, case: int) -> Callable[[str], Sequence[float]]:
    return lambda system: found.value(name, figure, system, case)


def _all_cpu(found: Samples, figure: str, case: int) -> Callable[[str], Sequence[float]]:
    return lambda system: [s.values["cpu"] + s.values["commands"] for s in found.of(figure, system, case)]


def table(found: Samples) -> str:
    """One line a figure, one column a system; a line that nobody has a value for is left out."""
    systems = (*COLUMNS, FLOOR, BATCH_FLOOR)
    lines = [["", *systems]]
    for title, values, say in rows(found):
        cells = [cell(list(given), say) if (given := values(name)) else "" for name in systems]
        if any(cells[: len(COLUMNS)]):
            lines.append([title, *cells])
    return aligned(lines)


def verdicts(found: Samples) -> list[Verdict]:
    """Say of each bound whether ours keeps it in every round."""
    return [verdict for judge in (_idle, _pending, _click, _page) if (verdict := judge(found)) is not None]


def _idle(found: Samples) -> Verdict | None:
    cases = [case for case in found.cases("idle") if case]
    if not cases:
        return None
    if len(cases) < 2:
        return Verdict(None, "1. RPCs independent of the number of sessions: two numbers above 0 are needed")
    few, most = (
        max(found.value("rpcs", "idle", OURS, case), default=math.nan) for case in (cases[0], cases[-1])
    )
    return Verdict(
        most <= few * GROWTH + 3,
        f"1. RPCs independent of the number of sessions: {count(few)} a minute with {cases[0]}, "
        f"{count(most)} with {cases[-1]}",
    )


def _pending(found: Samples) -> Verdict | None:
    given = [value for case in found.cases("pending") for value in found.value("rpcs", "pending", OURS, case)]
    if not given:
        return None
    return Verdict(
        max(given) <= PENDING,
        f"2. with jobs pending, at most {count(PENDING)} RPCs a minute, whatever their number: "
        f"{count(max(given))} at most",
    )


def _timed(found: Samples, figure: str, title: str, worst: float, bound: float) -> Verdict:
    """Judge a time: what others did to the machine meanwhile must not count as ours."""
    others = found.busiest(figure)
    sentence = f"{title} under {spell(bound)}: {time(worst)} in the worst round"
    if worst >= bound and others > IDLE:
        return Verdict(None, f"{sentence}, while others used up to {others:.0%} of the processors")
    return Verdict(worst < bound, sentence)


def _click(found: Samples) -> Verdict | None:
    given = found.overheads(OURS, 50)
    return _timed(found, "click", "3. beyond plain srun, median,", max(given), OVERHEAD) if given else None


def _page(found: Samples) -> Verdict | None:
    given = [percentile(times, 95) for times in found.seconds("page", OURS)]
    if not given:
        return None
    asked = max(found.value("rpcs", "page", OURS))
    if asked > PER_PAGE:
        return Verdict(False, f"5. no Slurm command per start page: {small(asked)} RPCs each")
    return _timed(found, "page", "5. start page, p95,", max(given), PAGE)


def breakdown(found: Samples) -> str:
    """Say for the most idle sessions which RPCs they were."""
    cases = found.cases("idle")
    sentences = []
    for system in COLUMNS:
        if cases and (samples := found.of("idle", system, cases[-1])):
            kinds = ", ".join(f"{name} {number}" for name, number in samples[-1].values["types"].items())
            sentences.append(f"{system}: {kinds or 'none'}")
    return "; ".join(sentences)
