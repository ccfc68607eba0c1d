"""The shapes the gate's tables had, one after the other, and the way to the newest one (by alembic)."""

import logging
import threading
from pathlib import Path

import sqlalchemy as sa

VERSION_TABLE = "carme_alembic_version"  # JupyterHub has its own one, perhaps in the same database
REVISIONS = (
    "0001",
    "0002",
)  # written down here too, so that a program that finds the newest one needs no alembic

_HERE = Path(__file__).parent
_upgrading = threading.Lock()  # what alembic's scripts work on is global


def revision(connection: sa.Connection) -> str:
    """Return the shape a database is in; empty where it is new, or older than the use of alembic."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return ""
    table = sa.table(VERSION_TABLE, sa.column("version_num"))
    return connection.execute(sa.select(table.c.version_num)).scalar() or ""


def upgrade(connection: sa.Connection) -> None:
    """
    Bring a database to the newest shape.

    Parameters
    ----------
    connection
        In a transaction that keeps other programs from doing the same; it is not committed.
    """
    # Imported here: hardly any start needs it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    with _upgrading:
        logging.getLogger("alembic").setLevel(logging.WARNING)
        command.upgrade(config, REVISIONS[-1])
