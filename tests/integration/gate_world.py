"""A directory and a hub of their own for the gate's tests: real slapd, JupyterHub and proxy, on loopback."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ldap3
import pyotp
import requests
from traitlets.config.loader import PyFileConfigLoader

from carme_hub.authenticator import user_command
from carme_hub.authenticator.database import write
from carme_hub.authenticator.enrolments import remove_all
from carme_hub.authenticator.secretbox import SecretBox, new_key_file
from carme_hub.authenticator.store import Store
from carme_hub.authenticator.tables import account, attempt
from carme_hub.authenticator.throttle import ADDRESS
from carme_hub.demo import cache, ldap, nodejs

SCHEME = "http"
TEMPLATES = Path(__file__).parents[2] / "templates"
EXTENSIONS = ["carme_hub.csp.NonceExtension", "carme_hub.texts.TextsExtension"]
GROUPS = {"ml101": 5001, "researchers": 5002, "hpc-admins": 5003}
PEOPLE = [
    ldap.Person("alice", "Alice Liddell", 20001, 20001, secrets.token_urlsafe(9), ("ml101", "researchers")),
    ldap.Person("bob", "Bob Müller", 20002, 20002, secrets.token_urlsafe(9)),
    ldap.Person("carol", "Carol Admin", 20003, 20003, secrets.token_urlsafe(9), ("hpc-admins",)),
    ldap.Person("dora", "Dora Device-less", 20004, 20004, secrets.token_urlsafe(9)),
    ldap.Person("erin", "Erin New", 20005, 20005, secrets.token_urlsafe(9), ("ml101",)),
]
PASSWORDS = {person.username: person.password for person in PEOPLE}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Any, what: str, timeout: float = 30) -> Any:
    until = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < until, f"{what} did not happen within {timeout} s"
        time.sleep(0.05)
    return value


@dataclass
class Slapd:
    """A running directory."""

    port: int
    tls_port: int
    certificates: ldap.Certificates
    prepared: ldap.Prepared
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End it: the directory is down from now on."""
        self.process.terminate()
        self.process.wait(20)

    @contextlib.contextmanager
    def manager(self) -> Iterator[ldap3.Connection]:
        """A connection that may change everything."""
        server = ldap3.Server("127.0.0.1", self.tls_port, use_ssl=True, get_info=ldap3.NONE)
        connection = ldap3.Connection(
            server, self.prepared.manager_dn, self.prepared.manager_password, auto_bind=True
        )
        try:
            yield connection
        finally:
            connection.unbind()

    def set_members(self, group: str, usernames: Sequence[str]) -> None:
        dns = [f"uid={name},ou=people,{ldap.BASE}" for name in usernames] or [
            f"cn={group},ou=groups,{ldap.BASE}"
        ]
        with self.manager() as connection:
            done = connection.modify(
                f"cn={group},ou=groups,{ldap.BASE}", {"member": [(ldap3.MODIFY_REPLACE, dns)]}
            )
        assert done


