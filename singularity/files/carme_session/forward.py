"""Forwarding to the owner's own programs: ``/proxy/PORT``, ``/proxy/absolute/PORT``, the launcher's servers.

jupyter-server-proxy has the addresses, the login, the websockets. What it takes on trust is asked here: whose
program it is that takes the connection (`connections`), and what it is handed (`headers`). Its base class is
changed, so that nothing that is made from it, by whatever extension, goes another way.
"""

# ruff: noqa: SLF001, PLR0917 - the library has no other seams, and its methods take what they take

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from jupyter_server_proxy import handlers
from jupyter_server_proxy.handlers import ProxyHandler
from jupyter_server_proxy.rawsocket import RawSocketHandler
from jupyter_server_proxy.websocket import PingableWSClientConnection
from tornado import web
from tornado.httpclient import HTTPClientError, HTTPRequest, _RequestProxy
from tornado.httputil import HTTPHeaders
from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketError

from . import headers as rules
from .connections import (
    ElsewhereError,
    NobodyError,
    NotOursError,
    OursOnly,
    RefusedError,
    connect,
    connect_unix,
)
from .relay import Answer, BrokenError, receive, send
from .said import say

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 128 << 20  # bytes of a websocket's message, where the server has no bound of its own
POLICY, BAD_GATEWAY = 1008, 1014  # RFC 6455 and its registry of close codes
REDIRECTS = frozenset((301, 302, 303, 307, 308))

_prepare = ProxyHandler.prepare
_proxy = ProxyHandler.proxy
_check_host = ProxyHandler._check_host_allowlist
_open = ProxyHandler.proxy_open
_client_uri = ProxyHandler.get_client_uri
_buffered = ProxyHandler._proxy_buffered
_closed = ProxyHandler.on_connection_close


async def prepare(self: Any, *args: Any, **kwargs: Any) -> None:
    """Let in who is in, and nobody whom a stranger's page sends."""
    await _prepare(self, *args, **kwargs)
    if self._finished:
        return
    if self.unix_socket is None and from_elsewhere(self):
        here = self.request.uri
        say(
            self,
            403,
            "Another site sent you here",
            ["This address leads to a program in your session. Open it if you know who gave you the link."],
            [("Open it", here)],
        )
        return
    self.carme_secrets = await secrets_of(self)


def from_elsewhere(handler: Any) -> bool:
    """Return whether a page of another site makes the browser ask. A program with a token asks for itself."""
    sent = handler.request.headers
    return sent.get("Sec-Fetch-Site", "").lower() == "cross-site" and not handler.token_authenticated


async def secrets_of(handler: Any) -> frozenset[str]:
    """Return the tokens in a request that open the hub or this server, or may."""
    found = set()
    for token in rules.tokens_in(handler.request.headers, handler.request.query):
        provider = handler.identity_provider
        hub = getattr(provider, "hub_auth", None)
        try:
            known = token == provider.token if hub is None else await hub.user_for_token(token, sync=False)
        except web.HTTPError:
            known = True
        if known:
            found.add(token)
    return frozenset(found)


def own_cookies(handler: Any) -> tuple[str, ...]:
    """Return the names of the cookies by which this server knows a browser."""
    provider = handler.identity_provider
    hub = getattr(provider, "hub_auth", None)
    return (hub.cookie_name, hub.state_cookie_name) if hub else (provider.get_cookie_name(handler),)


def _for_app(handler: Any) -> tuple[HTTPHeaders, str]:
    secrets = handler.carme_secrets
    return rules.for_app(
        handler.request.headers, handler.request.query, secrets.__contains__, own_cookies(handler)
    )


def proxy_request_headers(self: Any) -> HTTPHeaders:
    """Return what a program gets of a request's headers."""
    kept, _ = _for_app(self)
    kept.update(self.get_request_headers_override())
    return kept


def get_client_uri(self: Any, protocol: str, host: str, port: int, path: str) -> str:
    """Return the program's address, with what it gets of the query."""
    bare, _, query = str(_client_uri(self, protocol, host, port, path)).partition("?")
    query = _for_app(self)[1] if query else ""
    return f"{bare}?{query}" if query else bare


def connection_to(handler: Any, host: str, port: int) -> Any:
    """Return a connection (awaited) to what a handler leads to."""
    path = handler.unix_socket
    return connect_unix(path) if path is not None else connect(host, int(port))


async def proxy(self: Any, host: str, port: int, path: str) -> None:
    """Hand on a request, or say why not."""
    try:
        await _proxy(self, host, port, path)
    except RefusedError as failure:
        refuse(self, port, failure)


def check_host(self: Any, host: str) -> bool:
    """Return that a host is allowed.

    Raises
    ------
    ElsewhereError
        If it is not.
    """
    if not _check_host(self, host):
        raise ElsewhereError(f"{host} is not this session's own node.")
    return True


async def relay(self: Any, host: str, port: int, path: str, body: bytes | None, client: Any) -> None:
    """Hand on the answer piece by piece, where the library keeps it whole."""
    if self.rewrite_response:  # a site's functions change whole answers
        client.tcp_client = OursOnly(self.unix_socket)
        await _rewritten(self, host, port, path, body, client)
        return
    stream = self.carme_stream = IOStream(await connection_to(self, host, port))
    asked = self._build_proxy_request(host, port, path, body)
    target = urlsplit(asked.url)._replace(scheme="", netloc="").geturl()
    answer = Answer(self, stream, own_cookies(self), functools.partial(_header, self, host, port, path))
    await receive(send(stream, self.request.method, target, asked.headers, body), answer)


