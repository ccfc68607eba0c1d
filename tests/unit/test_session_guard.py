"""A session's server and people it does not know: nothing they send is kept, its owner notices nothing."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import threading
import time

import pytest
import requests

from tests.session_server import PREFIX, TOKEN, session_server

MIB = 1 << 20
GROWTH = 50 * MIB
CONNECTIONS = 64
FULL = 4 * MIB  # what one connection tries to send, where it can
HEAD = f"POST {PREFIX}api/contents HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with session_server(tmp_path_factory.mktemp("session")) as running:
        running.ask("GET", "api/contents")
        yield running


def sized(size, **headers):
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{HEAD}{more}Content-Length: {size}\r\n\r\n".encode()


CHUNK = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
GET = f"GET {PREFIX}files/x HTTP/1.1\r\nHost: x\r\n".encode()
# name: what each connection sends at once, what it then sends as long as somebody takes it
ATTACKS = {
    "large": (sized(480 * MIB), b"x" * 65536),
    "of-a-size-that-is-dropped": (sized(60 * MIB), b"x" * 65536),
    "chunked": (f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode(), CHUNK),
    "chunked-with-a-bad-token": (
        f"{HEAD}Authorization: token nobody\r\nTransfer-Encoding: chunked\r\n\r\n".encode(),
        CHUNK,
    ),
    "with-a-forged-cookie": (sized(480 * MIB, Cookie="jupyterhub-user-ravi=2|1:0|9:x"), b"x" * 65536),
    "upload": (sized(480 * MIB, **{"Content-Type": "multipart/form-data; boundary=x"}), b"x" * 65536),
    "slow-body": (sized(64 * 1024) + b"x" * 60_000, b""),
    "slow-headers": (HEAD.encode() + b"X-A: " + b"a" * 30_000, b""),
    "endless-headers": (HEAD.encode(), b"X-A: " + b"a" * 1000 + b"\r\n"),
    "pipelined": (b"", sized(60_000) + b"x" * 60_000),
    "pipelined-addresses": (b"", GET.replace(b"files/x", b"files/" + b"x" * 12_000) + b"\r\n"),
    "expects": (sized(480 * MIB, Expect="100-continue"), b"x" * 65536),
    "bare": (b"", b""),
}


def send(sockets, more):
    """Send on all sockets what they take, until nobody takes more for a moment or all have sent enough."""
    left = dict.fromkeys(sockets, FULL)
    while left and more:
        _, ready, _ = select.select([], list(left), [], 1.0)
        if not ready:
            return
        for one in ready:
            try:
                left[one] -= one.send(more)
            except BlockingIOError:
                continue
            except OSError:
                left[one] = 0
            if left[one] <= 0:
                del left[one]


@contextlib.contextmanager
def attacked(server, name):
    """Hold `CONNECTIONS` open, each of which sends what it can."""
    first, more = ATTACKS[name]
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(server.connect()) for _ in range(CONNECTIONS)]
        for one in sockets:
            with contextlib.suppress(OSError):
                one.sendall(first)
            one.setblocking(False)
        thread = threading.Thread(target=send, args=(sockets, more))
        thread.start()
        try:
            yield
        finally:
            thread.join(60)


@pytest.mark.parametrize("name", ATTACKS)
def test_a1_64_strangers_at_once_cost_little_and_the_owner_notices_nothing(server, name):
    before = server.memory()
    slowest = 0.0
    with attacked(server, name):
        for _ in range(5):
            began = time.monotonic()
            assert server.ask("GET", "api/contents").status_code == 200
            slowest = max(slowest, time.monotonic() - began)
    assert server.process.poll() is None
    assert server.memory() - before < GROWTH
    assert slowest < 10


def test_a1_the_same_server_without_the_extension_keeps_it_all(tmp_path):
    # So the test above can fail.
    with session_server(tmp_path, extension=False) as bare, bare.connect() as one:
        before = bare.memory()
        one.sendall(sized(60 * MIB))
        with contextlib.suppress(OSError):
            for _ in range(960):
                one.sendall(b"x" * 65536)
        one.recv(100)
        assert bare.memory() - before > GROWTH


def test_a1_more_connections_than_there_are_for_strangers_leave_the_owners(server):
    with contextlib.ExitStack() as held:
        for _ in range(400):
            held.enter_context(server.connect())
        for _ in range(5):
            assert server.ask("GET", "api/contents").status_code == 200


def answer(one):
    with contextlib.suppress(OSError):
        return one.recv(65536).decode(errors="replace")
    return ""


@pytest.mark.parametrize("size", [65 * 1024, 5 * MIB])
def test_a1_a_stranger_reads_why(server, size):
    done = requests.post(server.url("api/contents"), data=b"x" * size, timeout=60)
    assert done.status_code == 403
    assert done.json()["message"].startswith("Sign in first")


def test_a1_what_a_stranger_may_send_reaches_the_handler(server):
    done = requests.post(server.url("api/contents"), data=b"x" * 60_000, timeout=60)
    assert done.status_code == 403
    assert "Sign in first" not in done.text


@pytest.mark.parametrize("length", ["-1", "1e9", "0x10", "5, 6", "9" * 30, "²"])
def test_a1_a_length_that_is_none_is_refused(server, length):
    with server.connect() as one:
        one.sendall(f"{HEAD}Content-Length: {length}\r\n\r\n".encode())
        assert " 400 " in answer(one)


@pytest.mark.parametrize("way", ["token", "cookie"])
def test_a1_people_who_are_in_send_much(server, way):
    body = {"type": "file", "format": "text", "content": "x" * (24 * MIB)}
    if way == "token":
        done = server.ask("PUT", "api/contents/a.txt", json=body)
    else:
        browser = server.signed_in()
        browser.get(server.url("api/contents"), headers={"Sec-Fetch-Site": "same-origin"}, timeout=30)
        xsrf = {"X-XSRFToken": browser.cookies.get("_xsrf", path=PREFIX)}
        done = browser.put(server.url("api/contents/b.txt"), json=body, headers=xsrf, timeout=60)
    assert done.status_code == 201, done.text


def test_a1_another_sites_page_sends_no_more_than_a_stranger(server):
    for site in ("cross-site", "same-site"):
        done = server.ask("POST", "api/contents", data=b"x" * MIB, headers={"Sec-Fetch-Site": site})
        assert done.status_code == 403


def test_a1_an_upload_in_pieces_costs_its_owner_no_memory(server):
    piece = "eHh4" * (1 << 18)  # base64 of 768 KiB
    pieces = 50
    before = server.memory()
    for number in [*range(1, pieces), -1]:
        body = {"type": "file", "format": "base64", "content": piece, "chunk": number}
        assert server.ask("PUT", "api/contents/large.bin", json=body).status_code in {200, 201}
    assert (server.home / "large.bin").stat().st_size == pieces * 768 * 1024
    assert server.memory() - before < GROWTH


def test_a1_a_stranger_who_is_slow_is_given_up(tmp_path):
    # A part of the server's own settings; seconds in the place of twenty.
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick" / "sitecustomize.py").write_text(
        "import carme_session.guard as guard\nguard.STRANGER_SECONDS = 1.0\n"
    )
    files = os.pathsep.join([str(tmp_path / "quick"), *(p for p in sys.path if p.endswith("files"))])
    (tmp_path / "s").mkdir()
    with session_server(tmp_path / "s", PYTHONPATH=files) as quick:
        for first in (b"", b"GET /", HEAD.encode(), sized(1000), sized(60 * MIB), sized(10) + b"x"):
            with quick.connect() as one:
                one.sendall(first)
                assert " 200 " not in answer(one)
                assert answer(one) == ""


def test_what_is_remembered_of_strangers_is_bounded():
    auth = pytest.importorskip("jupyterhub.services.auth")
    from carme_session import memory  # noqa: PLC0415

    few = memory.bounded(auth._ExpiringDict(600), 3)
    for number in range(10):
        few[f"state{number}"] = {"next_url": "/user/ravi/" + "x" * 5000 * (number % 2), "code_verifier": "v"}
    assert list(few.values) == ["state7", "state8", "state9"]
    assert few["state8"]["next_url"] == "/user/ravi/"
    assert few["state9"] == {"next_url": None, "code_verifier": "v"}
    few["k" * 1000] = {}
    assert len(few) == 3


def test_a_login_is_led_back_to_where_it_came_from(server):
    browser = server.signed_in()
    assert browser.get(server.url("api/kernels"), timeout=30).status_code == 200
    assert (
        json.loads(server.ask("GET", "api/kernels", headers={"Authorization": f"token {TOKEN}"}).text) == []
    )
