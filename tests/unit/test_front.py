"""The proxy in front: what it takes from whom, what it hands on, and what strangers learn."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
import pytest_asyncio
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from carme_hub.front.bounds import FRONT, FrontBounds
from tests.front_world import GOOD_TOKEN, Front, front, pass_cookie

KIB, MIB = 1 << 10, 1 << 20
BOUNDS = FrontBounds(
    header_seconds=1.5,
    stranger_seconds=1.5,
    stranger_bodies=8,
    stranger_connections=40,
    strangers_connections=60,
)
TOKEN = {"Authorization": f"token {GOOD_TOKEN}"}
FORGED = {
    "Cookie": "jupyterhub-user-ravi=forged; jupyterhub-session-id=forged; carme-pass=9999999999." + "0" * 64
}
STRANGERS = {
    "nothing": {},
    "a forged cookie": FORGED,
    "an expired pass": pass_cookie(time.time() - FRONT.pass_seconds - 5),
    "a pass of another hub": pass_cookie(key=b"x" * 32),
    "a wrong token": {"Authorization": "token wrong"},
    "a wrong bearer": {"Authorization": "Bearer wrong"},
}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running():
    async with front(BOUNDS, trusted=["127.0.0.9"]) as one:
        yield one


async def status_of(reader: asyncio.StreamReader) -> int:
    line = await asyncio.wait_for(reader.readline(), 20)
    return int(line.split()[1]) if line else 0


async def send_raw(running: Front, head: str, pieces: list[bytes], pause: float = 0.0) -> tuple[int, float]:
    """Send a request piece by piece; returns the answer's status (0 for none) and the seconds it took."""
    started = time.monotonic()
    reader, writer = await running.connect()
    answer = asyncio.create_task(reader.read())
    with contextlib.suppress(ConnectionError):
        writer.write(head.encode())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
            if answer.done():
                break
    got = b""
    with contextlib.suppress(ConnectionError):
        got = await asyncio.wait_for(answer, 20)
    writer.close()
    return int(got.split()[1]) if got.startswith(b"HTTP/") else 0, time.monotonic() - started


@pytest.mark.parametrize("who", list(STRANGERS))
async def test_a11_strangers_get_one_answer_whether_a_session_exists_or_not(running, who):
    for method in ("GET", "POST", "DELETE", "HEAD"):
        for path in ("/", "/api", "/api/kernels", "/lab", "/static/x.js", "/proxy/8888/"):
            answers = [
                await running.ask(f"/user/{name}{path}", method, headers=STRANGERS[who])
                for name in ("ravi", "nobody")
            ]
            there, none = [(one.code, one.body, sorted(dict(one.headers).keys())) for one in answers]
            assert there == none
    assert running.session.requests == []


@pytest.mark.parametrize("how", ["pass", "token", "query"])
async def test_a11_people_who_are_in_reach_the_session(running, how):
    headers = {"pass": pass_cookie(), "token": TOKEN}.get(how, {})
    query = f"?token={GOOD_TOKEN}" if how == "query" else ""
    answer = await running.ask(f"/user/ravi/api{query}", headers=headers)
    assert b"session" in answer.body
    seen = running.session.requests.pop()[2]
    assert "carme-pass" not in seen.get("Cookie", "")  # the sign is the front's own
    running.session.requests.clear()


async def test_a11_other_cookies_go_on(running):
    cookie = pass_cookie()["Cookie"]
    await running.ask("/user/ravi/api", headers={"Cookie": f"a=1; {cookie}; jupyterhub-user-ravi=x"})
    assert running.session.requests.pop()[2]["Cookie"] == "a=1; jupyterhub-user-ravi=x"


@pytest.mark.parametrize("path", ["/user/ravi/api/contents", "/hub/login", "/services/carme/api/x"])
async def test_a1_strangers_bodies_are_small(running, path):
    before = [seen.bytes for seen in (running.hub, running.session, running.service)]
    refused = await running.ask(path, "POST", body=b"x" * (64 * KIB + 1))
    assert refused.code == 413
    assert [seen.bytes for seen in (running.hub, running.session, running.service)] == before
    assert (await running.ask(path, "POST", body=b"x" * 64 * KIB)).code == 200


