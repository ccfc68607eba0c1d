"""Who used how much: sessions added up by person, group, profile or image. No input or output here."""

from __future__ import annotations

import csv
import io
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from carme_hub.service.history_csv import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from carme_hub.records.use import Use

HOUR = 3600
DAY = 86400
BY = ("user", "group", "profile", "image")
PERIODS: dict[str, int] = {"month": 30, "week": 7, "quarter": 90, "year": 365}  # days
NO_GROUP = ""
_FIRST_YEAR, _LAST_YEAR = 2000, 9000
_FULL = 100


@dataclass
class Sum:
    """What the sessions of one person, group, profile or image held.

    Attributes
    ----------
    key
        Whose or what it is; empty for people without a group.
    sessions, started
        How many there were, and how many of them ran.
    people
        Whose they were.
    waits
        Seconds in the queue, of each that started.
    """

    key: str
    sessions: int = 0
    started: int = 0
    gpu_hours: float = 0.0
    core_hours: float = 0.0
    people: set[str] = field(default_factory=set)
    waits: list[int] = field(default_factory=list)

    def add(self, use: Use) -> None:
        """Add a session."""
        self.sessions += 1
        self.people.add(use.user)
        self.gpu_hours += use.gpus * use.seconds / HOUR
        self.core_hours += use.cpus * use.seconds / HOUR
        if use.waited is not None:
            self.started += 1
            self.waits.append(use.waited)

    @property
    def median_wait(self) -> float | None:
        """Return the median of the seconds in the queue; None where nothing started."""
        return statistics.median(self.waits) if self.waits else None


@dataclass(frozen=True)
class Sums:
    """All of them, who used most first, and what all sessions held together."""

    each: list[Sum]
    whole: Sum

    def share(self, one: Sum) -> int:
        """Return a bar's length in percent of the longest one: by GPU hours, where there are any."""
        name = "gpu_hours" if self.whole.gpu_hours > 0 else "core_hours"
        most = max((getattr(some, name) for some in self.each), default=0.0)
        return round(_FULL * getattr(one, name) / most) if most else 0


def add_up(
    uses: Iterable[Use], by: str, groups: Mapping[str, Collection[str]], visible: Callable[[str], bool]
) -> Sums:
    """Add sessions up.

    Parameters
    ----------
    uses
        The sessions.
    by
        One of `BY`.
    groups
        A person's groups, by name. Who is in several counts in each: the sum over groups may be more than
        the whole.
    visible
        Whose sessions may be seen by the reader.
    """
    found: defaultdict[str, Sum] = defaultdict(lambda: Sum(""))
    whole = Sum("")
    for use in uses:
        if not visible(use.user):
            continue
        whole.add(use)
        keys = (groups.get(use.user) or [NO_GROUP]) if by == "group" else [getattr(use, by)]
        for key in keys:
            found[key].add(use)
    for key, one in found.items():
        one.key = key
    each = sorted(found.values(), key=lambda one: (-one.gpu_hours, -one.core_hours, one.key))
    return Sums(each, whole)


@dataclass(frozen=True)
class Period:
    """A period, as the address says it.

    Attributes
    ----------
    name
        One of `PERIODS`, or "days" for two dates.
    first, last
        The days, both within it; in UTC.
    """

    name: str
    first: date
    last: date

    @classmethod
    def parse(cls, name: str, first: str, last: str, today: date | None = None) -> Period:
        """Read an address, which anybody may have written."""
        now = today or datetime.now(UTC).date()
        if name == "days":
            begin, end = _day(first), _day(last)
            if begin is not None and end is not None and begin <= end:
                return cls(name, begin, end)
        if name not in PERIODS:
            name = next(iter(PERIODS))
        return cls(name, now - timedelta(days=PERIODS[name] - 1), now)

    @property
    def seconds(self) -> tuple[float, float]:
        """Return its begin and end in seconds since 1970."""
        begin = datetime(self.first.year, self.first.month, self.first.day, tzinfo=UTC).timestamp()
        return begin, begin + DAY * ((self.last - self.first).days + 1)

    def query(self, by: str) -> str:
        """Return the part of an address after the "?"."""
        pairs = [("by", by), ("period", self.name)]
        if self.name == "days":
            pairs += [("first", self.first.isoformat()), ("last", self.last.isoformat())]
        return urlencode(pairs)


def _day(text: str) -> date | None:
    try:
        found = time.strptime(text, "%Y-%m-%d")
    except ValueError:
        return None
    return date(*found[:3]) if _FIRST_YEAR <= found.tm_year <= _LAST_YEAR else None


def as_csv(sums: Sums, by: str, title: Callable[[str], str]) -> str:
    """Return sums as CSV (RFC 4180): numbers with a point, waiting in seconds."""
    written = io.StringIO()
    writer = csv.writer(written, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    head = [by, "title", "people", "sessions", "started", "gpu_hours", "core_hours", "median_wait_seconds"]
    writer.writerow(head)
    writer.writerows(
        [
            safe(one.key),
            safe(title(one.key)),
            len(one.people),
            one.sessions,
            one.started,
            round(one.gpu_hours, 3),
            round(one.core_hours, 3),
            "" if one.median_wait is None else round(one.median_wait, 1),
        ]
        for one in sums.each
    )
    return written.getvalue()


def members(models: Sequence[Mapping[str, object]]) -> dict[str, list[str]]:
    """Return the groups of each user in a list of JupyterHub's models."""
    found = {}
    for model in models:
        groups = model.get("groups")
        found[str(model.get("name"))] = sorted(map(str, groups)) if isinstance(groups, list) else []
    return found
