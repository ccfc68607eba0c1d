"""Looks at a request's headers first: what somebody sends is kept only when it is known who that is.

Jupyter Server reads up to 512 MiB into memory before a handler asks who sends it. Here that question comes
before the body. Strangers get little of everything, in sizes, seconds and connections, each for itself and
all together; people who are in get real sizes.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import time
from collections import Counter, OrderedDict
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from jupyter_server.base.handlers import JupyterHandler
from tornado.httputil import (
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    HTTPServerRequest,
    ResponseStartLine,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

KIB, MIB = 1 << 10, 1 << 20

HEADERS = 32 * KIB  # bytes of a request's first line and headers
# Strangers: one of them, and all together.
STRANGER_BODY = 64 * KIB  # bytes that are kept of a body
STRANGERS_BODIES = 4 * MIB
STRANGER_DROPPED = 64 * MIB  # bytes that are read and dropped, so that the sender can read the answer
STRANGER_SECONDS = 20.0  # for all headers, and again for all of a body
STRANGER_ANSWER = 60.0  # seconds from the first look at a connection until the answer has to be taken
STRANGERS_CONNECTIONS = 128
# People who are in.
BODY = 512 * MIB  # bytes; JupyterLab sends files in pieces of 1 MiB, apps behind /proxy/ may not
BODY_SECONDS = 4 * 3600.0  # a slow line
IDLE_SECONDS = 75.0  # between two requests of a connection

ASKING_SECONDS = 10.0  # for the hub to say whose a token is
REMEMBERED_SECONDS = 60.0  # so long an answer is good for the size of another request
REMEMBERED = 256


# Whether somebody unknown sent the request that this code runs for; None where there is no request.
stranger: ContextVar[bool | None] = ContextVar("stranger", default=None)


class _Asker(JupyterHandler):  # type: ignore[misc]
    """Asks the server's identity provider; it answers nothing itself."""

    def check_xsrf_cookie(self) -> None:
        """Leave it to the handler: apps behind ``/proxy/`` have no such cookie."""


class Guard:
    """Decides for one server what each request may send.

    Parameters
    ----------
    serverapp
        A ``jupyter_server.serverapp.ServerApp`` with its web application.
    """

    def __init__(self, serverapp: Any) -> None:
        self._provider = serverapp.identity_provider
        self._application = serverapp.web_app
        self._inner = serverapp.web_app.start_request
        self._remembered: OrderedDict[bytes, tuple[float, bool]] = OrderedDict()
        # Connections of strangers, the oldest first: stream -> address of the other end.
        self._strangers: dict[Any, str] = {}
        self._deadlines: dict[Any, asyncio.TimerHandle] = {}
        self.kept = 0  # bytes of strangers' bodies

    def watch(self, server: Any) -> None:
        """Bound the connections of an ``HTTPServer`` that does not listen yet."""
        accept, closed, params = server.handle_stream, server.on_close, server.conn_params
        params.max_header_size = HEADERS
        params.header_timeout = STRANGER_SECONDS

        def handle_stream(stream: Any, address: Any) -> None:
            self._make_room()
            self._strangers[stream] = _address(address)
            # A copy for each connection, so that time-outs can differ.
            server.conn_params = copy.copy(params)
            accept(stream, address)

        def on_close(connection: Any) -> None:
            self._strangers.pop(connection.stream, None)
            self._in_time(connection.stream)
            closed(connection)

        server.handle_stream, server.on_close = handle_stream, on_close

    def _make_room(self) -> None:
        """End the oldest connection of the address that has most of the strangers' connections."""
        while len(self._strangers) >= STRANGERS_CONNECTIONS:
            busiest = Counter(self._strangers.values()).most_common(1)[0][0]
            oldest = next(stream for stream, address in self._strangers.items() if address == busiest)
            del self._strangers[oldest]
            oldest.close()

    def _in_time(self, stream: Any) -> None:
        if deadline := self._deadlines.pop(stream, None):
            deadline.cancel()

    def start_request(self, server_connection: Any, connection: Any) -> HTTPMessageDelegate:
        """Stand in for the application's method of this name: a connection waits for its next request."""
        self._in_time(connection.stream)
        return _Door(self, self._inner(server_connection, connection), connection)

    def admit(self, connection: Any) -> None:
        """Give a request of somebody who is in its bounds."""
        self._strangers.pop(connection.stream, None)
        connection.params.header_timeout = IDLE_SECONDS
        connection.set_max_body_size(BODY)
        connection.set_body_timeout(BODY_SECONDS)

    def bound(self, connection: Any, announced: int | None) -> int | None:
        """Give a stranger's request its bounds.

        Parameters
        ----------
        connection
            Which is about to read the body.
        announced
            How long that will be; None when nobody says.

        Returns
        -------
        int or None
            How much of `kept` is set aside for it; None when it is too much, to be read and dropped.
        """
        stream = connection.stream
        self._strangers.setdefault(stream, _address(connection.context.address))
        loop = asyncio.get_running_loop()
        self._deadlines[stream] = loop.call_later(STRANGER_ANSWER, stream.close)
        connection.params.header_timeout = STRANGER_SECONDS
        connection.set_body_timeout(STRANGER_SECONDS)
        wanted = STRANGER_BODY if announced is None else announced
        if wanted > STRANGER_BODY or self.kept + wanted > STRANGERS_BODIES:
            connection.set_max_body_size(STRANGER_DROPPED)
            return None
        connection.set_max_body_size(STRANGER_BODY)
        self.kept += wanted
        return wanted

    async def knows(self, start_line: Any, headers: HTTPHeaders, connection: Any) -> bool:
        """Say whether somebody who is in sends a request, by its headers alone."""
        # What another site makes a browser send is not its owner's, whatever cookies come along.
        if (
            headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}
            and start_line.method != "GET"
        ):
            return False
        token = "token=" in start_line.path and start_line.path
        claims = "\0".join((headers.get("Authorization", ""), headers.get("Cookie", ""), token or ""))
        if len(claims) == claims.count("\0"):
            return False
        key = hashlib.sha256(claims.encode()).digest()
        until, known = self._remembered.get(key, (0.0, False))
        if until < time.monotonic():
            known = await self._ask(start_line, headers, connection)
            self._remembered[key] = time.monotonic() + REMEMBERED_SECONDS, known
            self._remembered.move_to_end(key)
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        return known

    async def _ask(self, start_line: Any, headers: HTTPHeaders, connection: Any) -> bool:
        try:
            request = HTTPServerRequest(connection=connection, start_line=start_line, headers=headers)
            handler = _Asker(self._application, request)
            user = self._provider.get_user(handler)
            if asyncio.iscoroutine(user) or asyncio.isfuture(user):
                user = await asyncio.wait_for(user, ASKING_SECONDS)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, or with the hub: a stranger until then
            return False
        return user is not None


