"""A session's answers, log and sizes: no service worker, short lines of people who are in, real messages."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import contextmanager

import pytest
import requests
from carme_session import answers, logs
from carme_session.guard import stranger
from tornado.httpclient import HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler, websocket_connect

from tests.session_server import PREFIX, TOKEN, session_server

MIB = 1 << 20
LARGE = 60 * MIB


class Echo(WebSocketHandler):
    def on_message(self, message):
        self.write_message(message, binary=isinstance(message, bytes))


class Wide(RequestHandler):
    def get(self):
        self.set_header("Service-Worker-Allowed", "/")
        self.set_header("Content-Type", "text/javascript")
        self.write("let x = 1; " * 1000)


class Big(RequestHandler):
    async def get(self):
        for _ in range(110):
            self.write(b"x" * MIB)
            await self.flush()


@contextmanager
def program():
    """Run a program of the person's own, on a port of this machine."""
    started = threading.Event()
    found = {}

    async def serve():
        handlers = [("/ws", Echo), ("/wide.js", Wide), ("/big", Big)]
        application = Application(handlers, websocket_max_message_size=2 * LARGE)
        server = HTTPServer(application)
        sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        found.update(port=sockets[0].getsockname()[1], loop=IOLoop.current(), end=asyncio.Event())
        started.set()
        await found["end"].wait()
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(10)
    try:
        yield found["port"]
    finally:
        found["loop"].add_callback(found["end"].set)
        thread.join(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with session_server(tmp_path_factory.mktemp("session")) as running:
        yield running


@pytest.fixture(scope="module")
def port():
    with program() as found:
        yield found


def lines(server):
    return server.log.read_text().splitlines()


def test_a7_strangers_write_nothing_into_the_log(server):
    before = lines(server)
    words = {
        "GET": ["x" * 12_000, "files/" + "y" * 12_000, "api/contents?token=" + "z" * 12_000, "lab\x1b[31m"],
        "POST": ["api/contents", "proxy/1/"],
        "PROPFIND": ["x"],
    }
    for method, paths in words.items():
        for path in paths * 5:
            cookie = {"Cookie": "jupyterhub-user-ravi=x; jupyterhub-user-ravi-oauth-state=x"}
            requests.request(method, server.url(path), timeout=30, headers=cookie, allow_redirects=False)
    for text in (
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
        b"\xff" * 40_000,
        b"POST / HTTP/1.1\r\nA\r\n\r\n",
    ):
        with server.connect() as one:
            one.sendall(text)
            one.recv(1000)
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    upgrade |= {"Sec-WebSocket-Key": "x" * 22 + "==", "Origin": "http://elsewhere.example"}
    for path in ("api/kernels/x/channels", "terminals/websocket/1", "proxy/1/" + "q" * 9000):
        requests.get(server.url(path), headers=upgrade, timeout=30, allow_redirects=False)
    # A mistake of the server's own, which they may have found, is told now and then.
    new = lines(server)[len(before) :]
    assert sum(len(line) for line in new) < 2 * logs.STRANGERS_ERRORS * logs.LONGEST_OF_STRANGERS
    assert not any("xxxxx" in line or "yyyyy" in line or "zzzzz" in line for line in new)


def test_a7_a_failure_of_somebody_who_is_in_is_one_short_line(server):
    before = len(lines(server))
    server.ask("GET", "api/contents/" + "%0a%1b" * 1000 + "?secret=1")
    new = [line for line in lines(server)[before:] if "api/contents" in line]
    assert new
    assert all(len(line) < 5000 and "\x1b" not in line for line in new)
    assert not any("secret" in line for line in new)


def test_a7_what_goes_well_is_not_logged(server):
    before = lines(server)
    for _ in range(3):
        assert server.ask("GET", "api/contents").status_code == 200
    # Of what an earlier test did wrong, a line may still come.
    assert not [line for line in lines(server)[len(before) :] if "200 GET" in line]


def record(text, level=logging.WARNING):
    return logging.LogRecord("x", level, "x", 1, text, (), None)


def test_a7_lines_are_cut_and_strangers_errors_counted():
    now = [1000.0]
    short = logs.Short(lambda: now[0])
    long = record("a" * 100_000)
    assert short.filter(long)
    assert len(long.getMessage()) <= logs.LONGEST_RECORD
    token = stranger.set(True)
    try:
        assert not short.filter(record("x"))
        passed = [short.filter(record("x", logging.ERROR)) for _ in range(100)]
        assert sum(passed) == logs.STRANGERS_ERRORS
        now[0] += logs.HOUR
        assert short.filter(record("x", logging.ERROR))
    finally:
        stranger.reset(token)


@pytest.mark.parametrize("length", [0, 1, 399, 400, 401, 10_000])
def test_a7_cut_keeps_both_ends(length):
    text = "a" + "b" * (length - 2) + "c" if length > 1 else "a" * length
    short = logs.cut(text, 400)
    assert len(short) <= 400
    assert text.startswith(short[:1])
    assert text.endswith(short[-1:])


@pytest.mark.parametrize(
    "path", ["sw.js", "files/sw.js", "proxy/1/sw.js", "static/x.js", "lab/extensions/x.js"]
)
@pytest.mark.parametrize("name", ["Service-Worker", "service-worker", "SERVICE-WORKER"])
def test_a4_a_service_worker_is_refused(server, path, name):
    (server.home / "sw.js").write_text("")
    assert server.ask("GET", path, headers={name: "script"}).status_code == 403


def test_a4_no_answer_widens_a_service_workers_reach(server, port):
    done = server.ask("GET", f"proxy/{port}/wide.js")
    assert done.status_code == 200
    assert "Service-Worker-Allowed" not in done.headers
    # The program does send it.
    assert (
        requests.get(f"http://127.0.0.1:{port}/wide.js", timeout=30).headers["Service-Worker-Allowed"] == "/"
    )


WEBVIEW = "static/out/vs/workbench/contrib/webview/browser/pre/service-worker.js"


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        (f"/user/ravi/code-server/stable-0123abcd/{WEBVIEW}", False),
        (f"/user/ravi/code-server/stable-0123abcd/../{WEBVIEW}", True),
        (f"/user/ravi/code-server/proxy/8000/stable-0123abcd/{WEBVIEW}", True),
        (f"/user/ravi/proxy/8000/stable-0123abcd/{WEBVIEW}", True),
        (f"/user/ravi/files/code-server/stable-0123abcd/{WEBVIEW}", True),
        (f"/user/noah/code-server/stable-0123abcd/{WEBVIEW}", True),
        ("/user/ravi/code-server/_static/out/browser/serviceWorker.js", True),
        ("/user/ravi/lab", True),
    ],
)
def test_a4_only_code_servers_own_drawing_has_one(path, refused):
    assert answers.refuses(path, {"Service-Worker": "script"}, PREFIX) is refused
    assert not answers.refuses(path, {}, PREFIX)


