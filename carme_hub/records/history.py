"""All sessions there were: one row for each job that was submitted."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from carme_hub.authenticator.database import write
from carme_hub.records.tables import session
from carme_hub.records.values import LARGEST, cut, shortened

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

HOUR = 3600.0
PENDING, RUNNING = "PENDING", "RUNNING"  # the states of rows that are open, in Slurm's words
# What totals can be of: the name of a value -> its column.
GROUPS = {
    "user": session.c.username,
    "profile": session.c.profile,
    "image": session.c.image,
    "partition": session.c.partition,
    "cluster": session.c.cluster,
    "gpu_type": session.c.gpu_type,
}
_FILTERS = {**GROUPS, "server": session.c.server, "state": session.c.state}
_SEARCHED = (
    *(session.c.server, session.c.node, session.c.profile, session.c.image, session.c.partition),
    *(session.c.sentence, sa.cast(session.c.job, sa.String(20))),
)


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job as it was submitted.

    Attributes
    ----------
    cluster
        A name in ``CarmeSpawner.clusters``, or "local".
    server
        The name of the person's server; empty for the default one.
    options
        As they were asked for (`carme_hub.spawner.request.JobRequest.options`).
    submitted
        Seconds since 1970, like all times here.
    nodes, cpus, gpus, memory
        All nodes together; memory in MiB.
    time_limit
        Minutes; None when there is none.
    """

    cluster: str
    job: int
    user: str
    server: str = ""
    profile: str = ""
    image: str = ""
    partition: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    submitted: int
    nodes: int = 1
    cpus: int = 0
    gpus: int = 0
    gpu_type: str = ""
    memory: int = 0
    time_limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Row(Submission):
    """A session as it is kept.

    Attributes
    ----------
    state
        Slurm's word: ``PENDING``, ``RUNNING``, or how it ended.
    started, ended
        None while it did not; one that never ran has only an end.
    exit_code
        None while it is not known.
    sentence
        How it ended, for its owner; empty when nobody has to be told.
    node
        Where its server runs or ran.
    cpu_seconds
        Processor time used, by accounting; None while that is not known.
    max_memory
        MiB, the most that one step used on one node; None while that is not known.
    accounted
        Whether accounting has said its last word about the job.
    """

    id: int
    state: str = PENDING
    started: int | None = None
    ended: int | None = None
    exit_code: int | None = None
    sentence: str = ""
    node: str = ""
    cpu_seconds: float | None = None
    max_memory: int | None = None
    accounted: bool = False

    @property
    def active(self) -> bool:
        """Say whether it waits or runs."""
        return self.ended is None

    def waited(self, now: float | None = None) -> int:
        """Return for how many seconds it has waited in the queue, until its start or its end."""
        until = next((at for at in (self.started, self.ended) if at is not None), _now(now))
        return max(until - self.submitted, 0)

    def lasted(self, now: float | None = None) -> int:
        """Return for how many seconds it has run."""
        if self.started is None:
            return 0
        return max((_now(now) if self.ended is None else self.ended) - self.started, 0)

    def gpu_hours(self, now: float | None = None) -> float:
        """Return for how many hours it has held GPUs, times their number."""
        return self.gpus * self.lasted(now) / HOUR

    def core_hours(self, now: float | None = None) -> float:
        """Return for how many hours it has held cores, times their number."""
        return self.cpus * self.lasted(now) / HOUR


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which sessions are wanted; what is None is not looked at.

    Attributes
    ----------
    since, until
        Submitted at or after the one and before the other.
    before
        The number of a row: only older ones are wanted.
    active
        Whether it waits or runs.
    states
        Slurm's words, one of which it has.
    text
        A part of the session's name, its job's number, its node, profile, image, partition or how it ended,
        in small letters or capitals.
    """

    since: float | None = None
    until: float | None = None
    before: int | None = None
    active: bool | None = None
    user: str | None = None
    profile: str | None = None
    image: str | None = None
    partition: str | None = None
    cluster: str | None = None
    gpu_type: str | None = None
    server: str | None = None
    state: str | None = None
    states: tuple[str, ...] | None = None
    text: str | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return this as SQL's words."""
        found = [
            column == cut(column, value)
            for name, column in _FILTERS.items()
            if (value := getattr(self, name)) is not None
        ]
        if self.since is not None:
            found.append(session.c.submitted >= int(self.since))
        if self.until is not None:
            found.append(session.c.submitted < int(self.until))
        if self.before is not None:
            found.append(session.c.id < self.before)
        if self.active is not None:
            found.append(session.c.ended.is_(None) if self.active else session.c.ended.is_not(None))
        if self.states is not None:
            found.append(session.c.state.in_(self.states))
        if self.text is not None:
            found.append(sa.or_(*(column.icontains(self.text, autoescape=True) for column in _SEARCHED)))
        return found


