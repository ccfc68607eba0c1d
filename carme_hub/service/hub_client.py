"""The hub's sessions, followed: one request at a time, answered when something changes."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tornado.log import app_log

from carme_hub.service.refusal import Refused

if TYPE_CHECKING:
    from carme_hub.service.site import Site

PATIENCE = 40.0  # seconds for an answer; the hub answers after 20 s even when nothing has changed
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds until the hub is asked again that did not answer


@dataclass
class HubState:
    """What the service knows of the hub. Replaced as a whole, so that a reader sees one moment.

    Attributes
    ----------
    sessions : dict of str to list of dict
        Of each person who has any: their sessions, as ``GET /hub/api/carme/sessions`` describes them.
    at : float
        When the hub said so (epoch seconds); 0 while it has not said anything yet.
    away_since : float or None
        When it stopped answering (epoch seconds); None while it answers.
    """

    sessions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    at: float = 0.0
    away_since: float | None = None

    def of(self, person: str) -> list[dict[str, Any]]:
        """Return a person's sessions."""
        return self.sessions.get(person, [])


def by_person(sessions: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Sort sessions by whose they are."""
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for session in sessions:
        found[str(session["user"])].append(session)
    return dict(found)


def changed(old: dict[str, list[dict[str, Any]]], new: dict[str, list[dict[str, Any]]]) -> set[str]:
    """Return whose sessions are not as they were."""
    return {person for person in old.keys() | new.keys() if old.get(person) != new.get(person)}


async def follow(site: Site) -> None:
    """Follow the hub for ever."""
    site.streams.source("sessions", lambda person: _now(site, person))
    revision, pause = "", FIRST_PAUSE
    while True:
        try:
            answer = await site.ask_hub("GET", f"/carme/sessions?seen={quote(revision)}", time_out=PATIENCE)
            revision, sessions = str(answer["revision"]), by_person(answer["sessions"])
        except (Refused, KeyError, TypeError) as error:
            _away(site, error)
            # Not all services of all sites in step.
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311
            pause = min(pause * 2, LONGEST_PAUSE)
            revision = ""
            continue
        pause = FIRST_PAUSE
        old, site.hub = site.hub, HubState(sessions, time.time())
        site.streams.publish("away", {"since": None})
        for person in changed(old.sessions, sessions) & site.streams.people():
            site.streams.publish("sessions", site.hub.of(person), person)


async def _now(site: Site, person: str) -> list[dict[str, Any]]:
    return site.hub.of(person)


def _away(site: Site, error: Exception) -> None:
    """Note that the hub does not answer; what it said last stays, with its age."""
    if site.hub.away_since is None:
        app_log.warning(
            "The hub does not say which sessions there are: %s", getattr(error, "sentence", error)
        )
        site.hub = HubState(site.hub.sessions, site.hub.at, time.time())
    site.streams.publish("away", {"since": site.hub.away_since})


background = [follow]
