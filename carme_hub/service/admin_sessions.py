"""All sessions for those who look after them: find them, stop them, write to their owners."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from carme_hub.records import notices
from carme_hub.records.notices import Notice
from carme_hub.service.admin_base import CONTROL, AdminPage, over_others
from carme_hub.service.admin_list import Wanted, fitting, listed, profiles_of, read_key, shown
from carme_hub.service.reading import ask
from carme_hub.service.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carme_hub.service.site import Site

STOP, MESSAGE = "stop", "message"
AT_ONCE = 8  # requests to the hub; stopping costs it a command of Slurm's each
MOST = 1000  # sessions in one request
LONGEST_TITLE, LONGEST_TEXT = 200, 4000
LEVELS = ("info", "warning", "danger")
NOTHING = "Choose at least one session."
GONE = 404


class SessionsPage(AdminPage):
    """The list."""

    tab = "sessions"

    async def get(self) -> None:
        """Show the sessions that are wanted."""
        self.need_others()
        wanted = Wanted.parse({one.name: self.word(one.name) for one in fields(Wanted)})
        sessions = await self.sessions()
        partitions = await partitions_of(self.site)
        self.show(
            "admin_sessions.html",
            wanted=wanted,
            page=listed(sessions, wanted, partitions),
            partitions=[(name, name) for name in sorted(set(partitions.values()) - {""})],
            controls=over_others(self.person, CONTROL),
            profiles=profiles_of(sessions),
        )

    async def sessions(self) -> list[dict[str, Any]]:
        """Return the sessions that the reader's own rights show them.

        Raises
        ------
        Refused
            With the hub's sentence, or that it does not answer.
        """
        answer = await self.as_person("GET", "/carme/sessions")
        return [one for one in answer["sessions"] if one.get("user") and "name" in one]

    async def chosen(self) -> list[Mapping[str, Any]]:
        """Return the sessions of a form, of those that the reader may see: marked, or all that fit."""
        sessions = await self.sessions()
        if self.field("all") == "yes":
            wanted = Wanted.parse({one.name: self.field(one.name) for one in fields(Wanted)})
            return fitting(sessions, wanted, await partitions_of(self.site))[:MOST]
        keys = {read_key(key) for key in self.get_body_arguments("session")[:MOST]}
        return [one for one in sessions if (str(one["user"]), str(one["name"])) in keys]

    def back(self) -> str:
        """Return the address of the list as it was before the form."""
        wanted = Wanted.parse({one.name: self.field(one.name) for one in fields(Wanted)})
        query = wanted.query(page=wanted.page)
        return f"{self.site.service_url}admin/sessions" + (f"?{query}" if query else "")


class AskPage(SessionsPage):
    """Shows what is about to be done, to whom, before it is."""

    async def get(self) -> None:
        """Lead back to the list: a page that was loaded again has no form."""
        self.redirect(f"{self.site.service_url}admin/sessions")

    async def post(self) -> None:
        """Ask."""
        self.need_others(CONTROL)
        action, chosen = self.field("action"), await self.chosen()
        if action not in {STOP, MESSAGE}:
            raise Refused(400, "That is nothing that can be done with sessions.")
        if not chosen:
            self.tell(NOTHING, level="warning")
            self.redirect(self.back())
            return
        self.ask(action, chosen)

    def ask(self, action: str, chosen: Sequence[Mapping[str, Any]], **more: Any) -> None:
        """Show the question, with what was typed so far."""
        names = [one.name for one in fields(Wanted)]
        self.show(
            "admin_sessions_ask.html",
            action=action,
            rows=[shown(one, 0) for one in chosen],
            owners=sorted({str(one["user"]) for one in chosen}),
            filters=[(name, self.field(name)) for name in names if self.field(name)],
            back=self.back(),
            levels=LEVELS,
            **{"title": "", "text": "", "level": "info", **more},
        )


class DoPage(AskPage):
    """Does it."""

    async def post(self) -> None:
        """Stop sessions, or write to their owners, and lead back to the list."""
        self.need_others(CONTROL)
        action, chosen = self.field("action"), await self.chosen()
        if not chosen:
            self.tell("These sessions are not running any more.", level="warning")
        elif action == STOP:
            await self._stop(chosen)
        elif action == MESSAGE:
            if not await self._message(chosen):
                return
        else:
            raise Refused(400, "That is nothing that can be done with sessions.")
        self.redirect(self.back())

    async def _stop(self, chosen: Sequence[Mapping[str, Any]]) -> None:
        slots = asyncio.Semaphore(AT_ONCE)

        async def stop(session: Mapping[str, Any]) -> str:
            path = f"/users/{quote(str(session['user']), safe='')}/"
            name = str(session["name"])
            path += f"servers/{quote(name, safe='')}" if name else "server"
            async with slots:
                try:
                    await self.as_person("DELETE", path)
                except Refused as error:
                    # Who has no right over it is told that it is there: the list shows it, too.
                    return "" if error.status_code == GONE else error.sentence
            await self.note("session-stopped", account=str(session["user"]), detail=label(session))
            return ""

        said = await asyncio.gather(*map(stop, chosen))
        text, level = told_of_stops(said)
        self.tell(text, level=level)

    async def _message(self, chosen: Sequence[Mapping[str, Any]]) -> bool:
        """Write to the owners; False where something was missing and the page says so."""
        title, text = self.field("title", LONGEST_TITLE).strip(), self.field("text", LONGEST_TEXT).strip()
        level = self.field("level") if self.field("level") in LEVELS else "info"
        if not title:
            error = "Write a subject: it is what people read first."
            self.ask(MESSAGE, chosen, status=400, title=title, text=text, level=level, error=error)
            return False
        servers: dict[str, list[str]] = {}
        for session in chosen:
            servers.setdefault(str(session["user"]), []).append(str(session["name"]))
        for user in servers:
            await self.need_over(CONTROL, user)
        signed = f"{text}\n\n{self.person.name}".strip()
        # One for each person, however many sessions; it is about one of them only if it is about that one.
        told = [
            Notice(
                user=user,
                kind="message",
                level=level,
                title=title,
                text=signed,
                server=names[0] if len(names) == 1 else "",
            )
            for user, names in servers.items()
        ]
        await ask(self.site, lambda engine: notices.add(engine, *told))
        for user in servers:
            await self.note("message-sent", account=user, detail=title)
        people = f"{len(told)} people" if len(told) > 1 else told[0].user
        self.tell(f"Sent to {people}. It is on their home page now.")
        return True


def label(session: Mapping[str, Any]) -> str:
    """Name a session in the audit log."""
    name = str(session["name"]) or "default"
    return f"{name}, job {session['job']}" if session.get("job") else name


def told_of_stops(said: Sequence[str]) -> tuple[str, str]:
    """Say how many sessions are being stopped, and why others are not; and how loud that has to be."""
    failures = [text for text in said if text]
    done = len(said) - len(failures)
    parts = [f"{done} session{' is' if done == 1 else 's are'} being stopped."] if done else []
    if failures:
        number = f"{len(failures)} session{' was' if len(failures) == 1 else 's were'} not stopped"
        parts.append(f"{number}: {' '.join(dict.fromkeys(failures))}")
    return " ".join(parts), "warning" if failures else "success"


async def partitions_of(site: Site) -> dict[str, str]:
    """Return the partition of each profile; "" for the default one."""
    profiles = await asyncio.to_thread(_profiles, site)
    return {name: profile.partition or "" for name, profile in profiles.items()}


def _profiles(site: Site) -> Mapping[str, Any]:
    from carme_hub.spawner.spawner import check_config  # noqa: PLC0415  heavy

    try:
        return check_config(site.config).profiles
    except (ValueError, TypeError):  # the hub does not start with it, so nobody sees this for long
        return {}


routes = [
    (r"admin/sessions", SessionsPage),
    (r"admin/sessions/ask", AskPage),
    (r"admin/sessions/do", DoPage),
]
