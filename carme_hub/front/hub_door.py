"""The hub's own door: whose request it is, by its headers, before its body is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyterhub import __version__ as jupyterhub_version
from jupyterhub import orm
from jupyterhub.handlers.base import auth_header_pat
from tornado.httputil import parse_cookie
from tornado.web import decode_signed_value

from carme_hub.authenticator import sign_out, static
from carme_hub.front import json_door
from carme_hub.front.arrivals import Arrivals
from carme_hub.front.bounds import SERVER

if TYPE_CHECKING:
    from jupyterhub.app import JupyterHub
    from tornado.httputil import HTTPHeaders


class Guests:
    """Who is in at the hub."""

    def __init__(self, app: JupyterHub) -> None:
        self.app = app

    async def is_in(self, headers: HTTPHeaders) -> bool:
        """Say whether a login cookie or a token that the hub knows is among a request's headers."""
        token = auth_header_pat.match(headers.get("Authorization", ""))
        if token:
            return orm.APIToken.find(self.app.db, token[1]) is not None
        name = self.app.hub.cookie_name
        login = decode_signed_value(
            self.app.cookie_secret,
            name,
            parse_cookie(headers.get("Cookie", "")).get(name),
            max_age_days=self.app.cookie_max_age_days,
        )
        if login is None:
            return False
        cookie_id, _, session = login.decode("utf-8", "replace").partition(sign_out.SEPARATOR)
        store = getattr(self.app.authenticator, "store", None)
        if store is not None and store.ended.has(session):
            return False
        return self.app.db.query(orm.User).filter(orm.User.cookie_id == cookie_id).first() is not None


def attach(app: JupyterHub) -> None:
    """Put the door in front of the hub's pages; doing it again changes nothing.

    JupyterHub has no setting for what its server takes. It makes the application after the authenticator was
    asked for its handlers, and the server with whatever the application is then.
    """
    if getattr(app, "carme_door", False):
        return
    app.carme_door = True
    make = app.init_tornado_application

    def make_and_guard() -> None:
        make()
        trusted = tuple(app.trusted_downstream_ips)
        app.tornado_application = Arrivals(app.tornado_application, SERVER, Guests(app).is_in, trusted)

    app.init_tornado_application = make_and_guard
    json_door.attach(app)
    # JupyterHub's own is the time of its start: each start would send all files again.
    app.tornado_settings["version_hash"] = static.other_version(jupyterhub_version)
    app.tornado_settings["static_handler_class"] = static.CompressedFiles
