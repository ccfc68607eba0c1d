"""Who used how much within a period: by person, group, profile or image; as a page and as CSV."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from carme_hub.records import use
from carme_hub.service import admin_sums
from carme_hub.service.admin_base import READ, AdminPage
from carme_hub.service.admin_sums import BY, PERIODS, Period, Sum, Sums, add_up, as_csv
from carme_hub.service.history_pages import titles_of
from carme_hub.service.history_view import Titles, hours, span
from carme_hub.service.reading import ask

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy as sa

    from carme_hub.service.person import Person
    from carme_hub.service.site import Site

PIECE = 200  # users in one answer of the hub: as many as it gives, unless it is set to give fewer
FRESH = 60.0  # seconds for which the groups of everybody are remembered

_members: dict[int, tuple[float, dict[str, list[str]]]] = {}


async def everybodys_groups(site: Site) -> dict[str, list[str]]:
    """Return the groups of all users of the hub, asked as the service."""
    known = _members.get(id(site))
    if known is not None and time.monotonic() - known[0] < FRESH:
        return known[1]
    models: list[dict[str, Any]] = []
    # To the first empty answer: the hub may be set to name fewer at once (JupyterHub.api_page_max_limit).
    while some := await site.ask_hub("GET", f"/users?offset={len(models)}&limit={PIECE}"):
        models += some
    found = admin_sums.members(models)
    _members[id(site)] = (time.monotonic(), found)
    return found


def visible_to(person: Person, groups: dict[str, list[str]]) -> Callable[[str], bool]:
    """Return whose sessions somebody may read; each person is decided once."""
    decided: dict[str, bool] = {}

    def visible(user: str) -> bool:
        if user not in decided:
            mine = user == person.name
            decided[user] = mine or person.may(READ, user, frozenset(groups.get(user, ())))
        return decided[user]

    return visible


def within_reach(person: Person, groups: dict[str, list[str]]) -> dict[str, list[str]]:
    """Leave only the groups that somebody's rights are over: the others are not theirs to know."""
    prefix = f"{READ}!group="
    mine = {scope.removeprefix(prefix) for scope in person.scopes if scope.startswith(prefix)}
    return {user: [group for group in some if group in mine] for user, some in groups.items()}


class UseHandler(AdminPage):
    """What page and file have in common."""

    tab = "use"

    async def read(self) -> tuple[Sums, str, Period, Titles]:
        """Add up what the address asks for, of those whom the reader may see."""
        self.need_others()
        by = self.word("by") if self.word("by") in BY else BY[0]
        period = Period.parse(self.word("period"), self.word("first"), self.word("last"))
        groups = await everybodys_groups(self.site)
        visible = visible_to(self.person, groups)
        if not self.person.may(READ):
            groups = within_reach(self.person, groups)
        since, until = period.seconds

        def read(engine: sa.Engine) -> Sums:
            return add_up(use.within(engine, since, until, time.time()), by, groups, visible)

        sums, titles = await asyncio.gather(ask(self.site, read), titles_of(self.site))
        return sums, by, period, titles


def title_in(titles: Titles, by: str) -> Callable[[str], str]:
    """Return what the names of a kind are called."""
    return {"profile": titles.profile, "image": titles.image}.get(by, str)


class UsePage(UseHandler):
    """The page."""

    async def get(self) -> None:
        """Show it."""
        sums, by, period, titles = await self.read()
        self.show(
            "admin_use.html",
            sums=sums,
            by=by,
            kinds=BY,
            period=period,
            periods=list(PERIODS),
            title_of=title_in(titles, by),
            hours=hours,
            wait=_wait,
        )


def _wait(one: Sum) -> str:
    return "\N{EN DASH}" if one.median_wait is None else span(one.median_wait)


class UseFile(UseHandler):
    """The same as CSV."""

    async def get(self) -> None:
        """Send it."""
        sums, by, period, titles = await self.read()
        self.set_header("Content-Type", "text/csv; charset=utf-8; header=present")
        name = f"use-by-{by}-{period.first}-{period.last}.csv"
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.finish(as_csv(sums, by, title_in(titles, by)))


routes = [(r"admin/use", UsePage), (r"admin/use\.csv", UseFile)]
