"""A directory that is far away: a relay in front of one, which passes on each of its answers later.

Started with the directory's Unix socket and the delay in seconds, it prints its TCP port. For each line of
its input it prints how often a client has had to wait so far; it ends when its input does. Bytes go through
untouched, TLS included, and no connection waits for another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter

CHUNK = 65536
BACKLOG = 512  # all logins at once, none of which may wait for a second SYN


class Connection:
    """One client: what it says goes on at once, what the directory says later."""

    def __init__(self, delay: float, counts: Counter[str]) -> None:
        self._delay = delay
        self._counts = counts
        self._waits = False  # since it last spoke
        self._answers: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._clock = asyncio.get_running_loop().time

    async def at_once(self, reader: asyncio.StreamReader, directory: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(CHUNK):
                self._waits = True
                directory.write(chunk)
                await directory.drain()
        self._waits = False  # a farewell is not waited for
        directory.close()

    async def note(self, directory: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await directory.read(CHUNK):
                self._answers.put_nowait((self._clock() + self._delay, chunk))
        self._answers.put_nowait((self._clock() + self._delay, b""))

    async def later(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                due, chunk = await self._answers.get()
                await asyncio.sleep(due - self._clock())
                if not chunk:
                    break
                # An answer in several pieces is one wait.
                self._counts["waits"] += self._waits
                self._waits = False
                writer.write(chunk)
                await writer.drain()
        writer.close()


async def main(path: str, delay: float) -> None:
    counts = Counter(waits=0)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, directory = await asyncio.open_unix_connection(path)
        one = Connection(delay, counts)
        await asyncio.gather(one.at_once(reader, directory), one.note(answers), one.later(writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=BACKLOG)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    while await asyncio.to_thread(sys.stdin.readline):
        sys.stdout.write(f"{json.dumps(counts)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
