"""Let the machine outside reach a few ports of the site.

The listening sockets are made outside, on 127.0.0.1, and inherited by this program, which runs inside the
site's network. So the site needs no network device, address or packet filter rule on the machine that hosts
it.

Called as ``python -m carme_hub.demo.forward ADDRESS FD:PORT...``.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import sys

CHUNK = 65536  # bytes
CONNECT_TIMEOUT = 10  # seconds


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def _carry(address: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Join one connection from outside to a new one inside, until both directions have ended."""
    try:
        inside = await asyncio.wait_for(asyncio.open_connection(address, port), CONNECT_TIMEOUT)
    except (OSError, TimeoutError):
        writer.close()
        return
    await asyncio.gather(_copy(reader, inside[1]), _copy(inside[0], writer))
    for end in (writer, inside[1]):
        end.close()
        with contextlib.suppress(OSError):
            await end.wait_closed()


async def serve(address: str, listeners: dict[int, int]) -> None:
    """Carry what comes in on each listening socket (by file descriptor) to a port of `address`."""
    servers = [
        await asyncio.start_server(functools.partial(_carry, address, port), sock=socket.socket(fileno=fd))
        for fd, port in listeners.items()
    ]
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    """Read the command line and serve."""
    address, *pairs = sys.argv[1:]
    asyncio.run(serve(address, {int(fd): int(port) for fd, port in (pair.split(":") for pair in pairs)}))


if __name__ == "__main__":
    main()
