"""What the logins are measured in: a slapd that answers late, and a hub with one or another authenticator."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from carme_hub.demo import ldap
from tests.benchmarks.machine import TOP
from tests.integration import gate_world

PEOPLE = 50
DELAY = 0.3  # seconds
PATIENCE = 900  # seconds; hubs that stand still are what is measured here
OURS, THEIRS, ALONE = "carme-hub", "ldapauthenticator", "JupyterHub alone"
STARTTLS, CLEAR = "StartTLS", "clear text"
WAITS = {STARTTLS: 5, CLEAR: 3}  # of carme-hub for its directory, per login

# An authenticator that costs nothing: what is slow with it is JupyterHub's own.
SLEEPER = """
import asyncio
from jupyterhub.auth import Authenticator
class Sleeper(Authenticator):
    async def authenticate(self, handler, data):
        await asyncio.sleep({seconds})
        return {{"name": data["username"], "groups": ["ml101"]}}
c.JupyterHub.authenticator_class = Sleeper
c.Sleeper.manage_groups = True
c.Sleeper.allow_all = True
"""


class BenchmarkError(Exception):
    """There is nothing to show; the sentence says why."""


@dataclass(frozen=True)
class Directory:
    """A running slapd: its socket, what it shows, and who is in it."""

    socket: Path
    certificates: ldap.Certificates
    people: Sequence[ldap.Person]


@contextlib.contextmanager
def directory(folder: Path) -> Iterator[Directory]:
    """Run a slapd with everybody in it, all members of one group."""
    people = [
        ldap.Person(
            f"person{i:02}", f"Person {i:02}", 21000 + i, 21000 + i, secrets.token_urlsafe(9), ("ml101",)
        )
        for i in range(PEOPLE)
    ]
    certificates = ldap.make_ca(folder / "tls", ("127.0.0.1", "localhost"))
    ldap.prepare(folder / "slapd", people, gate_world.GROUPS, certificates)
    socket = folder / "ldapi"
    # On its own socket slapd takes passwords in clear text, too: both ways are measured on the same one.
    words = ldap.command(folder / "slapd", [f"ldapi://{quote(str(socket), safe='')}"])
    with (folder / "slapd.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        gate_world.wait_for(socket.exists, "slapd's socket")
        yield Directory(socket, certificates, people)
    finally:
        process.terminate()
        process.wait(20)


class Helper:
    """One of the modules beside this one, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def first_line(self) -> str:
        """Wait for its first words."""
        line = self._process.stdout.readline().strip()
        if not line:
            raise BenchmarkError(f"{' '.join(self._process.args)} ended at once.")
        return line

    def ask(self) -> Any:
        """Ask what it has found out so far."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self.first_line())

    def end(self) -> Any:
        """Let it end, and return what it found out."""
        return json.loads(self._process.communicate(timeout=PATIENCE)[0])


@contextlib.contextmanager
def helper(module: str, *words: str) -> Iterator[Helper]:
    """Run one; its input's end is its own, so it does not outlive us whatever happens."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.benchmarks.{module}", *words],
        cwd=TOP,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is not for it
    )
    try:
        yield Helper(process)
    finally:
        process.kill()
        process.wait(10)
        process.stdin.close()
        process.stdout.close()


@contextlib.contextmanager
def hub(folder: Path, config: str) -> Iterator[gate_world.Hub]:
    """Run a hub; its proxy has a session of its own, and outlives a hub that had to be killed."""
    try:
        with gate_world.hub(folder, config) as running:
            yield running
    finally:
        with contextlib.suppress(OSError, ValueError):
            pid = int((folder / "jupyterhub-proxy.pid").read_text())
            process = Path(f"/proc/{pid}")
            if b"configurable-http-proxy" in (process / "cmdline").read_bytes():
                os.kill(pid, signal.SIGTERM)
                gate_world.wait_for(lambda: not process.exists(), "the proxy's end")


def configuration(system: str, way: str, port: int, certificates: ldap.Certificates) -> str:
    """
    Say the same to both, as far as both know it.

    One server, one template for the name, the certificate checked, members of one group may come in. All
    else, the number of threads above all, is as each package has it.
    """
    common: dict[str, Any] = {"bind_dn_template": f"uid={{username}},ou=people,{ldap.BASE}"}
    if way == CLEAR:
        common["tls_strategy"] = "insecure"
    if system == OURS:
        chosen = _lines("JupyterHub", {"authenticator_class": "carme"}) + _lines(
            "CarmeAuthenticator",
            common
            | {
                "server_address": [f"127.0.0.1:{port}"],
                "ca_file": str(certificates.ca),
                "group_search_base": f"ou=groups,{ldap.BASE}",
                "allowed_groups": {"ml101"},
            },
        )
    elif system == THEIRS:
        chosen = _lines(
            "JupyterHub",
            {"authenticator_class": "ldapauthenticator.LDAPAuthenticator", "template_paths": []},
        ) + _lines(
            "LDAPAuthenticator",
            common
            | {
                "server_address": "127.0.0.1",
                "server_port": port,
                "tls_kwargs": {"validate": int(ssl.CERT_REQUIRED), "ca_certs_file": str(certificates.ca)},
                "allowed_groups": [f"cn=ml101,ou=groups,{ldap.BASE}"],
            },
        )
    else:
        chosen = SLEEPER.format(seconds=WAITS[way] * DELAY) + _lines("JupyterHub", {"template_paths": []})
    return _lines("JupyterHub", {"log_level": "INFO"}) + chosen


def _lines(section: str, values: Mapping[str, Any]) -> str:
    return "".join(f"c.{section}.{name} = {value!r}\n" for name, value in values.items())
