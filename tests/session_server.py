"""The server of a session as the image has it, on this machine, behind a hub that says whose a token is.

JupyterHub's single-user server, Jupyter Server and jupyter-server-proxy are the real ones, with the image's
own configuration. JupyterLab, kernels and Code-Server are in images only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

FILES = Path(__file__).parents[1] / "singularity" / "files"
TOKEN = "token-of-ravi"
PREFIX = "/user/ravi/"
CLIENT = "jupyterhub-user-ravi"


class _Hub(BaseHTTPRequestHandler):
    """What a server asks its hub."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if urlsplit(self.path).path.rstrip("/") == "/hub/api":
            self._say(200, {"version": "6.1.1"})
        elif self.headers.get("Authorization") == f"token {TOKEN}":
            self._say(200, {"name": "ravi", "kind": "user", "scopes": ["access:servers!server=ravi/"]})
        else:
            self._say(403, {"message": "no"})

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/oauth2/token") and parse_qs(sent.decode()).get("code") == ["good"]:
            self._say(200, {"access_token": TOKEN})
        else:
            self._say(200, {})

    def _say(self, status: int, answer: dict[str, Any]) -> None:
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("X-JupyterHub-Version", "6.1.1")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_words: object) -> None:
        pass


class SessionServer:
    """A running server.

    Attributes
    ----------
    port
        On 127.0.0.1.
    log
        The file with all it says.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path, home: Path) -> None:
        self.process, self.port, self.log, self.home = process, port, log, home

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{PREFIX}{path}"

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request with the owner's token."""
        headers = {"Authorization": f"token {TOKEN}", **options.pop("headers", {})}
        return requests.request(method, self.url(path), headers=headers, timeout=60, **options)

    def signed_in(self) -> requests.Session:
        """Return a browser of the owner's, with the cookies of a login."""
        browser = requests.Session()
        first = browser.get(self.url("api/kernelspecs"), allow_redirects=False, timeout=30)
        first = browser.get(self.url("files/x"), allow_redirects=False, timeout=30)
        state = parse_qs(urlsplit(first.headers["Location"]).query)["state"][0]
        back = {"code": "good", "state": state}
        done = browser.get(self.url("oauth_callback"), params=back, allow_redirects=False, timeout=30)
        assert done.status_code == 302, done.text
        return browser

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def memory(self) -> int:
        """Return the most memory that the server ever had, in bytes (``man 5 proc``, VmHWM)."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", text)
        assert found
        return int(found.group(1)) << 10


@contextmanager
def session_server(folder: Path, *, extension: bool = True, **environment: str):
    """Run a server.

    Parameters
    ----------
    folder
        An empty one.
    extension
        False for one as an image of others has it.
    environment
        More variables of the session.
    """
    hub = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    settings, home = folder / "jupyter", folder / "home"
    (settings / "jupyter_server_config.d").mkdir(parents=True)
    home.mkdir()
    if extension:
        shutil.copy(FILES / "jupyter_server_config.json", settings)
        shutil.copy(FILES / "carme_session.json", settings / "jupyter_server_config.d")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "log"
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(FILES),
        "JUPYTER_CONFIG_PATH": str(settings),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}{PREFIX}",
        "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
        "JUPYTERHUB_API_URL": f"http://127.0.0.1:{hub.server_port}/hub/api",
        "JUPYTERHUB_API_TOKEN": TOKEN,
        "JUPYTERHUB_CLIENT_ID": CLIENT,
        "JUPYTERHUB_USER": "ravi",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:servers!server=ravi/"]',
        "JUPYTERHUB_ACTIVITY_URL": f"http://127.0.0.1:{hub.server_port}/hub/api/activity",
        **environment,
    }
    words = [sys.executable, "-m", "jupyterhub.singleuser", "--allow-root", f"--ServerApp.root_dir={home}"]
    with log.open("wb") as out:
        process = subprocess.Popen(words, env=variables, cwd=home, stdout=out, stderr=out)
    server = SessionServer(process, port, log, home)
    try:
        _wait(server)
        yield server
    finally:
        process.kill()
        process.wait(30)
        hub.shutdown()
        hub.server_close()


def _wait(server: SessionServer) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert server.process.poll() is None, server.log.read_text()
        try:
            if requests.get(server.url("api"), timeout=10).status_code == 200:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.1)
    raise AssertionError(server.log.read_text())
