"""A Jupyter Server with a session's extension, and programs of its owner and of others on the loopback."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import requests

FILES = Path(__file__).parents[1] / "singularity" / "files"
STRANGER = 54321  # a user id that nobody has
TOKEN = "0123456789abcdef0123456789abcdef"
BASE = "/user/ravi/"
# What a browser of somebody who is in sends along to every address below /user/ravi/.
LOGIN = {
    "jupyterhub-user-ravi": "login-of-ravi",
    "jupyterhub-session-id": "session-of-ravi",
    "_xsrf": "proof-of-ravi",
    "jupyterhub-user-ravi-oauth-state-x": "state-of-ravi",
}
GREETING = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
SECRETS = (TOKEN, *LOGIN.values())

# Listens on a port and says what comes: PORT, ANSWER (in hex), and whether to give the port away in turns.
STRANGERS = """
import os, socket, sys, threading, time
port, answer, turns = int(sys.argv[1]), bytes.fromhex(sys.argv[2]), sys.argv[3] == "True"
def serve(peer):
    with peer:
        peer.settimeout(5)
        try:
            while piece := peer.recv(65536):
                os.write(1, piece)
                if b"\\r\\n\\r\\n" in piece:
                    peer.sendall(answer)
                    break
        except OSError:
            pass
def listen():
    while True:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(64)
            return listener
        except OSError:
            listener.close()
            time.sleep(0.001)
listener = listen()
os.write(2, b"listens\\n")
until = time.monotonic() + 0.01
while True:
    listener.settimeout(0.01)
    try:
        peer, _ = listener.accept()
        threading.Thread(target=serve, args=(peer,), daemon=True).start()
    except TimeoutError:
        pass
    if turns and time.monotonic() > until:
        listener.close()
        time.sleep(0.005)
        listener = listen()
        until = time.monotonic() + 0.01
"""


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class World:
    """The server, and what asks it."""

    folder: Path
    port: int
    pid: int

    def address(self, path: str) -> str:
        """Return the full address of one below the server's."""
        return f"http://127.0.0.1:{self.port}{BASE}{path.lstrip('/')}"

    def ask(self, path: str, method: str = "GET", *, who: bool = True, **options) -> requests.Response:
        """Ask as a browser does whose owner is in; `who=False`: as one of nobody."""
        headers = {"Accept": "text/html", **options.pop("headers", {})}
        if who:
            headers.setdefault("Authorization", f"token {TOKEN}")
        cookies = "; ".join(
            f"{name}={value}" for name, value in {**LOGIN, **options.pop("cookies", {})}.items()
        )
        headers["Cookie"] = cookies
        return requests.request(
            method, self.address(path), headers=headers, timeout=60, allow_redirects=False, **options
        )

    def log_in(self) -> dict[str, str]:
        """Return the cookies of a browser that has logged in with the server's token."""
        with requests.Session() as browser:
            browser.get(self.address("lab"), params={"token": TOKEN}, timeout=60, allow_redirects=False)
            return {cookie.name: cookie.value for cookie in browser.cookies if cookie.name != "_xsrf"}

    def memory(self) -> int:
        """Return the bytes of memory the server holds now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    @contextlib.contextmanager
    def stranger(self, port: int, answer: bytes = GREETING, *, turns: bool = False):
        """Have somebody else listen on a port; gives the file of what was heard there.

        With `turns` the port is free for a moment some fifty times a second.
        """
        python = getattr(sys, "_base_executable", sys.executable)
        heard = self.folder / f"heard-{port}"
        with heard.open("wb") as record:
            process = subprocess.Popen(
                [python, "-c", STRANGERS, str(port), answer.hex(), str(turns)],
                stdout=record,
                stderr=subprocess.PIPE,
                user=STRANGER,
                group=STRANGER,
                extra_groups=[],
                cwd="/",
            )
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == b"listens\n"
            yield heard
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


@contextlib.contextmanager
def world(folder: Path, more: dict | None = None):
    """Start the server, with `more` settings beside the usual ones, and end it."""
    folder.chmod(0o755)
    port = free_port()
    config = {
        "ServerApp": {
            "jpserver_extensions": {"carme_session": True, "jupyter_server_proxy": True},
            "base_url": BASE,
            "ip": "127.0.0.1",
            "port": port,
            "port_retries": 0,
            "open_browser": False,
            "allow_root": True,
            "root_dir": str(folder),
        },
        "IdentityProvider": {"token": TOKEN},
        "ServerProxy": {"host_allowlist": ["localhost", "127.0.0.1"]},
        **(more or {}),
    }
    (folder / "jupyter_server_config.json").write_text(json.dumps(config))
    environment = {
        **os.environ,
        "PYTHONPATH": str(FILES),
        "JUPYTER_CONFIG_DIR": str(folder),
        "JUPYTER_RUNTIME_DIR": str(folder / "run"),
        "JUPYTER_NO_CONFIG": "",
        "HOME": str(folder),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server"], env=environment, stdout=log, stderr=log, cwd=folder
        )
    try:
        here = World(folder, port, process.pid)
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(requests.ConnectionError):
                if here.ask("api/status").ok:
                    break
            assert time.monotonic() < deadline, (folder / "log").read_text()
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        yield here
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:  # kernels that a failed test left
            process.kill()
            process.wait()
