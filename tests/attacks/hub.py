"""A hub process of its own, beside the demo site's."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlunsplit

import requests

from carme_hub.demo import cache, nodejs
from tests.support import Person, until

SCHEME = "http"  # on loopback only
LOOPBACK = "127.0.0.1"
STAND_IN = Path(__file__).parent / "stand_in"
STOP_TIMEOUT = 30  # seconds
SCOPES = ("tokens", "servers", "shutdown")  # what the tests do with their own token
START = "from jupyterhub.app import main; main()"
# JupyterHub imports every spawner that is installed, chosen or not. A plain one must not meet carme-hub,
# which takes away batchspawner's handler.
START_PLAIN = f"import sys; sys.modules['carme_hub'] = None; {START}"


def free_ports(number: int) -> list[int]:
    """Return ports of loopback that nothing listened on a moment ago, all different."""
    with ExitStack() as all_at_once:
        sockets = [all_at_once.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]


class Hub:
    """JupyterHub with its proxy in a folder; its log says everything (DEBUG).

    Parameters
    ----------
    folder
        Empty, for the hub's own files.
    configuration
        Python, put behind the lines that every hub here has.
    people
        Who can have a token (`person`); nobody logs in.
    ports
        Of proxy, hub and the proxy's own API.
    program
        Python that runs the hub.
    enter
        Words before the hub's command, to run it somewhere else.
    scopes
        What the tests may do with their own token.
    """

    def __init__(
        self,
        folder: Path,
        configuration: str,
        *,
        people: list[str],
        ports: list[int],
        program: str = START,
        enter: tuple[str, ...] = (),
        scopes: tuple[str, ...] = SCOPES,
    ) -> None:
        self.port, self.hub_port, self.api_port = ports
        self.hub_url = urlunsplit((SCHEME, f"{LOOPBACK}:{self.port}", "", "", ""))
        self.folder, self.people, self.program, self.enter = folder, people, program, enter
        self.scopes = scopes
        self.token = secrets.token_hex(16)
        self.file = folder / "config.py"
        self.file.write_text(f"c = get_config()\n{configuration}\n{self._lines()}\n")
        self.file.chmod(0o600)
        self.log_file = folder / "hub.log"
        self.process: subprocess.Popen[bytes] | None = None

    def _lines(self) -> str:
        settings: dict[str, Any] = {
            "JupyterHub.authenticator_class": "dummy",
            "Authenticator.allowed_users": set(self.people),
            "JupyterHub.bind_url": self.hub_url,
            "JupyterHub.hub_port": self.hub_port,
            "ConfigurableHTTPProxy.api_url": urlunsplit((SCHEME, f"{LOOPBACK}:{self.api_port}", "", "", "")),
            "ConfigurableHTTPProxy.command": [str(nodejs.proxy(cache.root(), print))],
            "ConfigurableHTTPProxy.pid_file": str(self.folder / "proxy.pid"),
            "JupyterHub.db_url": f"sqlite:///{self.folder / 'hub.sqlite'}",
            "JupyterHub.cookie_secret_file": str(self.folder / "cookie_secret"),
            "JupyterHub.cleanup_servers": True,
            "JupyterHub.log_level": "DEBUG",
            # Asking for a server is answered at once, however long its start takes.
            "JupyterHub.tornado_settings": {"slow_spawn_timeout": 0},
            "JupyterHub.services": [{"name": "tests", "api_token": self.token}],
            "JupyterHub.load_roles": [{"name": "tests", "services": ["tests"], "scopes": list(self.scopes)}],
        }
        return "\n".join(f"c.{name} = {value!r}" for name, value in settings.items())

    def __enter__(self) -> Self:
        """Start it and wait until it answers."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.enter, sys.executable, "-c", self.program, "--config", str(self.file)],
                cwd=self.folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            until(self._answers, f"the hub in {self.folder}")
        except BaseException:
            self.process.kill()
            raise
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        return self.call("GET", "/health") == requests.codes.ok

    def call(self, method: str, path: str, body: object = None) -> int:
        """Call the hub's API with the tests' own token, from where the hub runs.

        Returns
        -------
        int
            The answer's status; 0 when there was none.
        """
        words = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]
        words += ["--max-time", "30", "--request", method, "--header", "@-", "--data", json.dumps(body or {})]
        done = subprocess.run(
            [*self.enter, *words, f"{self.hub_url}/hub/api{path}"],
            input=f"Authorization: token {self.token}\nContent-Type: application/json\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return int(done.stdout or 0)

    def log(self) -> str:
        """Return what it logged."""
        return self.log_file.read_text()

    def person(self, username: str) -> Person:
        """Return somebody with a token."""
        made = requests.post(
            f"{self.hub_url}/hub/api/users/{username}/tokens",
            headers={"Authorization": f"token {self.token}"},
            json={"note": "tests"},
            timeout=30,
        )
        assert made.status_code == requests.codes.created, made.text
        return Person(self, username, requests.Session(), made.json()["token"])

    def jobs(self, _username: str) -> list[str]:
        """Return the jobs to wait for after a session's end: what stands in for them is gone by then."""
        return []

    def __exit__(self, *_problem: object) -> None:
        """End it with its proxy and servers."""
        assert self.process is not None
        try:
            if self.process.poll() is None:
                self.call("POST", "/shutdown", {"proxy": True, "servers": True})
            self.process.wait(STOP_TIMEOUT)
        finally:
            self.process.kill()
