"""``/services/carme/history``: all sessions of a person, as a page and as a file."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from carme_hub.records import history
from carme_hub.records.history import Filter
from carme_hub.records.sums import Sums, sums
from carme_hub.service import history_csv
from carme_hub.service.admin_base import groups_in, model_of
from carme_hub.service.base import ApiHandler, PageHandler
from carme_hub.service.history_filter import PAGE, PERIODS, STATES, Asked
from carme_hub.service.history_view import Shown, Titles, hours, shown, span
from carme_hub.service.reading import ask
from carme_hub.service.refusal import Refused

if TYPE_CHECKING:
    import sqlalchemy as sa

    from carme_hub.records.history import Row
    from carme_hub.service.site import Site

MOST_ROWS = 100_000  # of a file; more than anybody has
PIECE = 2_000  # of them read at once
LATELY = 5  # sessions on the home page

_titles: dict[int, Titles] = {}  # by the site's configuration, which stays as it is


@dataclass(frozen=True)
class Found:
    """What the database says: the rows of one page, what all pages hold, and what there is to choose from."""

    rows: list[Row]
    sums: Sums
    profiles: list[str]


def look(engine: sa.Engine, owner: str, asked: Asked, now: float) -> Found:
    """Read a page of somebody's history; waits for the database."""
    wanted = asked.filter(now)
    return Found(
        history.find(engine, owner, wanted, limit=PAGE, offset=asked.offset),
        sums(engine, owner, wanted, now),
        history.values_of(engine, "profile", owner),
    )


def write_down(engine: sa.Engine, owner: str, wanted: Filter, now: float) -> str:
    """Return all that is wanted of somebody's history as CSV; waits for the database."""
    rows = history.find(engine, owner, wanted, PIECE)
    pieces = [history_csv.table(rows, now)]
    while len(rows) == PIECE and len(pieces) * PIECE < MOST_ROWS:
        # From the last row on, and not from a number on: sessions begin meanwhile.
        rows = history.find(engine, owner, replace(wanted, before=rows[-1].id), PIECE)
        pieces.append(history_csv.table(rows, now, header=False))
    return "".join(pieces)


async def titles_of(site: Site) -> Titles:
    """Return what the site calls its profiles and images; a wrong description has none."""
    key = id(site.config)
    if key not in _titles:
        _titles[key] = await asyncio.to_thread(_read_titles, site)
    return _titles[key]


def _read_titles(site: Site) -> Titles:
    from carme_hub.spawner.spawner import check_config  # noqa: PLC0415  heavy

    try:
        return Titles.of(check_config(site.config))
    except (ValueError, TypeError):  # the hub does not start with it, so nobody sees this for long
        return Titles()


class HistoryHandler(PageHandler):
    """What page and file have in common: whose sessions they are, and which."""

    def asked(self) -> Asked:
        """Read the address."""
        names = [one.name for one in fields(Asked)]
        return Asked.parse({name: self.get_query_argument(name, "") for name in names})

    async def owner(self, asked: Asked) -> str:
        """Return whose history it is: one's own, or that of somebody over whose sessions one has rights.

        Raises
        ------
        Refused
            With status 403, whether there is such a person or not.
        """
        owner = asked.user or self.person.name
        if owner == self.person.name or self.person.may("admin:servers", owner):
            return owner
        if self.person.may_any("admin:servers"):  # over a group, perhaps
            model = await model_of(self.site, owner)
            if self.person.may("admin:servers", owner, groups_in(model)):
                return owner
        raise Refused(403, "You may see your own history only. Administrators see everybody's.")


class HistoryPage(HistoryHandler):
    """The page."""

    async def get(self) -> None:
        """Show the rows that are asked for."""
        asked, now = self.asked(), time.time()
        owner = await self.owner(asked)
        found = await ask(self.site, look, owner, asked, now)
        titles = await titles_of(self.site)
        self.render_page(
            "history.html",
            asked=asked,
            owner=owner,
            rows=[shown(row, titles, now, self.person.name) for row in found.rows],
            sums=found.sums,
            gpu_hours=hours(found.sums.gpu_hours),
            core_hours=hours(found.sums.core_hours),
            mean_wait=span(found.sums.mean_wait),
            profiles=[(name, titles.profile(name)) for name in found.profiles],
            periods=list(PERIODS),
            states=list(STATES),
            pages=max(-(-found.sums.sessions // PAGE), 1),
        )


class HistoryFile(HistoryHandler):
    """The same rows, all of them, for other programs."""

    async def get(self) -> None:
        """Send them, when all of them are there: a file that ended before would look whole."""
        asked, now = self.asked(), time.time()
        owner = await self.owner(asked)
        text = await ask(self.site, write_down, owner, asked.filter(now), now)
        self.set_header("Content-Type", "text/csv; charset=utf-8; header=present")
        self.set_header("Content-Disposition", 'attachment; filename="sessions.csv"')
        self.finish(text)


class LatelyApi(ApiHandler):
    """``GET api/lately``: one's own sessions that ended last, for the home page."""

    async def get(self) -> None:
        """Answer with a list, the newest first."""
        now, name = time.time(), self.person.name
        rows = await ask(self.site, history.find, name, Filter(active=False), LATELY)
        titles = await titles_of(self.site)
        self.answer([_lately(shown(row, titles, now, name)) for row in rows])


def _lately(one: Shown) -> dict[str, Any]:
    row = one.row
    return {
        "name": row.server,
        "title": one.title,
        "image": one.image,
        "job": row.job,
        "kind": one.kind,
        "ended": row.ended,
        "lasted": one.lasted,
        "sentence": row.sentence,
        "again": one.again,
    }


routes = [(r"history", HistoryPage), (r"history\.csv", HistoryFile), (r"api/lately", LatelyApi)]