EVERYTHING = Filter()


@dataclass(frozen=True, kw_only=True)
class Total:
    """What a group of sessions used.

    Attributes
    ----------
    key
        Whose or what it is: a person's name, a profile's, ...
    sessions
        How many there were; `started` of them ran.
    gpu_hours, core_hours
        Hours within the time that was asked for, times the number that was held.
    waited
        Seconds in the queue of those that started, all together.
    """

    key: str
    sessions: int
    started: int
    gpu_hours: float
    core_hours: float
    waited: float

    @property
    def mean_wait(self) -> float:
        """Return the mean time in the queue, in seconds."""
        return self.waited / self.started if self.started else 0.0


def add_submitted(engine: sa.Engine, what: Submission) -> int:
    """Write down that a job was submitted; once more changes nothing. Returns the row's number."""
    values = shortened(session, {_COLUMN.get(name, name): value for name, value in _values(what).items()})
    same = sa.select(session.c.id).where(
        session.c.cluster == values["cluster"],
        session.c.job == what.job,
        session.c.submitted == what.submitted,
    )
    with write(engine) as connection:
        known = connection.execute(same).scalar()
        if known is not None:
            return int(known)
        made = connection.execute(
            session.insert().values(state=PENDING, sentence="", node="", accounted=False, **values)
        ).inserted_primary_key
        return int(made[0]) if made is not None else 0


def set_running(
    engine: sa.Engine, cluster: str, job: int, *, started: int, node: str = "", user: str | None = None
) -> bool:
    """Write down that a job runs; says whether it was known. One that has ended stays so."""
    change = session.update().where(_newest(cluster, job, user), session.c.ended.is_(None))
    values = {"state": RUNNING, "started": started, "node": cut(session.c.node, node)}
    with write(engine) as connection:
        return connection.execute(change.values(values)).rowcount > 0


def set_ended(
    engine: sa.Engine,
    cluster: str,
    job: int,
    *,
    ended: int,
    state: str,
    started: int | None = None,
    exit_code: int | None = None,
    sentence: str = "",
    time_limit: int | None = None,
    user: str | None = None,
) -> bool:
    """Write down how a job ended; says whether it was known. What accounting has said of it already stays.

    Parameters
    ----------
    started, exit_code, sentence, time_limit
        None or empty leaves what is there.
    user
        Whose job it is. Slurm may have given its number to somebody else's since.
    """
    values = {
        "ended": ended,
        "state": cut(session.c.state, state),
        "started": started,
        "exit_code": exit_code,
    }
    told: dict[str, Any] = {
        name: sa.case((session.c.accounted, session.c[name]), else_=value)
        for name, value in values.items()
        if value is not None
    }
    if sentence:
        told["sentence"] = sentence
    if time_limit is not None:
        told["time_limit"] = time_limit
    with write(engine) as connection:
        row = session.update().where(_newest(cluster, job, user))
        return connection.execute(row.values(told)).rowcount > 0


def set_out_of_memory(
    engine: sa.Engine, cluster: str, job: int, *, sentence: str, memory: int, user: str | None = None
) -> bool:
    """Write down that a job had used all of its memory at one moment; says whether it was known.

    Parameters
    ----------
    sentence
        For its owner; one about the job's end stays.
    memory
        What it may use on a node, in MiB: its peak. Accounting looks now and then only, and misses it.
    user
        As for `set_ended`.
    """
    values: dict[str, Any] = {
        "sentence": sa.case((session.c.sentence == "", sentence), else_=session.c.sentence)
    }
    if memory:
        values["max_memory"] = memory
    with write(engine) as connection:
        row = session.update().where(_newest(cluster, job, user))
        return connection.execute(row.values(values)).rowcount > 0


def change(engine: sa.Engine, changes: Mapping[int, Mapping[str, Any]]) -> None:
    """Write what accounting says: the number of a row -> the columns that change."""
    with write(engine) as connection:
        for number, values in changes.items():
            connection.execute(
                session.update().where(session.c.id == number).values(shortened(session, values))
            )


def find(
    engine: sa.Engine, user: str | None = None, wanted: Filter = EVERYTHING, limit: int = 100, offset: int = 0
) -> list[Row]:
    """Return sessions, the newest first.

    Parameters
    ----------
    user
        Whose; None for everybody's.
    """
    query = sa.select(session).where(*conditions_of(user, wanted)).order_by(session.c.id.desc())
    return _rows(engine, query.limit(min(limit, LARGEST)).offset(min(offset, LARGEST)))


def count(engine: sa.Engine, user: str | None = None, wanted: Filter = EVERYTHING) -> int:
    """Return how many sessions `find` would find without a limit."""
    query = sa.select(sa.func.count()).select_from(session).where(*conditions_of(user, wanted))
    with engine.connect() as connection:
        return connection.execute(query).scalar() or 0


