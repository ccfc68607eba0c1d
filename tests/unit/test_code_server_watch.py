"""Code-Server that does not run says why: the program around it, with real processes and sockets."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from carme_hub.demo import images
from tests.support import until

WATCH = images.DEFINITIONS / "files" / "code_server_watch.py"
# In Code-Server's place: says what the file "say" holds, and ends where the file "run" is missing.
PROGRAM = """\
cat say; [ -e run ] || exit "$(cat code 2>/dev/null || echo 3)"
exec "$0" -c 'import http.server, socketserver, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"the editor")
    def log_message(self, *_): pass
    def address_string(self): return ""
socketserver.UnixStreamServer(sys.argv[1], H).serve_forever()' "$1"
"""


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


@pytest.fixture
def place():
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is short
        yield Path(folder)


@pytest.fixture
def watch(place):
    (place / "say").write_text("")
    path = str(place / "socket")
    started = []

    def start(*other, source=WATCH, words=("/bin/sh", "-c", PROGRAM, sys.executable, path)):
        words = other or words
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", source, path, *words],
            cwd=place,
            stderr=subprocess.PIPE,
            env={
                "JUPYTERHUB_BASE_URL": "/b/",
                "JUPYTERHUB_SERVICE_PREFIX": "/b/user/x/",
                "PATH": os.environ["PATH"],
            },
        )
        started.append(process)
        until(lambda: answers(path), "an answer at the socket")
        return process

    start.get = lambda address="/": get(path, address)
    start.path = path
    yield start
    for process in started:
        process.kill()
        process.communicate()


def answers(path):
    try:
        get(path)
    except OSError:
        return False
    return True


def get(path, address="/"):
    with contextlib.closing(Connection(path)) as connection:
        connection.request("GET", address)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


def test_c11_code_server_that_ends_says_why_in_a_page(watch, place):
    (place / "say").write_text(
        "".join(f"line {number}\n" for number in range(50)) + "\x1b[31m<b>no room</b>\u202e\n"
    )
    watch()
    status, headers, text = watch.get()
    assert (status, headers["Cache-Control"]) == (503, "no-store")
    assert "Code-Server ended with exit code 3. Your session goes on." in text
    assert "&lt;b&gt;no room&lt;/b&gt;" in text
    assert "line 49" in text
    assert "line 30" not in text, "the end of it only"
    assert "\x1b" not in text
    assert "\u202e" not in text
    for way in ('href="?carme-again"', 'href="/b/user/x/lab"', 'href="/b/hub/home"'):
        assert way in text
    assert stat.S_IMODE(Path(watch.path).stat().st_mode) == 0o600


@pytest.mark.parametrize("address", ["/", "/stable-1/out?folder=/x", "/a%00b?carme-agai", "//evil.example/"])
def test_c11_the_page_is_at_every_address(watch, address):
    watch()
    assert watch.get(address)[0] == 503


def test_c11_who_tries_again_gets_there_or_reads_why_not(watch, place):
    watch()
    (place / "say").write_text("another reason\n")
    status, headers, _ = watch.get("/?carme-again")
    assert (status, headers["Location"]) == (303, ".")
    assert "another reason" in watch.get()[2]
    (place / "run").touch()
    assert watch.get("//evil.example/x?carme-again")[1]["Location"] == "x"
    assert watch.get()[2] == "the editor"


def test_c11_one_that_ends_later_is_told_from_one_that_never_ran(watch, place):
    (place / "run").touch()
    process = watch()
    assert watch.get()[2] == "the editor"
    child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
    os.kill(child, signal.SIGKILL)
    text = until(lambda: answers(watch.path) and watch.get()[2], "the page")
    assert "killed, perhaps because the session ran out of memory" in text


@pytest.mark.parametrize("runs", [True, False])
def test_c11_it_ends_when_the_session_does(watch, place, runs):
    if runs:
        (place / "run").touch()
    process = watch()
    process.terminate()
    process.wait(20)


def test_c11_without_other_words_it_is_the_sessions_code_server_at_that_socket(watch, place):
    stub = place / "session"
    stub.write_text('#!/bin/sh\necho "started at $1, $# words"\nexit 4\n')
    stub.chmod(0o755)
    text = WATCH.read_text().replace("/usr/local/bin/code-server-session", str(stub))
    (place / "watch.py").write_text(text)
    watch(source=place / "watch.py", words=())
    assert f"started at {watch.path}, 1 words" in watch.get()[2]


def test_c11_what_cannot_be_started_at_all_is_said(watch):
    watch("/no/such/program")
    assert "Code-Server cannot be started: No such file or directory." in watch.get()[2]
