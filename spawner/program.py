"""What runs in the container around the server: the reporter, with what it starts inside, as one text.

The container has nothing of ours but its standard input. The time keeper is a value in the reporter, so that
a start does not wait until it is compiled; the log keeper is one because it is a subject of its own.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_INSIDE = ("timekeeper", "logkeeper")


@cache
def source() -> str:
    """Return the program's source text.

    Raises
    ------
    ValueError
        When the reporter has no place for a part, or more than one.
    """
    here = Path(__file__).parent
    text = (here / "reporter.py").read_text(encoding="utf-8")
    for name in _INSIDE:
        place = f'{name.upper()} = ""\n'
        if text.count(place) != 1:
            raise ValueError(f"reporter.py has to hold the line {place.strip()} once")
        part = (here / f"{name}.py").read_text(encoding="utf-8")
        text = text.replace(place, f"{name.upper()} = {part!r}\n")
    return text