@contextlib.contextmanager
def slapd(folder: Path, names: Sequence[str] = ("127.0.0.1", "localhost")) -> Iterator[Slapd]:
    """Run a directory with everybody in it."""
    certificates = ldap.make_ca(folder / "tls", names)
    prepared = ldap.prepare(folder / "slapd", PEOPLE, GROUPS, certificates)
    port, tls_port = free_port(), free_port()
    command = ldap.command(folder / "slapd", [f"ldap://127.0.0.1:{port}", f"ldaps://127.0.0.1:{tls_port}"])
    with (folder / "slapd.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        ldap.wait_ready("127.0.0.1", port, certificates.ca, tls=False)
        yield Slapd(port, tls_port, certificates, prepared, process)
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def silent_server(seconds: float | None = None) -> Iterator[int]:
    """A server that takes connections and never says a word (until it breaks them off, after `seconds`)."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        if seconds is not None:
            timer = threading.Timer(seconds, listener.close)
            timer.start()
        yield int(listener.getsockname()[1])
        if seconds is not None:
            timer.cancel()
            timer.join()


@contextlib.contextmanager
def dripping_server() -> Iterator[tuple[int, threading.Semaphore]]:
    """A server that begins a long answer and goes on byte by byte; the semaphore counts ended connections."""
    ended = threading.Semaphore(0)

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(1)
            connection.sendall(b"\x30\x84\x7f\xff\xff\xff")
            while True:
                connection.sendall(b"\0")
                time.sleep(0.1)
        ended.release()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=drip, args=[listener.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield int(listener.getsockname()[1]), ended
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join(10)


def code(secret: str, offset: int = 0) -> str:
    """The code of the present step, or of one beside it, with time left to type it."""
    if offset < 0:
        # That of the step before counts until the present one ends.
        wait_for(lambda: time.time() % 30 < 20, "a time step that does not end at once")
    return str(pyotp.TOTP(secret).at(time.time(), counter_offset=offset))


class From(requests.adapters.HTTPAdapter):
    """Connections from an address of this machine; all of 127.0.0.0/8 are."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> Any:
        return super().init_poolmanager(*args, source_address=(self.address, 0), **options)


class Visitor:
    """Somebody with a browser, at an address."""

    def __init__(self, url: str, address: str = "127.0.0.1") -> None:
        self.url = url
        self.password = ""
        self.session = requests.Session()
        self.session.mount(f"{SCHEME}://", From(address))

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=30, **options)

    def post(self, path: str, fields: dict[str, Any], **options: Any) -> requests.Response:
        """Post a form with the token that the last page had."""
        xsrf = self.session.cookies.get("_xsrf", path="/hub/")
        return self.session.post(self.url + path, data={"_xsrf": xsrf, **fields}, timeout=30, **options)

    def login(self, username: str, password: str, otp: str) -> requests.Response:
        self.password = password
        self.get("/hub/login")
        fields = {"username": username, "password": password, "otp": otp}
        return self.post("/hub/login?next=%2Fhub%2Ftoken", fields, allow_redirects=False)

    @property
    def is_in(self) -> bool:
        return self.get("/hub/token", allow_redirects=False).status_code == 200

    def close(self) -> None:
        self.session.close()


@dataclass
class Hub:
    """A running hub."""

    url: str
    folder: Path
    service_token: str
    store: Store
    process: subprocess.Popen[bytes]
    issued: list[str] = field(default_factory=list)  # secrets that must not show anywhere

    @property
    def log(self) -> str:
        return (self.folder / "hub.log").read_text(errors="replace")

    @contextlib.contextmanager
    def visitor(self, address: str = "127.0.0.1") -> Iterator[Visitor]:
        somebody = Visitor(self.url, address)
        yield somebody
        somebody.close()

    def enrol(self, username: str) -> str:
        """Give somebody a fresh device with no step used, and no failures; returns its secret."""
        self.never_seen(username)
        return self.enrol_again(username)

    def never_seen(self, username: str) -> None:
        """Make it as if nobody had ever been here by this name, nor failed at this address."""
        with write(self.store.engine) as connection:
            remove_all(connection, username)
            connection.execute(attempt.delete().where(attempt.c.scope == ADDRESS.scope))
            connection.execute(account.delete().where(account.c.username == username))

    def enrol_again(self, username: str) -> str:
        """Give somebody who was reset a device, and leave all else as it is; returns its secret."""
        secret = pyotp.random_base32()
        self.store.add_totp(username, secret)
        self.issued.append(secret)
        return secret

    def login(
        self, username: str, otp: str, password: str | None = None, address: str = "127.0.0.1"
    ) -> requests.Response:
        """Log in with a browser of its own."""
        with self.visitor(address) as somebody:
            return somebody.login(username, PASSWORDS[username] if password is None else password, otp)

    def ask_token(self, username: str, body: Any, address: str = "127.0.0.1") -> requests.Response:
        """Ask the token API as somebody without a cookie."""
        with self.visitor(address) as somebody:
            return somebody.session.post(f"{self.url}/hub/api/users/{username}/tokens", json=body, timeout=30)

    def known(self, username: str) -> str:
        """Let somebody in once, so that the hub knows them; returns the secret of an unused device."""
        secret = self.enrol(username)
        assert self.login(username, code(secret)).status_code == 302
        return self.enrol(username)

    def token(self, username: str, otp: Any, **more: Any) -> requests.Response:
        auth = {"username": username, "password": PASSWORDS[username], "otp": otp, **more}
        return self.ask_token(username, {"auth": auth})

    def user(self, username: str) -> dict[str, Any]:
        """What the hub knows about somebody."""
        headers = {"Authorization": f"token {self.service_token}"}
        answer = requests.get(f"{self.url}/hub/api/users/{username}", headers=headers, timeout=30)
        answer.raise_for_status()
        model: dict[str, Any] = answer.json()
        return model

    def health(self, timeout: float = 5) -> float:
        """Ask whether the hub lives; returns the seconds it took."""
        start = time.monotonic()
        assert requests.get(f"{self.url}/hub/health", timeout=timeout).status_code == 200
        return time.monotonic() - start


