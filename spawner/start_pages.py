"""The pages of a start: waiting for it, why it failed, and the address that cancels it.

Importing this module puts handlers of its own in the place of JupyterHub's. JupyterHub shows these pages at
``/hub/spawn-pending/NAME/SERVER`` and at ``/user/NAME/...`` of a session that does not run; what is added
here are the values that our templates need, and the way back to the page of a named session that has ended.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from jupyterhub import handlers
from jupyterhub.handlers.base import BaseHandler, UserUrlHandler
from jupyterhub.handlers.pages import SpawnPendingHandler
from jupyterhub.scopes import needs_scope
from tornado import web

from carme_hub.spawner import progress
from carme_hub.spawner.asked import Asked, asked
from carme_hub.spawner.interrupted import acting, sentences
from carme_hub.spawner.offer import OfferingSpawner

if TYPE_CHECKING:
    from collections.abc import Mapping

_PAGES = frozenset({"spawn_pending.html", "stop_pending.html", "not_running.html", "suspended.html"})
CANCEL_PATIENCE = 5.0  # seconds in which a start that is cancelled has to give up
NO_ANSWER = "The session's server did not answer in time."
OUR_FAULT = "Something went wrong while the session was started. The administrators find it in the hub's log."


def options_of(spawner: Any) -> object:
    """Return what a session was asked for: the one that starts or runs, else the last one."""
    child = getattr(spawner, "child", None)
    if child is not None and (child.options or child.request is not None):
        return child.options or child.request.options()
    row = getattr(spawner, "orm_spawner", None)
    return spawner.user_options or (row.user_options if row is not None else None)


def sentence_of(error: BaseException | None) -> str:
    """Return why a start failed, for the person."""
    said = str(getattr(error, "jupyterhub_message", "") or "")
    if said or error is None:
        return said
    return NO_ANSWER if getattr(error, "reason", "") == "timeout" else OUR_FAULT


def clock(moment: float | None) -> dict[str, str] | None:
    """Return a moment (seconds since 1970) for ``<time>``: as scripts read it, and in words."""
    if not moment:
        return None
    there = time.gmtime(moment)
    return {"iso": time.strftime("%Y-%m-%dT%H:%M:%SZ", there), "utc": time.strftime("%d %b %H:%M UTC", there)}


class _Page:
    """Gives the templates what they need of a session."""

    def render_template(self: Any, name: str, sync: bool = False, **given: Any) -> Any:
        """Render a page of JupyterHub's with what ours need besides."""
        more = self._values(given) if name in _PAGES else {}
        return super().render_template(name, sync, **{**given, **more})  # type: ignore[misc]

    def _values(self: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        owner, viewer = given["user"], self.current_user
        spawner = given.get("spawner") or owner.spawners[given.get("server_name", "")]
        own = viewer.name == owner.name
        where = "/".join(quote(part, safe="") for part in (owner.name, spawner.name) if part)
        after = self.get_argument("next", "")
        query = f"?{urlencode({'next': after})}" if after else ""
        error = given.get("exception")
        may_read = own or self.has_scope(f"admin:servers!user={owner.name}")
        values: dict[str, Any] = {
            # JupyterHub hands over the owner as the one who is logged in.
            "user": viewer if getattr(viewer, "kind", "user") == "user" else owner,
            "owner": owner,
            "own": own,
            "session_name": spawner.name,
            "session_title": spawner.display_name or spawner.name if spawner.name else "",
            "start_url": f"{self.hub.base_url}spawn/{where}{query}",
            "cancel_url": f"{self.hub.base_url}carme/cancel/{where}",
            "back_url": f"{self.hub.base_url}{'home' if own else 'admin'}",
            "reason": getattr(error, "reason", ""),
            "sentence": sentence_of(error),
            "log_tail": getattr(error, "log", "") if may_read else "",
        }
        # A site may have other spawners beside ours; their starts are shown without what only ours know.
        ours = isinstance(spawner, OfferingSpawner)
        event = spawner.waiting() if ours else progress.event("", None)
        times = {"expected": clock(event["expected_start"]), "submitted": clock(event["submitted"])}
        told = asked(options_of(spawner), spawner.catalog) if ours else Asked("", {}, {})
        return {**values, **times, "event": event, "asked": told, **given.get("told", {})}


class WaitingHandler(_Page, SpawnPendingHandler):  # type: ignore[misc]  # JupyterHub has no types
    """``/hub/spawn-pending/NAME/SERVER``."""

    @web.authenticated
    @needs_scope("servers")  # type: ignore[untyped-decorator]
    async def get(self, user_name: str, server_name: str = "") -> None:
        """Show how far the start is, why it failed, or that nothing runs."""
        user = self.find_user(user_name)
        if user is not None and server_name in user.orm_spawners:
            user.get_spawner(server_name)  # one that has ended is forgotten until it is asked for
        await super().get(user_name, server_name)


class NotRunningHandler(_Page, UserUrlHandler):  # type: ignore[misc]  # JupyterHub has no types
    """``/user/NAME/...`` while no session is there, or one that does not answer."""

    async def get(self, user_name: str, user_path: str) -> None:
        """Say so, and what can be done."""
        spawner = self._suspended(user_name, user_path or "/")
        if spawner is None:
            await _done(super().get(user_name, user_path))
            return
        paused = progress.PAUSED[spawner.child.view.state]
        self.set_status(503)
        self.set_header("Retry-After", "10")
        if "api" in user_path.split("/") or "application/json" in self.request.headers.get("Accept", ""):
            self.set_header("Content-Type", "application/json")
            self.finish(json.dumps({"message": f"{paused.text} {paused.advice}"}))
            return
        given = {"user": spawner.user, "spawner": spawner, "server_name": spawner.name}
        told = {"sentence": paused.text, "advice": paused.advice}
        self.finish(await self.render_template("suspended.html", **given, told=told))

    def _suspended(self, user_name: str, user_path: str) -> Any:
        """Return the session that an address is of, if it is suspended and the caller may open it."""
        user: Any = self.find_user(user_name)
        if user is None:
            return None
        name = user_path.lstrip("/").partition("/")[0]
        name = name if name in user.orm_spawners else ""
        spawner = user.spawners.get(name)
        may = self.has_scope(f"access:servers!server={user_name}/{name}")
        return spawner if may and getattr(spawner, "paused", False) and spawner.ready else None


async def _done(answer: object) -> None:
    """Wait for what a handler of JupyterHub's gives: nothing when ``web.authenticated`` sent the login."""
    if inspect.isawaitable(answer):
        await answer


class CancelHandler(BaseHandler):  # type: ignore[misc]  # JupyterHub has no types
    """``POST /hub/carme/cancel/NAME/SERVER`` of the waiting page's form; without SERVER the default session.

    The same as ``DELETE`` of JupyterHub's API, for a page that works without scripts.
    """

    @web.authenticated
    @needs_scope("delete:servers")  # type: ignore[untyped-decorator]
    async def post(self, user_name: str, server_name: str = "") -> None:
        """End the start, or the session if it is up by now, and go where one's sessions are."""
        user: Any = self.find_user(user_name)
        if user is None or server_name not in user.orm_spawners:
            raise web.HTTPError(404, "There is no such session.")
        spawner = user.spawners[server_name]
        self.log.info("%s cancels the start of %s", self.current_user.name, spawner._log_name)  # noqa: SLF001
        with sentences(self), acting(self.current_user, user.name):
            await self._end(user, spawner)
        own = user.name == self.current_user.name
        self.redirect(f"{self.hub.base_url}{'home' if own else 'admin'}", status=303)

    async def _end(self, user: Any, spawner: Any) -> None:
        start = spawner._spawn_future  # noqa: SLF001 - what JupyterHub's own DELETE goes by
        if spawner.pending == "spawn" and start is not None:
            start.cancel()
            await asyncio.wait([start], timeout=CANCEL_PATIENCE)
        if spawner.active and spawner.pending != "stop":
            await self.stop_single_user(user, spawner.name)


def install() -> None:
    """Put the handlers of this module into the hub; doing it again changes nothing."""
    ours = {SpawnPendingHandler: WaitingHandler, UserUrlHandler: NotRunningHandler}
    known = handlers.default_handlers
    known[:] = [(entry[0], ours.get(entry[1], entry[1]), *entry[2:]) for entry in known]
    for where in (r"/carme/cancel/([^/]+)", r"/carme/cancel/([^/]+)/([^/]+)"):
        if (where, CancelHandler) not in known:
            known.append((where, CancelHandler))