def values_of(engine: sa.Engine, name: str, user: str | None = None) -> list[str]:
    """Return what there is to choose a filter from: all profiles, images, ... of one person or everybody."""
    column = GROUPS[name]
    query = (
        sa.select(column).where(*conditions_of(user, EVERYTHING), column != "").distinct().order_by(column)
    )
    with engine.connect() as connection:
        return [str(value) for value in connection.execute(query).scalars()]


def unaccounted(engine: sa.Engine, limit: int = 5000) -> list[Row]:
    """Return the sessions of which accounting has not said its last word, the oldest first."""
    query = sa.select(session).where(session.c.accounted.is_(False)).order_by(session.c.id)
    return _rows(engine, query.limit(limit))


def totals(
    engine: sa.Engine,
    by: str,
    since: float,
    until: float,
    *,
    user: str | None = None,
    now: float | None = None,
) -> list[Total]:
    """Return what was used, who or what used most GPU hours first, then by core hours.

    Parameters
    ----------
    by
        One of `GROUPS`: "user", "profile", "image", "partition", "cluster", "gpu_type".
    since, until
        Sessions count that waited or ran between them, with the hours that fall between them.
    user
        Whose sessions; None for everybody's.
    """
    first, last, present = int(since), int(until), _now(now)
    finish = sa.func.coalesce(session.c.ended, present)
    begun = sa.case((session.c.started < first, first), else_=session.c.started)
    over = sa.case((finish > last, last), else_=finish)
    ran = session.c.started.is_not(None)
    seconds = sa.case((sa.and_(ran, over > begun), over - begun), else_=0)
    query = (
        sa.select(
            GROUPS[by].label("key"),
            sa.func.count().label("sessions"),
            sa.func.sum(sa.case((ran, 1), else_=0)).label("started"),
            sa.func.sum(session.c.gpus * seconds).label("gpu_seconds"),
            sa.func.sum(session.c.cpus * seconds).label("core_seconds"),
            sa.func.sum(sa.case((ran, session.c.started - session.c.submitted), else_=0)).label("waited"),
        )
        .where(*conditions_of(user, EVERYTHING), session.c.submitted < last, finish >= first)
        .group_by(GROUPS[by])
    )
    with engine.connect() as connection:
        found = [
            Total(
                key=str(row.key),
                sessions=int(row.sessions),
                started=int(row.started),
                gpu_hours=float(row.gpu_seconds) / HOUR,
                core_hours=float(row.core_seconds) / HOUR,
                waited=float(row.waited),
            )
            for row in connection.execute(query)
        ]
    return sorted(found, key=lambda one: (-one.gpu_hours, -one.core_hours, one.key))


_COLUMN = {"user": "username"}
_NAMES = [one.name for one in fields(Row)]


def _now(now: float | None) -> int:
    return int(time.time() if now is None else now)


def _values(what: Submission) -> dict[str, Any]:
    found = {one.name: getattr(what, one.name) for one in fields(Submission)}
    return found | {"options": dict(what.options)}


def _newest(cluster: str, job: int, user: str | None) -> sa.ColumnElement[bool]:
    """Slurm begins to count anew some day, and a number then means the job that had it last."""
    number = sa.select(sa.func.max(session.c.id)).where(session.c.cluster == cluster, session.c.job == job)
    if user is not None:
        number = number.where(session.c.username == cut(session.c.username, user))
    return session.c.id == number.scalar_subquery()


def conditions_of(user: str | None, wanted: Filter) -> Iterable[sa.ColumnElement[bool]]:
    """Return, as SQL's words, which sessions are wanted, and whose; None for everybody's."""
    mine = [] if user is None else [session.c.username == user]
    return [*mine, *wanted.conditions()]


def _rows(engine: sa.Engine, query: sa.Select[tuple[Any, ...]]) -> list[Row]:
    with engine.connect() as connection:
        return [
            Row(**{name: row[_COLUMN.get(name, name)] for name in _NAMES})
            for row in connection.execute(query).mappings()
        ]


def remove_older(engine: sa.Engine, than: float, at_once: int) -> int:
    """Remove sessions that ended, or were submitted and never heard of again, so long ago; says how many."""
    old = session.c.submitted < int(than)
    some = sa.select(session.c.id).where(old, sa.func.coalesce(session.c.ended, 0) < int(than))
    return _remove(engine, some.order_by(session.c.id).limit(at_once))


def _remove(engine: sa.Engine, numbers: sa.Select[tuple[Collection[int]]]) -> int:
    with write(engine) as connection:
        return connection.execute(session.delete().where(session.c.id.in_(numbers))).rowcount