def gate_config(directory: Slapd | None, port: int | None = None, **traits: Any) -> str:
    """The lines of a jupyterhub_config.py that make our gate."""
    values: dict[str, Any] = {
        "server_address": [f"127.0.0.1:{port or (directory.port if directory else 0)}"],
        "bind_dn_template": f"uid={{username}},ou=people,{ldap.BASE}",
        "group_search_base": f"ou=groups,{ldap.BASE}",
        "admin_groups": {"hpc-admins"},
        "ca_file": str(directory.certificates.ca) if directory else "",
        "refusal_seconds": 0.05,  # hundreds of refusals are tested; the one test of the time sets its own
        **traits,
    }
    lines = [f"c.CarmeAuthenticator.{name} = {value!r}" for name, value in values.items()]
    return "\n".join(["c.JupyterHub.authenticator_class = 'carme'", *lines]) + "\n"


def hub_environment() -> dict[str, str]:
    """Return a hub's environment: `carme_hub.configure` looks for the proxy's command on PATH."""
    proxy = nodejs.proxy(cache.root(), lambda _text: None)
    found = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    return {**found, "PATH": f"{proxy.parent}{os.pathsep}{os.environ['PATH']}"}


@contextlib.contextmanager
def hub(folder: Path, config: str) -> Iterator[Hub]:
    """Run a hub with a real proxy; `config` says which gate it has."""
    folder.mkdir()
    port, hub_port, api_port = free_port(), free_port(), free_port()
    token = secrets.token_hex(16)
    new_key_file(folder / "carme.key")
    database = f"sqlite:///{folder}/carme.sqlite"
    proxy = nodejs.proxy(cache.root(), lambda _text: None)
    (folder / "jupyterhub_config.py").write_text(f"""
c.JupyterHub.bind_url = "{SCHEME}://127.0.0.1:{port}"
c.JupyterHub.hub_bind_url = "{SCHEME}://127.0.0.1:{hub_port}"
c.ConfigurableHTTPProxy.api_url = "{SCHEME}://127.0.0.1:{api_port}"
c.ConfigurableHTTPProxy.command = [{str(proxy)!r}]
c.JupyterHub.spawner_class = "simple"
c.JupyterHub.template_paths = [{str(TEMPLATES)!r}]
c.JupyterHub.jinja_environment_options = {{"extensions": {EXTENSIONS!r}}}
c.JupyterHub.token_expires_in_max_seconds = 86400
c.JupyterHub.services = [{{"name": "tests", "api_token": "{token}"}}]
c.JupyterHub.load_roles = [{{"name": "tests", "services": ["tests"],
    "scopes": ["admin:users", "admin:auth_state", "read:metrics"]}}]
c.JupyterHub.log_level = "DEBUG"
c.CarmeAuthenticator.database_url = "{database}"
c.CarmeAuthenticator.secret_key_file = "{folder}/carme.key"
c.CarmeAuthenticator.audit_file = "{folder}/audit.jsonl"
{config}""")
    with (folder / "hub.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub"],
            cwd=folder,
            env=hub_environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    store = Store(database, SecretBox.load(str(folder / "carme.key")))
    running = Hub(f"{SCHEME}://127.0.0.1:{port}", folder, token, store, process)

    def answers() -> bool:
        assert process.poll() is None, running.log
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{running.url}/hub/health", timeout=5).status_code == 200
        return False

    try:
        wait_for(answers, "the hub's answer", 120)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        store.close()


def form_field(page: str, name: str) -> str:
    """The value of a form's field."""
    match = re.search(rf'name="{name}"\s+value="([^"]*)"', page)
    assert match, page
    return match[1]


def carme_user(hub_: Hub, *words: str) -> str:
    """Run a command of the gate in this process, as `carme` does it."""
    parser = argparse.ArgumentParser()
    user_command.register(parser.add_subparsers())
    arguments = parser.parse_args(words)
    config = PyFileConfigLoader(str(hub_.folder / "jupyterhub_config.py")).load_config()
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert user_command.run(arguments, config) == 0
    return out.getvalue()


assert shutil.which("slapadd", path="/usr/sbin"), (
    "slapd is not installed: 'make test' installs what is missing."
)
