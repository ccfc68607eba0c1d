"""``GET /hub/api/carme/sessions``: all sessions that the caller may read, and the news when one changes.

``?seen=REVISION`` waits until there is something else to see than at that revision, for some seconds at most.
Meant for one follower, the hub-managed service, which hands it on to everybody's pages; so the cost is that
of what has changed, however many sessions there are.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyterhub import orm
from jupyterhub.apihandlers import APIHandler
from jupyterhub.scopes import Scope, needs_scope
from tornado import web

from carme_hub.spawner import roll
from carme_hub.spawner.brief import Who, brief, state_of, view_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from carme_hub.spawner.spawner import CarmeSpawner

PATIENCE = 20.0  # seconds until a follower gets an answer in any case
GAP = 0.5  # seconds between two pictures of all sessions
OLD = 300.0  # seconds after which a session is described anew: what may be extended depends on the clock
FOLLOWERS = 20  # of one person or service, at once
_LONGEST = 64  # characters of a revision


@dataclass
class _Entry:
    """A session, described."""

    who: Who
    seen: tuple[object, ...]
    made: float
    number: int
    text: str


class Board:
    """The picture of all sessions that the handlers read."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._made = -GAP
        self._stale = True
        self._numbers = 0
        self._news: asyncio.Event = asyncio.Event()
        self._waking: asyncio.TimerHandle | None = None
        # A hub that starts again counts anew.
        self._hub = secrets.token_hex(8)
        roll.on_news(self._stir)

    def _stir(self) -> None:
        """Wake the followers, all news of a moment at once."""
        self._stale = True
        if self._waking is None and self._news.is_set() is False:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # nobody can wait without one
                return
            rest = max(self._made + GAP - time.monotonic(), 0.01)
            self._waking = loop.call_later(rest, self._wake)

    def _wake(self) -> None:
        self._waking = None
        self._news.set()
        self._news = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Wait until something may have changed, or for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    def _refresh(self) -> None:
        began = time.monotonic()
        if began - self._made < GAP:
            if self._stale:  # who was woken for older news is woken for these, too
                self._stir()
            return
        self._made, self._stale = began, False
        now, entries = time.time(), {}
        for spawner in roll.call():
            if spawner.child is not None:
                entries[id(spawner)] = self._entry(spawner, self._entries.get(id(spawner)), now)
        self._entries = entries

    def _entry(self, spawner: CarmeSpawner, known: _Entry | None, now: float) -> _Entry:
        child, view = spawner.child, view_of(spawner)
        same = known is not None and known.seen[0] is spawner
        who = known.who if known is not None and same else Who.of(spawner)
        # What the description is made of, as far as it changes: an equal one needs no second look.
        seen = (
            spawner,
            child,
            view,
            state_of(spawner, view),
            child and (child.job_id, child.begun, child.reported, child.told.home, child.told.killed),
        )
        if known is not None and known.seen == seen and now - known.made < OLD:
            return known
        text = json.dumps(brief(spawner, now, who))
        if known is not None and known.text == text:
            return _Entry(who, seen, now, known.number, text)
        self._numbers += 1
        return _Entry(who, seen, now, self._numbers, text)

    def picture(self, may_read: Callable[[str, str], bool]) -> tuple[str, list[str]]:
        """Return the revision, and the sessions that somebody may read, each as JSON."""
        self._refresh()
        found = [entry for entry in self._entries.values() if may_read(entry.who.user, entry.who.server)]
        numbers = ",".join(str(entry.number) for entry in found)
        revision = hashlib.blake2b(f"{self._hub} {numbers}".encode(), digest_size=12).hexdigest()
        return revision, [entry.text for entry in found]


board = Board()
_FOLLOWING: Counter[str] = Counter()


def readable(granted: Any, db: Any) -> Callable[[str, str], bool]:
    """Return whose sessions may be read.

    Parameters
    ----------
    granted
        What JupyterHub says of the scope: all, or names of users, servers and groups.
    db
        Asked once for the members of groups; JupyterHub's own filter would ask for each session.
    """
    if granted == Scope.ALL:
        return lambda _user, _server: True
    users, servers = set(granted.get("user", ())), set(granted.get("server", ()))
    if groups := list(granted.get("group", ())):
        members = db.query(orm.User.name).join(orm.User.groups).filter(orm.Group.name.in_(groups))
        users |= {name for (name,) in members}
    return lambda user, server: user in users or f"{user}/{server}" in servers


class BoardHandler(APIHandler):  # type: ignore[misc]  # JupyterHub has no types
    """Answers with ``{"revision": "...", "sessions": [...]}``; see `carme_hub.spawner.brief.brief`."""

    def initialize(self) -> None:
        """Get ready to notice when nobody waits any more."""
        self._gone = False

    def on_connection_close(self) -> None:
        """Stop waiting."""
        self._gone = True

    def compute_etag(self) -> None:
        """Leave it out: the revision is in the answer."""

    @needs_scope("read:servers", post_filter=True)  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        """Answer now, or when something changes."""
        may_read = readable(self.parsed_scopes["read:servers"], self.db)
        seen = self.get_query_argument("seen", "")[:_LONGEST]
        who = f"{type(self.current_user).__name__} {self.current_user.name}"
        if _FOLLOWING[who] >= FOLLOWERS:
            self.set_header("Retry-After", "5")
            raise web.HTTPError(429, "Too many requests of this account wait for news already.")
        _FOLLOWING[who] += 1
        try:
            revision, sessions = await self._news(may_read, seen)
        finally:
            _FOLLOWING[who] -= 1
            if not _FOLLOWING[who]:
                del _FOLLOWING[who]
        if not self._gone:
            self.set_header("Content-Type", "application/json")
            self.set_header("Cache-Control", "no-store")
            self.finish(f'{{"revision": "{revision}", "sessions": [{", ".join(sessions)}]}}')

    async def _news(self, may_read: Callable[[str, str], bool], seen: str) -> tuple[str, list[str]]:
        until = time.monotonic() + PATIENCE
        while True:
            revision, sessions = board.picture(may_read)
            rest = until - time.monotonic()
            if revision != seen or rest <= 0 or self._gone:
                return revision, sessions
            # Who is gone is noticed after some seconds.
            await board.wait(min(rest, 5.0))
