"""Writes what becomes of sessions to the hub's database, again and again while that is locked or away.

JupyterHub has one SQLAlchemy session for everything, and a commit holds up the whole hub: up to five seconds
while a SQLite database is locked (``timeout`` of `sqlite3.connect`). So all that cannot be written yet waits
for one and the same commit, however many sessions it is about.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import object_session

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Sequence

    from sqlalchemy.orm import Session

    Entry = tuple[Callable[[], None], asyncio.Future[None]]

AGAIN = 3.0  # seconds between two attempts, and twice as long as one takes


class Saver:
    """Commits one database session; see `save`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: list[Entry] = []
        self._task: asyncio.Task[None] | None = None

    def save(self, write: Callable[[], None], log: logging.Logger) -> asyncio.Future[None]:
        """Write now, or with all others when the database did not take the last attempt."""
        saved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((write, saved))
        if self._task is None and (error := self._attempt(self._waiting)) is not None:
            log.warning("What became of a session cannot be written yet: %s", error)
            self._task = asyncio.get_running_loop().create_task(self._until_saved(log))
        return saved

    async def _until_saved(self, log: logging.Logger) -> None:
        took = 0.0
        try:
            while self._waiting:
                await asyncio.sleep(max(AGAIN, 2 * took))
                began = time.monotonic()
                error = self._attempt(self._waiting)
                if error is not None and not isinstance(error, OperationalError):
                    # Not the database but one of them is the problem: the others do not wait for that one.
                    for one in list(self._waiting):
                        self._attempt([one])
                took = time.monotonic() - began
                if self._waiting:
                    log.warning("%s sessions cannot be written yet: %s", len(self._waiting), error)
        finally:
            self._task = None

    def _attempt(self, asked: Sequence[Entry]) -> SQLAlchemyError | None:
        """Write what is asked for with one commit; returns why it did not work."""
        asked = list(asked)
        try:
            # All of it each time: a rollback takes back what has been written before.
            for one in asked:
                self._write(one)
            self._session.commit()
        except SQLAlchemyError as error:
            self._session.rollback()
            return error
        for one in asked:
            if one in self._waiting:
                self._waiting.remove(one)
            if not one[1].done():  # whoever waited may have given up
                one[1].set_result(None)
        return None

    def _write(self, one: Entry) -> None:
        try:
            one[0]()
        except SQLAlchemyError:
            raise
        except Exception as error:  # noqa: BLE001 - told to whoever asked; the others' go on
            self._waiting.remove(one)
            if not one[1].done():
                one[1].set_exception(error)


def save(orm_spawner: Any, write: Callable[[], None], log: logging.Logger) -> asyncio.Future[None]:
    """Have something written about a session.

    Parameters
    ----------
    orm_spawner
        Its row in the hub's database; None without one.
    write
        Makes the changes, when it is called; it is called anew for each attempt.
    log
        Where to say that it does not work yet.

    Returns
    -------
    asyncio.Future
        Done when the database has it; at once, as a rule.
    """
    session = object_session(orm_spawner) if orm_spawner is not None else None
    if session is None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done
    saver: Saver = session.info.setdefault(Saver, Saver(session))
    return saver.save(write, log)
