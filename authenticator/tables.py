"""The gate's own tables, and opening the database they are in."""

import os
import sqlite3
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.schema import CreateIndex, CreateTable

SCHEMA_VERSION = 1
BUSY_SECONDS = 10  # how long one process waits for another one's write

metadata = sa.MetaData()

schema = sa.Table(
    "carme_schema",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # always 1
    sa.Column("version", sa.Integer, nullable=False),
)

# Times are seconds since 1970: no database's idea of a time zone comes in.
device = sa.Table(
    "carme_device",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("username", sa.String(64), nullable=False, index=True),
    sa.Column("kind", sa.String(16), nullable=False),  # "totp"; others come beside it
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("secret", sa.Text, nullable=False),  # sealed for ("device", username, id)
    sa.Column("last_step", sa.BigInteger, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("confirmed", sa.BigInteger, nullable=False),
)

# One open enrolment an account: a new token takes the place of the old one.
enrolment = sa.Table(
    "carme_enrolment",
    metadata,
    sa.Column("username", sa.String(64), primary_key=True),
    sa.Column("token_hash", sa.String(64), nullable=False),
    sa.Column("expires", sa.BigInteger, nullable=False),
    sa.Column("secret", sa.Text, nullable=True),  # sealed for ("enrolment", username), until it is confirmed
    sa.Column("ticket_hash", sa.String(64), nullable=True, unique=True),
    sa.Column("attempts", sa.Integer, nullable=False),
)


class StoreError(Exception):
    """The database cannot be used; the sentence says which one and what to do."""


def open_engine(url: str) -> sa.Engine:
    """
    Open the database, make what is missing, refuse what a newer version made.

    Parameters
    ----------
    url
        SQLAlchemy address. An SQLite file is made where there is none, with mode 0600, and kept in WAL mode,
        so that the hub and the `carme` command work on it at once.

    Raises
    ------
    StoreError
        The address makes no sense, the database does not answer, or its schema is newer than this program.
    """
    try:
        parsed = sa.make_url(url)
        shown = parsed.render_as_string(hide_password=True)
        if parsed.get_backend_name() == "sqlite":
            engine = _open_sqlite(parsed)
        else:
            engine = sa.create_engine(parsed, pool_pre_ping=True)
    except (ArgumentError, ImportError) as error:
        raise StoreError(
            f"CarmeAuthenticator.database_url is not a usable database address: {error}"
        ) from error
    except OSError as error:
        raise StoreError(f"The database {shown} cannot be opened: {error.strerror}.") from error
    try:
        _create(engine)
        _check_version(engine, shown)
    except DBAPIError as error:
        raise StoreError(f"The database {shown} cannot be used: {error.orig}.") from error
    return engine


def _open_sqlite(url: sa.URL) -> sa.Engine:
    if not url.database or url.database == ":memory:":
        raise StoreError(
            "CarmeAuthenticator.database_url has to name a file: devices must outlive the process."
        )
    path = Path(url.database)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Made here and not by SQLite, so that there is no moment in which others can open it.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.fstat(descriptor).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    def prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
        _use_wal(cursor)
        cursor.close()

    sa.event.listen(engine, "connect", prepare)
    return engine


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


def _create(engine: sa.Engine) -> None:
    # "if not exists" in the statement, not looked up before it: hub and command may start at one moment.
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))
    with suppress(IntegrityError), engine.begin() as connection:
        if connection.execute(sa.select(schema.c.version)).first() is None:
            connection.execute(schema.insert().values(id=1, version=SCHEMA_VERSION))


def _check_version(engine: sa.Engine, shown: str) -> None:
    with engine.connect() as connection:
        version = connection.execute(sa.select(schema.c.version)).scalar_one()
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"The database {shown} was made by a newer carme-hub (schema {version}, this one knows "
            f"{SCHEMA_VERSION}). Install that version again, or restore the database from before it."
        )
