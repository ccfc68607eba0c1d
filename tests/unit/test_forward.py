"""Forwarding to ports of a session: whose program it is, what it is handed, and what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import socket
import threading

import pytest
import requests
from tornado import web
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketHandler, websocket_connect

from tests.forward_world import LOGIN, SECRETS, TOKEN, free_port, world

EVERYWHERE = "0.0.0.0"  # noqa: S104 - on which addresses a program listens is what is tested
WAYS = ("proxy/{port}/", "proxy/absolute/{port}/", "proxy/127.0.0.1:{port}/", "proxy/localhost:{port}/x?y=1")


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the request as it came."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        size = int(self.headers.get("Content-Length") or 0)
        body = json.dumps(
            {
                "path": self.path,
                "headers": [[name.lower(), value] for name, value in self.headers.items()],
                "body": self.rfile.read(size).decode(),
            }
        ).encode()
        self.send_response(self.server.code)
        for name, value in self.server.sent:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def echo(address="127.0.0.1", sent=(), code=200):
    """Run a program of the owner's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    class Server(http.server.ThreadingHTTPServer):
        address_family = family
        daemon_threads = True

        def server_bind(self):
            if self.address_family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

    server = Server((address, 0), Echo)
    server.sent, server.code = list(sent), code
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    with world(tmp_path_factory.mktemp("session")) as started:
        yield started


def heard(answer):
    assert answer.status_code == 200, answer.text
    told = answer.json()
    return told, dict(map(tuple, told["headers"]))


@pytest.mark.parametrize("address", ["127.0.0.1", EVERYWHERE, "::", "::1"])
def test_a2_the_owners_program_is_reached_wherever_it_listens(session, address):
    with echo(address) as port:
        told, _ = heard(session.ask(f"proxy/{port}/a%20b?c=d"))
        assert told["path"] == "/a%20b?c=d"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a2_somebody_elses_program_hears_nothing_at_all(session, way, method):
    port = free_port()
    with session.stranger(port) as record:
        answer = session.ask(way.format(port=port), method)
        assert answer.status_code == 403
        assert f"Somebody else uses port {port}" in answer.text
        assert record.read_bytes() == b""


def test_a2_no_credential_of_hub_or_server_is_handed_on(session):
    with echo() as port:
        told, headers = heard(
            session.ask(
                f"proxy/{port}/?token=mine&_xsrf=proof-of-ravi&a=1&token={TOKEN}",
                cookies={"theme": "dark"},
                headers={"X-XSRFToken": "proof-of-ravi"},
            )
        )
    assert not [secret for secret in SECRETS if secret in json.dumps(told)]
    assert headers["cookie"] == "theme=dark"
    assert told["path"] == "/?token=mine&a=1"


class Told(WebSocketHandler):
    """A websocket of the owner's: tells the headers it was opened with, then says what is said to it."""

    def select_subprotocol(self, subprotocols):
        return "second" if "second" in subprotocols else None

    def check_origin(self, _origin):
        return True

    def open(self):
        self.write_message(
            json.dumps([[name.lower(), value] for name, value in self.request.headers.get_all()])
        )

    def on_message(self, message):
        self.write_message(message, binary=isinstance(message, bytes))


def opened(session, port, **headers):
    cookies = "; ".join(f"{name}={value}" for name, value in {**LOGIN, "theme": "dark"}.items())
    return websocket_connect(
        HTTPRequest(
            session.address(f"proxy/{port}/ws").replace("http", "ws"),
            headers={"Cookie": cookies, "Authorization": f"token {TOKEN}", **headers},
        ),
        max_message_size=2**27,
    )


async def ended(connection):
    last = await connection.read_message()
    connection.close()
    return last is None


async def test_a2_a_websocket_is_handed_no_credential_and_carries_real_sizes(session):
    program = web.Application([("/ws", Told)], websocket_max_message_size=2**27)
    server = program.listen(0, "127.0.0.1", max_buffer_size=2**27)
    (port,) = {each.getsockname()[1] for each in server._sockets.values()}
    try:
        connection = await opened(session, port)
        told = await connection.read_message()
        assert not [secret for secret in SECRETS if secret in told]
        assert dict(map(tuple, json.loads(told)))["cookie"] == "theme=dark"
        for message in ("word", b"bytes", b"x" * 9_000_000):
            await connection.write_message(message, binary=isinstance(message, bytes))
            assert await connection.read_message() == message
        connection.close()
    finally:
        server.stop()
        await server.close_all_connections()


async def test_a2_somebody_elses_websocket_hears_nothing(session):
    port = free_port()
    with session.stranger(port) as record:
        connection = await opened(session, port)
        assert await ended(connection)
        assert connection.close_code == 1008
        assert connection.close_reason == f"The program on port {port} is somebody else's."
        assert record.read_bytes() == b""


async def test_c11_a_websocket_to_nobody_closes_with_a_word(session):
    connection = await opened(session, port := free_port())
    assert await ended(connection)
    assert (connection.close_code, connection.close_reason) == (1014, f"Nothing listens on port {port}.")


