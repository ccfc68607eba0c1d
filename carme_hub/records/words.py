"""What a person is told about a session: an event of the hub -> a notice. A pure function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carme_hub.records.notices import Notice
from carme_hub.spawner.events import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

# Ends that are nobody's fault, and no surprise: the sentence says which one it was.
_EXPECTED = frozenset({"TIMEOUT", "DEADLINE", "COMPLETED", "CANCELLED"})
_LONGEST_NAME = 60  # characters of what a person calls a session


def notice_of(event: Event) -> Notice | None:
    """Return what the owner of a session is told about an event; None when there is nothing to tell.

    Who ended a session knows it; who waits for one, or whose work ended, has to be told.
    """
    make = _TOLD.get(event.kind)
    return make(event) if make is not None else None


def _name(event: Event) -> str:
    name = event.display_name or event.server or event.facts.title or "Your session"
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"


def _started(event: Event) -> Notice:
    where = f" It runs on {event.node}." if event.node else ""
    return _notice(
        event, "started", "success", f"{_name(event)} is ready", f"The session has started.{where}"
    )


def _ends_soon(event: Event) -> Notice:
    minutes = round(event.left / 60)
    left = f"{minutes} minute{'s' if minutes != 1 else ''}"
    text = "Its time limit is nearly over. Please save your work, or extend it on the hub's page."
    # An end that was put off is warned of again.
    told = f"{event.left}:{(event.end or 0) // 60}"
    return _notice(event, "ends_soon", "warning", f"{_name(event)} ends in {left}", text, told=told)


def _out_of_memory(event: Event) -> Notice:
    return _notice(event, "out_of_memory", "warning", f"{_name(event)} ran out of memory", event.sentence)


def _ended(event: Event) -> Notice | None:
    if event.stopped:
        if not event.by:
            return None
        text = f"{event.by} has ended this session."
        return _notice(event, "ended", "warning", f"{_name(event)} was ended", text)
    if event.sentence and not (event.was_ready and event.state in _EXPECTED):
        return _notice(event, "failed", "danger", f"{_name(event)} failed", event.sentence)
    if event.sentence:
        return _notice(event, "ended", "warning", f"{_name(event)} has ended", event.sentence)
    return _notice(event, "ended", "info", f"{_name(event)} has ended", "The session has ended by itself.")


def _notice(event: Event, kind: str, level: str, title: str, text: str, *, told: str = "") -> Notice:
    about = f"{kind}:{event.cluster}:{event.job}:{event.facts.submitted}:{told}"
    return Notice(
        user=event.user,
        kind=kind,
        level=level,
        title=title,
        text=text,
        server=event.server,
        about=about,
        at=event.at,
    )


_TOLD: dict[Kind, Callable[[Event], Notice | None]] = {
    Kind.READY: _started,
    Kind.ENDS_SOON: _ends_soon,
    Kind.OUT_OF_MEMORY: _out_of_memory,
    Kind.ENDED: _ended,
}
