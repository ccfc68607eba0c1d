"""A link to a port of a session: somebody else there gets nothing, and the owner's program works."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.browser.test_walk import log_in
from tests.forward_world import GREETING, STRANGERS
from tests.support import until

PORT, TURNS, OWN = 19999, 19998, 29876
HEARD = "/srv/home/noah/heard"
# A program of ravi's: it tells the cookies it got, sets one of its own, leads on, and takes what is sent.
APP = f"""
import http.server
class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/on":
            self.send_response(302); self.send_header("Location", "/there")
            self.send_header("Set-Cookie", "mine=1; Path=/"); self.end_headers(); return
        said = f"<h1>App</h1><p>{{self.path}}</p><pre>{{self.headers.get('Cookie')}}</pre>".encode()
        self.send_response(200); self.send_header("Content-Type", "text/html")
        self.end_headers(); self.wfile.write(said)
    def do_POST(self):
        got = str(len(self.rfile.read(int(self.headers["Content-Length"])))).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(got))); self.end_headers()
        self.wfile.write(got)
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("127.0.0.1", {OWN}), App).serve_forever()
"""
# Takes the other port whenever it is free, and gives it away again.
TURN = f"""
import socket, time
while True:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", {TURNS})); listener.listen(8); listener.settimeout(0.02)
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(1); peer.recv(65536)
                peer.sendall(b"HTTP/1.1 302 Go\\r\\nLocation: /x\\r\\nContent-Length: 0\\r\\n\\r\\n")
        except OSError:
            pass
    time.sleep(0.003)
"""


@contextlib.contextmanager
def noah(site, node, port, *, turns):
    """Have noah listen on the node, and write down what he hears."""
    site.run("rm", "-f", HEARD)
    python = f'/usr/bin/python3 -c "$0" {port} {GREETING.hex()} {turns}'
    start = f"cd /; setsid {python} >{HEARD} 2>{HEARD}.up </dev/null & echo $!"
    number = site.run("bash", "-c", start, STRANGERS, node=node, user="noah").strip()
    try:
        until(lambda: "listens" in site.run("cat", f"{HEARD}.up"), "noah's listener")
        yield lambda: site.run("cat", HEARD)
    finally:
        site.run("kill", number, node=node, user="noah")


def run(person, program):
    """Start a program in the session. In a thread: Playwright has an event loop in this one."""
    code = f"import subprocess, sys\nprogram = subprocess.Popen([sys.executable, '-c', {program!r}])"
    with ThreadPoolExecutor() as threads:
        threads.submit(person.python, code).result()


@pytest.fixture
def victim(site, person):
    """Ravi's session, and the node it runs on."""
    ravi = person("ravi")
    ravi.start(profile="cpu")
    (job,) = site.jobs("ravi")
    return ravi, site.run("squeue", "-h", "-j", job, "-o", "%N").strip()


def test_a2_a_link_to_somebody_elses_port_takes_nothing(site, victim, page: Page):
    ravi, node = victim
    run(ravi, APP)
    log_in(site, page, "ravi")
    page.goto("/user/ravi/lab")
    with noah(site, node, PORT, turns=False) as heard:
        for way in (
            f"/user/ravi/proxy/{PORT}/",
            f"/user/ravi/proxy/absolute/{PORT}/",
            f"/user/ravi/proxy/127.0.0.1:{PORT}/",
            f"/hub/user-redirect/proxy/{PORT}/",
            f"/user/ravi/code-server/proxy/{PORT}/",
            f"/user/ravi/code-server/absproxy/{PORT}/",
        ):
            page.goto(way)
            expect(page.get_by_role("heading")).to_have_text(f"Somebody else uses port {PORT}")
        # A page of another site sends the browser there.
        there = f"{site.hub_url}/hub/user-redirect/proxy/{PORT}/"
        page.route(
            "http://stranger.example/",
            lambda route: route.fulfill(
                content_type="text/html", body=f'<a id="go" href="{there}">Prizes</a>'
            ),
        )
        page.goto("http://stranger.example/")
        page.click("#go")
        expect(page.get_by_role("heading")).to_have_text("Another site sent you here")
        page.get_by_role("link", name="Open it").click()
        expect(page.get_by_role("heading")).to_have_text(f"Somebody else uses port {PORT}")
        assert heard() == ""

    # Ravi's own program: typed, led on to, with its own cookie and none of the hub's.
    page.goto(f"/user/ravi/proxy/{OWN}/on")
    assert page.url.endswith(f"/user/ravi/proxy/{OWN}/there")
    expect(page.locator("pre")).to_have_text("mine=1")
    page.goto(f"/user/ravi/code-server/proxy/{OWN}/x")
    expect(page.get_by_text("/x")).to_be_visible()
    sent = page.evaluate(
        f"fetch('/user/ravi/proxy/{OWN}/', {{method: 'POST', body: 'x'.repeat(2e6)}}).then(r => r.text())"
    )
    assert sent == "2000000"

    # Nobody there: a page, with a way back.
    page.goto(f"/user/ravi/proxy/{PORT}/")
    expect(page.get_by_role("heading")).to_have_text(f"Nothing runs on port {PORT}")
    expect(page.get_by_role("link", name="Back to JupyterLab")).to_be_visible()


def test_a2_a_port_that_changes_hands_delivers_no_credential(site, victim):
    ravi, node = victim
    run(ravi, TURN)
    codes = set()
    ways = ("proxy/{}/", "code-server/proxy/{}/", "proxy/absolute/{}/", "code-server/absproxy/{}/x")
    with noah(site, node, TURNS, turns=True) as heard, requests.Session() as browser:
        browser.headers["Authorization"] = f"token {ravi.token}"
        for number in range(200):
            path = ways[number % len(ways)].format(TURNS)
            answer = browser.request(
                ("GET", "POST")[number % 8 == 0], f"{site.hub_url}/user/ravi/{path}", timeout=60
            )
            codes.add(answer.status_code)
        assert heard() == ""
    assert 403 in codes
