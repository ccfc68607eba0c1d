"""The databases: whether they answer, and whether their tables have the shape that this program works with.

Looked at without changing them: opening them as the hub does would bring them to the newest shape.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from carme_hub.checks.values import Check, failed, ok, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from carme_hub.authenticator.shapes import Shapes

TIME_OUT = 5  # seconds to connect, and for a lock to open
SLOW = 0.5  # seconds for a connection and two small questions


def look(url: str, shapes: Mapping[str, Shapes]) -> list[Check]:
    """Look at the project's database. It blocks.

    Parameters
    ----------
    url
        SQLAlchemy address.
    shapes
        Title of a group of tables -> their shapes.
    """
    title = "Database"
    began = time.monotonic()
    try:
        with closing_engine(url) as engine, engine.connect() as connection:
            found = {what: group.revision(connection) for what, group in shapes.items()}
    except FileNotFoundError as error:
        return [failed(title, f"{error} The hub makes it when it starts.")]
    except (SQLAlchemyError, OSError, ImportError, ValueError) as error:
        return [failed(title, f"It cannot be used: {reason(error)}. Nobody can sign in.")]
    return [
        judge(title, found, {what: group.newest for what, group in shapes.items()}, time.monotonic() - began)
    ]


def judge(title: str, found: Mapping[str, str], newest: Mapping[str, str], seconds: float) -> Check:
    """Judge the shapes that were found, by title; empty for tables that are not there."""
    for what, revision in found.items():
        if revision != newest[what]:
            shown = f"revision {revision}" if revision else "missing"
            return failed(
                title, f"The tables of {what} are {shown}, and have to be {newest[what]}: restart the hub."
            )
    shapes = ", ".join(f"{what} {revision}" for what, revision in found.items())
    if seconds > SLOW:
        return warning(title, f"It answered in {seconds:.1f} s, which every login waits for ({shapes}).")
    return ok(title, f"It answers, and its tables are up to date ({shapes}).")


def look_at_hub(url: str) -> list[Check]:
    """Look at JupyterHub's own database: its version table tells whether it is up to date. It blocks."""
    from jupyterhub.orm import DatabaseSchemaMismatch, check_db_revision  # noqa: PLC0415  heavy

    title = "JupyterHub's database"
    if sa.make_url(url).get_backend_name() == "sqlite" and not url.startswith("sqlite:////"):
        return [skipped(title, f"{url} is in the hub's own folder; an absolute path could be looked at.")]
    try:
        with closing_engine(url) as engine:
            with engine.connect() as connection:
                known = sa.inspect(connection).has_table("alembic_version")
            if not known:  # else the next line would write into it
                return [failed(title, "It has no tables of JupyterHub's. The hub makes them when it starts.")]
            check_db_revision(engine)
    except DatabaseSchemaMismatch as error:
        return [failed(title, str(error))]
    except FileNotFoundError as error:
        return [failed(title, f"{error} The hub makes it when it starts.")]
    except (SQLAlchemyError, OSError, ImportError, ValueError) as error:
        return [failed(title, f"It cannot be used: {reason(error)}.")]
    return [ok(title, "It answers, and its tables are up to date.")]


@contextmanager
def closing_engine(url: str) -> Iterator[sa.Engine]:
    """Open a database to read from, and close it.

    Raises
    ------
    FileNotFoundError
        With a sentence: an SQLite file that is not there is not made.
    """
    parsed = sa.make_url(url)
    arguments: dict[str, object] = {"timeout": TIME_OUT}
    if parsed.get_backend_name() == "sqlite":
        if not Path(parsed.database or "").is_file():
            raise FileNotFoundError(f"There is no file {parsed.database}.")
    elif parsed.get_backend_name() == "postgresql":
        arguments = {"connect_timeout": TIME_OUT}
    else:
        arguments = {}
    engine = sa.create_engine(parsed, connect_args=arguments, poolclass=sa.NullPool, hide_parameters=True)
    try:
        yield engine
    finally:
        engine.dispose()


def reason(error: Exception) -> str:
    """Return a database's own words, in one line and without the values that a statement was about."""
    return " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")
