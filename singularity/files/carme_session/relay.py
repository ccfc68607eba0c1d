"""One request handed to a forwarded program, and its answer handed back piece by piece."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler

from . import headers as rules
from .connections import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tornado.iostream import IOStream

SILENCE = 7200  # seconds without a byte, after which a program has forgotten an answer
PIECE = 64 * 1024
FINAL = 200  # status codes below are words in between
ANY_SIZE = 2**62


class BrokenError(RefusedError):
    """The program ended in the middle, or speaks no HTTP."""


def send(
    stream: IOStream, method: str, target: str, headers: HTTPHeaders, body: bytes | None
) -> HTTP1Connection:
    """Send a request, and return the connection its answer comes on."""
    parameters = HTTP1ConnectionParameters(
        no_keep_alive=True, chunk_size=PIECE, max_body_size=ANY_SIZE, header_timeout=SILENCE
    )
    connection = HTTP1Connection(stream, is_client=True, params=parameters)
    sent = HTTPHeaders(headers)
    sent["Connection"] = "close"
    if body is not None:
        sent["Content-Length"] = str(len(body))
    elif "Content-Length" in sent:
        del sent["Content-Length"]
    # A program may answer, and hang up, before it has read everything (413): that answer is worth reading.
    connection.write_headers(RequestStartLine(method, target, "HTTP/1.1"), sent, body).add_done_callback(
        _seen
    )
    connection.finish()
    return connection


def _seen(written: asyncio.Future[None]) -> None:
    if not written.cancelled():
        written.exception()


class Answer(HTTPMessageDelegate):
    """Hands a program's answer to the handler of the request, no faster than the browser takes it."""

    def __init__(
        self,
        handler: Any,
        stream: IOStream,
        own_cookies: Iterable[str],
        translate: Callable[[str, str, int], str],
    ) -> None:
        self.handler = handler
        self.stream = stream
        self.own_cookies = own_cookies
        self.translate = translate
        self.begun = False
        self.complete = False
        self.patience: asyncio.Timeout | None = None

    async def headers_received(self, start_line: Any, headers: HTTPHeaders) -> None:
        """Begin the answer, unless this is a word in between (1xx)."""
        self._heard()
        if not isinstance(start_line, ResponseStartLine) or start_line.code < FINAL:
            return
        self.begun = True
        self.handler.set_status(start_line.code, start_line.reason or None)
        self.handler._headers = HTTPHeaders()  # noqa: SLF001 - tornado's defaults are not the program's
        for name, value in rules.from_app(headers.get_all(), self.own_cookies):
            self.handler.add_header(name, self.translate(name, value, start_line.code))
        await self._flush()  # whoever waits for an event wants to know that it may come

    async def data_received(self, chunk: bytes) -> None:
        """Hand on a piece, and take the next one when the browser has it."""
        self._heard()
        self.handler._record_activity()  # noqa: SLF001
        self.handler.write(chunk)
        await self._flush()

    def finish(self) -> None:
        """Note that all of it was there."""
        self.complete = True

    async def _flush(self) -> None:
        try:
            # Not its own `flush`: jupyter-server-proxy's loses what there is to wait for.
            await RequestHandler.flush(self.handler)
        except StreamClosedError:  # the browser has gone
            self.stream.close()

    def _heard(self) -> None:
        if self.patience:
            self.patience.reschedule(asyncio.get_running_loop().time() + SILENCE)


async def receive(connection: HTTP1Connection, answer: Answer) -> None:
    """Hand an answer on.

    Raises
    ------
    BrokenError
        If it did not come, or not to its end; `answer.begun` says which.
    """
    try:
        async with asyncio.timeout(SILENCE) as answer.patience:
            await connection.read_response(answer)
    except TimeoutError as error:
        raise BrokenError("The program did not answer in time.") from error
    except StreamClosedError:
        answer.complete = False
    finally:
        answer.stream.close()
    if not answer.complete:
        raise BrokenError("The program ended before its answer was complete.")
