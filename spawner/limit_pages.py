"""Where a session is extended: a form's address for pages, and one of the API for programs.

Who may start and stop a session (scope ``servers``: its owner,
and admins) may extend it. The token of the session itself may not.
"""

from __future__ import annotations

import json
from typing import Any

from jupyterhub.apihandlers import APIHandler
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.scopes import needs_scope
from tornado import web

from carme_hub.spawner.timelimit import Limited, NotExtended, TimeLimit, spoken

LONGEST_BODY = 200
MOST_MINUTES = 10_000_000


def parse_limit(value: object) -> int:
    """Read the limit that is asked for.

    Returns
    -------
    int
        Minutes from the session's start.

    Raises
    ------
    ValueError
        With a sentence.
    """
    if (
        isinstance(value, str)
        and value.isascii()
        and value.isdigit()
        and len(value) <= len(str(MOST_MINUTES))
    ):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_MINUTES:
        raise ValueError(f"The limit has to be a whole number of minutes from 1 to {MOST_MINUTES}.")
    return value


def parse_body(body: bytes) -> object:
    """Return the limit in a request of the API.

    Raises
    ------
    ValueError
        When it is anything but ``{"limit": number}``.
    """
    if len(body) > LONGEST_BODY:
        raise ValueError("The request is too long.")
    asked = json.loads(body)
    if not isinstance(asked, dict) or asked.keys() != {"limit"} or not isinstance(asked["limit"], int):
        raise ValueError('A request is {"limit": minutes from the start of the session}.')
    return asked["limit"]


class _Session:
    """What both addresses do."""

    def session_of(self: Any, user_name: str, server_name: str) -> Limited:
        """Return a session that there is."""
        user = self.find_user(user_name)
        if user is None or server_name not in user.spawners or not user.spawners[server_name].active:
            raise web.HTTPError(404, "There is no such session.")
        spawner = user.spawners[server_name]
        if not isinstance(spawner, Limited):
            raise web.HTTPError(404, "This session has no time limit that the hub knows of.")
        return spawner

    async def extended(self: Any, user_name: str, server_name: str, value: object) -> TimeLimit | None:
        """Extend a session, and write down who did."""
        session = self.session_of(user_name, server_name)
        who = f"{self.current_user.name} asked for {user_name}'s session {server_name!r}"
        try:
            minutes = parse_limit(value)
            limit: TimeLimit | None = await session.extend(minutes)
        except (ValueError, NotExtended) as error:
            self.log.warning("%s to be extended; refused: %s", who, error)
            raise
        self.log.info("%s to last %s; done, it ends at %s", who, spoken(minutes), limit and limit.utc)
        return limit


class ExtendHandler(_Session, BaseHandler):  # type: ignore[misc]  # JupyterHub has no types
    """``POST /hub/carme/time-limit/NAME/SERVER`` of the home page's form; without SERVER the default one."""

    @web.authenticated
    @needs_scope("servers")  # type: ignore[untyped-decorator]
    async def post(self, user_name: str, server_name: str = "") -> None:
        """Extend the session and return to the page; a refusal is a page with its sentence."""
        own = user_name == self.current_user.name
        back = f"{self.hub.base_url}{'home' if own else 'admin'}"
        try:
            await self.extended(user_name, server_name, self.get_body_argument("limit", ""))
        except (ValueError, NotExtended) as error:
            self.set_status(409 if isinstance(error, NotExtended) else 400)
            page = await self.render_template("not_extended.html", sentence=str(error), back=back)
            self.finish(page)
        else:
            self.redirect(back, status=303)


class LimitHandler(_Session, APIHandler):  # type: ignore[misc]  # JupyterHub has no types
    """``GET`` and ``PUT /hub/api/carme/time-limit/NAME/SERVER``."""

    @needs_scope("read:servers")  # type: ignore[untyped-decorator]
    async def get(self, user_name: str, server_name: str = "") -> None:
        """Tell the limit."""
        self.finish(_told(self.session_of(user_name, server_name).time_limit()))

    @needs_scope("servers")  # type: ignore[untyped-decorator]
    async def put(self, user_name: str, server_name: str = "") -> None:
        """Take ``{"limit": minutes from the session's start}``."""
        try:
            limit = await self.extended(user_name, server_name, parse_body(self.request.body))
        except NotExtended as error:
            raise web.HTTPError(409, str(error)) from None
        except ValueError as error:
            raise web.HTTPError(400, str(error)) from None
        self.finish(_told(limit))


def _told(limit: TimeLimit | None) -> dict[str, int | None]:
    if limit is None:
        return {"start": None, "end": None, "limit": None, "longest": None}
    longest = limit.most if limit.amounts() else limit.minutes
    return {"start": limit.start, "end": limit.end, "limit": limit.minutes, "longest": longest}
