"""From single times to a table. No I/O."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

HEALTH_P95 = 0.05  # seconds, wanted
ALL_DONE = 3.0  # seconds, wanted
IDLE = 0.1  # a machine is idle where others use no more of the processors than this


@dataclass(frozen=True)
class Run:
    """Everybody logged in once. Times in seconds."""

    logins: Sequence[float]
    health: Sequence[float]  # of /hub/health, questions that were due while the logins ran
    quiet: Sequence[float]  # of those that were due before
    waits: float  # for the directory, per login
    others: float  # share of the processors that went to none of ours


def percentile(times: Sequence[float], percent: float) -> float:
    """The smallest of the values that so many percent do not exceed (nearest rank)."""
    return sorted(times)[max(math.ceil(percent / 100 * len(times)), 1) - 1]


def health_p95(run: Run) -> float:
    return percentile(run.health, 95)


def all_done(run: Run) -> float:
    return max(run.logins)


def spell(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.{0 if seconds >= 0.01 else 1}f} ms"
    return f"{seconds:.{2 if seconds < 10 else 1}f} s"


TIMES: Mapping[str, Callable[[Run], float]] = {
    "/hub/health p50": lambda run: percentile(run.health, 50),
    "/hub/health p95": health_p95,
    "/hub/health max": lambda run: max(run.health),
    "login p50": lambda run: percentile(run.logins, 50),
    "login p95": lambda run: percentile(run.logins, 95),
    "login max (all are in)": all_done,
    "before: /hub/health p95": lambda run: percentile(run.quiet, 95),
}
OTHERS: Mapping[str, tuple[Callable[[Run], float], Callable[[float], str]]] = {
    "waits for LDAP per login": (lambda run: run.waits, "{:.1f}".format),
    "processors used by others": (lambda run: run.others, "{:.0%}".format),
}


def cell(values: Sequence[float], say: Callable[[float], str]) -> str:
    """Median, and the range of the rounds."""
    middle, least, most = say(statistics.median(values)), say(min(values)), say(max(values))
    return middle if least == most else f"{middle} ({least} to {most})"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Write a table, whose first line is its head, so that it is readable as text, too."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    first, *rest = lines
    return "\n".join(
        f"| {' | '.join(text.ljust(width) for text, width in zip(line, widths, strict=True))} |"
        for line in (first, ["-" * width for width in widths], *rest)
    )


def table(runs: Mapping[str, Sequence[Run]]) -> str:
    """One line a figure, one column a system; the ratio is the second one's to the first one's."""
    ours, theirs, *_ = runs.values()
    first, second, *further = runs
    lines = [["", first, second, "ratio", *further]]
    for title, figure in TIMES.items():
        cells = [cell([figure(run) for run in rounds], spell) for rounds in runs.values()]
        ratio = statistics.median(map(figure, theirs)) / statistics.median(map(figure, ours))
        lines.append([title, *cells[:2], f"{ratio:.{0 if ratio >= 10 else 1}f}", *cells[2:]])
    for title, (figure, say) in OTHERS.items():
        cells = [cell([figure(run) for run in rounds], say) for rounds in runs.values()]
        lines.append([title, *cells[:2], "", *cells[2:]])
    return aligned(lines)


def verdicts(ours: Sequence[Run]) -> tuple[str, bool]:
    """Say whether every round on an idle machine reached what is wanted; without such a round, none did."""
    judged = [run for run in ours if run.others <= IDLE]
    if not judged:
        return f"- NOT JUDGED: in every round others used more than {IDLE:.0%} of the processors", False
    sentences, reached = [], True
    for title, figure, wanted in (
        ("/hub/health p95", health_p95, HEALTH_P95),
        ("all logins", all_done, ALL_DONE),
    ):
        worst = max(map(figure, judged))
        reached = reached and worst < wanted
        sentences.append(
            f"- {'reached' if worst < wanted else 'MISSED'}: {title} under {spell(wanted)}, in "
            f"{sum(figure(run) < wanted for run in judged)} of {len(judged)} rounds on an idle machine; "
            f"{spell(worst)} at worst"
        )
    return "\n".join(sentences), reached


def put(document: str, block: str, target: str) -> str:
    """Put what a target of the Makefile measured into a document, in place of what was there before."""
    begin, end = f"<!-- make {target}: begin -->", f"<!-- make {target}: end -->"
    new = f"{begin}\n{block.strip()}\n{end}"
    if begin not in document:
        return f"{document.rstrip()}\n\n{new}\n".lstrip()
    before, _, rest = document.partition(begin)
    return before + new + rest.partition(end)[2]
