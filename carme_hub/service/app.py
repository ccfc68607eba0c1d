"""The service's addresses and endless loops: the two lists that other modules append to."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from tornado.httpserver import HTTPServer
from tornado.httputil import parse_cookie
from tornado.log import app_log
from tornado.web import Application, decode_signed_value

from carme_hub.front.arrivals import Arrivals
from carme_hub.front.bounds import SERVER
from carme_hub.service import (
    admin_news,
    admin_people,
    admin_sessions,
    admin_site,
    admin_use,
    bookkeeping,
    cluster_api,
    history_pages,
    hub_client,
    notices_pages,
    pages,
    stream,
)
from carme_hub.service.base import Callback, Unknown
from carme_hub.service.small_data import SmallData
from carme_hub.service.ticket import COOKIES, key

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from tornado.httputil import HTTPHeaders
    from tornado.web import RequestHandler

    from carme_hub.service.site import Site

# Addresses below /services/carme/ (regular expressions without ^, and without $), and what answers there.
ROUTES: list[tuple[str, type[RequestHandler]]] = [
    *pages.routes,
    *stream.routes,
    *history_pages.routes,
    *notices_pages.routes,
    *cluster_api.routes,
    *admin_sessions.routes,
    *admin_people.routes,
    *admin_use.routes,
    *admin_news.routes,
    *admin_site.routes,
]
# What runs as long as the service does.
BACKGROUND: list[Callable[[Site], Awaitable[None]]] = [
    *hub_client.background,
    *stream.background,
    *notices_pages.background,
    *cluster_api.background,
    *bookkeeping.background,
]

LOOK_AGAIN = 5.0  # seconds until a loop that failed runs again


def make_app(site: Site) -> Application:
    """Return the web application of a site."""
    prefix = re.escape(site.service_url)
    routes = [(rf"{prefix}{path}", handler) for path, handler in ROUTES]
    return Application(
        [*routes, (rf"{prefix}oauth_callback", Callback)],
        default_handler_class=Unknown,
        site=site,
        cookie_secret=key(site.secret, COOKIES),
        # HubOAuth sets its own XSRF cookie, too, which nothing here reads; see `ticket`.
        xsrf_cookie_kwargs={"samesite": "Lax", "httponly": True},
        transforms=[SmallData],
        # Never in a page, whatever happens.
        debug=False,
        serve_traceback=False,
        log_function=_log,
    )


def make_server(site: Site, tls: ssl.SSLContext | None) -> HTTPServer:
    """Return the server of a site's web application; it does not listen yet."""
    app = make_app(site)

    async def is_in(headers: HTTPHeaders) -> bool:
        name = str(site.auth.cookie_name)
        login = parse_cookie(headers.get("Cookie", "")).get(name)
        return decode_signed_value(app.settings["cookie_secret"], name, login) is not None

    return HTTPServer(Arrivals(app, SERVER, is_in), ssl_options=tls)


def _log(handler: Any) -> None:
    """Log what fails. The address goes without its arguments: there are tickets and codes in them."""
    status = handler.get_status()
    if status >= 500:  # noqa: PLR2004  HTTP's class of our own mistakes
        app_log.error("%d %s %s", status, handler.request.method, handler.request.path)


async def keep_running(site: Site) -> None:
    """Run all of `BACKGROUND` for ever."""
    await asyncio.gather(*(_keep(run, site) for run in BACKGROUND))


async def _keep(run: Callable[[Site], Awaitable[None]], site: Site) -> None:
    while True:
        try:
            await run(site)
        except Exception:  # noqa: BLE001  one failing loop must not end the others
            app_log.exception("%s failed; it runs again in %d s", run.__module__, LOOK_AGAIN)
        await asyncio.sleep(LOOK_AGAIN)
