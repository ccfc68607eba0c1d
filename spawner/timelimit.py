"""A session's time limit: when it ends, and by how much its owner may extend it. Pure functions."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from carme_hub.spawner import units
from carme_hub.spawner.associations import association_of, longest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carme_hub.spawner.accounting import Accounting, Membership
    from carme_hub.spawner.watcher import View

STEPS = (30, 60, 240)  # minutes that a page offers
UNLIMITED = {"UNLIMITED", "INFINITE"}
SEPARATOR = "\x1f"
# Field of Job -> conversion of "squeue --format" (man squeue). No field is a text of the job's owner: whoever
# names a job "x Partition=long" must not be believed.
JOB = {
    "state": "%T",
    "start": "%S",
    "limit": "%l",
    "partition": "%P",
    "nodes": "%N",
    "reservation": "%v",
    "qos": "%q",
    "account": "%a",
}
_EPOCH = re.compile(r"[0-9]{1,11}")


class NotExtended(Exception):  # noqa: N818 - reads as what it says
    """The time limit stays as it is; ``str()`` is a sentence for the person."""


class Amount(NamedTuple):
    """A choice on the page: the limit it leads to (minutes from the session's start), and its name."""

    limit: int
    title: str


@dataclass(frozen=True)
class TimeLimit:
    """When a running session ends.

    Attributes
    ----------
    start, end
        Seconds since 1970.
    most
        Minutes from the start up to which the owner may extend the session; 0 when not at all.
    warn_before
        Seconds before the end from which on pages warn.
    """

    start: int
    end: int
    most: int = 0
    warn_before: float = 900.0

    @property
    def minutes(self) -> int:
        """Return how long the session lasts in all."""
        return round((self.end - self.start) / 60)

    @property
    def clock(self) -> str:
        """Return the end as the hub's clock shows it."""
        return clock(self.end)

    @property
    def utc(self) -> str:
        """Return the end as a script reads it."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.end))

    @property
    def longest(self) -> str:
        """Return how long the session may last in all, in words."""
        return spoken(self.most)

    def left(self, now: float | None = None) -> str:
        """Return how much time is left, in words."""
        return spoken(max(int(self.end - (time.time() if now is None else now)) // 60, 0))

    def used(self, now: float | None = None) -> int:
        """Return how much of the time is over, in percent."""
        over = (time.time() if now is None else now) - self.start
        return min(max(round(100 * over / max(self.end - self.start, 1)), 0), 100)

    def is_near(self, now: float | None = None) -> bool:
        """Say whether the end is near enough to warn of it."""
        return self.end - (time.time() if now is None else now) <= self.warn_before

    def amounts(self, now: float | None = None) -> list[Amount]:
        """Return by how much the owner may extend the session; nothing once it is over."""
        rest = self.most - self.minutes
        if rest <= 0 or self.end <= (time.time() if now is None else now):
            return []
        return [Amount(self.minutes + step, spoken(step)) for step in (*(s for s in STEPS if s < rest), rest)]


@runtime_checkable
class Limited(Protocol):
    """A session, or what stands for it, that knows its time limit."""

    def time_limit(self) -> TimeLimit | None:
        """Return the limit of a running session; None when there is none or it is not known yet."""

    async def extend(self, minutes: int) -> TimeLimit | None:
        """Make the session last so many minutes from its start, and return its new limit.

        Raises
        ------
        NotExtended
            With a sentence, when it stays as it is.
        """


@dataclass(frozen=True)
class Job:
    """What Slurm says of a job whose limit is to be changed.

    Attributes
    ----------
    limit
        Minutes; None for no limit.
    """

    state: str
    start: int | None
    limit: int | None
    partition: str
    nodes: str
    reservation: str
    qos: str = ""
    account: str = ""


@dataclass(frozen=True)
class Reservation:
    """A reservation of nodes, for maintenance or for somebody. Times in seconds since 1970."""

    name: str
    start: int
    end: int
    nodes: str
    flags: frozenset[str]


def limit_of(view: View | None, most: int | None, warn_before: Iterable[float]) -> TimeLimit | None:
    """Return the limit of a job that runs, from the watcher's picture.

    Parameters
    ----------
    view
        What is known about the job. An end that is only expected, of a job that waits, is none.
    most
        The profile's ``max_extended_time``.
    warn_before
        Minutes before the end in which to warn.
    """
    if view is None or view.state != "RUNNING" or view.start is None or view.end is None:
        return None
    return TimeLimit(view.start, view.end, most or 0, 60 * max(warn_before, default=0.0))


def parse_running(text: str) -> Job | None:
    """Read squeue's line about one job."""
    values = dict(zip(JOB, text.strip("\n").split(SEPARATOR), strict=False))
    if len(values) != len(JOB):
        return None
    start = values["start"].strip()
    return Job(
        state=values["state"].strip(),
        start=int(start) if _EPOCH.fullmatch(start) else None,
        limit=_minutes(values["limit"].strip()),
        partition=values["partition"].strip(),
        nodes=values["nodes"].strip(),
        reservation=values["reservation"].strip().replace("(null)", "").replace("N/A", ""),
        qos=values["qos"].strip().lower(),
        account=values["account"].strip().lower(),
    )


def parse_partition_limit(text: str) -> int | None:
    """Read MaxTime of ``scontrol --oneliner show partition``, in minutes; None for no limit."""
    found = re.search(r"\sMaxTime=(\S+)", text)
    if found is None:
        raise ValueError("there is no MaxTime in scontrol's answer")
    return _minutes(found[1])


def parse_reservations(text: str) -> list[Reservation]:
    """Read ``scontrol --oneliner show reservation``; those without nodes (of licences, say) are left out."""
    found = []
    for line in text.splitlines():
        field = dict(word.split("=", 1) for word in line.split() if "=" in word)
        name, nodes = field.get("ReservationName"), field.get("Nodes", "(null)")
        times = field.get("StartTime", ""), field.get("EndTime", "")
        if name and nodes != "(null)" and all(_EPOCH.fullmatch(one) for one in times):
            flags = frozenset(field.get("Flags", "").split(","))
            found.append(Reservation(name, int(times[0]), int(times[1]), nodes, flags))
    return found


def refusal(asked: int, most: int, job: Job | None, partition_limit: int | None) -> str:
    """Say why a session may not last so long; empty when it may, as far as profile and partition go.

    Parameters
    ----------
    asked, most, partition_limit
        Minutes from the session's start; what is asked for, and what profile and partition allow at most.
    job
        None when Slurm does not know it any more.
    """
    if job is None or job.state != "RUNNING" or job.start is None:
        return "Only a running session can be extended; this one is not running (any more)."
    if not most:
        return "Sessions of this kind cannot be extended."
    if asked > most:
        return f"This session may last {spoken(most)} in all; {spoken(asked)} was asked for."
    if partition_limit is not None and asked > partition_limit:
        return (
            f"Sessions in the partition {job.partition} may last {spoken(partition_limit)} in all; "
            f"{spoken(asked)} was asked for."
        )
    return ""


def accounting_refusal(
    asked: int, job: Job, partition_qos: str, known: Accounting, member: Membership | None
) -> str:
    """Say which QOS or account limits a job's time, as Slurm does for a start.

    Parameters
    ----------
    asked
        Minutes from the session's start.
    job, partition_qos, known, member
        The job, the name of its partition's own QOS, and what accounting says of the cluster and the job's
        owner.
    """
    bound = longest(
        known.qualities.get(partition_qos),
        known.qualities.get(job.qos),
        association_of(member, job.account, job.partition) if member else None,
    )
    if bound is None or asked <= bound.minutes:
        return ""
    longest_time = spoken(bound.minutes)
    return f"Sessions with {bound.source} may last {longest_time} in all; {spoken(asked)} was asked for."


def obstacle(asked: int, job: Job, reservations: Iterable[tuple[Reservation, bool]], now: float) -> str:
    """Say which reservation a longer session would run into; empty when there is none.

    Parameters
    ----------
    asked
        Minutes from the session's start.
    job
        A running job.
    reservations
        Each with whether it holds a node of the job.
    now
        Seconds since 1970.
    """
    end = (job.start or 0) + 60 * asked
    for one, shares_nodes in sorted(reservations, key=lambda pair: pair[0].start):
        if one.name == job.reservation:
            if end > one.end and "FLEX" not in one.flags:
                return (
                    f"The session can last until {clock(one.end)} at most, when its reservation {one.name} "
                    f"ends; until {clock(end)} was asked for."
                )
        elif shares_nodes and one.start < end and one.end > now:
            return (
                f"The session can last until {clock(max(one.start, int(now)))} at most, because its nodes "
                f"are reserved then ({one.name}); until {clock(end)} was asked for."
            )
    return ""


def spoken(minutes: int) -> str:
    """Write minutes for people, for example "45 min", "1 h 15 min" or "2 d"."""
    days, rest = divmod(minutes, 1440)
    parts = [(days, "d"), (rest // 60, "h"), (rest % 60, "min")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 min"


def clock(moment: float, now: float | None = None) -> str:
    """Write a moment as the hub's clock shows it, with the day when it is not today."""
    there = time.localtime(moment)
    today = time.localtime(now)[:3] == there[:3]
    return time.strftime("%H:%M %Z" if today else "%H:%M %Z on %d %b", there)


def _minutes(text: str) -> int | None:
    return None if text.upper() in UNLIMITED else units.minutes(text)