def _header(handler: Any, host: str, port: int, path: str, name: str, value: str, status: int) -> str:
    """Return a header's value as it is true here: where a redirect leads to."""
    if name.lower() == "location" and status in REDIRECTS and not handler.absolute_url:
        return str(handler._rewrite_location_header(value, host, port, path))
    return value


async def _rewritten(handler: Any, host: str, port: int, path: str, body: bytes | None, client: Any) -> None:
    def strip(response: Any) -> None:
        kept = rules.from_app(response.headers.get_all(), own_cookies(handler))
        response.headers = type(response.headers)()
        for name, value in kept:
            response.headers.add(name, value)

    functions = handler.rewrite_response
    handler.rewrite_response = [*(functions if isinstance(functions, list | tuple) else [functions]), strip]
    await _buffered(handler, host, port, path, body, client)


def refuse(handler: Any, port: int, failure: RefusedError) -> None:
    """Say why there is no answer; of one that has begun, break it off so that nobody takes it for whole."""
    if handler.request.connection.stream is None or handler.request.connection.stream.closed():
        return
    if handler._headers_written:
        handler.detach().close()
        return
    name = getattr(handler, "name", None) or f"port {port}"
    if isinstance(failure, NotOursError):
        title, more = f"Somebody else uses {name}", "Start your program on another port, and open that one."
    elif isinstance(failure, NobodyError):
        title, more = (
            f"Nothing runs on {name}",
            "Start your program in this session first, then reload this page.",
        )
    elif isinstance(failure, BrokenError):
        title, more = (
            f"The program on {name} broke off",
            "Look at its output in this session, and start it again.",
        )
    else:
        title, more = (
            f"{name[:1].upper()}{name[1:]} cannot be opened",
            "Use a program that runs in this session.",
        )
    say(handler, failure.status, title, [str(failure), more])


def on_connection_close(self: Any) -> None:
    """End a program's answer whose reader has gone."""
    _closed(self)
    if stream := getattr(self, "carme_stream", None):
        stream.close()


class Websocket(PingableWSClientConnection):  # type: ignore[misc]
    """A websocket's connection to a program of ours."""

    def __init__(self, *, ours: OursOnly, **kwargs: Any) -> None:
        self.ours = ours
        super().__init__(**kwargs)

    async def run(self) -> None:
        """Make the connection as tornado does, but to our own programs only."""
        self.tcp_client = self.ours
        await super().run()


def websocket_to(request: HTTPRequest, resolver: Any = None, **kwargs: Any) -> asyncio.Future[Any]:
    """Return a websocket's connection (awaited), in place of the library's `pingable_ws_connect`."""
    request.headers = HTTPHeaders(request.headers)
    connection = Websocket(
        ours=OursOnly(resolver.socket_path if resolver else None),
        request=_RequestProxy(request, HTTPRequest._DEFAULTS),
        compression_options={},
        max_message_size=SIZE,
        **kwargs,
    )
    future: asyncio.Future[Any] = connection.connect_future
    return future


async def proxy_open(self: Any, host: str, port: int, proxied_path: str = "") -> None:
    """Open a websocket, or close it with a word."""
    try:
        await _open(self, host, port, proxied_path)
    except NotOursError as failure:
        self.close(POLICY, str(failure))
    except (RefusedError, WebSocketError, HTTPClientError, StreamClosedError) as failure:
        self.close(BAD_GATEWAY, str(failure)[:120])


async def raw_connection(self: Any, protocol: Callable[[], asyncio.BaseProtocol]) -> Any:
    """Return a bare connection, for servers that speak no HTTP."""
    loop = asyncio.get_running_loop()
    connection = await connection_to(self, "localhost", self.port)
    if self.unix_socket is not None:
        return await loop.create_unix_connection(protocol, sock=connection)
    return await loop.create_connection(protocol, sock=connection)


class PortOfCodeServer(JupyterHandler):  # type: ignore[misc]
    """Where Code-Server would forward a port itself: the way there is ours."""

    @web.authenticated
    def get(self, kind: str, rest: str) -> None:
        """Lead there."""
        way = ("proxy", "absolute", rest) if kind == "absproxy" else ("proxy", rest)
        query = f"?{self.request.query}" if self.request.query else ""
        self.redirect(url_path_join(self.base_url, *way) + query, status=307)


def setup(serverapp: Any) -> None:
    """Take jupyter-server-proxy's ways over. What is not there to be taken over ends the server."""
    changed: dict[Any, dict[str, Any]] = {
        ProxyHandler: {
            "prepare": prepare,
            "proxy": proxy,
            "proxy_open": proxy_open,
            "proxy_request_headers": proxy_request_headers,
            "get_client_uri": get_client_uri,
            "on_connection_close": on_connection_close,
            "_check_host_allowlist": check_host,
            "_proxy_buffered": relay,
            "_proxy_progressive": relay,
        },
        RawSocketHandler: {"_create_ws_connection": raw_connection},
        handlers: {"pingable_ws_connect": websocket_to},
    }
    for owner, members in changed.items():
        for name, member in members.items():
            getattr(owner, name)
            setattr(owner, name, member)
    base = serverapp.web_app.settings["base_url"]
    address = url_path_join(base, "code-server", r"(proxy|absproxy)/(\d+(?:/.*)?)")
    serverapp.web_app.add_handlers(".*$", [(address, PortOfCodeServer)])
