"""Whose socket is at the other end: every row the kernel may show, and the kernel itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from carme_session import owners
from carme_session.owners import Whose, certain, hexed, judge, row_of

ME, OTHER, UNMAPPED = 1000, 1001, 65534
MADE, HALF, CLOSING, WAITED = "01", "03", "04", "06"


@pytest.mark.parametrize(
    ("state", "uid", "inode", "whose"),
    [
        # taken by a program: the user is its own
        (MADE, ME, 77, Whose.OURS),
        (MADE, OTHER, 77, Whose.OTHERS),
        (MADE, 0, 77, Whose.OTHERS),
        (MADE, UNMAPPED, 77, Whose.OTHERS),
        # not yet taken: Linux since 6.17 says the listener's user, older ones root
        (MADE, ME, 0, Whose.OURS),
        (MADE, OTHER, 0, Whose.OTHERS),
        (MADE, 0, 0, Whose.UNKNOWN),
        (MADE, UNMAPPED, 0, Whose.UNKNOWN),
        # not quite made: the listener's user
        (HALF, ME, 0, Whose.OURS),
        (HALF, 0, 0, Whose.OTHERS),
        (HALF, OTHER, 0, Whose.OTHERS),
        # closed by the other end: of those the kernel forgets the user
        (CLOSING, ME, 0, Whose.GONE),
        (WAITED, 0, 0, Whose.GONE),
    ],
)
def test_a2_each_row_is_judged(state, uid, inode, whose):
    assert judge(state, uid, inode, ME, UNMAPPED) is whose


@pytest.mark.parametrize(("uid", "inode"), [(0, 0), (UNMAPPED, 0)])
def test_a2_root_itself_waits_until_a_connection_is_taken(uid, inode):
    assert judge(MADE, uid, inode, 0, UNMAPPED) is Whose.UNKNOWN


@pytest.mark.parametrize(
    ("me", "uid_map", "sure"),
    [
        (1000, "0 0 4294967295", True),
        (65534, "0 0 4294967295", True),  # nobody, outside all namespaces
        (1000, "1000 1000 1", True),
        (0, "0 1000 1", True),
        (0, "0 1000 1\n1 100000 65536", True),
        (65534, "1000 1000 1", False),  # without a name of our own
        (65534, "0 100000 70000", False),  # 65534 is mapped, and what everybody else is, too
        (65534, "", False),
        (5, "", False),
    ],
)
def test_a2_where_we_cannot_be_told_from_others_nobody_is_ours(me, uid_map, sure):
    assert certain(me, UNMAPPED, uid_map) is sure


def test_addresses_are_written_as_the_kernel_writes_them():
    assert hexed("127.0.0.1", 8080) == ["0100007F:1F90", "0000000000000000FFFF00000100007F:1F90"]
    assert hexed("::1", 80) == ["00000000000000000000000001000000:0050"]


def test_a_row_is_found_by_both_ends_only():
    lines = [
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 5 1",
        "   1: 0100007F:1F90 0100007F:B000 01 00000000:00000000 00:00000000 00000000  1000        0 9 1",
        "   2: 0100007F:1F90 0100007F:B001 01 00000000:00000000 00:00000000 00000000  1001        0 8 1",
        "   3: 0100007F:B001 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 7 1",
        "torn",
    ]
    here, there = hexed("127.0.0.1", 0xB001), hexed("127.0.0.1", 8080)
    assert row_of(lines, there, here) == ("01", 1001, 8)
    assert row_of(lines, there, hexed("127.0.0.1", 0xB002)) is None


@pytest.mark.parametrize("accept", [True, False])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::", "0.0.0.0"])  # noqa: S104 - what programs do
def test_a2_the_kernel_says_whose_connection_it_is(address, accept):
    code = (
        "import socket, sys, os\n"
        f"family = socket.{'AF_INET6' if ':' in address else 'AF_INET'}\n"
        f"l = socket.create_server(({address!r}, 0), family=family, dualstack_ipv6={address == '::'})\n"
        "os.write(1, str(l.getsockname()[1]).encode() + b'\\n')\n"
        f"a = l.accept() if {accept} else None\n"
        "os.write(1, b'taken\\n')\n"
        "sys.stdin.read()\n"
    )
    python = getattr(sys, "_base_executable", sys.executable)
    for uid, wanted in ((os.getuid(), Whose.OURS), (54321, Whose.OTHERS)):
        with subprocess.Popen(
            [python, "-c", code], user=uid, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as program:
            port = int(program.stdout.readline())
            with socket.create_connection(("::1" if address == "::1" else "127.0.0.1", port)) as connection:
                assert program.stdout.readline() == b"taken\n"
                found = owners.peer(connection)
            program.stdin.close()
        # Root's own, and on older kernels everybody's, is known only when it is taken.
        assert found is wanted or (not accept and found is Whose.UNKNOWN)


def test_a2_a_socket_that_met_itself_is_nobodys():
    with socket.socket() as alone:
        alone.bind(("127.0.0.1", 0))
        alone.connect(alone.getsockname())
        assert owners.peer(alone) is Whose.GONE


def test_a2_a_unix_sockets_owner_is_asked_for_too():
    one, other = socket.socketpair()
    with one, other:
        assert owners.peer(one) is Whose.OURS
