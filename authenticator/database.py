"""Opening the project's database, and writing to it: the gate's tables, and what else is kept beside them."""

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from carme_hub.authenticator import migrations
from carme_hub.authenticator.files import open_private
from carme_hub.authenticator.shapes import Shapes

BUSY_SECONDS = 10  # how long one writer waits for another one
CONNECT_SECONDS = 5
WRITE_LOCK = 0x6361726D65  # an advisory lock of PostgreSQL: any number that nobody else takes

_writers: dict[sa.URL, threading.Lock] = {}


class StoreError(Exception):
    """The database cannot be used; the sentence says which one and what to do."""


@contextmanager
def write(engine: sa.Engine) -> Iterator[sa.Connection]:
    """
    Open a transaction that writes; it ends with the block, and leaves nothing behind when that raises.

    Parameters
    ----------
    engine
        As `open_engine` gave it.

    Raises
    ------
    sqlalchemy.exc.TimeoutError
        Other writers of this process did not come to an end within `BUSY_SECONDS`.

    Notes
    -----
    There is one writer at a time, in all processes: what a block reads stays true until it has written. That
    is how SQLite is, and PostgreSQL is told to be; a login writes for a few milliseconds.

    The threads of one process queue on a lock: SQLite would let them sleep for up to 0.1 s between two tries,
    PostgreSQL would hold a connection for each. Only other processes are waited for in the database, from the
    first word on: on SQLite, a transaction that reads first and writes then could not go on where another one
    wrote in between. So no block may open a second one.
    """
    lock = _writers.setdefault(engine.url, threading.Lock())
    if not lock.acquire(timeout=BUSY_SECONDS):
        raise sa.exc.TimeoutError(f"The database was busy for {BUSY_SECONDS} s.")
    try:
        with engine.execution_options(carme_begin="BEGIN IMMEDIATE").begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(WRITE_LOCK)))
            yield connection
    finally:
        lock.release()


def open_engine(url: str, shapes: Shapes = migrations.SHAPES) -> sa.Engine:
    """
    Open the database, bring its tables to their newest shape, refuse what a newer version made.

    Parameters
    ----------
    url
        SQLAlchemy address. An SQLite file is made where there is none, with mode 0600, and kept in WAL mode,
        so that the hub and the `carme` command work on it at once. A PostgreSQL database has to be there; it
        may be the one JupyterHub uses.
    shapes
        The tables that are wanted; the gate's own ones if nothing else is said. Others are left alone.

    Raises
    ------
    StoreError
        The address makes no sense, the database does not answer, or its shape is newer than this program.
    """
    try:
        parsed = sa.make_url(url)
        shown = parsed.render_as_string(hide_password=True)
        engine = _open(parsed)
    except ImportError as error:
        raise StoreError(
            f"The database {shown} cannot be reached from Python: {error}. For PostgreSQL, install "
            "'carme-hub[postgresql]' and begin the address with postgresql+psycopg://."
        ) from error
    except ArgumentError as error:
        raise StoreError(
            f"CarmeAuthenticator.database_url is not a usable database address: {error}"
        ) from error
    except OSError as error:
        raise StoreError(f"The database {shown} cannot be opened: {error.strerror}.") from error
    try:
        with engine.connect() as connection:
            found = shapes.revision(connection)
        if found != shapes.newest:
            _upgrade(engine, shapes, shown)
    except SQLAlchemyError as error:
        engine.dispose()
        reason = " ".join(str(getattr(error, "orig", error)).split())
        raise StoreError(f"The database {shown} cannot be used: {reason.rstrip('.')}.") from error
    except StoreError:
        engine.dispose()
        raise
    return engine


def _open(url: sa.URL) -> sa.Engine:
    match url.get_backend_name():
        case "sqlite":
            return _open_sqlite(url)
        case "postgresql":
            return _open_postgresql(url)
        case other:
            raise StoreError(
                f"CarmeAuthenticator.database_url names {other}; it can be sqlite:///FILE or "
                "postgresql+psycopg://USER@HOST/DATABASE."
            )


def _upgrade(engine: sa.Engine, shapes: Shapes, shown: str) -> None:
    # Hub and command may start at one moment: one changes the tables, all at once or not at all, the others
    # wait and find them changed.
    with write(engine) as connection:
        found = shapes.revision(connection)
        if found not in {"", *shapes.revisions}:
            raise StoreError(
                f"The database {shown} was made by a newer carme-hub (revision {found}, this one knows up "
                f"to {shapes.newest}). Install that version again, or restore the database from "
                "before it."
            )
        if found != shapes.newest:
            shapes.upgrade(connection)


def _open_postgresql(url: sa.URL) -> sa.Engine:
    milliseconds = BUSY_SECONDS * 1000
    wanted = {
        "connect_timeout": CONNECT_SECONDS,
        "options": f"-c statement_timeout={milliseconds} "
        f"-c idle_in_transaction_session_timeout={milliseconds}",
        # A server that vanished without a word is noticed as late as a slow one.
        "tcp_user_timeout": milliseconds,
        "keepalives_idle": BUSY_SECONDS // 2,
        "keepalives_interval": 1,
        "keepalives_count": BUSY_SECONDS // 2,
    }
    # What the address itself says (libpq's words) goes first.
    settings = {name: value for name, value in wanted.items() if name not in url.query}
    return sa.create_engine(
        url, connect_args=settings, pool_pre_ping=True, pool_timeout=BUSY_SECONDS, hide_parameters=True
    )


def _open_sqlite(url: sa.URL) -> sa.Engine:
    if not url.database or url.database == ":memory:":
        raise StoreError(
            "CarmeAuthenticator.database_url has to name a file: devices must outlive the process."
        )
    _make_private(Path(url.database).resolve())
    engine = sa.create_engine(
        url, connect_args={"timeout": BUSY_SECONDS}, pool_timeout=BUSY_SECONDS, hide_parameters=True
    )

    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not by Python's module
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
        _use_wal(cursor)
        cursor.close()

    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("carme_begin", "BEGIN"))

    sa.event.listen(engine, "connect", prepare)
    sa.event.listen(engine, "begin", begin)
    return engine


def _make_private(path: Path) -> None:
    """Make the file where there is none, with mode 0600, so that others can open it at no moment.

    One that is there is never opened here: closing it would drop all locks that this process has on it
    (fcntl(2), "Record locks"), SQLite's included. The next command that ends would take itself for the last
    user of the database and remove the journal in which this process goes on writing.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        os.close(open_private(path, os.O_RDWR | os.O_EXCL))
    except FileExistsError:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            path.chmod(0o600)


def _use_wal(cursor: sqlite3.Cursor) -> None:
    """Switch a database to WAL mode. SQLite's own waiting leaves this statement out, so we wait here."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(0.02)
        else:
            return
