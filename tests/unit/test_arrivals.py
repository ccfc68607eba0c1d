"""The door of hub and service: who sends is asked before what is sent is kept."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from carme_hub.authenticator import client
from carme_hub.front import arrivals as arrivals_module
from carme_hub.front.arrivals import Arrivals
from carme_hub.front.bounds import Bounds
from tests.front_world import LOOPBACK, free_port

KIB, MIB = 1 << 10, 1 << 20
BOUNDS = Bounds(
    patience=4.0,
    stranger_patience=1.0,
    idle=1.0,
    connections=20,
    strangers_together=512 * KIB,
    header=16 * KIB,
)


class Seen(RequestHandler):
    def answer(self) -> None:
        self.write(
            {
                "size": len(self.request.body),
                "ip": self.request.remote_ip,
                "headers": sorted(self.request.headers),
            }
        )

    async def post(self) -> None:
        if wait := float(self.get_query_argument("wait", "0")):
            await asyncio.sleep(wait)
        self.answer()

    get = answer


async def is_in(headers) -> bool:
    await asyncio.sleep(0)
    return headers.get("Cookie") == "in"


@contextlib.asynccontextmanager
async def door(bounds: Bounds = BOUNDS, trusted: tuple[str, ...] = ()):
    app = Application([(r"/.*", Seen)], log_function=lambda _handler: None)
    arrivals, port = Arrivals(app, bounds, is_in, trusted), free_port()
    server = HTTPServer(arrivals, xheaders=True, trusted_downstream=list(trusted))
    server.listen(port, LOOPBACK)
    try:
        yield arrivals, port
    finally:
        server.stop()
        await server.close_all_connections()


async def send(port: int, head: str, pieces=(), pause: float = 0.0, peer: str = LOOPBACK):
    """Send a request piece by piece; returns all that was answered, and the seconds it took."""
    started = time.monotonic()
    reader, writer = await asyncio.open_connection(LOOPBACK, port, local_addr=(peer, 0))
    answer, got = asyncio.create_task(reader.read()), b""
    with contextlib.suppress(ConnectionError):
        writer.write(head.encode())
        for piece in pieces:
            if answer.done():
                break
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
    with contextlib.suppress(ConnectionError):
        got = await asyncio.wait_for(answer, 20)
    writer.close()
    return got, time.monotonic() - started


def post(size: int | None, *more: str) -> str:
    length = "Transfer-Encoding: chunked" if size is None else f"Content-Length: {size}"
    return "\r\n".join(["POST /x HTTP/1.1", "Host: x", "Connection: close", length, *more, "", ""])


def chunks(number: int, size: int = 65536) -> list[bytes]:
    return [b"%x\r\n" % size + b"x" * size + b"\r\n"] * number


def code(answer: bytes) -> int:
    return int(answer.split()[1]) if answer else 0


SIZES = [
    (0, False, 200),
    (64 * KIB, False, 200),
    (64 * KIB + 1, False, 413),
    (MIB, False, 413),
    (MIB, True, 200),
    (MIB + 1, True, 413),
    (40 * MIB, True, 413),
    (500 * MIB, False, 413),
]


@pytest.mark.parametrize(("size", "known", "status"), SIZES)
async def test_a6_a_bodys_length_is_looked_at_before_it_is_read(size, known, status):
    async with door() as (_, port):
        head = post(size, *(["Cookie: in"] if known else []))
        answer, _seconds = await send(port, head, [b"x" * min(size, 2 * MIB)])
        assert code(answer) == status


@pytest.mark.parametrize(
    ("number", "known", "taken"), [(1, False, True), (3, False, False), (3, True, True), (40, True, False)]
)
async def test_a6_what_has_no_length_is_counted_on_its_way(number, known, taken):
    async with door() as (arrivals, port):
        head = post(None, *(["Cookie: in"] if known else []))
        size = 60 * KIB
        answer, _seconds = await send(port, head, [*chunks(number, size), b"0\r\n\r\n"])
        assert (code(answer) == 200) == taken
        assert arrivals.held.total == 0


@pytest.mark.parametrize(
    "length", ["-1", "1e9", "0x10", "٣", "99999999999999999999999999", "5, 6", "4\r\nContent-Length: 9"]
)
async def test_a6_nonsense_for_a_length_is_refused(length):
    async with door() as (_, port):
        answer, _seconds = await send(
            port, post(None).replace("Transfer-Encoding: chunked", f"Content-Length: {length}")
        )
        assert code(answer) in {400, 413}


@pytest.fixture
def far_address(monkeypatch):
    """An address that is no proxy's. All that a machine surely has are loopback's, where the proxy lives."""

    def is_proxy(peer: str, _local: str, trusted) -> bool:
        return peer == LOOPBACK or peer in trusted

    for module in (arrivals_module, client):
        monkeypatch.setattr(module, "is_proxy", is_proxy)
    return "127.0.0.2"


@pytest.mark.parametrize(("head", "piece"), [(post(1000), b"x"), (post(None), b"1\r\nx\r\n")])
async def test_a6_a_strangers_body_has_a_second(head, piece):
    async with door() as (arrivals, port):
        answer, seconds = await send(port, head, [piece] * 100, 0.05)
        assert code(answer) == 0
        assert seconds < 3
        assert arrivals.held.total == 0


@pytest.mark.parametrize("begun", ["", "POST /x HTTP/1.1\r\nX-A: "])
async def test_a6_headers_have_a_second_on_a_connection_that_is_no_proxys(begun, far_address):
    async with door() as (_, port):
        answer, seconds = await send(port, begun, [b"x"] * 60 if begun else [], 0.05, peer=far_address)
        assert code(answer) == 0
        assert seconds < 3
        # The proxy keeps its connections for whoever comes next.
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        await asyncio.sleep(2 * BOUNDS.idle)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await asyncio.wait_for(reader.readline(), 10) == b"HTTP/1.1 200 OK\r\n"
        writer.close()


async def test_a6_somebody_who_is_in_may_be_slower():
    async with door() as (_, port):
        answer, seconds = await send(port, post(100 * KIB, "Cookie: in"), [b"x" * 50 * KIB] * 2, 1.2)
        assert code(answer) == 200
        assert seconds > BOUNDS.stranger_patience


async def test_a6_headers_are_bounded():
    async with door() as (_, port):
        answer, _seconds = await send(port, post(0, "X-A: " + "x" * 20 * KIB))
        assert code(answer) in {0, 400}


async def test_a6_one_address_has_so_many_connections(far_address):
    async with door() as (_, port):
        open_ = [
            await asyncio.open_connection(LOOPBACK, port, local_addr=(far_address, 0)) for _ in range(30)
        ]
        ended = await asyncio.gather(
            *(asyncio.wait_for(reader.read(1), 0.5) for reader, _ in open_), return_exceptions=True
        )
        assert ended.count(b"") == 30 - BOUNDS.connections
        assert code((await send(port, post(0)))[0]) == 200  # others have theirs
        for _, writer in open_:
            writer.close()
        await asyncio.sleep(0.2)
        assert code((await send(port, post(0), peer=far_address))[0]) == 200


async def test_a6_bodies_together_are_bounded_and_a_small_one_gets_through():
    async with door() as (arrivals, port):
        large = [
            asyncio.create_task(send(port, post(64 * KIB), [b"x" * 60 * KIB, b"x"], 0.5)) for _ in range(30)
        ]
        await asyncio.sleep(0.3)
        assert arrivals.held.total <= BOUNDS.strangers_together
        answer, _seconds = await send(port, post(13), [b"username=ravi"])
        assert code(answer) == 200
        await asyncio.gather(*large)
        assert arrivals.held.total == 0


async def test_a6_a_body_is_held_until_it_is_answered():
    async with door() as (arrivals, port):
        head = post(60 * KIB).replace("/x", "/x?wait=0.5")
        waiting = [asyncio.create_task(send(port, head, [b"x" * 60 * KIB])) for _ in range(30)]
        await asyncio.sleep(0.3)
        assert 0 < arrivals.held.total <= BOUNDS.strangers_together
        answers = [code(answer) for answer, _ in await asyncio.gather(*waiting)]
        assert answers.count(200) >= BOUNDS.strangers_together // (60 * KIB)
        assert arrivals.held.total == 0


async def test_a6_somebody_who_is_in_is_not_broken_off_for_others():
    async with door() as (_, port):
        mine = asyncio.create_task(send(port, post(60 * KIB, "Cookie: in"), [b"x" * 30 * KIB] * 2, 0.6))
        await asyncio.sleep(0.1)
        await asyncio.gather(*(send(port, post(25 * KIB), [b"x" * 20 * KIB], 0.2) for _ in range(40)))
        assert code((await mine)[0]) == 200


async def test_a6_requests_one_after_the_other_on_one_connection():
    one = "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\n" + "x" * 65536
    async with door() as (arrivals, port):
        answer, _seconds = await send(port, one * 20 + post(0))
        assert answer.count(b"HTTP/1.1 200") == 21
        assert arrivals.held.total == 0


# Not held yet: what comes behind a request on the same connection is read before it is looked at.
AHEAD = pytest.mark.xfail(
    reason="pipelined requests are read ahead: some 60 MiB of 64 attackers", strict=False
)


@pytest.mark.parametrize("kind", ["length", "chunked", "slow", pytest.param("pipelined", marks=AHEAD)])
async def test_a6_sixty_four_attackers_cost_little_and_nobody_waits(kind):
    heads = {"length": post(40 * MIB), "chunked": post(None), "slow": post(64 * KIB)}
    one = "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\n"
    head = heads.get(kind, one)
    pieces = {
        "length": [b"x" * 65536] * 40,
        "chunked": chunks(40),
        "slow": [b"x" * 1000] * 20,
        "pipelined": [b"x" * 65536, one.encode()] * 10,
    }
    pause = 0.02 if kind == "slow" else 0.0
    async with door(replace(BOUNDS, strangers_together=8 * MIB)) as (_, port):
        gc.collect()
        before, waits = memory(), []
        attacks = [asyncio.create_task(send(port, head, pieces[kind], pause)) for _ in range(64)]
        while not all(one.done() for one in attacks):
            answer, seconds = await send(port, post(13), [b"username=ravi"])
            assert code(answer) == 200
            waits.append(seconds)
        # The attackers' own memory is in this process, too.
        assert memory() - before < 50 * MIB
        assert max(waits) < 3


def memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


LIES = {
    "X-Forwarded-For": "192.0.2.7",
    "X-Forwarded-Proto": "https",
    "x-forwarded-host": "evil.example",
    "X-Real-IP": "192.0.2.8",
    "X-Scheme": "https",
    "Forwarded": "for=192.0.2.7",
}


@pytest.mark.parametrize("name", list(LIES))
async def test_a13_only_the_proxy_says_where_a_request_comes_from(name, far_address):
    async with door(trusted=("127.0.0.3",)) as (_, port):
        answer, _seconds = await send(port, post(0, f"{name}: {LIES[name]}"), peer=far_address)
        assert f'"ip": "{far_address}"'.encode() in answer
        assert name.lower().encode() not in answer.lower()


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ([], LOOPBACK),
        (["X-Forwarded-For: 192.0.2.7"], "192.0.2.7"),
        (["X-Forwarded-For: 192.0.2.9, 192.0.2.7"], "192.0.2.7"),
        (["X-Forwarded-For: 192.0.2.7, 127.0.0.3"], "192.0.2.7"),
        (["X-Forwarded-For: 192.0.2.7", "X-Real-IP: 192.0.2.8"], "192.0.2.7"),  # the proxy passes that on
        (["X-Forwarded-For: nonsense"], LOOPBACK),
    ],
)
@pytest.mark.usefixtures("far_address")
async def test_a13_the_proxy_is_believed(headers, address):
    async with door(trusted=("127.0.0.3",)) as (_, port):
        answer, _seconds = await send(port, post(0, *headers))
        assert f'"ip": "{address}"'.encode() in answer
