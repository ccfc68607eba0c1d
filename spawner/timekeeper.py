"""Runs inside the job, beside the server: warns of the end of the time limit.

Standard library only. It reaches the container as a text within the reporter's (`carme_hub.spawner.program`),
which runs it in a thread once the server has been reported: a start is not slower for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# What JupyterLab's and Code-Server's extensions of our images read (singularity/files/session_bar).
FILE = "/tmp/.carme-time-limit.json"  # noqa: S108 - the session's own /tmp, and made without following links
# Made by them when somebody may be extending the session: the hub is asked soon, but no more often than that.
WANTED, RARELY = "/tmp/.carme-time-wanted", 15.0  # noqa: S108 - as above; seconds
LEVELS = "CARME_WARN_BEFORE"
USUAL = (900.0, 300.0)
# Seconds before a warning in which the hub is asked whether it is still right. Each session takes another
# moment between the two, so that a class that started together does not ask together.
LEAD = (3.0, 30.0)
# After a warning somebody may extend the session: then the hub is asked this often.
REFRESH = 150.0
# An administrator may shorten a limit: it is noticed after this time at the latest.
SELDOM = 10800.0
# While the end is not known: at first, and at most.
UNKNOWN = (30.0, 3600.0)
# A change of the end by less than this is none (Slurm counts in minutes).
SAME = 20.0


class Limit(NamedTuple):
    """What the hub says of the session's time.

    Attributes
    ----------
    end
        Seconds since 1970; None when it is not known, or there is no end.
    extend
        Whether the owner may extend the session now.
    """

    end: float | None = None
    extend: bool = False


class Look(NamedTuple):
    """The next thing to do.

    Attributes
    ----------
    after
        Seconds until the hub is asked.
    level
        Seconds before the end of the warning that follows; None when none does.
    """

    after: float
    level: float | None


def read_levels(text: str) -> tuple[float, ...]:
    """Read the moments of the warnings, in seconds before the end, the earliest first.

    Parameters
    ----------
    text
        Numbers with commas between them; empty for no warning at all.
    """
    found = set()
    for word in text.split(","):
        with contextlib.suppress(ValueError):
            found.add(float(word))
    return tuple(sorted((level for level in found if 0 < level < float("inf")), reverse=True))


def next_look(left: float | None, levels: Iterable[float], lead: float, unanswered: int = 0) -> Look:
    """Decide when to ask the hub, and which warning comes after its answer.

    Parameters
    ----------
    left
        Seconds until the end; None when it is not known.
    levels
        Seconds before the end in which to warn.
    lead
        How many seconds before a warning the hub is asked.
    unanswered
        How often the end was asked for and not told.

    Notes
    -----
    A moment that has passed is no reason to warn: a session that is shorter than it, or one whose limit was
    extended a moment ago, has nothing to be told. So only levels below what is left count.
    """
    if left is None:
        return Look(min(UNKNOWN[0] * 2.0 ** min(unanswered, 16), UNKNOWN[1]), None)
    level = max((level for level in levels if level < left), default=None)
    pause = REFRESH if left <= max(levels, default=0.0) else SELDOM
    if level is None:
        return Look(pause, None)
    wait = max(left - level - lead, 0.0)
    return Look(wait, level) if wait <= pause else Look(pause, None)


def still_due(left: float | None, level: float | None, lead: float) -> bool:
    """Say whether the warning is still to be given, now that the hub has been asked."""
    return left is not None and level is not None and left <= level + lead + SAME


def skipped(expected: float | None, left: float | None, levels: Iterable[float]) -> float | None:
    """Return the latest warning that a shortened limit has jumped over; None when there is none.

    Parameters
    ----------
    expected, left
        Seconds until the end, before and after the hub was asked.
    levels
        Seconds before the end in which to warn.
    """
    if expected is None or left is None:
        return None
    return min((level for level in levels if left <= level < expected), default=None)


def sentence(end: float, now: float, *, extend: bool) -> str:
    """Return the warning, with the clock of the session's time zone."""
    minutes = max(round((end - now) / 60), 0)
    left = "less than a minute" if minutes == 0 else f"{minutes} minute{'s' if minutes > 1 else ''}"
    what = "save your work, or extend it on the hub's page" if extend else "save your work"
    return f"This session ends in {left}, at {_clock(end)}: please {what}."


def extended(end: float) -> str:
    """Return what to say when the end has moved away."""
    return f"The time limit was extended: this session ends at {_clock(end)}."


def _clock(moment: float) -> str:
    return time.strftime("%H:%M", time.localtime(moment))


