"""One person: sessions, limits and use. Devices and codes are on the gate's own page, which is linked."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carme_hub.records import history, use
from carme_hub.service.admin_base import CONTROL, READ, AdminPage, groups_in, model_of, over_others
from carme_hub.service.admin_list import LONGEST, shown
from carme_hub.service.admin_sums import HOUR
from carme_hub.service.history_pages import titles_of
from carme_hub.service.history_view import hours, span
from carme_hub.service.history_view import shown as shown_row
from carme_hub.service.reading import ask
from carme_hub.service.refusal import Refused
from carme_hub.spawner.timelimit import spoken

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import sqlalchemy as sa

    from carme_hub.records.use import Use
    from carme_hub.service.site import Site
    from carme_hub.spawner.limits import Limits

DAYS = 30
SHOWN = 8  # earlier sessions


@dataclass(frozen=True)
class Bound:
    """A limit, and how much of it is in use: `most` is empty where there is none."""

    name: str
    used: str
    most: str
    percent: int | None = None


def bounds(limits: Limits, sessions: Iterable[Mapping[str, Any]]) -> list[Bound]:
    """Return a person's limits beside what their sessions hold. A pure function."""
    held = list(sessions)
    waiting = sum(one.get("state") == "pending" for one in held)
    amounts = [
        ("sessions", len(held), limits.max_running),
        ("waiting", waiting, limits.max_pending),
        ("gpus", sum(int(one.get("gpus") or 0) for one in held), limits.max_gpus),
        ("nodes", sum(int(one.get("nodes") or 0) for one in held), limits.max_nodes),
    ]
    found = [
        Bound(
            name,
            str(used),
            "" if most is None else str(most),
            None if not most else min(100 * used // most, 100),
        )
        for name, used, most in amounts
    ]
    return [*found, Bound("time", "", "" if limits.max_time is None else spoken(limits.max_time))]


def used(uses: Iterable[Use], user: str) -> tuple[int, float, float]:
    """Return sessions, GPU hours and core hours of one person."""
    mine = [one for one in uses if one.user == user]
    gpus, cores = (sum(getattr(one, name) * one.seconds for one in mine) / HOUR for name in ("gpus", "cpus"))
    return len(mine), gpus, cores


class PersonPage(AdminPage):
    """The page."""

    tab = "people"

    async def get(self, user: str) -> None:
        """Show it."""
        self.need_others()
        if len(user) > LONGEST:
            raise Refused(404, "There is nobody of this name.")
        await self.need_over(READ, user)
        model, now = await model_of(self.site, user), time.time()
        if not model:
            raise Refused(404, f"Nobody called {user} has ever signed in here.")
        groups = groups_in(model)
        answer = await self.as_person("GET", "/carme/sessions")
        sessions = [one for one in answer["sessions"] if one.get("user") == user]

        def read(engine: sa.Engine) -> tuple[list[history.Row], tuple[int, float, float]]:
            earlier = history.find(engine, user, history.Filter(active=False), SHOWN)
            return earlier, used(use.within(engine, now - DAYS * 24 * HOUR, now, now, user), user)

        (earlier, sums), titles, limits = await asyncio.gather(
            ask(self.site, read), titles_of(self.site), asyncio.to_thread(_limits, self.site, groups)
        )
        self.show(
            "admin_person.html",
            name=user,
            groups=sorted(groups),
            rows=[shown(one, now) for one in sessions],
            bounds=bounds(limits, sessions) if limits is not None else [],
            earlier=[shown_row(row, titles, now, self.person.name) for row in earlier],
            sums=sums,
            days=DAYS,
            hours=hours,
            span=span,
            controls=over_others(self.person, CONTROL),
        )


def _limits(site: Site, groups: frozenset[str]) -> Limits | None:
    from carme_hub.spawner.spawner import CarmeSpawner  # noqa: PLC0415  heavy

    try:
        return CarmeSpawner(config=site.config).limit_rules.of(groups)
    except (ValueError, TypeError):  # the hub does not start with it, so nobody sees this for long
        return None


routes = [(r"admin/people/([^/]+)", PersonPage)]