async def test_a2_a_listener_that_changes_hands_gets_no_credential(session):
    """Two hundred requests, plain, redirected and websockets, while the port goes to and fro all the time."""
    port = free_port()
    ours = threading.Event()

    def owner():
        while not ours.is_set():
            with (
                contextlib.suppress(OSError),
                raw(b"HTTP/1.1 302 Go\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", port),
            ):
                ours.wait(0.01)
            ours.wait(0.002)

    thread = threading.Thread(target=owner)
    with session.stranger(port, turns=True) as record:
        thread.start()
        try:
            codes = [await asyncio.to_thread(one_way, session, port, number) for number in range(150)]
            for _ in range(50):
                assert await ended(await opened(session, port))
        finally:
            ours.set()
            thread.join()
        assert record.read_bytes() == b""
    # Both were met: else nothing was seen here.
    assert {302, 403} <= set(codes), codes


def one_way(session, port, number):
    return session.ask(WAYS[number % len(WAYS)].format(port=port), ("GET", "POST")[number % 2]).status_code


@pytest.mark.parametrize("scheme", ["token", "Bearer", "TOKEN  ", "bearer\t"])
def test_a2_a_token_of_the_server_stays_here_and_the_programs_own_goes_on(session, scheme):
    with echo() as port:
        cookie = session.log_in()
        for value, kept in ((TOKEN, False), ("of-the-program", True)):
            sent = f"{scheme} {value}"
            _, headers = heard(
                session.ask(f"proxy/{port}/", who=False, cookies=cookie, headers={"Authorization": sent})
            )
            assert ("authorization" in headers) is kept
        basic = {"Authorization": "Basic dXNlcjpwYXNz"}
        assert heard(session.ask(f"proxy/{port}/", who=False, cookies=cookie, headers=basic))[1][
            "authorization"
        ]


def test_a2_a_programs_own_cookies_and_its_own_proof_go_both_ways(session):
    """As Streamlit guards its uploads: the value of its own cookie comes back in X-Xsrftoken."""
    sent = [
        ("Set-Cookie", "_streamlit_xsrf=2|abc; Path=/"),
        ("Set-Cookie", "theme=dark; Path=/; HttpOnly"),
        ("Set-Cookie", "jupyterhub-user-ravi=planted; Path=/user/ravi/"),
        ("Set-Cookie", "=jupyterhub-session-id=planted; Path=/"),
        ("Set-Cookie", " _xsrf = planted"),
        ("set-cookie", "__Host-jupyterhub-user-ravi=planted; Secure"),
        ("Set-Cookie", "JupyterHub-hub-login=planted"),
    ]
    with echo(sent=sent) as port:
        answer = session.ask(
            f"proxy/{port}/",
            "POST",
            who=False,
            cookies={**session.log_in(), "_streamlit_xsrf": "2|abc"},
            headers={"X-Xsrftoken": "2|abc"},
            data="file",
        )
        told, headers = heard(answer)
        assert headers["x-xsrftoken"] == "2|abc"
        assert headers["cookie"] == "_streamlit_xsrf=2|abc"
        assert told["body"] == "file"
        assert answer.raw.headers.getlist("Set-Cookie") == [value for _, value in sent[:2]]


def test_a2_what_speaks_for_the_whole_origin_does_not_come_back(session):
    names = (
        *(
            "Clear-Site-Data",
            "Service-Worker-Allowed",
            "Strict-Transport-Security",
            "Alt-Svc",
            "NEL",
            "Report-To",
        ),
        *(
            "Origin-Agent-Cluster",
            "Accept-CH",
            "Set-Cookie2",
            "Public-Key-Pins",
            "Set-Login",
            "Proxy-Authenticate",
        ),
    )
    mine = {
        "X-Of-The-Program": "yes",
        "Content-Security-Policy": "default-src 'self'",
        "WWW-Authenticate": "Basic",
    }
    with echo(sent=[*((name, "x") for name in names), *mine.items()]) as port:
        answer = session.ask(f"proxy/{port}/")
        assert not [name for name in names if name in answer.headers]
        assert {name: answer.headers[name] for name in mine} == mine


def test_a2_a_redirect_stays_below_the_port_and_takes_no_credential_along(session):
    stranger = free_port()
    with session.stranger(stranger) as record, echo(code=302, sent=[("Location", "/next?a=1")]) as port:
        assert session.ask(f"proxy/{port}/").headers["Location"] == f"/user/ravi/proxy/{port}/next?a=1"
        assert session.ask(f"proxy/absolute/{port}/").headers["Location"] == "/next?a=1"
    with session.stranger(stranger) as record:
        away = f"http://127.0.0.1:{stranger}/"
        with echo(code=307, sent=[("Location", away)]) as port:
            assert session.ask(f"proxy/{port}/").headers["Location"] == away
        assert record.read_bytes() == b""