def tell_terminals(text: str, folder: str = "/dev/pts") -> None:
    """Write a line to every terminal of the session, and wait for none of them."""
    line = f"\r\n\a*** {text} ***\r\n".encode()
    with contextlib.suppress(OSError):
        for terminal in sorted(Path(folder).iterdir()):
            if terminal.name.isdigit():
                with contextlib.suppress(OSError):
                    descriptor = os.open(terminal, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
                    try:
                        os.write(descriptor, line)
                    finally:
                        os.close(descriptor)


def publish(limit: Limit, warned: float | None, following: float, path: str = FILE) -> None:
    """Write what the images' extensions read; whole at any moment, and for the owner only."""
    told = {"end": limit.end, "warned": warned, "extend": limit.extend, "next": following}
    part = f"{path}.{os.getpid()}"
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileNotFoundError):
            Path(part).unlink()
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(told, file)
        Path(part).replace(path)


def doze(seconds: float, wanted: str = WANTED, rarely: float = RARELY, tick: float = 5.0) -> None:
    """Sleep so long, or until somebody wants to know the time anew."""
    began = time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0:
        time.sleep(min(left, tick))
        if time.monotonic() - began >= rarely:
            with contextlib.suppress(OSError):
                Path(wanted).unlink()
                return


def read_limit(answer: object) -> Limit | None:
    """Read the hub's answer; None when it is none."""
    if not isinstance(answer, dict) or "end" not in answer:
        return None
    end = answer["end"]
    if isinstance(end, bool) or not (end is None or isinstance(end, int | float)):
        return None
    return Limit(end, answer.get("extend") is True)


class Timekeeper:
    """Asks, waits and warns, until the process ends.

    Parameters
    ----------
    ask
        Asks the hub; what it returns goes to `read_limit`, an OSError means that there is no answer.
    levels
        Seconds before the end in which to warn.
    first
        What the hub said when the server was reported.
    """

    def __init__(
        self,
        ask: Callable[[], object],
        levels: tuple[float, ...],
        first: object = None,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = doze,
        tell: Callable[[str], None] = tell_terminals,
        show: Callable[[Limit, float | None, float], None] = publish,
    ) -> None:
        self._ask, self._clock, self._sleep, self._tell, self._show = ask, clock, sleep, tell, show
        self._levels = levels
        self._limit = read_limit(first) or Limit()
        self._warned: float | None = None
        self._unanswered = 0

    @property
    def left(self) -> float | None:
        """Return the seconds until the end."""
        return None if self._limit.end is None else self._limit.end - self._clock()

    def step(self) -> None:
        """Wait for the next moment, ask the hub, and warn if that is due."""
        lead = random.uniform(*LEAD)  # noqa: S311 - spreads the load
        left = self.left
        if left is not None and self._warned is not None:
            # A clock that is put right while one sleeps is no reason to warn again.
            left = min(left, self._warned)
        look = next_look(left, self._levels, lead, self._unanswered)
        # Not all at the same moment, however many began together; and none later: a warning may be due.
        after = look.after if look.level is not None else look.after * random.uniform(0.8, 1.0)  # noqa: S311
        self._show(self._limit, self._warned, self._clock() + after)
        self._sleep(after)
        expected = self.left
        self._refresh()
        level = skipped(expected, self.left, self._levels)
        if level is None and still_due(self.left, look.level, lead):
            level = look.level
        if level is None or self.left is None:
            return
        if self.left > level:
            self._show(self._limit, self._warned, self._clock() + self.left - level)
            self._sleep(self.left - level)
        self._warned = level
        self._tell(sentence(self._limit.end or 0.0, self._clock(), extend=self._limit.extend))

    def _refresh(self) -> None:
        """Ask the hub; without an answer what was known stays."""
        told = None
        with contextlib.suppress(OSError, ValueError):
            told = read_limit(self._ask())
        self._unanswered = 0 if told and told.end is not None else self._unanswered + 1
        if told is None or (told.end is None and self._limit.end is not None):
            return
        before, self._limit = self._limit.end, told
        if self._warned is not None and before and told.end and told.end > before + SAME:
            self._warned = None
            self._tell(extended(told.end))

    def run(self) -> None:
        """Go on for as long as the session lives."""
        while True:
            self.step()


def keep(ask: Callable[[], object], environ: Mapping[str, str], first: object = None) -> None:
    """Keep the time of a session for as long as it lives: to show it, where nobody wants to be warned."""
    levels = read_levels(environ[LEVELS]) if LEVELS in environ else USUAL
    Timekeeper(ask, levels, first).run()
