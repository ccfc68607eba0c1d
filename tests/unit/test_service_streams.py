"""Who hears what over the service's event streams, over real connections."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from types import SimpleNamespace

import pytest
from tornado.iostream import IOStream, StreamClosedError

from carme_hub.service import notices_pages
from carme_hub.service import streams as module
from carme_hub.service.streams import Stream, Streams, frame


class Reader:
    """The other end of a stream."""

    def __init__(self, line: socket.socket) -> None:
        self.line = IOStream(line)
        self.heard: list[tuple[str, object]] = []

    async def hear(self) -> tuple[str, object]:
        while True:
            text = (await self.line.read_until(b"\n\n")).decode()
            if text.startswith("event: "):
                event, data = text.strip().split("\n")
                return event.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@pytest.fixture
def open_page():
    """Opens pages of people, and closes them in the end."""
    lines = []

    async def opened(streams: Streams, person: str, login: str = "a1") -> Reader:
        ours, theirs = socket.socketpair()
        line, reader = IOStream(ours), Reader(theirs)
        lines.extend([line, reader.line])
        await streams.add(Stream(line, person, login))
        return reader

    yield opened
    for line in lines:
        line.close()


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  connections are closed by the other end
            await asyncio.sleep(0.005)


async def test_a_new_page_hears_the_newest_of_everything_at_once(open_page):
    streams = Streams()
    streams.publish("cluster", {"at": 1})
    streams.publish("cluster", {"at": 2})

    async def load(person):
        return [person]

    streams.source("sessions", load)
    reader = await open_page(streams, "rosa")
    assert await reader.hear() == ("cluster", {"at": 2})
    assert await reader.hear() == ("sessions", ["rosa"])


async def test_what_is_for_one_person_reaches_all_their_pages_and_nobody_else(open_page):
    streams = Streams()
    first, second = await open_page(streams, "rosa"), await open_page(streams, "rosa")
    other = await open_page(streams, "mia")
    streams.publish("sessions", ["rosa's"], "rosa")
    streams.publish("news", "for all")
    for reader in (first, second):
        assert await reader.hear() == ("sessions", ["rosa's"])
        assert await reader.hear() == ("news", "for all")
    assert await other.hear() == ("news", "for all")


async def test_the_same_content_goes_out_once(open_page):
    streams = Streams()
    reader = await open_page(streams, "rosa")
    for content in ("a", "a", "b"):
        streams.publish("news", content)
        streams.publish("sessions", content, "rosa")
    assert [await reader.hear() for _ in range(4)] == [
        ("news", "a"),
        ("sessions", "a"),
        ("news", "b"),
        ("sessions", "b"),
    ]
    streams.publish("news", "end")
    assert await reader.hear() == ("news", "end")


async def test_one_content_is_made_into_bytes_once_for_a_thousand_pages(open_page, monkeypatch):
    made = []
    monkeypatch.setattr(module, "frame", lambda event, value: made.append(event) or frame(event, value))
    streams = Streams()
    readers = [await open_page(streams, f"user{number}") for number in range(1000)]
    streams.publish("cluster", {"running": 3})
    for reader in readers:
        assert await reader.hear() == ("cluster", {"running": 3})
    assert made == ["cluster"]


async def test_a_slow_reader_misses_what_was_in_between_and_holds_up_nobody(open_page):
    streams = Streams()
    slow, quick = await open_page(streams, "rosa"), await open_page(streams, "mia")
    much = "x" * 300_000  # more than the kernel keeps for a connection
    for number in range(50):
        streams.publish("cluster", [number, much])
        streams.publish("news", number)
    last = None
    while last != 49:
        event, value = await quick.hear()
        last = value if event == "news" else last
    heard = []
    while not heard or heard[-1] != ("news", 49):
        event, value = await slow.hear()
        heard.append((event, value if event == "news" else value[0]))
    assert ("cluster", 49) in heard
    assert len(heard) < 20


async def test_a_reader_who_reads_nothing_is_let_go(open_page, monkeypatch):
    monkeypatch.setattr(module, "SLOW", 0.0)
    streams = Streams()
    await open_page(streams, "rosa")
    reading = await open_page(streams, "mia")
    streams.publish("cluster", "x" * 3_000_000)
    await reading.hear()
    await until(lambda: all(one.slow_since is None for one in streams._open["mia"]))
    streams.beat()
    await until(lambda: streams.people() == {"mia"})
    assert len(streams) == 1


async def test_more_than_may_wait_for_a_reader_ends_that_one_and_disturbs_nobody(open_page):
    streams = Streams()
    small, other = await open_page(streams, "rosa"), await open_page(streams, "mia")
    for stream in streams._open["rosa"]:
        stream.line.max_write_buffer_size = 1000
    streams.publish("news", "x" * 2000)
    assert (await other.hear())[0] == "news"
    await until(lambda: streams.people() == {"mia"})
    with pytest.raises(StreamClosedError):
        await small.hear()


async def test_ends_the_streams_of_a_login_and_no_other(open_page):
    streams = Streams()
    for token in ("a1", "a2", "a2"):
        await open_page(streams, "rosa", token)
    assert streams.tokens() == {"a1", "a2"}
    assert streams.end({"a2", "a9"}) == 2
    await until(lambda: len(streams) == 1)
    assert streams.tokens() == {"a1"}


async def test_forgets_whoever_has_gone(open_page):
    streams = Streams()
    reader = await open_page(streams, "rosa")
    streams.publish("sessions", ["of rosa"], "rosa")
    reader.line.close()
    await until(lambda: len(streams) == 0)
    assert streams.people() == set()
    streams.publish("sessions", ["of rosa, later"], "rosa")
    assert not streams._own
    assert not streams._open


async def test_so_many_pages_a_person_and_so_many_in_all(open_page, monkeypatch):
    monkeypatch.setattr(module, "MAX_PER_PERSON", 2)
    monkeypatch.setattr(module, "MAX_OPEN", 3)
    streams = Streams()
    for _ in range(2):
        assert not streams.full("rosa")
        await open_page(streams, "rosa")
    assert streams.full("rosa")
    assert not streams.full("mia")
    await open_page(streams, "mia")
    assert streams.full("ravi")


async def test_what_is_published_while_a_source_reads_is_not_overwritten(open_page):
    streams, go = Streams(), asyncio.Event()

    async def load(_person):
        await go.wait()
        return "old"

    streams.source("notices", load)
    opening = asyncio.create_task(open_page(streams, "rosa"))
    await until(lambda: streams.people() == {"rosa"})
    streams.publish("notices", "new", "rosa")
    go.set()
    reader = await opening
    streams.publish("news", "end")
    assert [await reader.hear(), await reader.hear()] == [("notices", "new"), ("news", "end")]


async def test_of_two_looks_at_the_same_the_later_one_counts_whichever_ends_last(open_page):
    streams, looks = Streams(), []

    async def load(_person):
        looks.append(asyncio.get_running_loop().create_future())
        return await looks[-1]

    streams.source("notices", load)
    opening = asyncio.create_task(open_page(streams, "rosa"))
    await until(lambda: len(looks) == 1)
    looks[0].set_result("first")
    reader = await opening
    assert await reader.hear() == ("notices", "first")
    for order in ((0, 1), (1, 0)):
        looks.clear()
        both = [asyncio.create_task(streams.refresh("notices", "rosa")) for _ in range(2)]
        await until(lambda: len(looks) == 2)
        for place in order:
            looks[place].set_result(f"{order}: look {place}")
            await both[place]
        streams.publish("news", f"{order}: end")
        heard = []
        while not heard or heard[-1][0] != "news":
            heard.append(await reader.hear())
        assert heard[-2] == ("notices", f"{order}: look 1")


async def test_nothing_is_kept_of_somebody_who_left_while_a_source_read(open_page):
    streams, go = Streams(), asyncio.Event()

    async def load(_person):
        await go.wait()
        return "news"

    streams.source("notices", load)
    opening = asyncio.create_task(open_page(streams, "rosa"))
    await until(lambda: streams.people() == {"rosa"})
    for streams_of_one in list(streams._open.values()):
        for stream in streams_of_one:
            stream.line.close()
    await until(lambda: len(streams) == 0)
    go.set()
    await opening
    assert not streams._own


async def test_a_connection_that_is_closed_already_is_no_open_page():
    streams = Streams()
    ours, theirs = socket.socketpair()
    line = IOStream(ours)
    theirs.close()
    line.close()
    await streams.add(Stream(line, "rosa", "a1"))
    assert len(streams) == 0
    assert not streams._open


async def test_a_source_that_fails_keeps_the_others_going(open_page, caplog):
    streams = Streams()

    async def broken(_person):
        raise OSError("no database")

    async def works(_person):
        return 1

    streams.source("notices", broken)
    streams.source("sessions", works)
    reader = await open_page(streams, "rosa")
    assert await reader.hear() == ("sessions", 1)
    assert "notices of rosa cannot be read" in caplog.text


async def test_the_database_is_asked_for_messages_while_a_page_is_open_only(open_page, monkeypatch):
    asked = []

    async def ask(_site, function, *_values):
        asked.append(function.__name__)
        return [] if function.__name__ == "after" else 0

    naps = itertools.count(1)
    real_sleep = asyncio.sleep

    async def sleep(_seconds):
        next(naps)
        await real_sleep(0)

    monkeypatch.setattr(notices_pages, "ask", ask)
    monkeypatch.setattr(notices_pages, "asyncio", SimpleNamespace(sleep=sleep))
    streams = Streams()
    telling = asyncio.create_task(notices_pages.tell_messages(SimpleNamespace(streams=streams)))
    await until(lambda: next(naps) > 20)
    assert asked == []
    await open_page(streams, "rosa")
    await until(lambda: "after" in asked)
    telling.cancel()
