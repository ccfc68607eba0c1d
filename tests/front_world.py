"""The proxy in front as a hub runs it, with servers of a test behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler, stream_request_body
from tornado.websocket import WebSocketHandler

from carme_hub.demo import cache, nodejs
from carme_hub.front import passes, proxy
from carme_hub.front.bounds import FrontBounds

LOOPBACK = "127.0.0.1"
GOOD_TOKEN = "good-token"
KEY = b"k" * 32


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@dataclass
class Seen:
    """What one server behind the proxy was asked."""

    name: str
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    bytes: int = 0
    answers: dict[str, str] = field(default_factory=dict)  # headers of every answer


@stream_request_body
class Upstream(RequestHandler):
    def initialize(self, seen: Seen) -> None:
        self.seen = seen

    def prepare(self) -> None:
        self.request.connection.set_max_body_size(1 << 34)
        self.seen.requests.append((self.request.method, self.request.path, dict(self.request.headers)))

    def data_received(self, chunk: bytes) -> None:
        self.seen.bytes += len(chunk)

    def answer(self) -> None:
        good = self.request.headers.get("Authorization") == f"token {GOOD_TOKEN}"
        self.set_status(403 if self.request.path.endswith("/api/user") and not good else 200)
        for name, value in self.seen.answers.items():
            self.set_header(name, value)
        self.write({"who": self.seen.name})

    get = post = put = patch = delete = answer


class Echo(WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(message, binary=isinstance(message, bytes))


def upstream(name: str) -> tuple[Seen, HTTPServer, int]:
    seen, port = Seen(name), free_port()
    routes = [(r".*/echo", Echo), (r".*", Upstream, {"seen": seen})]
    server = HTTPServer(
        Application(routes, websocket_max_message_size=1 << 30, log_function=lambda _handler: None)
    )
    server.listen(port, LOOPBACK)
    return seen, server, port


@dataclass
class Front:
    """A running proxy."""

    port: int
    pid: int
    hub: Seen
    session: Seen
    service: Seen
    client: AsyncHTTPClient

    def url(self, path: str, scheme: str = "http") -> str:
        return f"{scheme}://{LOOPBACK}:{self.port}{path}"

    async def ask(self, path: str, method: str = "GET", **more: Any) -> Any:
        """Ask as a client; the answer of `fetch`, whatever its status."""
        more.setdefault("request_timeout", 30)
        request = HTTPRequest(self.url(path), method, allow_nonstandard_methods=True, **more)
        return await self.client.fetch(request, raise_error=False)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(LOOPBACK, self.port)

    def memory(self) -> int:
        """Bytes that the proxy holds."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def pass_cookie(now: float | None = None, key: bytes = KEY) -> dict[str, str]:
    value = passes.new_pass(key, time.time() if now is None else now)
    return {"Cookie": f"{passes.COOKIE}={value}"}


@contextlib.asynccontextmanager
async def front(bounds: FrontBounds, trusted: list[str] | None = None) -> AsyncIterator[Front]:
    """Run the proxy with a hub, a session (/user/ravi/) and a service (/services/carme/) behind it."""
    command = nodejs.proxy(cache.root(), print)
    port, api, token = free_port(), free_port(), secrets.token_hex(8)
    told = {"bounds": asdict(bounds), "key": KEY.hex(), "trusted": trusted or [], "who": "/hub/api/user"}
    servers = [upstream(name) for name in ("hub", "session", "service")]
    words = [*proxy.command(), "--ip", LOOPBACK, "--port", str(port), "--api-ip", LOOPBACK]
    environment = {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "CARME_FRONT": json.dumps(told),
        "CONFIGPROXY_AUTH_TOKEN": token,
    }
    process = await asyncio.create_subprocess_exec(
        *words, "--api-port", str(api), "--log-level", "warn", env=environment
    )
    AsyncHTTPClient.configure(None, max_clients=500, max_body_size=1 << 30)
    client = AsyncHTTPClient(force_instance=True)
    try:
        routes = [
            ("", {"hub": True}),
            ("/user/ravi", {"user": "ravi"}),
            ("/services/carme", {"service": "carme"}),
        ]
        for (prefix, data), (_seen, _server, target) in zip(routes, servers, strict=True):
            body = json.dumps({"target": f"http://{LOOPBACK}:{target}", **data})
            await _until_answered(
                client,
                HTTPRequest(
                    f"http://{LOOPBACK}:{api}/api/routes{prefix}",
                    "POST",
                    headers={"Authorization": f"token {token}"},
                    body=body,
                ),
            )
        hub, session, service = (one[0] for one in servers)
        yield Front(port, process.pid, hub, session, service, client)
    finally:
        client.close()
        process.terminate()
        await process.wait()
        for _seen, server, _port in servers:
            server.stop()
            await server.close_all_connections()


async def _until_answered(client: AsyncHTTPClient, request: HTTPRequest) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await client.fetch(request)
            except (OSError, HTTPClientError):
                await asyncio.sleep(0.05)
            else:
                return
