"""What the hub itself answers for the service's pages: their short addresses, and which logins still hold."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from jupyterhub import orm
from jupyterhub.apihandlers import APIHandler
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.pages import ProxyErrorHandler
from jupyterhub.utils import url_path_join, utcnow
from tornado import web

from carme_hub import csp
from carme_hub.service import hub_watchers
from carme_hub.service.registration import LOGINS_SCOPE, NAME
from carme_hub.service.ticket import ticket

if TYPE_CHECKING:
    from jupyterhub.app import JupyterHub

# Below /hub/, and where below /services/carme/ it is.
REDIRECTS = {
    "history": "history",
    "admin/sessions": "admin/sessions",
    "admin/use": "admin/use",
    "admin/announcements": "admin/announcements",
    "admin/maintenance": "admin/maintenance",
    "admin/site": "admin/site",
}
LOOK_SECONDS = 3  # between two looks at whether the service runs
MAX_LOGINS = 10_000  # asked for at once
TOKEN_ID = re.compile(r"a[0-9]{1,12}")  # as JupyterHub names a token
PIECE = 500  # of them in one query; SQLite takes no more than 999 values


class ToService(BaseHandler):  # type: ignore[misc]  # JupyterHub ships no types
    """A short address of a page of the service."""

    def initialize(self, page: str) -> None:
        """Remember which page."""
        self.page = page

    @web.authenticated
    async def get(self) -> None:
        """Lead there, with what the address asks for."""
        query = self.request.query
        address = url_path_join(self.base_url, "services", NAME, self.page)
        self.redirect(f"{address}?{query}" if query else address)


class ProxyError(ProxyErrorHandler):  # type: ignore[misc]  # JupyterHub ships no types
    """What the proxy shows for what does not answer."""

    async def get(self, status: str) -> None:
        """Say of our pages that they are away; JupyterHub says "Your server appears to be down" of all."""
        # What was asked for, as it was written: no address, perhaps.
        if not self.get_argument("url", "").startswith(url_path_join(self.base_url, "services", NAME) + "/"):
            await super().get(status)
            return
        self.set_header("Content-Type", "text/html")
        self.write(await self.render_template("service_away.html", sync=False))


class Logins(APIHandler):  # type: ignore[misc]  # JupyterHub ships no types
    """Which logins at the service have ended. One question for all open streams, instead of one each.

    ``{"tokens": [ID...]}`` is answered with ``{"ended": [ID...]}``; an ID is as the hub says it: "a12".
    """

    async def post(self) -> None:
        """Answer."""
        if not self.has_scope(LOGINS_SCOPE):
            raise web.HTTPError(403, f"The scope {LOGINS_SCOPE} is needed for that.")
        body = self.get_json_body()
        given = body.get("tokens") if isinstance(body, dict) else None
        if not isinstance(given, list) or len(given) > MAX_LOGINS:
            raise web.HTTPError(400, "Name up to 10000 tokens.")
        numbers = {one: int(one[1:]) for one in given if isinstance(one, str) and TOKEN_ID.fullmatch(one)}
        alive = self._alive(sorted(numbers.values()))
        self.write(json.dumps({"ended": [one for one in given if numbers.get(one) not in alive]}))

    def _alive(self, numbers: list[int]) -> set[int]:
        token, alive, now = orm.APIToken, set(), utcnow(with_tz=False)
        for first in range(0, len(numbers), PIECE):
            some = token.id.in_(numbers[first : first + PIECE])
            found = self.db.query(token.id, token.expires_at).filter(some)
            alive |= {number for number, expires in found if not expires or expires > now}
        return alive


def page_values(handler: Any) -> dict[str, Any]:
    """Return what the hub's pages know of the service: where it is, and how a page's script may ask it."""
    if NAME not in handler.services:
        return {"service_url": "", "carme_xsrf": ""}
    user, xsrf = handler.current_user, ""
    if user is not None:
        xsrf = ticket(handler.settings["cookie_secret"], handler.get_session_cookie() or "", user.name)
    return {"service_url": url_path_join(handler.base_url, "services", NAME) + "/", "carme_xsrf": xsrf}


def start_without_waiting(app: JupyterHub) -> None:
    """Let the hub start the service and go on.

    JupyterHub waits until a managed service answers, and ends itself when it does not within half a minute,
    or when its process ends. A service that cannot start must not keep people from signing in: it is tried
    again, as is one that ends later.
    """
    start_service = app.start_service

    async def start(name: str, service: Any, *more: Any, **named: Any) -> bool:
        if name != NAME:
            return bool(await start_service(name, service, *more, **named))
        look_often(service)
        try:
            await service.start()
        except OSError:
            app.log.exception("The service %s cannot be started; the hub goes on without its pages.", NAME)
        return True

    app.start_service = start


def look_often(service: Any) -> None:
    """Let the hub notice soon that its service has ended. JupyterHub looks every half a minute."""
    start = service.start

    async def start_and_look() -> None:
        await start()
        service.spawner.stop_polling()
        service.spawner.poll_interval = LOOK_SECONDS
        service.spawner.start_polling()

    service.start = start_and_look


def attach(app: JupyterHub) -> None:
    """Tell the hub's pages of the service, and let the service come up beside the hub."""
    csp.more_values.append(page_values)
    start_without_waiting(app)


def handlers() -> list[tuple[Any, ...]]:
    """Return the hub's addresses of all this."""
    short = [(f"/{path}", ToService, {"page": page}) for path, page in REDIRECTS.items()]
    return [*short, (r"/error/(\d+)", ProxyError), (r"/api/carme/logins", Logins), *hub_watchers.handlers]
