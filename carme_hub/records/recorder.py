"""Writes down what happens to sessions: in a thread, in order, again and again while the database is away."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from carme_hub.authenticator.database import StoreError
from carme_hub.records import clearing, history, notices, open_records
from carme_hub.records.history import Submission
from carme_hub.records.notices import Notice
from carme_hub.records.words import notice_of
from carme_hub.spawner.events import Event, Kind

if TYPE_CHECKING:
    import logging

    import sqlalchemy as sa

MOST = 20_000  # events that wait for the database; the oldest go first
SHORTEST, LONGEST = 1.0, 60.0  # seconds between two attempts
CLEAR = 6 * 3600.0  # seconds between two times that what is old is removed
DRAIN = 2.0  # seconds that the end of the hub waits for what is not written yet
# The database is the problem, not what is written: the same may work later.
_AWAY = (StoreError, OperationalError, InterfaceError, PoolTimeoutError)


class Database:
    """A database that is opened when it is first needed, by whichever thread that is.

    Parameters
    ----------
    url
        See `carme_hub.records.open_records`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._engine: sa.Engine | None = None

    def engine(self) -> sa.Engine:
        """Return the engine.

        Raises
        ------
        StoreError
            When the database cannot be opened, this time.
        """
        with self._lock:
            if self._engine is None:
                self._engine = open_records(self._url)
            return self._engine


class Recorder:
    """Takes events in the hub's loop, where it costs nothing, and writes them down in a thread of its own.

    Parameters
    ----------
    database
        Where to.
    log
        Told once that the database is away, and once that it is back.
    """

    def __init__(self, database: Database, log: logging.Logger) -> None:
        self._database = database
        self._log = log
        self._waiting: deque[Event | Notice] = deque(maxlen=MOST)
        self._news = threading.Condition()
        self._busy = False
        self._closed = False
        self._cleared = 0.0
        self._thread = threading.Thread(target=self._run, name="carme-recorder", daemon=True)
        self._thread.start()

    def take(self, event: Event | Notice) -> None:
        """Have an event written down, or somebody told something."""
        with self._news:
            self._waiting.append(event)
            self._news.notify_all()

    def drain(self, seconds: float) -> bool:
        """Wait until all is written; False when it is not after so many seconds."""
        with self._news:
            return self._news.wait_for(lambda: not self._waiting and not self._busy, seconds)

    def close(self) -> None:
        """Write what is left, for a moment, and end the thread."""
        self.drain(DRAIN)
        with self._news:
            self._closed = True
            self._news.notify_all()
        self._thread.join(DRAIN)

    def _run(self) -> None:
        pause = 0.0
        while True:
            with self._news:
                self._busy = False
                self._news.notify_all()
                # While the database is away nothing new makes it come back.
                self._news.wait_for(self._is_closed if pause else self._has_work, pause or CLEAR)
                if self._closed:
                    return
                event = self._waiting[0] if self._waiting else None
                self._busy = True
            pause = self._attempt(event, pause)

    def _is_closed(self) -> bool:
        return self._closed

    def _has_work(self) -> bool:
        return self._closed or bool(self._waiting)

    def _attempt(self, event: Event | Notice | None, pause: float) -> float:
        """Write one event; returns for how long to wait before the next attempt."""
        try:
            engine = self._database.engine()
            if event is not None:
                if isinstance(event, Notice):
                    notices.add(engine, event)
                else:
                    record(engine, event)
            self._clear(engine)
        except _AWAY as error:
            if not pause:
                self._log.warning("What happens to sessions is not written down yet: %s", _plain(error))
            return min(max(2 * pause, SHORTEST), LONGEST)
        except Exception:  # noqa: BLE001 - logged with its traceback; the others are written
            self._log.exception("What happened to a session cannot be written down: %s", event)
        if pause:
            self._log.info("What happens to sessions is written down again")
        with self._news:
            if event is not None and self._waiting and self._waiting[0] is event:
                self._waiting.popleft()
        return 0.0

    def _clear(self, engine: sa.Engine) -> None:
        if time.monotonic() - self._cleared >= CLEAR or not self._cleared:
            self._cleared = time.monotonic()
            clearing.clear(engine)


def record(engine: sa.Engine, event: Event) -> None:
    """Write an event down; once more changes nothing.

    Notes
    -----
    Every event says all that a row needs: whichever of them was lost, with a hub that was killed, the next
    one makes up for it.
    """
    if event.kind in {Kind.SUBMITTED, Kind.RUNNING, Kind.READY, Kind.OUT_OF_MEMORY, Kind.ENDED}:
        history.add_submitted(engine, _submission(event))
    if event.kind in {Kind.RUNNING, Kind.READY} and event.started is not None:
        history.set_running(
            engine, event.cluster, event.job, started=event.started, node=event.node, user=event.user
        )
    if event.kind is Kind.OUT_OF_MEMORY:
        history.set_out_of_memory(
            engine,
            event.cluster,
            event.job,
            sentence=event.sentence,
            memory=event.facts.memory // max(event.facts.nodes, 1),
            user=event.user,
        )
    if event.kind is Kind.ENDED:
        history.set_ended(
            engine,
            event.cluster,
            event.job,
            ended=event.at,
            state=event.state,
            started=event.started,
            exit_code=event.exit_code,
            sentence=event.sentence,
            time_limit=event.limit,
            user=event.user,
        )
    told = notice_of(event)
    if told is not None:
        notices.add(engine, told)


def _submission(event: Event) -> Submission:
    facts = event.facts
    return Submission(
        cluster=event.cluster,
        job=event.job,
        user=event.user,
        server=event.server,
        profile=facts.profile,
        image=facts.image,
        partition=facts.partition,
        options=dict(event.options),
        submitted=facts.submitted,
        nodes=facts.nodes,
        cpus=facts.cpus,
        gpus=facts.gpus,
        gpu_type=facts.gpu_type,
        memory=facts.memory,
        time_limit=facts.limit,
    )


def _plain(error: Exception) -> str:
    """Return what went wrong, without the statement and its values."""
    if isinstance(error, SQLAlchemyError):
        return " ".join(str(getattr(error, "orig", None) or type(error).__name__).split())
    return str(error)
