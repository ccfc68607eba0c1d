"""The demo site as tests see it: log in as a person, start a session, run Python inside it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyotp
import requests
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from carme_hub.demo import outside
from carme_hub.demo.layout import Layout, checkout

ROOT = Path(__file__).parents[1]
CARME = str(ROOT / ".venv" / "bin" / "carme")
PATIENCE = 120  # seconds for anything that is waited for; nothing here normally takes a quarter of it


def until(condition, what: str, patience: float = PATIENCE):
    """Wait until `condition` returns something true, and return that."""
    deadline = time.monotonic() + patience
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {patience} s for {what}"
        time.sleep(0.1)
    return result


@dataclass
class Codes:
    """One-time codes of one person: each time step is used once, as the login demands."""

    secret: str
    last: int = 0

    def next(self) -> str:
        """Return a code of a step that was not used yet and is accepted now (one step early at most)."""
        now, gone = divmod(int(time.time()), 30)
        # The step before this one counts until this one ends: not just before that.
        step = max(self.last + 1, now - 1 if gone < 20 else now)
        if step > now + 1:
            until(lambda: int(time.time()) // 30 >= step - 1, "the next time step", 60)
        self.last = step
        return pyotp.TOTP(self.secret).at(step * 30)


@dataclass
class Site:
    """The running demo site."""

    hub_url: str
    slurm_conf: str
    ldap_url: str
    accounts: dict[str, dict[str, Any]]
    codes: dict[str, Codes]

    @classmethod
    def running(cls) -> Site:
        """Read what `carme demo status --json` prints."""
        done = subprocess.run(
            [CARME, "demo", "status", "--json"], capture_output=True, text=True, check=True, timeout=60
        )
        status = json.loads(done.stdout)
        accounts = {account["username"]: account for account in status["accounts"]}
        return cls(
            hub_url=status["hub_url"],
            slurm_conf=status["slurm_conf"],
            ldap_url=status["ldap_url"],
            accounts=accounts,
            codes={name: Codes(account["totp_secret"]) for name, account in accounts.items()},
        )

    def run(self, *words: str, node: str | None = None, user: str | None = None, check: bool = True) -> str:
        """Run a command inside the site, and return what it printed."""
        where = outside.enter_words(Layout(checkout()), node, user)
        done = subprocess.run(
            [*where, *words],
            env={**os.environ, "PATH": outside.PATH},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def login(self, username: str) -> Person:
        """Log a person in through the page, as a browser would, and make them an API token.

        A code that somebody used a moment ago is refused; then the next one is taken.
        """
        person = Person(self, username, requests.Session())
        for _ in range(4):
            answer = person.post_login(self.codes[username].next())
            if answer.status_code == 200:
                break
        assert answer.status_code == 200, answer.text
        made = person.http.post(
            f"{self.hub_url}/hub/api/users/{username}/tokens",
            json={"note": "tests", "expires_in": 7200},
            headers={"X-XSRFToken": person.xsrf("/hub/")},
            timeout=30,
        )
        assert made.status_code == 201, made.text
        person.token = made.json()["token"]
        return person

    def jobs(self, username: str) -> list[str]:
        """Return the ids of a person's jobs that have not ended."""
        states = "pending,configuring,running,suspended,completing"
        return self.run("squeue", "-h", "-u", username, "-t", states, "-o", "%A").split()


