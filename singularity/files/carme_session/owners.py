"""Whose socket is at the other end of a TCP connection on this machine.

A port of the loopback says nothing about who listens there: every user of the node can. The kernel knows
whose socket took a connection, and tells it in ``/proc/net/tcp`` and ``tcp6`` (proc(5)): a row for each end,
with the user as the reader's user namespace sees him. Only the row of the very connection counts. A look at
the listeners would be about another moment.
"""

from __future__ import annotations

import enum
import ipaddress
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
ESTABLISHED, SYN_RECV = "01", "03"  # include/net/tcp_states.h
ROOT = 0
UNMAPPED = Path("/proc/sys/kernel/overflowuid")
UID_MAP = Path("/proc/self/uid_map")
EVERY_UID = 2**32 - 1
IPV6 = 16  # bytes of an address
MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291, 2.5.5.2
UID, INODE = 7, 9  # columns
LOOKS = 3  # a table that changes while it is read may miss a row


class Whose(enum.Enum):
    """What is known of the other end."""

    OURS = "ours"
    OTHERS = "others"
    UNKNOWN = "not known before the program there takes the connection"
    GONE = "gone"


def hexed(address: str, port: int) -> list[str]:
    """Return how the tables write an address: of IPv4, as in its own table and as in that of IPv6."""
    packed = ipaddress.ip_address(address).packed
    forms = [packed] if len(packed) == IPV6 else [packed, MAPPED + packed]
    return [
        "".join(f"{word:08X}" for word in struct.unpack(f"={len(form) // 4}I", form)) + f":{port:04X}"
        for form in forms
    ]


def row_of(lines: Iterable[str], local: list[str], remote: list[str]) -> tuple[str, int, int] | None:
    """Return state, user and inode of the end of a connection, None where a table has none."""
    ends = set(zip(local, remote, strict=True))
    for line in lines:
        words = line.split()
        if len(words) > INODE and (words[1], words[2]) in ends:
            return words[3], int(words[UID]), int(words[INODE])
    return None


def judge(state: str, uid: int, inode: int, me: int, unmapped: int) -> Whose:
    """Return whose end a row is.

    Notes
    -----
    Until a program takes a connection with ``accept``, its end has no inode. Linux since 6.17 then shows the
    listener's user, older ones root. In a user namespace everybody but oneself is `unmapped`. So root and
    `unmapped` say nothing before the connection is taken; any other user does, and it cannot get to somebody
    else any more: who takes it has the listener, and the listener is that user's. A connection that is not
    quite made (`SYN_RECV`) always shows the listener's user.
    """
    if state not in {ESTABLISHED, SYN_RECV}:
        return Whose.GONE
    if state == ESTABLISHED and not inode and uid in {ROOT, unmapped}:
        return Whose.UNKNOWN
    return Whose.OURS if uid == me else Whose.OTHERS


def certain(me: int, unmapped: int, uid_map: str) -> bool:
    """Return whether `me` can be told from others. Without a name in our namespace, all are `unmapped`."""
    ranges = [tuple(int(word) for word in line.split()) for line in uid_map.splitlines()]
    everybody = any(count >= EVERY_UID for *_, count in ranges)
    known = any(first <= me < first + count for first, _, count in ranges)
    return known and (me != unmapped or everybody)


def peer(connection: socket.socket) -> Whose:
    """Return whose socket is at the other end of a connection. Reads files: not for the event loop."""
    me, unmapped = os.getuid(), int(UNMAPPED.read_text())
    if not certain(me, unmapped, UID_MAP.read_text()):
        return Whose.OTHERS
    if connection.family == socket.AF_UNIX:
        told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return Whose.OURS if struct.unpack("3i", told)[1] == me else Whose.OTHERS
    here, there = connection.getsockname()[:2], connection.getpeername()[:2]
    if here == there:
        return Whose.GONE  # nobody listens: the socket met itself (RFC 793, simultaneous open)
    local, remote = hexed(*there), hexed(*here)
    for table in TABLES * LOOKS:
        with open(table, encoding="ascii") as lines:  # noqa: PTH123 - read by line: it can be long
            found = row_of(lines, local, remote)
        if found:
            return judge(*found, me, unmapped)
    return Whose.GONE
