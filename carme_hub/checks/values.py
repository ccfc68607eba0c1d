"""What was looked at and what came of it, as values; and how one look is taken: with a time-out, measured."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

_log = logging.getLogger(__name__)


class State(StrEnum):
    """How it stands with what was looked at."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


# Worst first: what an admin has to read.
ORDER = (State.FAILED, State.WARNING, State.SKIPPED, State.OK)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    name
        What: "Image base on node1".
    state
        ``skipped`` is what could not be looked at, for a reason that is no fault of the site.
    sentence
        What was found, and where it is not in order, what to do next.
    seconds
        How long the look took; several things that were seen in one look share its time.
    part
        What of the site it belongs to: "Slurm", "Nodes", "Sign-in", "Hub".
    """

    name: str
    state: State
    sentence: str
    seconds: float = 0.0
    part: str = ""

    def model(self) -> dict[str, Any]:
        """Return it for JSON; seconds are rounded to milliseconds."""
        return {**asdict(self), "state": str(self.state), "seconds": round(self.seconds, 3)}


def ok(name: str, sentence: str) -> Check:
    """Say that something is in order."""
    return Check(name, State.OK, sentence)


def warning(name: str, sentence: str) -> Check:
    """Say that something works, and should not stay as it is."""
    return Check(name, State.WARNING, sentence)


def failed(name: str, sentence: str) -> Check:
    """Say that something does not work."""
    return Check(name, State.FAILED, sentence)


def skipped(name: str, sentence: str) -> Check:
    """Say that something was not looked at."""
    return Check(name, State.SKIPPED, sentence)


@dataclass(frozen=True)
class Probe:
    """One look: what it is at, how many seconds it may take, and how it is taken."""

    part: str
    name: str
    time_out: float
    look: Callable[[], Awaitable[Sequence[Check]]]


async def take(probe: Probe) -> list[Check]:
    """Take one look; whatever happens in it becomes a check, never an exception."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(probe.time_out):
            found = list(await probe.look())
    except TimeoutError:
        found = [failed(probe.name, f"It was not answered within {probe.time_out:g} s.")]
    except Exception as error:  # noqa: BLE001 - logged with its traceback
        # A check that cannot be made must not hide the others.
        _log.exception("The site check could not look at %s", probe.name)
        sentence = f"It could not be looked at ({type(error).__name__}); the log has the details."
        found = [failed(probe.name, sentence)]
    seconds = time.monotonic() - began
    return [Check(check.name, check.state, check.sentence, seconds, probe.part) for check in found]


async def take_all(probes: Iterable[Probe]) -> list[Check]:
    """Take all looks at once; the checks come in the order of the probes."""
    return [check for found in await asyncio.gather(*map(take, probes)) for check in found]


def counted(number: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun: "1 node", "3 nodes"."""
    return f"{number} {one if number == 1 else many or one + 's'}"
