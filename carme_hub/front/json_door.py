"""The door through which JSON comes into the hub's API: types and sizes are looked at before a handler does.

JupyterHub's handlers take many a value as it is: a list for a name ends in a traceback, a display name of
20 MB in the database and in every page. `attach` puts the rules of `json_rules` in front of all of them.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from jupyterhub.apihandlers import APIHandler
from jupyterhub.apihandlers.proxy import ProxyAPIHandler
from jupyterhub.apihandlers.services import ServiceAPIHandler
from jupyterhub.apihandlers.shares import _ShareAPIHandler
from jupyterhub.apihandlers.users import ActivityAPIHandler, UserAPIHandler, UserServerAPIHandler
from jupyterhub.scopes import _check_scopes_exist, needs_scope
from jupyterhub.slugs import is_valid_display_name, normalise_unicode
from sqlalchemy import text
from tornado import web

from carme_hub.authenticator.tokens import TokensHandler
from carme_hub.front.json_rules import (
    FIELDS,
    NAME,
    OPTIONS,
    Flag,
    Record,
    Rule,
    Text,
    Texts,
    body_problem,
    is_plain,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyterhub.app import JupyterHub

LONGEST_PAGE = 9  # digits of an offset
LONGEST_ID = 12  # digits of a number in an address
TOO_LONG = {
    "UPDATE spawners SET display_name = name WHERE length(display_name) > :most": NAME,
    "UPDATE spawners SET user_options = NULL WHERE length(user_options) > :most": OPTIONS,
    "UPDATE api_tokens SET note = substr(note, 1, :most) WHERE length(note) > :most": 4 * NAME,
}
NO_JSON = "The body has to be JSON."
SERVICE_FIELDS: dict[str, Rule] = {
    **FIELDS,
    "url": Text(),
    "api_token": Text(),
    "info": Record(OPTIONS),
    "display": Flag(),
    "oauth_client_id": Text(),
    "oauth_redirect_uri": Text(),
    "oauth_no_confirm": Flag(),
    "oauth_client_allowed_scopes": Texts(),
}
PROXY_FIELDS: dict[str, Rule] = {"api_url": Text(), "auth_token": Text()}


def read(sent: bytes) -> Any:
    """Read JSON.

    Raises
    ------
    HTTPError
        With status 400, and without what was sent: it may hold a password.
    """
    try:
        return json.loads(sent.decode("utf-8"))
    except (ValueError, RecursionError):
        raise web.HTTPError(400, NO_JSON) from None


def problem(handler: Any, body: Any) -> str:
    """Say what is wrong with the body of a request; empty for nothing."""
    method = handler.request.method
    if isinstance(handler, ActivityAPIHandler):
        return body_problem(body, {**FIELDS, "servers": Record(OPTIONS)}) or _times_problem(body)
    if isinstance(handler, UserAPIHandler) and method == "PATCH":
        return body_problem(body or {}, allowed=frozenset({"name", "admin", "auth_state"}))
    if isinstance(handler, UserServerAPIHandler):
        return _server_problem(method, body)
    if isinstance(handler, ServiceAPIHandler):
        return body_problem(body, SERVICE_FIELDS)
    if isinstance(handler, _ShareAPIHandler):
        return body_problem(body) or _scope_problem(body)
    return body_problem(body, {**FIELDS, "servers": Flag()})


def _times_problem(body: Any) -> str:
    servers = ((body or {}).get("servers") or {}).values()
    for one in (body, *servers):
        told = one.get("last_activity") if isinstance(one, dict) else None
        try:
            if told is not None:
                datetime.fromisoformat(told).astimezone(UTC)
        except (ValueError, OverflowError, TypeError):
            return "last_activity has to be a time by ISO 8601."
    return ""


def _scope_problem(body: Any) -> str:
    try:
        _check_scopes_exist((body or {}).get("scopes") or [])
    except KeyError:
        return "There is no such scope."
    return ""


def _server_problem(method: str, body: Any) -> str:
    if (
        method in {"POST", "PUT"}
        and isinstance(body, dict)
        and not body.keys() & {"display_name", "user_options"}
    ):
        return body_problem({"user_options": body})
    if method == "PATCH":
        found = body_problem(body, allowed=frozenset({"name", "display_name", "user_options"}))
        if not found and any(
            body and name in body and body[name] is None for name in ("name", "user_options")
        ):
            found = "name and user_options cannot be null."
    else:
        found = body_problem(body)
    shown = body.get("display_name") if isinstance(body, dict) and not found else None
    if shown and not is_valid_display_name(normalise_unicode(shown)):
        return "display_name cannot be shown like that."
    return found


def _checked(read_body: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def get_json_body(handler: Any) -> Any:
        body = read_body(handler)
        if found := problem(handler, body):
            raise web.HTTPError(400, found)
        return body

    return get_json_body


def _read_body(handler: Any) -> Any:
    sent = handler.request.body.strip()
    return read(sent) if sent else None


def _check_address(handler: Any) -> None:
    """Refuse what no name, number or page can be, before a database is asked for it."""
    path = unquote(handler.request.path, errors="replace")
    if not is_plain(path):
        raise web.HTTPError(404)
    last = path.rstrip("/").rsplit("/", 1)[-1]
    if len(last) > LONGEST_ID and last[-LONGEST_ID:].isdecimal():
        raise web.HTTPError(404)
    for name, most in (("offset", LONGEST_PAGE), ("limit", LONGEST_PAGE), ("id", LONGEST_ID)):
        if len(handler.get_query_argument(name, "")) > most:
            raise web.HTTPError(400, f"{name} is too large.")


def attach(app: JupyterHub) -> None:
    """Put the rules in front of the API, and what is older than they are within them."""
    patch_proxy = ProxyAPIHandler.patch

    async def prepare_checked(handler: Any) -> None:
        # Whatever it is by then: others guard all of the hub's handlers, and may be put there later.
        await super(APIHandler, handler).prepare()
        _check_address(handler)

    async def patch_proxy_checked(handler: Any) -> None:
        told = _read_body(handler)
        found = body_problem(told, PROXY_FIELDS, frozenset(PROXY_FIELDS))
        if found or not told or not all(told.values()):
            raise web.HTTPError(400, found or "Say where the proxy is, or its token.")
        proxy = handler.proxy
        before = proxy.api_url, proxy.auth_token
        try:
            await patch_proxy(handler)
        except Exception:  # noqa: BLE001  whatever it is: routes cannot be set there
            proxy.api_url, proxy.auth_token = before
            raise web.HTTPError(
                400, "No proxy takes routes there; the hub stays with the one it has."
            ) from None

    APIHandler.get_json_body = _checked(_read_body)
    own: Any = TokensHandler  # it reads its body in a way of its own
    own.get_json_body = _checked(own.get_json_body)
    APIHandler.prepare = prepare_checked
    # Who may is asked before anything is said about what was sent, as in JupyterHub's own.
    ProxyAPIHandler.patch = needs_scope("proxy")(patch_proxy_checked)
    shorten(app.db)


def shorten(db: Any) -> None:
    """Shorten what was stored when nobody looked."""
    for change, most in TOO_LONG.items():
        db.execute(text(change), {"most": most})
    db.commit()
    db.expire_all()
