"""What somebody wants to see of the history, as the address of the page says it. No input or output here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from carme_hub.records.history import Filter
from carme_hub.spawner.answers import PHASES, Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

DAY = 86400
# The period's name -> its days; None for all that is kept. The first is what is shown when none is named.
PERIODS: dict[str, int | None] = {"month": 30, "week": 7, "quarter": 90, "year": 365, "all": None}


def _words(*phases: Phase) -> tuple[str, ...]:
    return tuple(word for word, phase in PHASES.items() if phase in phases)


# How a session is or ended -> Slurm's words for it.
STATES: dict[str, tuple[str, ...]] = {
    "waiting": _words(Phase.PENDING),
    "running": _words(Phase.RUNNING, Phase.ENDING),
    "completed": ("COMPLETED",),
    "stopped": ("CANCELLED", "REVOKED"),
    "timeout": ("TIMEOUT", "DEADLINE"),
    "failed": (),
}
STATES["failed"] = tuple(
    word for word in _words(Phase.ENDED) if not any(word in words for words in STATES.values())
)
LONGEST_TEXT = 100
LONGEST_NAME = 255
LAST_PAGE = 100_000
PAGE = 25  # rows


@dataclass(frozen=True)
class Asked:
    """What is asked for; what makes no sense is as if it were not there.

    Attributes
    ----------
    period
        One of `PERIODS`.
    profile, text, user
        Empty for all of them; `user` empty for one's own.
    state
        One of `STATES`, or empty.
    page
        From 1 on.
    """

    period: str = "month"
    profile: str = ""
    state: str = ""
    text: str = ""
    user: str = ""
    page: int = 1

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Asked:
        """Read the address of a page, which anybody may have written."""
        period, state = query.get("period", ""), query.get("state", "")
        page = query.get("page", "")
        number = int(page) if page.isascii() and page.isdigit() and len(page) <= len(str(LAST_PAGE)) else 1
        return cls(
            period=period if period in PERIODS else cls.period,
            profile=_line(query.get("profile", ""), LONGEST_NAME),
            state=state if state in STATES else "",
            text=_line(query.get("text", ""), LONGEST_TEXT),
            user=query.get("user", "")[:LONGEST_NAME],
            page=min(max(number, 1), LAST_PAGE),
        )

    def filter(self, now: float) -> Filter:
        """Return what the database is asked for. `now` is seconds since 1970."""
        days = PERIODS[self.period]
        return Filter(
            since=None if days is None else now - days * DAY,
            profile=self.profile or None,
            states=STATES.get(self.state),
            text=self.text or None,
        )

    @property
    def is_narrow(self) -> bool:
        """Say whether there may be sessions that are left out."""
        return bool(self.profile or self.state or self.text) or self.period != "all"

    def query(self, page: int = 1) -> str:
        """Return the part of an address after "?" that asks for the same, at some page; empty for nothing."""
        asked, default = replace(self, page=page), Asked()
        values = {name: value for name, value in vars(asked).items() if value != getattr(default, name)}
        return urlencode(values)

    @property
    def offset(self) -> int:
        """Return how many rows come before the page."""
        return (self.page - 1) * PAGE


def kind_of(state: str) -> str:
    """Return which of `STATES` one of Slurm's words belongs to; "other" for a word that is not known."""
    return next((kind for kind, words in STATES.items() if state in words), "other")


def _line(text: str, most: int) -> str:
    """Return a text as it is looked for: on one line, without what cannot be typed."""
    seen = "".join(letter if letter.isprintable() else " " for letter in text[:most])
    return " ".join(seen.split())
