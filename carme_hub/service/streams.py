"""Who looks at the pages, and what they were told last: one content is made into bytes once, for everybody.

All of it runs on the event loop. A stream is one connection that stays open (Server-Sent Events, WHATWG HTML
9.2); of each event a page needs the newest content only, so a reader that is slow misses what was in between,
and one that reads nothing at all is let go.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tornado.iostream import StreamBufferFullError, StreamClosedError
from tornado.log import app_log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tornado.iostream import IOStream

MAX_PER_PERSON = 20  # open streams: one for each page that is looked at
MAX_OPEN = 8000  # of all people; each holds a file descriptor
SLOW = 30.0  # seconds that a reader may take for what was written
BEAT = b":\n\n"  # a comment, so that no proxy takes a silent stream for a dead one


def frame(event: str, value: object) -> bytes:
    """Return an event as it goes over the line; the JSON has no line break."""
    return f"event: {event}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


@dataclass(eq=False)
class Stream:
    """One open page.

    Attributes
    ----------
    line : IOStream
        The connection, with the answer's head already on it.
    person : str
        Whose page.
    token_id : str
        The hub's name of the token they came in with.
    waiting : dict
        The newest frame of each event that has not been written yet, because the reader is slow.
    slow_since : float or None
        When the reader stopped keeping up, on the loop's clock.
    """

    line: IOStream
    person: str
    token_id: str
    waiting: dict[str, bytes] = field(default_factory=dict)
    slow_since: float | None = None

    def send(self, event: str, data: bytes) -> None:
        """Write a frame, or keep it until what was written before has gone."""
        if self.slow_since is None:
            self._write(data)
        else:
            self.waiting.pop(event, None)  # so that they go out in the order they came
            self.waiting[event] = data

    def beat(self, now: float) -> None:
        """Say that we are here; let go of a reader who does not read."""
        if self.slow_since is None:
            self._write(BEAT)
        elif now - self.slow_since > SLOW:
            self.line.close()

    def _write(self, data: bytes) -> None:
        try:
            gone = self.line.write(data)
        except StreamClosedError:
            return
        except StreamBufferFullError:  # one event is more than may wait for a reader
            self.line.close()
            return
        if self.line.writing():
            self.slow_since = asyncio.get_running_loop().time()
        gone.add_done_callback(self._gone)

    def _gone(self, written: asyncio.Future[None]) -> None:
        if written.exception() or self.slow_since is None or self.line.writing():
            return
        self.slow_since = None
        if self.waiting:
            together, self.waiting = b"".join(self.waiting.values()), {}
            self._write(together)


class Streams:
    """All open streams."""

    def __init__(self) -> None:
        self._open: defaultdict[str, set[Stream]] = defaultdict(set)
        self._common: dict[str, bytes] = {}
        # Of each person and event: when it was so, in turns, and the frame.
        self._own: defaultdict[str, dict[str, tuple[int, bytes]]] = defaultdict(dict)
        self._turns = itertools.count(1)
        self._sources: dict[str, Callable[[str], Awaitable[Any]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def people(self) -> set[str]:
        """Return whose pages are open."""
        return {person for person, streams in self._open.items() if streams}

    def tokens(self) -> set[str]:
        """Return the tokens that the owners of open pages came in with."""
        return {stream.token_id for streams in self._open.values() for stream in streams}

    def full(self, person: str) -> bool:
        """Say whether there may be no further stream of this person."""
        return self._count >= MAX_OPEN or len(self._open.get(person, ())) >= MAX_PER_PERSON

    def source(self, event: str, load: Callable[[str], Awaitable[Any]]) -> None:
        """Name what reads a person's own content of an event when a page of theirs opens.

        Parameters
        ----------
        event
            Its name in the page.
        load
            From a person's name to a value for JSON.
        """
        self._sources[event] = load

    def publish(self, event: str, value: object, person: str | None = None) -> None:
        """Tell everybody, or one person, something; nothing goes out that they were told already.

        Parameters
        ----------
        event
            Its name in the page.
        value
            Anything that JSON can say.
        person
            Whose it is; None for everybody, those included who come later.
        """
        if person is None:
            data = frame(event, value)
            if self._common.get(event) == data:
                return
            self._common[event] = data
            for streams in self._open.values():
                for stream in streams:
                    stream.send(event, data)
        else:
            self._tell(event, value, person, next(self._turns))

    def _tell(self, event: str, value: object, person: str, turn: int) -> None:
        """Tell one person what was so at a turn, unless they know something later or the same."""
        if not self._open.get(person):
            return
        known_turn, known = self._own[person].get(event, (0, b""))
        if turn < known_turn:
            return
        data = frame(event, value)
        self._own[person][event] = turn, data
        if data != known:
            for stream in self._open[person]:
                stream.send(event, data)

    async def refresh(self, event: str, person: str) -> None:
        """Read a person's own content of an event again, if a page of theirs is open, and tell them."""
        if not self._open.get(person):
            return
        turn = next(self._turns)  # what is looked at, or published, after this is newer, whichever ends last
        try:
            value = await self._sources[event](person)
        except Exception:  # noqa: BLE001  whatever is away: the other events go on
            app_log.exception("%s of %s cannot be read", event, person)
            return
        self._tell(event, value, person, turn)

    async def add(self, stream: Stream) -> None:
        """Take a new stream in, and tell it the newest of everything."""
        if stream.line.closed():  # nobody would hear of its end any more
            return
        person = stream.person
        self._open[person].add(stream)
        self._count += 1
        stream.line.set_close_callback(lambda: self._remove(stream))
        known = self._own[person]
        for event, data in [*self._common.items(), *((name, data) for name, (_, data) in known.items())]:
            stream.send(event, data)
        for event in [name for name in self._sources if name not in known]:
            await self.refresh(event, person)

    def _remove(self, stream: Stream) -> None:
        streams = self._open.get(stream.person, set())
        if stream in streams:
            streams.remove(stream)
            self._count -= 1
        if not streams:
            self._open.pop(stream.person, None)
            self._own.pop(stream.person, None)

    def end(self, tokens: set[str]) -> int:
        """Close the streams of logins that have ended; return how many there were."""
        theirs = [one for streams in self._open.values() for one in streams if one.token_id in tokens]
        for stream in theirs:
            stream.line.close()
        return len(theirs)

    def beat(self) -> None:
        """Keep all connections alive, and let go of readers who do not read."""
        now = asyncio.get_running_loop().time()
        for stream in [one for streams in self._open.values() for one in streams]:
            stream.beat(now)
