"""The list of all sessions: which are wanted, in which order, a page of them. No input or output here."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode

from carme_hub.service.history_view import span
from carme_hub.spawner.units import spoken_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PAGE = 50  # rows
LAST_PAGE = 100_000
LONGEST = 255
# What a session does -> the word of templates/state_badge.html.
STATES = {
    "running": "running",
    "suspended": "suspended",
    "pending": "waiting",
    "starting": "starting",
    "stopping": "stopping",
}
# The column's name -> what it is sorted by; what is not known comes last.
_LAST = float("inf")
COLUMNS: dict[str, Any] = {
    "user": lambda one: (str(one["user"]), str(one["name"])),
    "profile": lambda one: (str(one.get("title") or one.get("profile")), str(one["user"])),
    "state": lambda one: list(STATES).index(one["state"]) if one.get("state") in STATES else len(STATES),
    "node": lambda one: (not one.get("node"), str(one.get("node") or "")),
    "held": lambda one: (-(one.get("gpus") or 0), -(one.get("cpus") or 0)),
    "since": lambda one: one.get("start") or one.get("submitted") or _LAST,
    "left": lambda one: one.get("end") or _LAST,
}


@dataclass(frozen=True)
class Wanted:
    """What somebody wants to see, as the address says it; what makes no sense is as if it were not there.

    Attributes
    ----------
    user, node
        A part of the name; a node's whole name where there is such a node.
    profile, state, partition
        Empty for all.
    sort
        One of `COLUMNS`; with a "-" before it, the other way round.
    page
        From 1 on.
    """

    user: str = ""
    profile: str = ""
    state: str = ""
    partition: str = ""
    node: str = ""
    sort: str = "user"
    page: int = 1

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Wanted:
        """Read an address, which anybody may have written."""
        texts = {name: str(query.get(name, ""))[:LONGEST].strip() for name in _TEXTS}
        number = str(query.get("page", ""))
        page = int(number) if number.isascii() and number.isdigit() and len(number) < 7 else 1  # noqa: PLR2004
        if texts["state"] not in STATES:
            texts["state"] = ""
        if texts["sort"].removeprefix("-") not in COLUMNS:
            texts["sort"] = "user"
        return cls(**texts, page=min(max(page, 1), LAST_PAGE))

    @property
    def filtered(self) -> bool:
        """Say whether not all sessions are wanted."""
        return any((self.user, self.profile, self.state, self.partition, self.node))

    def query(self, **changes: Any) -> str:
        """Return the address' part after the "?" with changes; the page is the first unless it is named."""
        other = replace(self, **{"page": 1, **changes})
        default = Wanted()
        pairs = [(one.name, getattr(other, one.name)) for one in fields(other)]
        return urlencode([(name, value) for name, value in pairs if value != getattr(default, name)])

    def sorted_by(self, column: str) -> str:
        """Return the address' part that sorts by a column: the other way round, if it is so already."""
        return self.query(sort=f"-{column}" if self.sort == column else column)

    def fits(self, session: Mapping[str, Any], partition: str) -> bool:
        """Say whether a session is one of those."""
        return (
            self.user.lower() in str(session["user"]).lower()
            and self.profile in {"", session.get("profile")}
            and self.state in {"", session.get("state")}
            and self.partition in {"", partition}
            and (not self.node or self.node == session.get("node"))
        )


_TEXTS = [one.name for one in fields(Wanted) if one.name != "page"]


@dataclass(frozen=True)
class Row:
    """A session on the page.

    Attributes
    ----------
    key
        Names it in a form: `key_of`.
    label
        What its owner calls it; empty for the default one.
    held
        Nodes, GPUs, cores, memory in words.
    kind
        Of templates/state_badge.html.
    since
        When it started or, while it waits, was submitted; seconds since 1970, None when that is not known.
    left
        How long it may still run, in words; empty when that is not known.
    """

    key: str
    session: Mapping[str, Any]
    label: str
    held: str
    kind: str
    since: float | None
    left: str


@dataclass(frozen=True)
class Listed:
    """A page of the list: its rows, its number, how many pages and sessions there are, of how many in all."""

    rows: list[Row]
    number: int
    last: int
    total: int
    of: int


def key_of(session: Mapping[str, Any]) -> str:
    """Return the name of a session in forms: owner and server."""
    return f"{quote(str(session['user']), safe='')}/{quote(str(session['name']), safe='')}"


def read_key(key: str) -> tuple[str, str]:
    """Return owner and server of a key; it may be anything."""
    user, _, name = key[: 4 * LONGEST].partition("/")
    return unquote(user), unquote(name)


def listed(
    sessions: Sequence[Mapping[str, Any]],
    wanted: Wanted,
    partitions: Mapping[str, str],
    now: float | None = None,
) -> Listed:
    """Return the page that is wanted.

    Parameters
    ----------
    sessions
        As ``GET /hub/api/carme/sessions`` describes them.
    wanted
        Which.
    partitions
        Name of a profile -> its partition.
    now
        Seconds since 1970.
    """
    found = fitting(sessions, wanted, partitions)
    last = max(1, -(-len(found) // PAGE))
    number = min(wanted.page, last)
    moment = time.time() if now is None else now
    rows = [shown(one, moment) for one in found[(number - 1) * PAGE : number * PAGE]]
    return Listed(rows, number, last, len(found), len(sessions))


def fitting(
    sessions: Iterable[Mapping[str, Any]], wanted: Wanted, partitions: Mapping[str, str]
) -> list[Mapping[str, Any]]:
    """Return all sessions that are wanted, in the order that is wanted."""
    found = [one for one in sessions if wanted.fits(one, partitions.get(str(one.get("profile")), ""))]
    by_name = sorted(found, key=COLUMNS["user"])
    return sorted(by_name, key=COLUMNS[wanted.sort.removeprefix("-")], reverse=wanted.sort.startswith("-"))


def shown(session: Mapping[str, Any], now: float) -> Row:
    """Return a session as the page shows it."""
    end = session.get("end")
    left = (
        span(max(end - now, 0)) if isinstance(end, int | float) and session.get("state") == "running" else ""
    )
    return Row(
        key=key_of(session),
        session=session,
        label=str(session.get("display_name") or session["name"]),
        held=held(session),
        kind=STATES.get(str(session.get("state")), ""),
        since=session.get("start") or session.get("submitted"),
        left=left,
    )


def held(session: Mapping[str, Any]) -> str:
    """Say what a session holds, for example "2 nodes, 4 GPUs (a100), 8 cores, 16 GB"."""
    nodes, gpus, cpus = (int(session.get(name) or 0) for name in ("nodes", "gpus", "cpus"))
    parts = [f"{nodes} nodes"] if nodes > 1 else []
    if gpus:
        kind = f" ({session['gpu_type']})" if session.get("gpu_type") else ""
        parts.append(f"{gpus} GPU{'' if gpus == 1 else 's'}{kind}")
    if cpus:
        parts.append(f"{cpus} core{'' if cpus == 1 else 's'}")
    if session.get("memory"):
        parts.append(spoken_memory(int(session["memory"])))
    return ", ".join(parts)


def profiles_of(sessions: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the profiles there are to choose from: name and title."""
    found = {
        str(one["profile"]): str(one.get("title") or one["profile"]) for one in sessions if one.get("profile")
    }
    return sorted(found.items(), key=lambda pair: pair[1])
