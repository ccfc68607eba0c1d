"""What the tests of the directory share: settings for a running slapd, overlays, and a long way to it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from ldapauthenticator.ldapauthenticator import TlsStrategy

from carme_hub.authenticator.directory import Directory, Settings
from carme_hub.authenticator.servers import Server
from carme_hub.demo import ldap
from tests.integration.gate_world import Slapd, slapd

PEOPLE_BASE = f"ou=people,{ldap.BASE}"
GROUPS_BASE = f"ou=groups,{ldap.BASE}"
ALICE = f"uid=alice,{PEOPLE_BASE}"


def settings_of(running: Slapd) -> Settings:
    """Settings for a directory of the tests: StartTLS, bind by template, no service account."""
    return Settings(
        servers=[Server("127.0.0.1", running.port)],
        tls=TlsStrategy.before_bind,
        ca_file=str(running.certificates.ca),
        connect_timeout=2,
        receive_timeout=2,
        deadline=8,
        dn_templates=[f"uid={{username}},{PEOPLE_BASE}"],
        lookup=False,
        lookup_filter="({login_attr}={login})",
        user_search_base=PEOPLE_BASE,
        user_attribute="uid",
        user_filter="",
        group_search_base=GROUPS_BASE,
        group_filter="(|(member={userdn})(uniqueMember={userdn})(memberUid={uid}))",
        nested_group_levels=5,
        member_of_attribute="",
        service_dn="",
        service_password="",
    )


def reader_of(running: Slapd) -> dict[str, str]:
    """The settings of the service account."""
    prepared = running.prepared
    return {"service_dn": prepared.reader_dn, "service_password": prepared.reader_password}


class Maker:
    """Makes directories with some settings changed; has what they reported."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.made: list[Directory] = []
        self.reports: list[str] = []

    def __call__(self, **changes: Any) -> Directory:
        directory = Directory(dataclasses.replace(self._settings, **changes), self.reports.append)
        self.made.append(directory)
        return directory


@contextlib.contextmanager
def maker(running: Slapd) -> Iterator[Maker]:
    """A maker, whose directories are closed at the end."""
    make = Maker(settings_of(running))
    yield make
    for directory in make.made:
        directory.close()


@contextlib.contextmanager
def slapd_with(folder: Path, modules: str, lines: str) -> Iterator[Slapd]:
    """Run a directory with more lines at the end of its database's configuration, and modules they need."""
    plain = ldap._slapd_conf

    def more(*words: Any) -> str:
        load = "".join(f"\nmoduleload {module}" for module in ["back_mdb", *modules.split()])
        return plain(*words).replace("\nmoduleload back_mdb", load) + lines

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ldap, "_slapd_conf", more)
        with slapd(folder) as running:
            yield running


@contextlib.asynccontextmanager
async def far_away(port: int, seconds: float) -> AsyncIterator[int]:
    """Yield a port that leads to another one; on the way, whatever the server says takes some seconds."""
    serving: list[Any] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                await asyncio.sleep(delay)
                writer.write(data)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        there = asyncio.create_task(carry(reader, far_writer, 0))
        await carry(far_reader, writer, seconds)
        await there

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=128)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await asyncio.gather(*serving)
        server.close()
        await server.wait_closed()


@contextlib.contextmanager
def babbling_server(words: bytes) -> Iterator[int]:
    """Run a server that answers everything with the same, and yield its port."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                with listener.accept()[0] as connection, contextlib.suppress(OSError):
                    connection.recv(65536)
                    connection.sendall(words)
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        serving.join(10)
