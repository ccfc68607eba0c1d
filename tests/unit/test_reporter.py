"""The reporter with real processes and sockets; only the hub it reports to is a few lines of its own."""

import http.server
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from carme_hub.spawner import program, reporter
from tests.support import until

SOURCE = Path(reporter.__file__)
SCHEME = "http"

# Listens where JUPYTERHUB_SERVICE_URL says, after DELAY seconds; ends on SIGTERM with code 7.
SERVER = """
import os, signal, socket, sys, time, urllib.parse
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
time.sleep(float(os.environ.get("DELAY", "0")))
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", urllib.parse.urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"]).port)); s.listen()
print("listening", flush=True)
assert not sys.stdin.read()
while True: time.sleep(60)
"""


class Hub(http.server.ThreadingHTTPServer):
    def __init__(self, answers):
        self.answers, self.reports, self.heard = list(answers), [], threading.Event()
        self.end, self.asked = None, []
        self.begun, self.begun_answer, self.begun_gate = [], 204, threading.Event()
        self.begun_gate.set()
        self.gate = threading.Event()
        self.gate.set()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self):
        return f"{SCHEME}://127.0.0.1:{self.server_port}/hub/api"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if json.loads(body) == {"begun": True}:
            # Comes beside everything else, and nothing depends on it.
            self.server.begun.append((self.path, self.headers["Authorization"]))
            self.server.begun_gate.wait(10)
            self.send_response(self.server.begun_answer)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.server.reports.append((self.path, self.headers["Authorization"], json.loads(body)))
        self.server.gate.wait(10)
        if self.server.end is not None:
            self.tell_end()
            return
        answer = self.server.answers.pop(0) if self.server.answers else 204
        if not answer:
            self.wfile.write(b"no HTTP at all\r\n")
            self.close_connection = True
            return
        self.send_response(answer)
        if answer == 302:
            self.send_header("Location", f"{self.server.url}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()
        if answer == 204:
            self.server.heard.set()

    def do_GET(self):
        if self.server.end is None:
            self.do_POST()
            return
        self.server.asked.append((self.path, self.headers["Authorization"]))
        self.tell_end()

    def tell_end(self):
        body = json.dumps({"end": self.server.end, "extend": True}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    made = []

    def make(*answers):
        made.append(Hub(answers))
        return made[-1]

    yield make
    for one in made:
        one.shutdown()
        one.server_close()


def environment(hub, **more):
    return {
        "PATH": os.environ["PATH"],
        "JUPYTERHUB_API_URL": hub.url,
        "JUPYTERHUB_API_TOKEN": "secret",
        "JUPYTERHUB_SERVICE_URL": f"{SCHEME}://:0/user/rosa/",
        "http_proxy": "127.0.0.1:1",  # must not be used: the token is for the hub only
    } | more


@pytest.fixture
def run():
    """Start the reporter as the batch script does: on standard input, isolated from what is installed."""
    started = []

    def go(hub, *words, source=None, **more):
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-", *(words or (sys.executable, "-c", SERVER))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(hub, **more),
        )
        process.stdin.write(source or SOURCE.read_text())
        process.stdin.close()
        started.append(process)
        return process

    yield go
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(20)
        process.stdout.close()
        process.stderr.close()


def test_the_port_is_reported_once_the_server_listens(hub, run):
    site = hub()
    process = run(site, DELAY="0.3")
    assert site.heard.wait(10)
    ((path, token, body),) = site.reports
    assert (path, token) == ("/hub/api/carme/report", "token secret")
    assert set(body) == {"port"}
    with socket.create_connection(("127.0.0.1", body["port"]), timeout=5):
        pass
    assert process.poll() is None


def test_the_hub_is_told_that_the_container_runs_before_the_server_listens(hub, run):
    site = hub()
    run(site, DELAY="30")
    deadline = time.monotonic() + 10
    while not site.begun:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert site.begun == [("/hub/api/carme/report", "token secret")]
    assert site.reports == []


@pytest.mark.parametrize("answer", [204, 409, 403, 500])
def test_no_answer_to_that_matters(hub, run, answer):
    site = hub()
    site.begun_answer = answer
    if answer == 500:
        site.begun_gate.clear()  # and this one is slow, too
    process = run(site)
    assert site.heard.wait(10)
    assert len(site.begun) == 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 7
    site.begun_gate.set()


def test_sigterm_reaches_the_server_and_its_exit_code_comes_back(hub, run):
    site = hub()
    process = run(site)
    assert site.heard.wait(10)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 7


def bindable(port):
    """Whether somebody else on this node could take the port now."""
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            stranger.bind(("", port))
            stranger.listen()
        except OSError:
            return False
        return True


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_hub_learns_of_the_end_before_anybody_can_have_the_port(hub, run, end):
    site = hub()
    process = run(site)
    assert site.heard.wait(10)
    port = site.reports[0][2]["port"]
    site.gate.clear()  # the hub takes its time for an answer
    server = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
    os.kill(process.pid if end == signal.SIGTERM else server, end)
    deadline = time.monotonic() + 10
    while len(site.reports) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while Path(f"/proc/{server}").exists():  # it is waited for
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)
    assert not bindable(port)
    site.gate.set()
    assert process.wait(10) == (7 if end == signal.SIGTERM else 128 + signal.SIGKILL)
    assert [(path, token, body) for path, token, body in site.reports[1:]] == [
        ("/hub/api/carme/report", "token secret", {"ended": True})
    ]
    assert bindable(port)


