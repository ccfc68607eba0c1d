"""News for everybody and messages to each person: for the stream, for scripts, and as a page."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tornado.log import app_log

from carme_hub.authenticator.audit import Audit
from carme_hub.authenticator.words import activity, moment
from carme_hub.records import announcements, maintenance, notices
from carme_hub.service.base import ApiHandler, PageHandler
from carme_hub.service.markdown import render
from carme_hub.service.reading import ask
from carme_hub.service.refusal import Refused

if TYPE_CHECKING:
    import sqlalchemy as sa

    from carme_hub.authenticator.words import Activity
    from carme_hub.records.notices import Notice
    from carme_hub.service.site import Site

LOOK_EVERY = 3.0  # seconds between two looks for new messages, while somebody's page is open
NEWS_EVERY = 15.0  # and for news that an admin wrote, or that begin or end
IDLE = 1.0  # between two looks whether somebody's page is open
NEWS_IDLE = 300.0  # the same while nobody's page is open
SHOWN = 20  # messages of the stream and the API
PAGE = 50  # messages of the page
LOGINS = 10
MOST_NUMBERS = 500  # of messages to mark as read in one request


# --- What pages are told, as values for JSON ---


def news_now(engine: sa.Engine, now: float | None = None) -> dict[str, Any]:
    """Return what everybody is told now: announcements as clean HTML, and maintenance. It waits.

    Returns
    -------
    dict
        ``{"announcements": [{"id", "title", "html", "level", "starts", "ends"}], "maintenance": {"on",
        "text", "since"}}``; times are seconds since 1970, ``ends`` is None for one that stays.
    """
    moment_of_now = time.time() if now is None else now
    state = maintenance.get(engine)
    return {
        "announcements": [
            {
                "id": one.id,
                "title": one.title,
                "html": render(one.text),
                "level": one.level,
                "starts": one.starts,
                "ends": one.ends,
            }
            for one in announcements.current(engine, moment_of_now)
        ],
        "maintenance": {"on": state.on, "text": state.text if state.on else "", "since": state.since},
    }


def told(one: Notice) -> dict[str, Any]:
    """Return a message for JSON."""
    return {
        "id": one.id,
        "at": one.at,
        "kind": one.kind,
        "level": one.level,
        "title": one.title,
        "text": one.text,
        "server": one.server,
        "read": one.read_at is not None,
    }


def unread_of(engine: sa.Engine, person: str) -> dict[str, Any]:
    """Return ``{"count": number, "notices": [...]}``, the newest first. Waits for the database."""
    found = notices.unread(engine, person)
    return {"count": len(found), "notices": [told(one) for one in found[:SHOWN]]}


def sign_ins_of(engine: sa.Engine, person: str) -> list[Activity]:
    """Return the last sign-ins of a person, in words. Waits for the database."""
    audit = Audit(engine, "", 0, app_log.warning)
    return [activity(entry) for entry in audit.logins(person, LOGINS)]


# --- The stream ---


async def tell_messages(site: Site) -> None:
    """Tell people their new messages; one question for all open pages, none while there is no page."""
    site.streams.source("notices", lambda person: ask(site, unread_of, person))
    while True:
        await asyncio.sleep(IDLE)
        if not site.streams.people():
            continue
        with suppress(Refused):  # the database is away, which `ask` has logged
            seen = await ask(site, notices.newest)
            # What came while nobody looked, or while the database was away.
            for person in site.streams.people():
                await site.streams.refresh("notices", person)
            while site.streams.people():
                await asyncio.sleep(LOOK_EVERY)
                fresh = await ask(site, notices.after, seen)
                seen = fresh[-1].id if fresh else seen
                for person in {one.user for one in fresh} & site.streams.people():
                    await site.streams.refresh("notices", person)


async def tell_news(site: Site) -> None:
    """Tell everybody what is announced; who comes first after a quiet time hears it within a second."""
    rested = NEWS_EVERY
    while True:
        if rested >= NEWS_EVERY and (site.streams.people() or rested >= NEWS_IDLE):
            rested = 0.0
            with suppress(Refused):
                await news_changed(site)
        await asyncio.sleep(IDLE)
        rested += IDLE


async def news_changed(site: Site) -> None:
    """Tell everybody at once; for pages on which an admin has just changed the news or maintenance."""
    site.streams.publish("news", await ask(site, news_now))


# --- For scripts, and as a page ---


class NoticesApi(ApiHandler):
    """``GET api/notices``: the newest messages, read or not, and how many are not."""

    async def get(self) -> None:
        """Answer ``{"unread": number, "notices": [...]}``."""
        name = self.person.name
        recent = await ask(self.site, notices.recent, name, SHOWN)
        unread = await ask(self.site, notices.unread, name)
        self.answer({"unread": len(unread), "notices": [told(one) for one in recent]})


class ReadApi(ApiHandler):
    """``POST api/notices/read``: what its reader has read."""

    async def post(self) -> None:
        """Take ``{"ids": [number...]}``, or ``{"ids": null}`` for all; other people's are left alone."""
        body = self.body()
        ids = body.get("ids")
        fits = ids is None or (
            isinstance(ids, list) and len(ids) <= MOST_NUMBERS and all(type(one) is int for one in ids)
        )
        if body.keys() != {"ids"} or not fits:
            raise Refused(400, 'A request is {"ids": [numbers of messages]}, or {"ids": null} for all.')
        changed = await ask(self.site, notices.mark_read, self.person.name, ids)
        await self.site.streams.refresh("notices", self.person.name)
        self.answer({"read": changed})


class NewsApi(ApiHandler):
    """``GET api/news``: what everybody is told, as the stream has it."""

    async def get(self) -> None:
        """Answer what `news_now` says."""
        self.answer(await ask(self.site, news_now))


class MessagesPage(PageHandler):
    """``/services/carme/messages``: all messages, and the last sign-ins. Works without scripts."""

    async def get(self) -> None:
        """Show a page of them."""
        name = self.person.name
        before = self.get_query_argument("before", "")
        number = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None  # noqa: PLR2004
        found = await ask(self.site, notices.recent, name, PAGE + 1, number)
        self.render_page(
            "messages.html",
            messages=[(one, moment(one.at)) for one in found[:PAGE]],
            older=found[PAGE - 1].id if len(found) > PAGE else None,
            newest=number is None,
            unread=len(await ask(self.site, notices.unread, name)),
            sign_ins=await ask(self.site, sign_ins_of, name) if number is None else [],
        )

    async def post(self) -> None:
        """Mark all as read, and show them again."""
        await ask(self.site, notices.mark_read, self.person.name)
        await self.site.streams.refresh("notices", self.person.name)
        self.redirect(f"{self.site.service_url}messages", status=303)


routes = [
    (r"api/notices", NoticesApi),
    (r"api/notices/read", ReadApi),
    (r"api/news", NewsApi),
    (r"messages", MessagesPage),
]
background = [tell_messages, tell_news]
