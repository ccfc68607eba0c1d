"""What everybody is told: announcements, and maintenance, during which no new session starts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from carme_hub.records import announcements, maintenance
from carme_hub.records.maintenance import Maintenance
from carme_hub.service.admin_base import AdminPage
from carme_hub.service.admin_form import Typed, stage
from carme_hub.service.markdown import LONGEST, render
from carme_hub.service.notices_pages import news_changed
from carme_hub.service.reading import ask
from carme_hub.service.refusal import Refused

if TYPE_CHECKING:
    from carme_hub.records.announcements import Announcement

LONGEST_SENTENCE = 1000
GONE = "This announcement is not there any more."
_NUMBER = 15  # digits


class AnnouncementsPage(AdminPage):
    """The list, and a form for a new one."""

    tab = "announcements"

    async def prepare(self) -> None:
        """Let in those only who look after the whole site."""
        await super().prepare()
        if hasattr(self, "person") and not self._finished:
            self.need_everybody()

    async def get(self) -> None:
        """Show the list."""
        await self._list(Typed())

    async def post(self) -> None:
        """Add one, or show what it would look like."""
        typed = Typed.parse(self._field, time.time())
        if typed.errors or self.field("preview"):
            await self._list(typed, preview=render(typed.text) if not typed.errors else None)
            return
        what = typed.announcement(self.person.name, 0, time.time())
        await ask(self.site, lambda engine: announcements.add(engine, what))
        await news_changed(self.site)
        await self.note("announcement-added", detail=what.title)
        self.tell("It is announced." if what.starts <= time.time() else "It will be announced.")
        self.redirect(f"{self.site.service_url}admin/announcements")

    def _field(self, name: str) -> str:
        return self.field(name, LONGEST)

    async def _list(self, typed: Typed, preview: str | None = None) -> None:
        now = time.time()
        found = await ask(self.site, announcements.all)
        order = ("shown", "planned", "over")
        rows = sorted(((one, stage(one, now)) for one in found), key=lambda row: order.index(row[1]))
        self.show(
            "admin_announcements.html",
            status=400 if typed.errors else 200,
            rows=rows,
            typed=typed,
            preview=preview,
            number=0,
            rendered=render,
        )


class AnnouncementPage(AnnouncementsPage):
    """One announcement: change it, remove it."""

    async def get(self, number: str) -> None:  # type: ignore[override]  # the address has a number
        """Show its form."""
        one = await self._one(number)
        self._form(one, Typed.of(one))

    async def post(self, number: str) -> None:  # type: ignore[override]
        """Change it, remove it, or show what it would look like."""
        one = await self._one(number)
        if self.field("remove"):
            await ask(self.site, announcements.remove, one.id)
            await news_changed(self.site)
            await self.note("announcement-removed", detail=one.title)
            self.tell("It is removed.")
            self.redirect(f"{self.site.service_url}admin/announcements")
            return
        typed = Typed.parse(self._field, min(time.time(), one.starts))
        if typed.errors or self.field("preview"):
            self._form(one, typed, preview=render(typed.text) if not typed.errors else None)
            return
        what = typed.announcement(one.author, one.id, time.time())
        if not await ask(self.site, announcements.change, what):
            raise Refused(404, GONE)
        await news_changed(self.site)
        await self.note("announcement-changed", detail=what.title)
        self.tell("It is changed.")
        self.redirect(f"{self.site.service_url}admin/announcements")

    async def _one(self, number: str) -> Announcement:
        one = await ask(self.site, announcements.get, int(number)) if len(number) <= _NUMBER else None
        if one is None:
            raise Refused(404, GONE)
        return one

    def _form(self, one: Announcement, typed: Typed, **more: Any) -> None:
        self.show(
            "admin_announcement.html",
            status=400 if typed.errors else 200,
            one=one,
            typed=typed,
            number=one.id,
            **{"preview": None, **more},
        )


class MaintenancePage(AnnouncementsPage):
    """Maintenance: a banner on all pages, and no new sessions but for admins."""

    tab = "maintenance"

    async def get(self) -> None:
        """Show how it is."""
        await self._page()

    async def post(self) -> None:
        """Switch it, or change its text."""
        on = self.field("on")
        text = " ".join(self.field("text", LONGEST_SENTENCE).split())
        if on not in {"yes", "no"}:
            raise Refused(400, "Maintenance is either on or off.")
        before = await ask(self.site, maintenance.get)
        since = before.since if on == "yes" and before.on else int(time.time())
        now = Maintenance(on == "yes", text, self.person.name, since)
        await ask(self.site, maintenance.set, now)
        self.site.door.set(now)
        await news_changed(self.site)
        await self.note("maintenance-on" if now.on else "maintenance-off", detail=text)
        sentence = "Maintenance is on: new sessions are refused." if now.on else "Maintenance is off."
        self.tell(sentence, level="warning" if now.on else "success")
        self.redirect(f"{self.site.service_url}admin/maintenance")

    async def _page(self) -> None:
        state = await ask(self.site, maintenance.get)
        running = sum(len(some) for some in self.site.hub.sessions.values())
        self.show("admin_maintenance.html", state=state, running=running)


routes = [
    (r"admin/announcements", AnnouncementsPage),
    (r"admin/announcements/([0-9]+)", AnnouncementPage),
    (r"admin/maintenance", MaintenancePage),
]
