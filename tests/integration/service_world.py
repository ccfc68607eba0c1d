"""A hub of its own with the service, which tests may kill: real slapd, JupyterHub, proxy and service."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from tests.integration.gate_world import (
    PASSWORDS,
    SCHEME,
    Hub,
    Slapd,
    Visitor,
    code,
    free_port,
    gate_config,
    hub,
    hub_environment,
    wait_for,
)

SERVICE = "/services/carme/"
TICKET = re.compile(r'name="carme-service" content="/services/carme/" data-xsrf="([^"]+)"')
# Sessions are plain processes here: what matters is that they start and stop. What the service does every
# half a minute, it does more often.
CONFIGURATION = """
import carme_hub
from dataclasses import replace
from carme_hub.service import app, hub_pages, site, stream
from jupyterhub.spawner import SimpleLocalProcessSpawner
carme_hub.configure(c, service={url!r})
{gate}
c.JupyterHub.authenticator_class = "carme_hub.gate.SiteAuthenticator"
c.JupyterHub.spawner_class = SimpleLocalProcessSpawner
c.JupyterHub.cleanup_servers = True
c.SimpleLocalProcessSpawner.home_dir_template = {home!r}
c.Spawner.cmd = [{python!r}, {session!r}]
c.Spawner.default_url = "/"
stream.BEAT_SECONDS = stream.LOGIN_SECONDS = 0.5
site.CACHE_SECONDS = 1
app.SERVER = replace(app.SERVER, stranger_patience=1)
hub_pages.LOOK_SECONDS = 1
"""
SESSION = """
import os, signal
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit

signal.signal(signal.SIGINT, signal.SIG_DFL)  # the hub's way to end it

class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("X-JupyterHub-Version", "6.0.0")
        self.end_headers()
        self.wfile.write(b"a session")

address = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
HTTPServer((address.hostname, address.port), Answer).serve_forever()
"""


class ServiceHub:
    """The hub, its service, and what tests do to both."""

    def __init__(self, hub_: Hub, port: int) -> None:
        self.hub, self.port = hub_, port

    @property
    def url(self) -> str:
        return self.hub.url

    def service(self) -> int:
        """Return the service's process id; 0 while there is none."""
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if b"carme_hub.service" in words and str(self.hub.folder).encode() in b"".join(words):
                    return int(folder.name)
        return 0

    def answers(self) -> bool:
        """Say whether the service does."""
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{self.url}{SERVICE}nothing", timeout=2).status_code == 404
        return False

    def until_up(self) -> None:
        wait_for(self.answers, "the service's answer", 90)

    @contextlib.contextmanager
    def browser(self, username: str) -> Iterator[Browser]:
        """Sign somebody in."""
        with self.hub.visitor() as visitor:
            secret = self.hub.enrol(username)
            assert visitor.login(username, PASSWORDS[username], code(secret)).status_code == 302
            yield Browser(self, username, visitor)

    def kill_hub(self) -> None:
        """End the hub as a crash would."""
        self.hub.process.kill()
        self.hub.process.wait(10)

    def stop_hub(self) -> None:
        """End the hub in good order."""
        self.hub.process.terminate()
        self.hub.process.wait(20)

    def start_hub(self) -> None:
        """Start it again with all its files."""
        with (self.hub.folder / "hub.log").open("ab") as log:
            self.hub.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub"],
                cwd=self.hub.folder,
                env=hub_environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

        def answers() -> bool:
            assert self.hub.process.poll() is None, self.hub.log[-3000:]
            with contextlib.suppress(requests.RequestException):
                return requests.get(f"{self.url}/hub/health", timeout=5).ok
            return False

        wait_for(answers, "the hub's answer", 120)


class Browser:
    """Somebody who has signed in at the hub."""

    def __init__(self, world: ServiceHub, username: str, visitor: Visitor) -> None:
        self.world, self.username, self.visitor = world, username, visitor

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.visitor.get(path, **options)

    def ticket(self) -> str:
        """Return what their pages prove themselves with, as the hub's home page has it."""
        found = TICKET.search(self.get("/hub/home").text)
        assert found
        return found[1]

    def enter(self) -> str:
        """Go to the service as a browser would, and return the ticket."""
        page = self.get(f"{SERVICE}about")
        assert page.status_code == 200, page.text
        found = TICKET.search(page.text)
        assert found
        return found[1]

    def api(self, path: str, ticket: str | None = None, **options: Any) -> requests.Response:
        headers = {"X-XSRFToken": self.ticket() if ticket is None else ticket}
        return self.get(f"{SERVICE}api/{path}", headers=headers, **options)

    def hub_api(self, method: str, path: str) -> requests.Response:
        xsrf = self.visitor.session.cookies.get("_xsrf", path="/hub/")
        url = f"{self.world.url}/hub/api{path}"
        return self.visitor.session.request(method, url, headers={"X-XSRFToken": xsrf}, timeout=60)

    @contextlib.contextmanager
    def listen(self) -> Iterator[Iterator[tuple[str, Any]]]:
        """Open the stream; what is heard comes as name and value."""
        with self.api("events", stream=True) as answer:
            assert answer.status_code == 200, answer.text
            assert answer.headers["Content-Type"] == "text/event-stream"
            yield events_of(answer.iter_lines(chunk_size=1, decode_unicode=True))


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    event = ""
    for line in lines:
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield event, json.loads(line.removeprefix("data: "))


@contextlib.contextmanager
def service_hub(folder: Path, directory: Slapd, more: str = "") -> Iterator[ServiceHub]:
    """Run a hub with the service."""
    folder.mkdir(exist_ok=True)
    (folder / "session.py").write_text(SESSION)
    port = free_port()
    configuration = CONFIGURATION.format(
        url=f"{SCHEME}://127.0.0.1:{port}",
        gate=gate_config(directory),
        home=str(folder / "home-{username}"),
        python=sys.executable,
        session=str(folder / "session.py"),
    )
    with hub(folder / "hub", configuration + more) as running:
        world, first = ServiceHub(running, port), running.process
        try:
            yield world
        finally:
            # One that is stopped cannot end.
            if pid := world.service():
                os.kill(pid, signal.SIGCONT)
            if running.process is not first:
                world.stop_hub()
