"""What the site remembers of sessions, notices, news, load and maintenance, beside the gate's tables.

Every function waits for the database: from a loop only through a thread (``asyncio.to_thread``). All of them
take an engine of `open_records`, times are seconds since 1970, and what they raise is SQLAlchemy's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carme_hub.authenticator.database import open_engine
from carme_hub.records.migrations import SHAPES

if TYPE_CHECKING:
    import sqlalchemy as sa


def open_records(url: str) -> sa.Engine:
    """Open the database and bring the tables of this package to their newest shape.

    Parameters
    ----------
    url
        SQLAlchemy address, as a rule ``CarmeAuthenticator.database_url``: see `open_engine`.

    Raises
    ------
    carme_hub.authenticator.database.StoreError
        With a sentence, when the database cannot be used, or a newer version made it.
    """
    return open_engine(url, SHAPES)
