"""What runs in the container around the server: the reporter, with what works beside it inside, as one text.

The container has nothing of ours but its standard input. The parts are values in the reporter, compiled when
they are needed: a start does not wait for the time keeper.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

PARTS = ("timekeeper", "logkeeper", "homecare", "memorywatch", "lookout")
_PLACE = "PARTS: dict[str, str] = {}\n"


@cache
def source() -> str:
    """Return the program's source text.

    Raises
    ------
    ValueError
        When the reporter has no place for its parts, or more than one.
    """
    here = Path(__file__).parent
    reporter = (here / "reporter.py").read_text(encoding="utf-8")
    if reporter.count(_PLACE) != 1:
        raise ValueError(f"reporter.py has to hold the line {_PLACE.strip()} once")
    parts = {name: (here / f"{name}.py").read_text(encoding="utf-8") for name in PARTS}
    return reporter.replace(_PLACE, f"PARTS: dict[str, str] = {parts!r}\n")
