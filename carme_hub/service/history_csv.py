"""Sessions as a table for other programs (RFC 4180). No input or output here."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carme_hub.records.history import Row

HEADER = (
    *("session", "user", "cluster", "job", "profile", "image", "partition"),
    *("submitted", "started", "ended", "state", "exit_code", "how_it_ended"),
    *("nodes", "cores", "gpus", "gpu_type", "memory_mib", "time_limit_minutes"),
    *("waited_seconds", "lasted_seconds", "core_hours", "gpu_hours"),
    *("cpu_seconds_used", "max_memory_used_mib"),
)
# What a spreadsheet takes for the beginning of a formula, also in the wide forms of East Asian keyboards.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def safe(text: str) -> str:
    """Return a text that no spreadsheet runs as a formula, on one line."""
    line = " ".join(text.split())
    return f"'{line}" if line.startswith(FORMULA) or text.startswith(FORMULA) else line


def table(rows: Iterable[Row], now: float, *, header: bool = True) -> str:
    """Return sessions as CSV: a header, times in UTC, numbers with a point.

    Parameters
    ----------
    now
        Seconds since 1970: until then, those that wait or run have done so.
    """
    written = io.StringIO()
    # All texts in quotes: a program that takes another separator finds none inside of them.
    writer = csv.writer(written, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    if header:
        writer.writerow(HEADER)
    writer.writerows(
        [safe(value) if isinstance(value, str) else value for value in _cells(row, now)] for row in rows
    )
    return written.getvalue()


def _cells(row: Row, now: float) -> list[str | int | float]:
    cells = (
        *(row.server, row.user, row.cluster, row.job, row.profile, row.image, row.partition),
        *(_utc(row.submitted), _utc(row.started), _utc(row.ended), row.state, row.exit_code, row.sentence),
        *(row.nodes, row.cpus, row.gpus, row.gpu_type, row.memory, row.time_limit),
        *(row.waited(now), row.lasted(now), round(row.core_hours(now), 3), round(row.gpu_hours(now), 3)),
        *(row.cpu_seconds, row.max_memory),
    )
    return ["" if cell is None else cell for cell in cells]


def _utc(moment: int | None) -> str:
    return "" if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