@dataclass
class Person:
    """Somebody with a browser and an API token."""

    site: Site
    username: str
    http: requests.Session
    token: str = ""
    kernel: str = field(default="")

    def xsrf(self, path: str) -> str:
        """Return the XSRF cookie that counts for a path."""
        found = [cookie for cookie in self.http.cookies if cookie.name == "_xsrf" and cookie.path == path]
        return str(found[0].value)

    def post_login(self, code: str, password: str | None = None) -> requests.Response:
        """Fill in the login page and send it."""
        url = f"{self.site.hub_url}/hub/login"
        self.http.get(url, timeout=30)
        form = {
            "username": self.username,
            "password": password or self.site.accounts[self.username]["password"],
            "otp": code,
            "_xsrf": self.xsrf("/hub/"),
        }
        return self.http.post(f"{url}?next=%2Fhub%2Fhome", data=form, timeout=60)

    def api(self, method: str, path: str, **options: Any) -> requests.Response:
        """Call the hub's API with the person's token."""
        headers = {"Authorization": f"token {self.token}"}
        return requests.request(
            method, f"{self.site.hub_url}/hub/api{path}", headers=headers, timeout=60, **options
        )

    def server(self) -> dict[str, Any]:
        """Return the hub's picture of the person's session; empty when there is none."""
        servers = self.api("GET", f"/users/{self.username}").json()["servers"]
        return servers.get("", {})

    def ask(self, **options: Any) -> requests.Response:
        """Ask for a session through the API."""
        return self.api("POST", f"/users/{self.username}/server", json=options)

    def start(self, **options: Any) -> dict[str, Any]:
        """Start a session and wait until it is ready."""
        asked = self.ask(**options)
        assert asked.status_code in (201, 202), asked.text

        def ready() -> dict[str, Any]:
            server = self.server()
            assert server, f"the session ended before it was ready: {self.last_event()}"
            return server if server["ready"] else {}

        return until(ready, f"{self.username}'s session")

    def last_event(self) -> dict[str, Any]:
        """Return the last thing that the hub said of the start."""
        answer = self.api("GET", f"/users/{self.username}/server/progress")
        events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
        return json.loads(events[-1]) if events else {"status": answer.status_code, "text": answer.text}

    def failure(self, **options: Any) -> dict[str, Any]:
        """Start a session that is expected to fail, and return what the person is told."""
        asked = self.ask(**options)
        if asked.status_code >= 400:
            return asked.json()
        event = until(
            lambda: (e := self.last_event()) and ("failed" in e or "ready" in e) and e, "the failure"
        )
        assert event.get("failed"), event
        return event

    def end_session(self) -> None:
        """Stop the session, if there is one, and wait until its job is gone."""
        self.kernel = ""

        def gone() -> bool:
            if self.server():
                self.api("DELETE", f"/users/{self.username}/server")
                return False
            return not self.site.jobs(self.username)

        until(gone, f"the end of {self.username}'s session")

    def get(self, path: str, **options: Any) -> requests.Response:
        """Get a page of the person's session with the token."""
        headers = {"Authorization": f"token {self.token}"}
        return requests.get(
            f"{self.site.hub_url}/user/{self.username}{path}", headers=headers, timeout=60, **options
        )

    def python(self, code: str, **metadata: Any) -> str:
        """Run Python in a kernel of the session and return what it printed.

        `metadata` goes along with the message.
        """
        headers = {"Authorization": f"token {self.token}"}
        if not self.kernel:
            made = requests.post(
                f"{self.site.hub_url}/user/{self.username}/api/kernels", headers=headers, timeout=60
            )
            assert made.status_code == 201, made.text
            self.kernel = made.json()["id"]
        path = f"/user/{self.username}/api/kernels/{self.kernel}/channels"
        address = urlsplit(self.site.hub_url)._replace(scheme="ws", path=path).geturl()
        return asyncio.run(asyncio.wait_for(_execute(address, headers, code, metadata), PATIENCE))

    def shell(self, command: str) -> str:
        """Run a shell command in the session and return all that it printed."""
        return self.python(
            f"import subprocess\nprint(subprocess.run({command!r}, shell=True, text=True, "
            "stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout, end='')"
        )


async def _execute(address: str, headers: dict[str, str], code: str, metadata: dict[str, Any]) -> str:
    """Send one execute_request, gather the output until the kernel is idle (Jupyter messaging 5.3)."""
    request = HTTPRequest(address, headers=headers, request_timeout=PATIENCE)
    connection = await websocket_connect(request, max_message_size=128 << 20)
    message_id = uuid.uuid4().hex
    message = {
        "header": {
            "msg_id": message_id,
            "msg_type": "execute_request",
            "session": "tests",
            "username": "",
            "version": "5.3",
        },
        "parent_header": {},
        "metadata": metadata,
        "channel": "shell",
        "content": {
            "code": code,
            "silent": False,
            "store_history": False,
            "allow_stdin": False,
            "stop_on_error": True,
        },
    }
    await connection.write_message(json.dumps(message))
    printed = []
    try:
        while (text := await connection.read_message()) is not None:
            message = json.loads(text)
            if message["parent_header"].get("msg_id") != message_id:
                continue
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])
            elif message["msg_type"] == "error":
                printed.append("\n".join(message["content"]["traceback"]))
            elif message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return "".join(printed)
    finally:
        connection.close()
        while await connection.read_message() is not None:  # until it is closed
            pass
    raise AssertionError("the kernel hung up: " + "".join(printed))