async def test_a1_what_has_no_length_is_counted_on_its_way(running):
    head = "POST /hub/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    before = running.hub.bytes
    status, _ = await send_raw(running, head, [b"10000\r\n" + b"x" * 65536 + b"\r\n"] * 40)
    assert status == 0
    assert running.hub.bytes - before <= 4 * 64 * KIB  # what the sockets held


@pytest.mark.parametrize("what", ["body", "headers", "nothing", "trickle"])
async def test_a1_a_slow_stranger_has_seconds(running, what):
    heads = {
        "body": "POST /hub/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
        "headers": "GET /hub/login HTTP/1.1\r\nHost: x\r\nX-A",
        "nothing": "",
        "trickle": "POST /user/ravi/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
    }
    pieces, pause = ([b"x"] * 100, 0.1) if what in {"trickle", "headers"} else ([], 0.0)
    _, seconds = await send_raw(running, heads[what], pieces, pause)
    assert seconds < 6


async def test_a1_headers_are_bounded(running):
    answer = await running.ask("/hub/login", headers={"X-A": "x" * 17 * KIB})
    assert answer.code == 431


async def test_a1_somebody_who_is_in_may_take_longer_and_send_more(running):
    cookie = pass_cookie()["Cookie"]
    head = f"POST /user/ravi/slow HTTP/1.1\r\nHost: x\r\nContent-Length: {4 * MIB}\r\nCookie: {cookie}\r\n"
    head += "Connection: close\r\n\r\n"
    status, seconds = await send_raw(running, head, [b"x" * MIB] * 4, 0.8)
    assert (status, seconds > 2 * BOUNDS.stranger_seconds) == (200, True)


async def test_a1_large_uploads_pass(running):
    before, size = running.session.bytes, 40 * MIB
    sent = await asyncio.gather(
        *(
            running.ask(
                "/user/ravi/files", "POST", headers=pass_cookie(), body=b"x" * size, request_timeout=120
            )
            for _ in range(2)
        )
    )
    assert [one.code for one in sent] == [200, 200]
    assert running.session.bytes - before == 2 * size
    assert running.memory() < 400 * MIB


async def test_a1_large_websocket_messages_pass_both_ways(running):
    request = HTTPRequest(running.url("/user/ravi/echo", "ws"), headers=pass_cookie())
    channel = await websocket_connect(request, max_message_size=1 << 30)
    message = b"x" * 60 * MIB
    await channel.write_message(message, binary=True)
    assert await asyncio.wait_for(channel.read_message(), 60) == message
    # A connection that is quiet for longer than any stranger's stays.
    await asyncio.sleep(2 * BOUNDS.stranger_seconds)
    await channel.write_message("still there")
    assert await asyncio.wait_for(channel.read_message(), 20) == "still there"
    channel.close()


async def test_a1_many_slow_bodies_are_bounded_and_a_small_one_gets_through(running):
    head = "POST /hub/login HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\n"
    slow = [
        asyncio.create_task(send_raw(running, head, [b"x" * 32768] + [b"x"] * 50, 0.05)) for _ in range(32)
    ]
    await asyncio.sleep(0.3)
    answer = await running.ask("/hub/login", "POST", body=b"username=ravi", request_timeout=10)
    assert answer.code == 200
    for status, seconds in await asyncio.gather(*slow):
        assert status == 0
        assert seconds < 6


async def test_a1_strangers_connections_are_bounded_and_people_keep_theirs(running):
    request = HTTPRequest(running.url("/user/ravi/echo", "ws"), headers=pass_cookie())
    channel = await websocket_connect(request)
    many = [await running.connect() for _ in range(3 * BOUNDS.stranger_connections)]
    ended = await asyncio.gather(*(asyncio.wait_for(reader.read(1), 10) for reader, _ in many[:60]))
    assert ended == [b""] * 60  # the oldest went first
    assert (await running.ask("/hub/login")).code == 200
    await channel.write_message("still there")
    assert await asyncio.wait_for(channel.read_message(), 10) == "still there"
    channel.close()
    for _, writer in many:
        writer.close()


