"""What an admin types about an announcement, read and checked. No input or output here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from carme_hub.records.announcements import LEVELS, Announcement
from carme_hub.service.markdown import LONGEST

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_TITLE = 200
_LATEST = 253_402_300_799  # the end of the year 9999
_LOCAL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?")

NO_TITLE = "Write a title: it is what people read first."
NO_LEVEL = "Choose how much it matters."
NO_TIME = "Write date and time, or leave it empty."
BACKWARDS = "It ends before it starts."
OVER = "That is over already: nobody would see it."


@dataclass(frozen=True)
class Typed:
    """A form as it was typed, and what is wrong with it.

    Attributes
    ----------
    starts, ends
        Seconds since 1970; None for "now" and for "until it is removed".
    typed_starts, typed_ends
        What stands in the fields, in UTC.
    errors
        A sentence by the name of the field.
    """

    title: str = ""
    text: str = ""
    level: str = "info"
    starts: int | None = None
    ends: int | None = None
    typed_starts: str = ""
    typed_ends: str = ""
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, what: Announcement) -> Typed:
        """Return the form of an announcement that is there."""
        return cls(
            what.title,
            what.text,
            what.level,
            what.starts,
            what.ends,
            local(what.starts),
            local(what.ends) if what.ends is not None else "",
        )

    @classmethod
    def parse(cls, field_of: Callable[[str], str], now: float) -> Typed:
        """Read a form.

        Parameters
        ----------
        field_of
            Returns what stands in a field. Times are ``YYYY-MM-DDTHH:MM`` in UTC, beside ``..._epoch`` in
            seconds since 1970, which a script adds: it knows the admin's time zone, and then that counts.
        now
            Seconds since 1970.
        """
        errors = {}
        # One line, and nothing that turns the direction of what is around it.
        title = " ".join("".join(c if c.isprintable() else " " for c in field_of("title")).split())
        level = field_of("level")
        starts, wrong_start = _time(field_of("starts"), field_of("starts_epoch"))
        ends, wrong_end = _time(field_of("ends"), field_of("ends_epoch"))
        if not title:
            errors["title"] = NO_TITLE
        if level not in LEVELS:
            errors["level"], level = NO_LEVEL, LEVELS[0]
        if wrong_start:
            errors["starts"] = NO_TIME
        if wrong_end:
            errors["ends"] = NO_TIME
        elif ends is not None and ends <= (starts if starts is not None else now):
            errors["ends"] = BACKWARDS
        elif ends is not None and ends <= now:
            errors["ends"] = OVER
        return cls(
            title[:LONGEST_TITLE],
            field_of("text").replace("\r\n", "\n")[:LONGEST],
            level,
            starts,
            ends,
            local(starts) if starts is not None else field_of("starts")[:40],
            local(ends) if ends is not None else field_of("ends")[:40],
            errors,
        )

    def announcement(self, author: str, number: int, now: float) -> Announcement:
        """Return the announcement that was typed."""
        starts = int(now) if self.starts is None else self.starts
        return Announcement(
            id=number,
            title=self.title,
            text=self.text,
            level=self.level,
            starts=starts,
            ends=self.ends,
            author=author,
        )


def local(seconds: float) -> str:
    """Write a time as the field of a form has it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M")


def _time(text: str, epoch: str) -> tuple[int | None, bool]:
    """Return a time, and whether what was typed is none."""
    if not text.strip():
        return None, False
    if epoch:
        try:
            seconds = float(epoch)
        except ValueError:
            return None, True
        return (int(seconds), False) if math.isfinite(seconds) and 0 < seconds < _LATEST else (None, True)
    if not _LOCAL.fullmatch(text):
        return None, True
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()), False
    except (ValueError, OverflowError):
        return None, True


def stage(what: Announcement, now: float) -> str:
    """Say how it stands with an announcement: "planned", "shown" or "over"."""
    if what.starts > now:
        return "planned"
    return "over" if what.ends is not None and what.ends <= now else "shown"