@pytest.mark.parametrize(
    ("name", "hashed"),
    [
        ("static/lab/jlab_core.8b87c9f5d14c9ec4a9ab.js", True),
        ("static/lab/8b87c9f5d14c9ec4a9ab.woff2", True),
        ("lab/extensions/@jupyter-widgets/x/static/remoteEntry.0f4a01234567890abcde.js", True),
        ("static/lab/index.js", False),
        ("lab/extensions/carme-time-limit/static/time-limit.js", False),
        ("static/deadbeef.js", False),
    ],
)
def test_names_that_change_with_their_content(name, hashed):
    assert answers.changes_with_its_content(name) is hashed


def test_static_files_are_compressed_and_nothing_else_is(server):
    ask = {"Accept-Encoding": "gzip"}
    static = server.ask("GET", "static/style/index.css", headers=ask)
    assert static.status_code == 200
    assert static.headers["Content-Encoding"] == "gzip"
    part = server.ask("GET", "static/style/index.css", headers=ask | {"Range": "bytes=0-99"})
    assert part.status_code == 206
    assert part.content == static.content[:100]
    (server.home / "long.txt").write_text("long " * 10_000)
    for path in ("api/contents/long.txt", "files/long.txt", "tree"):
        assert "Content-Encoding" not in server.ask("GET", path, headers=ask).headers


@pytest.mark.parametrize("kind", [bytes, str])
def test_c5_a_websocket_message_of_60_mb_both_ways(server, port, kind):
    message = b"x" * LARGE if kind is bytes else "x" * LARGE
    address = server.url(f"proxy/{port}/ws").replace("http", "ws", 1)

    async def talk():
        request = HTTPRequest(address, headers={"Authorization": f"token {TOKEN}"})
        connection = await websocket_connect(request, max_message_size=2 * LARGE)
        await connection.write_message(message, binary=kind is bytes)
        back = await connection.read_message()
        connection.close()
        return back

    assert asyncio.run(asyncio.wait_for(talk(), 120)) == message


def test_c5_an_answer_of_more_than_100_mb(server, port):
    with server.ask("GET", f"proxy/{port}/big", stream=True) as done:
        assert sum(len(piece) for piece in done.iter_content(MIB)) == 110 * MIB
