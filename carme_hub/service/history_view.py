"""Rows of the history as the page shows them. No input or output here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from carme_hub.authenticator.words import Moment, moment
from carme_hub.service.history_filter import kind_of
from carme_hub.spawner.request import harmless
from carme_hub.spawner.timelimit import spoken
from carme_hub.spawner.units import spoken_memory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carme_hub.records.history import Row
    from carme_hub.spawner.catalog import Catalog

MINUTE = 60
FULL = 100  # percent


@dataclass(frozen=True)
class Titles:
    """What profiles and images are called, by their names; one that is gone keeps its name."""

    profiles: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, catalog: Catalog) -> Titles:
        """Read a site's description."""
        return cls(
            {name: profile.title for name, profile in catalog.profiles.items()},
            {name: image.title for name, image in catalog.images.items()},
        )

    def profile(self, name: str) -> str:
        """Return a profile's title."""
        return self.profiles.get(name, name)

    def image(self, name: str) -> str:
        """Return an image's title."""
        return self.images.get(name, name)


@dataclass(frozen=True)
class Bar:
    """How much of something was used.

    Attributes
    ----------
    percent
        0 to 100.
    text
        The numbers behind it; empty when the percentage says it all.
    """

    percent: int
    text: str = ""


@dataclass(frozen=True)
class Shown:
    """One session on the page: `row`, and what has to be worked out of it.

    Attributes
    ----------
    kind
        How it is or ended, as in `history_filter.STATES`.
    waited, lasted
        In words; `lasted` is empty for one that never ran.
    cpu, memory
        What was used of what it held; None where that is not known.
    again
        The address, below the hub's, of the start page filled in alike; empty for other people's sessions.
    """

    row: Row
    title: str
    image: str
    kind: str
    submitted: Moment
    waited: str
    lasted: str
    memory_held: str
    cpu: Bar | None
    memory: Bar | None
    again: str


def shown(row: Row, titles: Titles, now: float, reader: str) -> Shown:
    """Work out what the page shows of a session.

    Parameters
    ----------
    now
        Seconds since 1970.
    reader
        Who looks.
    """
    return Shown(
        row=row,
        title=titles.profile(row.profile),
        image=titles.image(row.image),
        kind=kind_of(row.state),
        submitted=moment(row.submitted),
        waited=span(row.waited(now)),
        lasted=span(row.lasted(now)) if row.started is not None else "",
        memory_held=spoken_memory(row.memory),
        cpu=_cpu(row, now),
        memory=_memory(row),
        again=again(row) if row.user == reader else "",
    )


def span(seconds: float) -> str:
    """Say how long something took, for example "40 s", "5 min" or "1 h 15 min"."""
    return f"{int(seconds)} s" if seconds < MINUTE else spoken(round(seconds / MINUTE))


def hours(value: float) -> str:
    """Say a number of hours: the fewer there are, the more exactly."""
    return f"{value:,.0f}" if value >= FULL else f"{value:.1f}"


def again(row: Row) -> str:
    """Return the address, below the hub's, of the start page filled in as this session was.

    It starts nothing: its owner looks at it and presses Start.
    """
    options = harmless(row.options)
    server = f"/{quote(row.server, safe='')}" if row.server else ""
    query = urlencode({f"opt-{name}": value for name, value in options.items()})
    return f"spawn/{quote(row.user, safe='')}{server}" + (f"?{query}" if query else "")


def _cpu(row: Row, now: float) -> Bar | None:
    held = row.cpus * row.lasted(now)
    if row.cpu_seconds is None or not held:
        return None
    return Bar(_percent(row.cpu_seconds / held))


def _memory(row: Row) -> Bar | None:
    if row.max_memory is None or not row.memory:
        return None
    on_a_node = row.memory / max(row.nodes, 1)
    return Bar(
        _percent(row.max_memory / on_a_node), f"{spoken_memory(row.max_memory)} / {spoken_memory(on_a_node)}"
    )


def _percent(part: float) -> int:
    return min(max(round(FULL * part), 0), FULL)
