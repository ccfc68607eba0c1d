"""The door of a server of ours: who sends a request is asked before the request is kept.

tornado reads a body into memory before a handler sees the request. Here its headers are looked at first, and
say how much is read, and for how long.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from typing import TYPE_CHECKING, Any

from tornado.httputil import HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.iostream import StreamClosedError

from carme_hub.authenticator.client import client_address, is_proxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tornado.httputil import HTTPHeaders
    from tornado.iostream import IOStream

    from carme_hub.front.bounds import Bounds

FORGED = ("Forwarded", "X-Forwarded-", "X-Real-Ip", "X-Scheme")  # names, and beginnings of names
LINGER = 2.0  # seconds in which what is still sent to us is thrown away, so that the answer is read
PIECE = 1 << 16
TOO_LARGE = "That is more than is taken here."


class Held:
    """The bodies that are held for people of whom it is not known whether they are in.

    Parameters
    ----------
    most
        Bytes of all together.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.total = 0
        self._sizes: dict[Arrival, int] = {}

    def add(self, arrival: Arrival, size: int) -> None:
        """Count bytes that came."""
        self._sizes[arrival] = self._sizes.get(arrival, 0) + size
        self.total += size

    def drop(self, arrival: Arrival) -> None:
        """Forget a body that is not held any more."""
        self.total -= self._sizes.pop(arrival, 0)

    async def make_room(self) -> None:
        """Break off the largest that are strangers', until the rest fits."""
        for arrival in [one for one in self._sizes if one.stream.closed()]:
            self.drop(arrival)
        while self.total > self.most and self._sizes:
            largest = max(self._sizes, key=self._sizes.__getitem__)
            self.drop(largest)
            if not await largest.known():
                largest.stream.close()


class Arrivals(HTTPServerConnectionDelegate):
    """Stands between tornado's server and its application.

    Parameters
    ----------
    application
        What answers.
    bounds
        What it takes.
    is_in
        Whether a request's headers are those of somebody who is in; asked where something depends on it.
    trusted
        Addresses of proxies beside those of this machine: ``JupyterHub.trusted_downstream_ips``.
    """

    def __init__(
        self,
        application: HTTPServerConnectionDelegate,
        bounds: Bounds,
        is_in: Callable[[HTTPHeaders], Awaitable[bool]],
        trusted: tuple[str, ...] = (),
    ) -> None:
        self.application, self.bounds, self.is_in, self.trusted = application, bounds, is_in, trusted
        self.held = Held(bounds.strangers_together)
        self._streams: dict[str, set[IOStream]] = {}

    def start_request(self, server_conn: object, request_conn: Any) -> HTTPMessageDelegate:
        """Begin with a request of which nothing has been read."""
        stream, context = request_conn.stream, request_conn.context
        peer = context.address[0] if isinstance(context.address, tuple) and context.address else "127.0.0.1"
        proxy = is_proxy(peer, _local(stream), self.trusted)
        params = copy.copy(request_conn.params)
        params.max_header_size = self.bounds.header
        if not proxy:
            # A proxy sends nothing before it has all headers, and keeps connections for the next request.
            params.header_timeout = self.bounds.idle
            self._count(str(peer), stream)
        request_conn.params = params
        inner = self.application.start_request(server_conn, request_conn)
        return Arrival(self, inner, request_conn, str(peer), proxy=proxy)

    def _count(self, peer: str, stream: IOStream) -> None:
        """Close one connection too many of an address."""
        known = self._streams.setdefault(peer, set())
        if stream in known:
            return
        if len(known) >= self.bounds.connections:
            known -= {one for one in known if one.closed()}
        if len(known) >= self.bounds.connections:
            stream.close()
            return
        known.add(stream)
        if len(self._streams) > self.bounds.connections:
            self._forget_the_gone()

    def _forget_the_gone(self) -> None:
        for address, some in list(self._streams.items()):
            some -= {one for one in some if one.closed()}
            if not some:
                del self._streams[address]


class Arrival(HTTPMessageDelegate):
    """One request on its way in."""

    def __init__(
        self, door: Arrivals, inner: HTTPMessageDelegate, connection: Any, peer: str, *, proxy: bool
    ) -> None:
        self.door, self.inner, self.connection, self.peer, self.proxy = door, inner, connection, peer, proxy
        self.stream: IOStream = connection.stream
        self.headers: HTTPHeaders | None = None
        self._known: bool | None = None
        self._refused = False

    async def known(self) -> bool:
        """Say whether the sender is in; ask once."""
        if self._known is None:
            self._known = self.headers is not None and await self.door.is_in(self.headers)
        return self._known

    async def headers_received(self, start_line: Any, headers: HTTPHeaders) -> None:
        """Decide how much is read."""
        self.headers = headers
        self._believe_proxies_only(headers)
        bounds, length = self.door.bounds, headers.get("Content-Length", "")
        chunked = "Transfer-Encoding" in headers
        size = int(length) if length.isascii() and length.isdigit() else 0
        large = chunked or size > bounds.stranger_body
        known = large and await self.known()
        most = bounds.body if known else bounds.stranger_body
        if size > most:
            self._refused = True
            await refuse(self.connection.detach(), 413, "Content Too Large", TOO_LARGE)
            return
        self.connection.set_max_body_size(most)
        self.connection.set_body_timeout(bounds.patience if known else bounds.stranger_patience)
        self._release_with_the_answer()
        await _maybe(self.inner.headers_received(start_line, headers))

    def _believe_proxies_only(self, headers: HTTPHeaders) -> None:
        """Take away what others than a proxy say of where they come from; see `client_address`."""
        context = self.connection.context
        address = client_address(
            self.peer, _local(self.stream), headers.get_list("X-Forwarded-For"), self.door.trusted
        )
        if not self.proxy:
            for name in [one for one in headers if one.startswith(FORGED)]:
                del headers[name]
            context._unapply_xheaders()  # noqa: SLF001  tornado's own way back; its server has believed them
        if address:
            context.remote_ip = address

    def _release_with_the_answer(self) -> None:
        """Count a body as held until it is answered."""
        finish = self.connection.finish

        def finish_and_release() -> None:
            self.door.held.drop(self)
            finish()

        self.connection.finish = finish_and_release

    async def data_received(self, chunk: bytes) -> None:
        """Keep a piece of the body."""
        if not self._known:
            held = self.door.held
            held.add(self, len(chunk))
            if held.total > held.most:
                await held.make_room()
        await _maybe(self.inner.data_received(chunk))

    def finish(self) -> None:
        """Hand on the request: all of it is here."""
        self.inner.finish()

    def on_connection_close(self) -> None:
        """Forget it: the sender has gone."""
        self.door.held.drop(self)
        if not self._refused:
            self.inner.on_connection_close()


async def refuse(stream: IOStream, status: int, reason: str, sentence: str) -> None:
    """Answer, and close; what is sent meanwhile is thrown away, since the answer is lost to a reset."""
    text = f"{sentence}\n".encode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    )
    with contextlib.suppress(StreamClosedError, OSError, TimeoutError):
        await stream.write(head.encode() + text)
        async with asyncio.timeout(LINGER):
            while True:
                await stream.read_bytes(PIECE, partial=True)
    stream.close()


async def _maybe(result: Awaitable[None] | None) -> None:
    if result is not None:
        await result


def _local(stream: IOStream) -> str:
    """Return this end's address; empty where there is none."""
    with contextlib.suppress(OSError, AttributeError):
        name = stream.socket.getsockname()
        return str(name[0]) if isinstance(name, tuple) else ""
    return ""
