#!/opt/jupyter/bin/python -IS
"""code-server-watch SOCKET [COMMAND ...]: runs Code-Server, and says in a page why it does not run.

jupyter-server-proxy calls it, and would answer "500 : Internal Server Error" where Code-Server ends before it
listens. So a page takes its place at the same socket: the end of what it said, and a link that tries again.
Standard library only: it has to work where little else does.
"""

from __future__ import annotations

import collections
import contextlib
import html
import http.server
import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SESSION = "/usr/local/bin/code-server-session"
PATIENCE = 50.0  # seconds until it has to listen; jupyter-server-proxy's own is 60
LINES, LONGEST = 20, 300  # of its output that are kept, and characters of each
AGAIN = "carme-again"
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Code-Server is not running</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
main {{ max-width: 44rem; margin: 4rem auto; padding: 0 1rem }}
pre {{ overflow: auto; padding: 1rem; border: 1px solid; border-radius: 6px; white-space: pre-wrap }}
a {{ margin-right: 1.5rem }}
</style></head>
<body><main>
<h1>Code-Server is not running</h1>
<p role="alert">{sentence} Your session goes on.</p>
<p>
<a href="?{again}">Try again</a> <a href="{lab}">Open JupyterLab</a> <a href="{hub}">Back to the hub</a>
</p>
{output}
</main></body></html>
"""


def page(sentence: str, lines: Sequence[str], environ: Mapping[str, str]) -> bytes:
    """Return the page.

    Parameters
    ----------
    sentence
        What happened.
    lines
        The end of what Code-Server said.
    environ
        The session's, which knows the ways back.
    """
    base = environ.get("JUPYTERHUB_BASE_URL", "/")
    hub = environ.get("JUPYTERHUB_PUBLIC_HUB_URL") or f"{environ.get('JUPYTERHUB_HOST', '')}{base}hub/"
    said = html.escape("\n".join(lines))
    return _PAGE.format(
        sentence=html.escape(sentence),
        again=AGAIN,
        lab=html.escape(environ.get("JUPYTERHUB_SERVICE_PREFIX", base) + "lab"),
        hub=html.escape(f"{hub.rstrip('/')}/home"),
        output=f'<h2>What it said last</h2>\n<pre tabindex="0">{said}</pre>' if said else "",
    ).encode()


def ended(code: int) -> str:
    """Say how a program ended, by its exit code as `subprocess` gives it."""
    if code == -signal.SIGKILL:
        return "Code-Server was killed, perhaps because the session ran out of memory."
    return (
        f"Code-Server ended by signal {-code}." if code < 0 else f"Code-Server ended with exit code {code}."
    )


class Program:
    """Code-Server, started once or more often.

    Parameters
    ----------
    words
        The command.
    path
        The socket on which it has to listen.
    """

    def __init__(self, words: Sequence[str], path: str, patience: float = PATIENCE) -> None:
        self._words, self._path, self._patience = words, path, patience
        self.lines: collections.deque[str] = collections.deque(maxlen=LINES)
        self.child: subprocess.Popen[bytes] | None = None
        self.sentence = ""

    def start(self) -> bool:
        """Start it and wait until it listens; False when it does not, and `sentence` says why."""
        self.lines.clear()
        try:
            self.child = subprocess.Popen(
                self._words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        except OSError as error:
            self.sentence = f"Code-Server cannot be started: {error.strerror}."
            return False
        reading = threading.Thread(target=self._read, args=(self.child,), daemon=True)
        reading.start()
        end = time.monotonic() + self._patience
        while self.child.poll() is None:
            if self._listens():
                return True
            if time.monotonic() > end:
                self.child.kill()
                self.child.wait()
                self.sentence = f"Code-Server did not start within {self._patience:.0f} seconds."
                return False
            time.sleep(0.05)
        self.sentence = ended(self.child.returncode)
        reading.join(1)  # what it started may still hold the pipe
        return False

    def _read(self, child: subprocess.Popen[bytes]) -> None:
        """Keep the end of what it says; all of it goes to the session's log."""
        for line in iter(lambda: child.stdout.readline(4096) if child.stdout else b"", b""):
            os.write(2, line)
            self.lines.append(_CONTROL.sub("", line.decode("utf-8", "replace")).rstrip()[:LONGEST])

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self._path)
            except OSError:
                return False
        return True

    def wait(self) -> int:
        """Wait for its end."""
        return self.child.wait() if self.child else 0


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    program: Program
    again: threading.Event
    tried: threading.Event


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    timeout = 30

    def do_GET(self) -> None:
        """Show the page, or try again and lead to what came of it."""
        path, _, query = self.path.partition("?")
        if query == AGAIN:
            self.server.again.set()
            self.server.tried.wait(2 * PATIENCE)
            self.send_response(303)
            # Relative to what the browser asked for: only that end of the address is known here.
            self.send_header("Location", f"{path.rpartition('/')[2] or '.'}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        program = self.server.program
        body = page(program.sentence, list(program.lines), os.environ)
        self.send_response(503)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - http.server's name

    def log_message(self, *_: object) -> None:
        """Write nothing: what matters is in the log already."""


def explain(program: Program, path: str, waiting: threading.Event | None) -> threading.Event:
    """Show the page until somebody wants to try again.

    Parameters
    ----------
    waiting
        What `explain` returned before: whoever tried again then sees this page now.

    Returns
    -------
    threading.Event
        Whoever tries again waits for it.
    """
    remove(path)
    mask = os.umask(0o177)
    try:
        server = _Server(path, _Handler)
    finally:
        os.umask(mask)
    server.program, server.again, server.tried = program, threading.Event(), threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    if waiting is not None:
        waiting.set()
    server.again.wait()
    # The connection of who tries again stays open, while the socket is Code-Server's.
    server.shutdown()
    server.socket.close()
    remove(path)
    return server.tried


def remove(path: str) -> None:
    """Remove a socket that nobody listens on any more."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - starts quickly


def main(path: str, words: Sequence[str], patience: float = PATIENCE) -> int:
    """Run Code-Server for as long as it wants, and explain each end that it was not asked for."""
    program = Program(words or (SESSION, path), path, patience)
    asked = threading.Event()

    def stop(number: int, _frame: object) -> None:
        asked.set()
        if program.child is not None and program.child.poll() is None:
            program.child.send_signal(number)
        else:
            os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    waiting = None
    while True:
        if program.start():
            if waiting is not None:
                waiting.set()
            waiting, code = None, program.wait()
            program.sentence = ended(code)
            if asked.is_set():
                return max(code, 0)
        elif asked.is_set():
            return 0
        waiting = explain(program, path, waiting)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
