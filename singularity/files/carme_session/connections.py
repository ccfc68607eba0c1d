"""Connections to programs of this session's owner, and to nobody else's."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

from tornado.iostream import IOStream
from tornado.tcpclient import TCPClient

from .owners import Whose, peer

LOOPBACK = ("127.0.0.1", "::1")
LAST_PORT = 65535
CONNECT = 10  # seconds for a connection on this machine
TAKEN = 30  # seconds until the program there has to have taken it
PAUSES = (0.002, 0.01, 0.05, 0.2)  # seconds between looks; the last one again and again


class RefusedError(OSError):
    """No connection, and the sentence that says why."""

    status = 502


class NobodyError(RefusedError):
    """Nobody listens there."""


class NotOursError(RefusedError):
    """Somebody else's program listens there."""

    status = 403


class SilentError(RefusedError):
    """The program there takes no connection."""

    status = 504


class ElsewhereError(RefusedError):
    """An address that is not this machine's loopback."""

    status = 403


def addresses(host: str) -> tuple[str, ...]:
    """Return the loopback addresses a host stands for. No name server is asked: it could say anything.

    Raises
    ------
    ElsewhereError
        If it is no address of the loopback.
    """
    if host.lower() == "localhost":
        return LOOPBACK
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise ElsewhereError(f"{host} is not this session's own node.")
    return (str(address),)


async def connect(host: str, port: int) -> socket.socket:
    """Return a connection to a program of ours. Nothing has been sent on it, and its other end is our user's.

    Raises
    ------
    RefusedError
        One of the above. Where `host` has several addresses, what matters most to the person.
    """
    failures: list[RefusedError] = []
    if not 0 < port <= LAST_PORT:
        raise NobodyError(f"There is no port {port}: ports are 1 to {LAST_PORT}.")
    for address in addresses(host):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            return await _ours(family, (address, port), f"port {port}")
        except RefusedError as failure:
            failures.append(failure)
    raise max(failures, key=lambda failure: isinstance(failure, NotOursError | SilentError))


async def connect_unix(path: str) -> socket.socket:
    """Return a connection to a program of ours that listens on a Unix socket.

    Raises
    ------
    RefusedError
        As `connect`.
    """
    return await _ours(socket.AF_UNIX, path, path)


async def _ours(family: socket.AddressFamily, address: Any, name: str) -> socket.socket:
    try:
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:  # a node without IPv6
        raise NobodyError(f"Nothing listens on {name}.") from error
    try:
        async with asyncio.timeout(CONNECT):
            await _reach(connection, address)
        await _check(connection, name)
    except RefusedError:
        connection.close()
        raise
    except OSError as error:  # TimeoutError is one
        connection.close()
        raise NobodyError(f"Nothing listens on {name}.") from error
    except BaseException:
        connection.close()
        raise
    return connection


async def _reach(connection: socket.socket, address: Any) -> None:
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, address)
        return
    while True:
        try:
            connection.connect(address)
        except BlockingIOError:  # as many wait there as may: unix(7) has no connection in progress
            await asyncio.sleep(PAUSES[1])
        else:
            return


async def _check(connection: socket.socket, name: str) -> None:
    deadline = asyncio.get_running_loop().time() + TAKEN
    pauses = iter(PAUSES)
    while True:
        try:
            whose = await asyncio.to_thread(peer, connection)
        except OSError:  # it was closed while we looked
            whose = Whose.GONE
        if whose is Whose.OURS:
            return
        if whose is Whose.OTHERS:
            raise NotOursError(f"The program on {name} is somebody else's.")
        if whose is Whose.GONE:
            raise NobodyError(f"Nothing listens on {name}.")
        if asyncio.get_running_loop().time() > deadline:
            raise SilentError(f"The program on {name} takes no connection, so nobody can tell whose it is.")
        await asyncio.sleep(next(pauses, PAUSES[-1]))


class OursOnly(TCPClient):
    """What tornado's clients make connections with: to programs of ours only.

    Parameters
    ----------
    path
        A Unix socket, in place of the host and port that a request names.
    """

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        self.path = path

    async def connect(self, host: str, port: int, *_args: Any, **options: Any) -> IOStream:
        """Return a connection. Of tornado's `options`, the size of the buffer has a meaning here."""
        connection = await (connect_unix(self.path) if self.path else connect(host, port))
        return IOStream(connection, max_buffer_size=options.get("max_buffer_size"))
