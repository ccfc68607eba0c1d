"""What is old goes: a little at a time, so that nobody who writes has to wait for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from carme_hub.records import history, notices, samples

if TYPE_CHECKING:
    import sqlalchemy as sa

DAY = 86400
HISTORY_DAYS = 730
NOTICE_DAYS = 90
SAMPLE_DAYS = 35
AT_ONCE = 1000  # rows, or moments, in one transaction
# How long each kind of rows is kept, in days, and what removes them.
KEPT = (
    (HISTORY_DAYS, history.remove_older),
    (NOTICE_DAYS, notices.remove_older),
    (SAMPLE_DAYS, samples.remove_older),
)


def clear(engine: sa.Engine, now: float | None = None) -> int:
    """Remove what is older than it is kept; returns how many rows. Call it every few hours."""
    moment = time.time() if now is None else now
    removed = 0
    for days, remove_older in KEPT:
        while (gone := remove_older(engine, moment - days * DAY, AT_ONCE)) > 0:
            removed += gone
    return removed
