"""The demo site from outside: where it may lie, which ports it takes, what its accounts are."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from carme_hub.demo import accounts, forward, outside, slurm
from carme_hub.demo.layout import Layout

ETC = Path(__file__).parents[2] / "etc"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/home/a user/carme-hub", "without spaces"),
        ("/home/a,b", "without spaces, commas"),
        ("/home/a:b", "colons"),
        ("/srv/carme-hub", "/srv"),
        ("/srv", "/srv"),
        ("/home/" + "x" * 90, "too long"),
    ],
)
def test_a_checkout_where_no_site_can_live_is_refused_with_the_reason(path, why):
    with pytest.raises(SystemExit, match=why):
        outside.check_place(Layout(Path(path)))


def test_an_ordinary_checkout_will_do():
    outside.check_place(Layout(Path("/home/ada/carme-hub")))
    outside.check_place(Layout(Path("/srvice/carme-hub")))


def test_a_port_that_is_taken_is_replaced_by_a_free_one():
    with outside._listen(0) as first:
        port = first.getsockname()[1]
        with outside._listen(port) as second:
            assert second.getsockname()[0] == "127.0.0.1"
            assert second.getsockname()[1] != port


def test_passwords_and_secrets_are_made_once_and_are_roots(tmp_path):
    file = tmp_path / "accounts.json"
    first = accounts.load(ETC / "demo" / "people.toml", file)
    assert accounts.load(ETC / "demo" / "people.toml", file) == first
    assert file.stat().st_mode & 0o777 == 0o600
    assert len({person.password for person in first} | {person.totp_secret for person in first}) == 2 * len(
        first
    )
    assert {"mia", "noah", "ines", "rosa", "ravi", "adam"} == {person.username for person in first}


def test_the_outside_slurm_conf_is_the_inside_one_with_other_addresses(tmp_path):
    layout = Layout(tmp_path)
    (tmp_path / "etc").symlink_to(ETC)
    layout.state.mkdir()
    slurm.write_outside_conf(layout, {"slurmctld": 1001, "slurmdbd": 1002})
    lines = layout.outside_slurm_conf.read_text().splitlines()
    assert lines.count("SlurmctldPort=1001") == 1
    assert "SlurmctldHost=head(127.0.0.1)" in lines
    assert not [line for line in lines if line.startswith("SlurmctldPort=6817")]
    assert [line for line in lines if line.startswith("NodeName=node3")]


async def test_what_comes_in_is_carried_both_ways_and_its_end_too():
    async def shout(reader, writer):
        writer.write((await reader.read()).upper())  # answers when the sender has ended
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    listener = socket.create_server(("127.0.0.1", 0))
    inside, outer = server.sockets[0].getsockname()[1], listener.getsockname()[1]
    task = asyncio.create_task(forward.serve("127.0.0.1", {listener.detach(): inside}))
    reader, writer = await asyncio.open_connection("127.0.0.1", outer)
    writer.write(b"hello" * 50_000)
    writer.write_eof()
    assert await reader.read() == b"HELLO" * 50_000
    writer.close()
    task.cancel()
    server.close()
    await asyncio.gather(task, return_exceptions=True)