async def test_a1_sixty_four_attackers_cost_little_and_nobody_notices(running):
    async def attack(number: int) -> None:
        kinds = ["Content-Length: 40000000", "Transfer-Encoding: chunked"]
        head = f"POST /user/ravi/api/contents HTTP/1.1\r\nHost: x\r\n{kinds[number % 2]}\r\n\r\n"
        await send_raw(running, head, [b"10000\r\n" + b"x" * 65536 + b"\r\n"] * 100)

    await running.ask("/user/ravi/api", headers=pass_cookie())
    before = running.memory()
    attacks = [asyncio.create_task(attack(number)) for number in range(64)]
    waits = []
    while not all(one.done() for one in attacks):
        started = time.monotonic()
        assert (await running.ask("/user/ravi/api", headers=pass_cookie())).code == 200
        waits.append(time.monotonic() - started)
        await asyncio.sleep(0.05)
    assert max(waits) < 3
    assert running.memory() - before < 50 * MIB


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/user/ravi/sw.js", False),
        ("/user/ravi/proxy/8888/sw.js?v=1", False),
        ("/services/carme/sw.js", False),
        ("/user/ravi/sw.js?x=/webview/browser/pre/service-worker.js", False),
        ("/user/ravi/webview/browser/pre/service-worker.js/../../../../sw.js", False),
        ("/user/ravi/code-server/static/out/vs/webview/browser/pre/service-worker.js?v=4", True),
    ],
)
@pytest.mark.parametrize("value", ["script", "Script"])
async def test_a4_service_workers_are_refused(running, path, allowed, value):
    answer = await running.ask(path, headers={**pass_cookie(), "Service-Worker": value})
    assert answer.code == (200 if allowed else 403)


async def test_a4_no_answer_widens_a_workers_scope(running):
    for path, seen in (("/user/ravi/x", running.session), ("/services/carme/x", running.service)):
        seen.answers = {"Service-Worker-Allowed": "/", "X-Other": "1"}
        answer = await running.ask(path, headers=pass_cookie())
        assert "Service-Worker-Allowed" not in answer.headers
        assert answer.headers["X-Other"] == "1"
        seen.answers = {}


LIES = {
    "X-Forwarded-For": "192.0.2.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "1",
    "X-Forwarded-Whatever": "1",
    "X-Real-IP": "192.0.2.7",
    "X-Scheme": "https",
    "Forwarded": "for=192.0.2.7",
}


async def ask_from(running: Front, address: str, path: str, headers: dict[str, str]) -> dict[str, str]:
    """Ask from an address of this machine; returns the headers that arrived."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, local_addr=(address, 0))
    lines = [f"{name}: {value}" for name, value in {"Host": "x", "Connection": "close", **headers}.items()]
    writer.write("\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode())
    assert await status_of(reader) == 200
    writer.close()
    servers = {"/hub/": running.hub, "/user": running.session, "/serv": running.service}
    return servers[path[:5]].requests[-1][2]


@pytest.mark.parametrize("path", ["/hub/x", "/user/ravi/x", "/services/carme/x"])
async def test_a13_what_others_say_of_where_they_come_from_is_not_handed_on(running, path):
    seen = await ask_from(running, "127.0.0.2", path, {**pass_cookie(), **LIES})
    assert "192.0.2.7" not in str(seen)
    assert "evil.example" not in str(seen)
    assert seen["X-Forwarded-Proto"] == "http"
    assert seen["X-Forwarded-For"] == "127.0.0.2"
    assert not {"X-Scheme", "X-Real-Ip", "Forwarded", "X-Forwarded-Whatever"} & set(seen)


async def test_a13_a_web_server_on_this_machine_says_whether_there_is_tls(running):
    seen = await ask_from(running, "127.0.0.1", "/hub/x", LIES)
    assert "192.0.2.7" not in str(seen)
    assert seen["X-Forwarded-Proto"] == "https,http"
    assert seen["X-Scheme"] == "https"


async def test_a13_a_proxy_that_was_named_is_believed(running):
    seen = await ask_from(running, "127.0.0.9", "/hub/x", {"X-Forwarded-For": "192.0.2.7"})
    assert seen["X-Forwarded-For"] == "192.0.2.7,127.0.0.9"
