"""Failures as they are kept, so that all doors and processes count together. The rules are `throttle`'s."""

import time
from collections.abc import Sequence

import sqlalchemy as sa

from carme_hub.authenticator import throttle
from carme_hub.authenticator.client import BROWSER
from carme_hub.authenticator.database import write
from carme_hub.authenticator.tables import attempt
from carme_hub.authenticator.throttle import Count, Limit

Counter = tuple[Limit, str]  # what is counted, and whose

MAX_ROWS = 20_000  # of passwords and addresses; those of codes are as many as there are people with devices
MAX_KEY = 160  # characters


class Attempts:
    """
    Counters of failures.

    Where few tries are all there is (codes), one is counted before it is decided, and taken back when it
    succeeds: of many at one instant no more get through than one after the other would.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def count(self, limit: Limit, key: str) -> Count:
        """Return how often somebody failed, as of now."""
        with self._engine.connect() as connection:
            return throttle.current(_read(connection, limit, key), limit, _now())

    def look(self, counters: Sequence[Counter]) -> tuple[str, bool]:
        """Say whether a try is taken now by all of some counters, and whether any of them has failures."""
        now = _now()
        with self._engine.connect() as connection:
            found = [(limit, _read(connection, limit, key)) for limit, key in counters]
        verdicts = [throttle.verdict(count, limit, now) for limit, count in found]
        refused = [verdict for verdict in verdicts if verdict != throttle.ALLOWED]
        return refused[0] if refused else throttle.ALLOWED, any(
            throttle.current(count, limit, now).failures for limit, count in found
        )

    def begin(self, limit: Limit, key: str) -> str:
        """
        Count a try as failed until `clear` says otherwise.

        Returns
        -------
        str
            ``throttle.ALLOWED``; or WAIT or LOCKED, where it must not be tried (and is not counted).
        """
        now = _now()
        with write(self._engine) as connection:
            count = _read(connection, limit, key)
            verdict = throttle.verdict(count, limit, now)
            if verdict == throttle.ALLOWED:
                _keep(connection, limit, key, throttle.failed(count, limit, now))
            return verdict

    def fail(self, limit: Limit, key: str) -> Count:
        """Count a failure that has happened, and return how it stands now."""
        with write(self._engine) as connection:
            return _fail(connection, limit, key)

    def fail_all(self, counters: Sequence[Counter]) -> None:
        """Count one failure in each of some counters."""
        with write(self._engine) as connection:
            for limit, key in counters:
                _fail(connection, limit, key)

    def clear_all(self, counters: Sequence[Counter]) -> None:
        """Clear some counters."""
        with write(self._engine) as connection:
            for limit, key in counters:
                connection.execute(attempt.delete().where(_where(limit, key)))

    def give_back(self, limit: Limit, key: str) -> None:
        """Take a try back that could not be decided: an outage is nobody's failure."""
        mine = _where(limit, key)
        with write(self._engine) as connection:
            connection.execute(
                attempt.update()
                .where(mine, attempt.c.failures > 0)
                .values(failures=attempt.c.failures - 1, wait_until=0)
            )
            connection.execute(attempt.delete().where(mine, attempt.c.failures <= 0))

    def clear(self, limit: Limit, key: str) -> None:
        """Forget the failures: there was a success."""
        self.clear_all([(limit, key)])


def password_key(username: str, source: str) -> str:
    """Name the counter of an account's passwords from one source (see `client.source_of`)."""
    return f"{username} {source}"[:MAX_KEY]


def password_counters(username: str, source: str) -> list[Counter]:
    """
    Name what wrong passwords of an account from one source are counted by (see `client.source_of`).

    A browser that is known for the account counts for itself: others cannot shut it out.
    """
    counters = [(throttle.PASSWORD, password_key(username, source))]
    return counters if source.startswith(BROWSER) else [*counters, (throttle.ACCOUNT, username)]


def of_account(username: str) -> sa.ColumnElement[bool]:
    """Select all counters of an account."""
    places = sa.and_(
        attempt.c.scope == throttle.PASSWORD.scope, attempt.c.key.startswith(f"{username} ", autoescape=True)
    )
    scopes = (throttle.CODE.scope, throttle.ACCOUNT.scope)
    return sa.or_(places, sa.and_(attempt.c.scope.in_(scopes), attempt.c.key == username))


def _now() -> int:
    return int(time.time())


def _where(limit: Limit, key: str) -> sa.ColumnElement[bool]:
    return sa.and_(attempt.c.scope == limit.scope, attempt.c.key == key[:MAX_KEY])


def _read(connection: sa.Connection, limit: Limit, key: str) -> Count:
    columns = (attempt.c.failures, attempt.c.wait_until, attempt.c.last)
    row = connection.execute(sa.select(*columns).where(_where(limit, key))).first()
    return Count(row.failures, row.wait_until, row.last) if row else Count()


def _fail(connection: sa.Connection, limit: Limit, key: str) -> Count:
    count = throttle.failed(_read(connection, limit, key), limit, _now())
    _keep(connection, limit, key, count)
    return count


def _keep(connection: sa.Connection, limit: Limit, key: str, count: Count) -> None:
    values = {"failures": count.failures, "wait_until": count.wait_until, "last": count.last}
    kept = connection.execute(attempt.update().where(_where(limit, key)).values(**values))
    if kept.rowcount == 0:
        connection.execute(attempt.insert().values(scope=limit.scope, key=key[:MAX_KEY], **values))
        _make_room(connection, count.last)


def _make_room(connection: sa.Connection, now: int) -> None:
    """Drop what no longer counts, and the oldest of too many: anybody can make rows by trying names."""
    others = attempt.c.scope != throttle.CODE.scope
    connection.execute(attempt.delete().where(others, attempt.c.last < now - throttle.DAY))
    many = connection.execute(sa.select(sa.func.count()).where(others)).scalar_one() - MAX_ROWS
    if many > 0:
        oldest = sa.select(attempt.c.last).where(others).order_by(attempt.c.last).offset(many).limit(1)
        connection.execute(attempt.delete().where(others, attempt.c.last < oldest.scalar_subquery()))
