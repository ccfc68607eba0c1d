"""Slurm's ways to write a time and an amount of memory, read into minutes and MiB."""

from __future__ import annotations

import math
import re

_TIME = re.compile(
    r"(?:(?P<days>[0-9]{1,4})-(?P<dh>[0-9]{1,4})(?::(?P<dm>[0-9]{1,4})(?::(?P<ds>[0-9]{1,4}))?)?"
    r"|(?P<h>[0-9]{1,5}):(?P<hm>[0-9]{1,4}):(?P<hs>[0-9]{1,4})"
    r"|(?P<m>[0-9]{1,7})(?::(?P<s>[0-9]{1,4}))?)"
)
_MEMORY = re.compile(r"([0-9]{1,12})([KMGT]?)", re.IGNORECASE)
_MIB = {"K": 1 / 1024, "": 1.0, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024}


def minutes(text: str) -> int:
    """Read a time limit as ``man sbatch`` describes ``--time``.

    Parameters
    ----------
    text
        ``minutes``, ``minutes:seconds``, ``hours:minutes:seconds``, ``days-hours``,
        ``days-hours:minutes`` or ``days-hours:minutes:seconds``.

    Returns
    -------
    int
        Whole minutes, seconds rounded up as Slurm does.

    Raises
    ------
    ValueError
        With a sentence, when the text is none of these forms.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError('a time like "90" (minutes), "1:30:00" or "1-00:00:00" is needed')
    part = {name: int(value) for name, value in match.groupdict(default="0").items()}
    seconds = part["ds"] + part["hs"] + part["s"]
    whole = part["dm"] + part["hm"] + part["m"] + 60 * (part["dh"] + part["h"]) + 1440 * part["days"]
    return whole + math.ceil(seconds / 60)


def minutes_or_none(text: str) -> int | None:
    """Read a time limit as Slurm shows it; None where it shows none ("UNLIMITED", "(null)", "")."""
    try:
        return minutes(text)
    except ValueError:
        return None


def mebibytes(text: str) -> int:
    """Read an amount of memory as ``man sbatch`` describes ``--mem``.

    Parameters
    ----------
    text
        A whole number with ``K``, ``M``, ``G`` or ``T``; without a letter it means MiB.

    Returns
    -------
    int
        MiB, rounded up.

    Raises
    ------
    ValueError
        With a sentence, when the text is something else.
    """
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise ValueError('an amount of memory like "512M" or "16G" is needed')
    return math.ceil(int(match[1]) * _MIB[match[2].upper()])


def show_minutes(total: int) -> str:
    """Write minutes the way Slurm shows a time limit, for example ``1-00:00:00`` or ``2:00:00``."""
    days, rest = divmod(total, 1440)
    text = f"{rest // 60:02}:{rest % 60:02}:00" if days else f"{rest // 60}:{rest % 60:02}:00"
    return f"{days}-{text}" if days else text


def show_mebibytes(amount: int) -> str:
    """Write MiB in the largest unit that keeps it whole, for example ``2G`` or ``1536M``."""
    for unit, size in (("T", 1024 * 1024), ("G", 1024)):
        if amount >= size and amount % size == 0:
            return f"{amount // size}{unit}"
    return f"{amount}M"


def spoken_memory(amount: float) -> str:
    """Write MiB for people, for example ``64 GiB``, ``1.5 GiB`` or ``512 MiB``; empty for nothing."""
    if not amount:
        return ""
    for unit, size in (("TiB", 1024 * 1024), ("GiB", 1024)):
        if amount >= size:
            number = f"{amount / size:.1f}".removesuffix(".0")
            return f"{number} {unit}"
    return f"{amount:.0f} MiB"
