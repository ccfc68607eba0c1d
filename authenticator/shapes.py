"""The shapes that a group of tables had, one after the other, and the way to the newest one (by alembic)."""

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

_upgrading = threading.Lock()  # what alembic's scripts work on is global


@dataclass(frozen=True)
class Shapes:
    """
    What brings a group of tables to its newest shape; groups of one database do not know of each other.

    Parameters
    ----------
    folder
        Folder of alembic's ``env.py`` and ``versions``.
    version_table
        Table that says which shape a database is in; JupyterHub has one of its own, perhaps in the same one.
    revisions
        All shapes, the oldest first: written down here too, so that a program that finds the newest one needs
        no alembic.
    """

    folder: Path
    version_table: str
    revisions: tuple[str, ...]

    @property
    def newest(self) -> str:
        """Return the shape that this program works with."""
        return self.revisions[-1]

    def revision(self, connection: sa.Connection) -> str:
        """Return the shape a database is in; empty where it is new, or older than the use of alembic."""
        if not sa.inspect(connection).has_table(self.version_table):
            return ""
        table = sa.table(self.version_table, sa.column("version_num"))
        return connection.execute(sa.select(table.c.version_num)).scalar() or ""

    def upgrade(self, connection: sa.Connection) -> None:
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
        config.set_main_option("script_location", str(self.folder).replace("%", "%%"))
        with _upgrading:
            logging.getLogger("alembic").setLevel(logging.WARNING)
            command.upgrade(config, self.newest)