class _Door(HTTPMessageDelegate):
    """One request: who sends it is asked when its headers are there."""

    def __init__(self, guard: Guard, inner: HTTPMessageDelegate, connection: Any) -> None:
        self._guard = guard
        self._inner = inner
        self._connection = connection
        self._kept: int | None = 0

    async def headers_received(self, start_line: Any, headers: HTTPHeaders) -> None:
        known = await self._guard.knows(start_line, headers, self._connection)
        stranger.set(not known)
        if known:
            self._guard.admit(self._connection)
        else:
            self._kept = self._guard.bound(self._connection, _length(headers))
        if self._kept is not None:
            await _settled(self._inner.headers_received(start_line, headers))

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return None if self._kept is None else self._inner.data_received(chunk)

    def finish(self) -> None:
        if self._kept is None:
            self._refuse()
        else:
            self._inner.finish()
            self._forget()

    def on_connection_close(self) -> None:
        if self._kept is not None:
            self._inner.on_connection_close()
            self._forget()

    def _forget(self) -> None:
        self._guard.kept -= self._kept or 0
        self._kept = 0

    def _refuse(self) -> None:
        text = b'{"message": "Sign in first: this is more than somebody who is not signed in may send."}\n'
        headers = HTTPHeaders({"Content-Type": "application/json", "Content-Length": str(len(text))})
        self._connection.write_headers(ResponseStartLine("HTTP/1.1", 403, "Forbidden"), headers, text)
        self._connection.finish()


def _address(address: Any) -> str:
    return str(address[0]) if isinstance(address, tuple) and address else ""


async def _settled(future: Awaitable[None] | None) -> None:
    if future is not None:
        await future


def _length(headers: HTTPHeaders) -> int | None:
    """Return how long a body is; None when its headers do not say.

    Raises
    ------
    HTTPInputError
        When they say nonsense.
    """
    if "Transfer-Encoding" in headers:
        return None
    text = headers.get("Content-Length", "0").split(",")[0].strip()
    if not (text.isascii() and text.isdigit() and len(text) < 20):  # noqa: PLR2004 - more than any length
        raise HTTPInputError("Content-Length is no number")
    return int(text)


def setup(serverapp: Any) -> None:
    """Guard a server whose application is there, and which does not listen yet."""
    guard = Guard(serverapp)
    serverapp.web_app.start_request = guard.start_request
    make = serverapp.init_httpserver

    def init_httpserver() -> None:
        make()
        guard.watch(serverapp.http_server)

    serverapp.init_httpserver = init_httpserver