def test_a_hub_that_is_away_does_not_keep_the_job(hub, monkeypatch):
    monkeypatch.setattr(reporter, "FAREWELL", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{SCHEME}://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        reporter.tell_end({"JUPYTERHUB_API_URL": url, "JUPYTERHUB_API_TOKEN": "secret"})
    assert 0.4 < time.monotonic() - began < 5
    site = hub(500, 403)
    reporter.tell_end(environment(site))
    assert len(site.reports) == 2, "once more after 500, never after a no"


def test_a_server_that_dies_first_is_not_reported(hub, run):
    site = hub()
    assert run(site, sys.executable, "-c", "raise SystemExit(5)").wait(10) == 5
    assert run(site, "/bin/sh", "-c", "kill -9 $$").wait(10) == 128 + 9
    assert site.reports == []


def test_a_command_that_does_not_exist(hub, run):
    process = run(hub(), "/no/such/server")
    assert process.wait(10) == reporter.EXIT_NOT_REPORTED
    assert "could not be started" in process.stderr.read()


def test_a_hub_that_is_restarting_is_asked_again(hub, run):
    site = hub(503, 500)
    run(site)
    assert site.heard.wait(20)
    assert len(site.reports) == 3


def test_an_answer_that_is_no_http_is_none_of_the_hubs(hub, run):
    site = hub(0, 0)
    run(site)
    assert site.heard.wait(20)
    assert len(site.reports) == 3


@pytest.mark.parametrize("answer", [400, 403, 302])
def test_a_hub_that_says_no_ends_the_session(hub, run, answer):
    site = hub(answer)
    process = run(site)
    assert process.wait(20) == reporter.EXIT_NOT_REPORTED
    assert f"did not take the report of port {site.reports[0][2]['port']}: {answer}" in process.stderr.read()
    assert len(site.reports) == 1, "nothing is sent to where a redirect points"


def test_a_report_that_arrived_before_is_enough(hub, run):
    site = hub(409)
    process = run(site)
    while not site.reports:
        time.sleep(0.01)
    time.sleep(0.2)
    assert process.poll() is None


def test_a_port_that_a_stranger_took_is_never_reported(hub, monkeypatch, capsys):
    """The race: between `free_port` and the server's bind somebody else listens on the port."""
    site = hub()
    with socket.socket() as stranger:
        stranger.bind(("", 0))
        stranger.listen()
        taken = stranger.getsockname()[1]
        ports = iter([taken, reporter.free_port()])
        monkeypatch.setattr(reporter, "free_port", lambda: next(ports))
        monkeypatch.setattr(reporter, "pass_signals_on", lambda *_: None)
        server = "import signal; signal.alarm(3)\n" + SERVER
        assert reporter.serve([sys.executable, "-c", server], environment(site)) == 128 + signal.SIGALRM
    assert f"somebody else took port {taken}" in capsys.readouterr().err
    ported = [body["port"] for _, _, body in site.reports if "port" in body]
    assert len(ported) == 1
    assert ported != [taken]


def test_a_stranger_in_the_other_address_family_is_noticed():
    with socket.socket() as ours, socket.socket(socket.AF_INET6) as stranger:
        ours.bind(("", 0))
        ours.listen()
        stranger.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        stranger.bind(("::", ours.getsockname()[1]))
        stranger.listen()
        assert len(reporter.listeners(ours.getsockname()[1])) == 2


def test_sockets_of_grandchildren_are_ours():
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SERVER!r}])"
    port = reporter.free_port()
    child = subprocess.Popen(
        [sys.executable, "-c", inner],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={"JUPYTERHUB_SERVICE_URL": f"{SCHEME}://:{port}/"},
        start_new_session=True,
    )
    try:
        assert reporter.wait_until_ours(child, "127.0.0.1", port)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"{SCHEME}://:0/user/a/", f"{SCHEME}://:81/user/a/"),
        (f"{SCHEME}s://0.0.0.0:0/", f"{SCHEME}s://0.0.0.0:81/"),
        (f"{SCHEME}://[::]:0/a", f"{SCHEME}://[::]:81/a"),
    ],
)
def test_only_the_port_of_the_address_changes(url, expected):
    assert reporter.with_port(url, 81) == expected


