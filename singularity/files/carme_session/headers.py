"""What of a request is handed to a forwarded program, and what of its answer comes back. Pure functions.

The program gets what is its own. What opens the hub or this server stays here: their cookies, their proof
against requests of other sites, their tokens. Of the answer, what speaks for the whole origin is left out:
that is the hub's, not the program's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from tornado.httputil import HTTPHeaders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# RFC 9110, 7.6.1; a program's answer is sent on with framing of our own.
HOP_BY_HOP = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "proxy-authorization",
        "proxy-authenticate",
        "proxy-authentication-info",
    ]
)
# JupyterHub's and jupyter_server's, also with the prefixes that browsers give a meaning to. `service-` and
# `carme` are what the hub's services and its sign-in use.
OUR_COOKIE = re.compile(
    r"(__host-|__secure-|__http-|__host-http-)?(_xsrf$|jupyterhub-|carme|service-|username-)",
    re.IGNORECASE | re.ASCII,
)
XSRF = "x-xsrftoken"
TOKEN = re.compile(r"\s*(?:token|bearer)\s+(.+)", re.IGNORECASE | re.DOTALL)
OF_THE_ORIGIN = frozenset(
    [
        "clear-site-data",
        "service-worker-allowed",
        "set-cookie2",
        "set-login",
        "idp-signin-status",
        "strict-transport-security",
        "public-key-pins",
        "public-key-pins-report-only",
        "expect-ct",
        "alt-svc",
        "nel",
        "report-to",
        "origin-agent-cluster",
        "origin-isolation",
        "origin-policy",
        "accept-ch",
        "critical-ch",
        "sec-session-registration",
        "secure-session-registration",
        "secure-session-challenge",
        "use-as-dictionary",
        "supports-loading-mode",
        "activate-storage-access",
        "speculation-rules",
    ]
)


def ours(name: str, more: Iterable[str] = ()) -> bool:
    """Return whether a cookie of this name is the hub's or this server's; `more` are names of its own."""
    return OUR_COOKIE.match(name) is not None or name in more


def name_of(cookie: str) -> str:
    """Return the name under which a browser will send a cookie.

    One without a name is sent as its value alone, which can look like another one's name and value.
    """
    return cookie.strip("= \t\r\n\x00").partition("=")[0].strip(" \t\r\n\x00")


def apps_cookies(sent: Iterable[str], more: Iterable[str] = ()) -> list[str]:
    """Return the cookies in headers ``Cookie`` that are not ours, as they were written."""
    pieces = (piece.strip() for header in sent for piece in header.split(";"))
    return [piece for piece in pieces if piece and not ours(name_of(piece), more)]


def tokens_in(headers: HTTPHeaders, query: str) -> list[str]:
    """Return everything in a request that may be a token of the hub's or this server's."""
    found = [match[1].strip() for value in headers.get_list("Authorization") if (match := TOKEN.match(value))]
    return found + [value for name, value in map(_argument, query.split("&")) if name == "token" and value]


def for_app(
    headers: HTTPHeaders, query: str, secret: Callable[[str], bool], more: Iterable[str] = ()
) -> tuple[HTTPHeaders, str]:
    """Return a request's headers and query without what opens the hub or this server.

    Parameters
    ----------
    secret
        Whether a token is the hub's or this server's.
    more
        Names of cookies that are this server's.
    """
    cookies = apps_cookies(headers.get_list("Cookie"), more)
    # A program that guards itself the same way (Streamlit) wants the value of a cookie of its own back.
    proofs = {cookie.partition("=")[2].strip().strip('"') for cookie in cookies} - {""}
    authorizations = [
        value
        for value in headers.get_list("Authorization")
        if not ((match := TOKEN.match(value)) and secret(match[1].strip()))
    ]
    # Several are joined by whoever reads them; what is a token then is nobody's guess.
    if len(headers.get_list("Authorization")) > 1:
        authorizations = []
    xsrf = [value for value in headers.get_list(XSRF) if value.strip().strip('"') in proofs]
    changed = {"cookie": ["; ".join(cookies)] if cookies else [], "authorization": authorizations, XSRF: xsrf}
    kept = HTTPHeaders()
    for name, value in headers.get_all():
        if name.lower() not in HOP_BY_HOP and name.lower() not in changed:
            kept.add(name, value)
    for name, values in changed.items():
        for value in values:
            kept.add(name, value)
    arguments = [
        piece
        for piece, (name, value) in ((piece, _argument(piece)) for piece in query.split("&"))
        if not (name == "token" and secret(value)) and not (name == "_xsrf" and value not in proofs)
    ]
    return kept, "&".join(arguments)


def from_app(headers: Iterable[tuple[str, str]], more: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Return the headers of a program's answer that may reach a browser on the hub's origin."""
    pairs = list(headers)
    named = {
        word.strip().lower()
        for name, value in pairs
        if name.lower() == "connection"
        for word in value.split(",")
    }
    return [
        (name, value)
        for name, value in pairs
        if name.lower()
        not in HOP_BY_HOP | OF_THE_ORIGIN | (named - {"content-length", "content-type", "location"})
        and not (name.lower() == "set-cookie" and ours(name_of(value.partition(";")[0]), more))
    ]


def _argument(piece: str) -> tuple[str, str]:
    """Return name and value of one argument of a query, as a server reads them."""
    name, _, value = piece.partition("=")
    return unquote_plus(name), unquote_plus(value)
