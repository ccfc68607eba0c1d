"""What runs in the container around the server: the reporter, with the time keeper inside, as one text.

The container has nothing of ours but its standard input. The time keeper is a value in the reporter, so that
a start does not wait until it is compiled.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PLACE = 'TIMEKEEPER = ""\n'


@cache
def source() -> str:
    """Return the program's source text.

    Raises
    ------
    ValueError
        When the reporter has no place for the time keeper, or more than one.
    """
    here = Path(__file__).parent
    reporter = (here / "reporter.py").read_text(encoding="utf-8")
    if reporter.count(_PLACE) != 1:
        raise ValueError(f"reporter.py has to hold the line {_PLACE.strip()} once")
    keeper = (here / "timekeeper.py").read_text(encoding="utf-8")
    return reporter.replace(_PLACE, f"TIMEKEEPER = {keeper!r}\n")