def test_a_session_is_warned_in_its_terminals_and_files_by_what_the_hub_says(hub, run, tmp_path):
    """The whole program, as it reaches a container; only where it writes is another place."""
    site = hub()
    site.end = time.time() + 300
    outer, inner = pty.openpty()
    (tmp_path / "0").symlink_to(os.ttyname(inner))
    text = program.source().replace("/dev/pts", str(tmp_path)).replace("/tmp/.carme", f"{tmp_path}/.carme")
    # However long the start takes, one of them is near.
    run(site, source=text, CARME_WARN_BEFORE=",".join(map(str, range(275, 300))))
    assert select.select([outer], [], [], 20)[0]
    assert b"*** This session ends in 5 minutes" in os.read(outer, 1000)
    said = json.loads((tmp_path / ".carme-time-limit.json").read_text())
    assert (said["end"], said["extend"]) == (site.end, True)
    # Before it warned it asked, with the token, whether that is still right.
    assert site.asked[0] == ("/hub/api/carme/report", "token secret")
    for one in (outer, inner):
        os.close(one)


def read(path):
    return path.read_text() if path.exists() else ""


def test_c12_the_hub_hears_of_the_home_and_of_a_log_that_it_cannot_find(hub, run, tmp_path):
    """The whole program; what is wrong with the home is made right while the session runs."""
    site = hub()
    home, log = tmp_path / "home", tmp_path / "session.log"
    home.mkdir()
    (home / ".jupyter").write_text("in the way")
    log.write_text("the log\n")
    text = (
        program.source().replace("/tmp/.carme", f"{tmp_path}/.carme").replace("SELDOM = 30.0", "SELDOM = 0.1")
    )
    text = text.replace("INTERVAL = 3.0", "INTERVAL = 0.05")
    shown = SERVER.replace(
        'print("listening"', 'open(os.environ["OUT"], "w").write(os.environ["JUPYTER_CONFIG_DIR"]); print("x"'
    )
    process = run(
        site,
        sys.executable,
        "-c",
        shown,
        source=text,
        HOME=str(home),
        CARME_LOG=str(log),
        OUT=str(tmp_path / "conf"),
    )
    assert site.heard.wait(20)

    def told():
        return [body["told"] for _, _, body in site.reports if "told" in body]

    until(told, "what is wrong")
    assert told()[0] == {"home": [".jupyter"], "killed": 0, "log": "the log\n"}
    assert until(lambda: read(tmp_path / "conf"), "the server") == f"{tmp_path}/.carme-home/jupyter"
    assert ".jupyter" in (tmp_path / ".carme-notes.txt").read_text()
    (home / ".jupyter").unlink()
    until(lambda: told()[-1]["home"] == [], "the home to be found in order")
    assert json.loads((tmp_path / ".carme-notes.json").read_text()) == []
    log.write_text("the log\nthe end\n")
    process.terminate()
    process.wait(20)
    assert told()[-1]["log"] == "the log\nthe end\n"


def test_c12_a_server_that_dies_first_leaves_its_log_with_the_hub(hub, run, tmp_path):
    site = hub()
    log = tmp_path / "session.log"
    log.write_text("why\n")
    process = run(
        site, sys.executable, "-c", "raise SystemExit(5)", source=program.source(), CARME_LOG=str(log)
    )
    assert process.wait(20) == 5
    assert site.reports[-1][2]["told"]["log"] == "why\n"


def test_it_needs_nothing_but_the_standard_library():
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", "-c", SOURCE.read_text().replace("__main__", "no")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "site-packages" not in done.stderr