CROSS = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize("way", WAYS)
def test_a2_a_page_of_another_site_opens_no_port(session, way):
    cookie = session.log_in()
    with echo() as port:
        path = way.format(port=port)
        refused = session.ask(path, who=False, cookies=cookie, headers=CROSS)
        assert refused.status_code == 403
        assert "Another site sent you here" in refused.text
        assert f'href="/user/ravi/{path}"' in refused.text
        for site in ("none", "same-origin", "same-site"):
            heard(session.ask(path, who=False, cookies=cookie, headers={**CROSS, "Sec-Fetch-Site": site}))
        heard(session.ask(path, who=False, cookies=cookie))  # a browser that does not say
        heard(session.ask(path, headers=CROSS))  # a program with a token


@pytest.mark.parametrize(
    "host", ["example.org", "10.0.0.1", EVERYWHERE, "192.168.1.1", "localhost.example.org"]
)
def test_a2_only_the_loopback_is_forwarded_to(session, host):
    answer = session.ask(f"proxy/{host}:80/")
    assert answer.status_code == 403
    assert "is not this session&#x27;s own node" in answer.text


def test_a2_nobody_without_a_login_gets_through(session):
    with echo() as port:
        assert session.ask(f"proxy/{port}/", who=False).status_code == 302


def test_c11_a_port_with_nobody_there_says_so(session):
    port = free_port()
    page = session.ask(f"proxy/{port}/")
    assert page.status_code == 502
    assert page.headers["Content-Type"].startswith("text/html")
    assert f"<h1>Nothing runs on port {port}</h1>" in page.text
    assert 'href="/user/ravi/lab"' in page.text
    line = session.ask(f"proxy/{port}/", headers={"Accept": "*/*"})
    assert line.status_code == 502
    assert line.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert line.text.startswith(f"Nothing runs on port {port}. ")
    script = session.ask(
        f"proxy/{port}/", headers={"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
    )
    assert script.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("port", ["0", "65536", "99999999999999999999999999"])
def test_c11_a_port_that_cannot_be_says_so(session, port):
    answer = session.ask(f"proxy/{port}/")
    assert answer.status_code == 502
    assert "ports are 1 to 65535" in answer.text


@contextlib.contextmanager
def raw(answer: bytes, port: int = 0):
    """Run a program of the owner's that answers each request with these bytes, and hangs up."""
    listener = socket.create_server(("127.0.0.1", port))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer:
                    peer.recv(65536)
                    peer.sendall(answer)
                    peer.shutdown(socket.SHUT_WR)
                    peer.recv(65536)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 2", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"\x00\x01\x02\r\n\r\n"]
)
def test_c11_a_program_that_speaks_no_http_or_dies_before_its_answer_is_told(session, said):
    with raw(said) as port:
        answer = session.ask(f"proxy/{port}/")
    assert answer.status_code == 502
    assert f"<h1>The program on port {port} broke off</h1>" in answer.text


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
)
def test_c11_half_an_answer_is_never_taken_for_a_whole_one(session, said):
    with raw(said) as port, pytest.raises(requests.exceptions.ChunkedEncodingError):
        session.ask(f"proxy/{port}/")


def test_an_answer_comes_piece_by_piece_however_long_it_is(session):
    """150 MB, of which tornado's client takes 100, and without all of it in the server's memory."""
    piece, times = b"x" * 2**20, 150
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        peer, _ = listener.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(piece) * times))
            for _ in range(times):
                peer.sendall(piece)

    thread = threading.Thread(target=serve)
    thread.start()
    with listener:
        before = session.memory()
        answer = session.ask(f"proxy/{listener.getsockname()[1]}/", stream=True)
        assert sum(len(part) for part in answer.iter_content(2**20)) == len(piece) * times
        thread.join()
    assert session.memory() - before < 30 * 2**20


@pytest.mark.parametrize("code", [204, 304, 404, 500, 418])
def test_status_codes_come_through(session, code):
    with raw(b"HTTP/1.1 %d Told\r\nX-A: b\r\nContent-Length: 0\r\n\r\n" % code) as port:
        answer = session.ask(f"proxy/{port}/")
    assert (answer.status_code, answer.headers["X-A"], answer.content) == (code, "b", b"")


def test_head_and_uploads(session):
    with echo() as port:
        answer = session.ask(f"proxy/{port}/", "PUT", data=b"x" * 3_000_000)
        assert len(answer.json()["body"]) == 3_000_000
    with raw(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n") as port:
        assert session.ask(f"proxy/{port}/", "HEAD").headers["Content-Length"] == "7"


@pytest.mark.parametrize("kind", ["proxy", "absproxy"])
def test_c9_code_servers_way_to_a_port_is_ours(session, kind):
    ours = "proxy/" if kind == "proxy" else "proxy/absolute/"
    answer = session.ask(f"code-server/{kind}/8501/a/b?c=d")
    assert answer.status_code == 307
    assert answer.headers["Location"] == f"/user/ravi/{ours}8501/a/b?c=d"
