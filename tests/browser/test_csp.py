"""The hub's pages under their Content-Security-Policy: all of them work; what is slipped in does not run."""

from __future__ import annotations

import http.client
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import quote, urlsplit

import pytest
import requests
from playwright.sync_api import Page, expect

from carme_hub.authenticator import doors
from tests.browser.conftest import listen
from tests.integration.gate_world import PASSWORDS, code, gate_config, hub, slapd

# Stands in for a session. It starts when a file appears, so that the waiting page can be looked at.
SESSION = """
import os, pathlib, time
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit

class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        script = self.path.endswith(".js")
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if script else "text/html")
        self.send_header("X-JupyterHub-Version", "6.0.0")
        self.end_headers()
        self.wfile.write(b"window.slippedIn = 'session'" if script else b"<h1>Session</h1>")

while not pathlib.Path(os.environ["GO"]).exists():
    time.sleep(0.05)
address = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
HTTPServer((address.hostname, address.port), Answer).serve_forever()
"""
SLIPPED_IN = """
<script>window.slippedIn = "inline"</script>
<script nonce="">window.slippedIn = "nonce"</script>
<script src="/user/carol/evil.js"></script>
<script src="{other}/evil.js"></script>
<img src="data:," onerror="window.slippedIn = 'attribute'">
<svg onload="window.slippedIn = 'svg'"></svg>
<iframe srcdoc="<script>parent.slippedIn = 'frame'</script>"></iframe>
<a id="address" href="javascript:void(window.slippedIn = 'address')">a</a>
<base href="{other}/">
<form id="form" action="{stranger}/form"></form>
"""
TRIAL = """{% extends "page.html" %}
{% block main %}{{ slipped_in | safe }}
<p id="text">what is copied</p><button data-copy="text" data-copied="Copied" hidden>Copy</button>
<script>window.inline = true;</script>
<script type="module">import "{{ carme_static }}copy.js"; window.module = true;</script>
<script type="module" src="{{ carme_static }}copy.js"></script>
<script>require(["jquery"], $ => { window.required = Boolean($); });</script>
{% endblock main %}"""
CONFIG = """
import carme_hub
from carme_hub.spawner.catalog import Catalog
from carme_hub.spawner.form import SpawnForm
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.spawner import SimpleLocalProcessSpawner

carme_hub.configure(c, service=None)
PROFILES = [{{"name": "cpu", "title": "CPU session", "partition": "cpu", "cpus": 1, "memory": "1G",
             "max_time": "8:00:00", "images": ["base"]}}]
IMAGES = {{"base": {{"title": "Base", "path": "/srv/images/base.sif"}}}}

class Spawner(SimpleLocalProcessSpawner):
    session = {{"title": "CPU session", "what": "1 core", "job": "7", "apps": []}}
    async def get_options_form(self):
        return SpawnForm.build(Catalog.load(IMAGES, {{}}, PROFILES), {{}})

class Trial(BaseHandler):
    async def get(self):
        self.finish(await self.render_template("trial.html", slipped_in={slipped_in!r}))

c.JupyterHub.cleanup_servers = True  # nothing is left when the tests end
c.JupyterHub.spawner_class = Spawner
c.Spawner.cmd = [{python!r}, {session!r}]
c.Spawner.environment = {{"GO": {go!r}}}
c.SimpleLocalProcessSpawner.home_dir_template = {home!r}
c.JupyterHub.template_paths = [{templates!r}, *c.JupyterHub.template_paths]
c.JupyterHub.extra_handlers = [(r"/trial", Trial)]
c.JupyterHub.services.append({{"name": "tool", "api_token": "a token of a service", "url": {other!r},
    "oauth_client_id": "service-tool", "oauth_redirect_uri": "{other}/back"}})
c.JupyterHub.load_roles.append({{"name": "user", "scopes": ["self", "access:services"]}})
"""


@pytest.fixture(scope="module")
def other() -> Iterator[tuple[str, list[str]]]:
    """A server elsewhere, and what it was asked for."""
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            script = self.path.endswith(".js")
            self.send_header("Content-Type", "text/javascript" if script else "text/html")
            self.end_headers()
            self.wfile.write(b"window.slippedIn = 'elsewhere'" if script else b"<h1>Elsewhere</h1>")

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def gate(tmp_path_factory, other):
    folder = tmp_path_factory.mktemp("csp")
    (folder / "session.py").write_text(SESSION)
    (folder / "templates").mkdir()
    (folder / "templates" / "trial.html").write_text(TRIAL)
    config = CONFIG.format(
        python=sys.executable,
        session=str(folder / "session.py"),
        go=str(folder / "go"),
        home=str(folder / "home-{username}"),
        templates=str(folder / "templates"),
        other=other[0],
        slipped_in=SLIPPED_IN.format(other=other[0], stranger=other[0].replace("localhost", "127.0.0.1")),
    )
    passkeys = {"passkey_origin": "https://hub.example.org"}
    with (
        slapd(folder / "directory") as directory,
        # The gate's own lines stand last: they name the plain authenticator, which has no Slurm to check.
        hub(folder / "hub", config + gate_config(directory, **passkeys)) as running,
    ):
        yield running


@dataclass
class Watched:
    """A page, and all that went wrong on it."""

    page: Page
    gate: object
    violations: list[dict[str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        self.page.goto(path)
        return self.page

    def log_in(self, where: str) -> None:
        self.open(f"/hub/login?next={quote(where)}")
        self.page.get_by_label("User name").fill("carol")
        self.page.get_by_label("Password", exact=True).fill(PASSWORDS["carol"])
        self.page.locator("[name=otp]").fill(code(self.gate.enrol("carol")))
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"**{where}")


@pytest.fixture
def watched(browser, gate):
    """A browser that nobody knows yet, and that tells what its policy stopped."""
    context = browser.new_context(base_url=gate.url, permissions=["clipboard-read", "clipboard-write"])
    context.set_default_timeout(30_000)
    page = context.new_page()
    seen = Watched(page, gate)
    context.expose_binding("carmeViolation", lambda _source, event: seen.violations.append(event))
    context.add_init_script(
        """window.stoppedRules = [];
        document.addEventListener("securitypolicyviolation", event => {
            window.stoppedRules.push(event.effectiveDirective);
            window.carmeViolation({rule: event.effectiveDirective, what: event.blockedURI});
        });"""
    )
    listen(page, seen.errors)
    context.on("request", lambda request: seen.reports.append(request.url) if "csp" in request.url else None)
    yield seen
    context.close()


def test_every_page_works(gate, watched, other):
    page = watched.page
    page.emulate_media(color_scheme="light")
    watched.log_in("/hub/home")

    theme = page.locator("html")
    expect(theme).to_have_attribute("data-bs-theme", "light")
    page.get_by_role("button", name="Toggle dark mode").click()
    expect(theme).to_have_attribute("data-bs-theme", "dark")

    page.get_by_role("link", name="Start a session").click()
    page.wait_for_url("**/hub/spawn/carol*")
    expect(page.get_by_label("Time limit")).to_be_visible()
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/hub/spawn-pending/carol*")
    expect(page.get_by_text("Spawning server...")).to_be_visible()  # the event stream is open
    (gate.folder.parent / "go").touch()
    page.wait_for_url("**/user/carol/**")
    expect(page.get_by_role("heading", name="Session")).to_be_visible()

    watched.open("/hub/token")
    page.get_by_role("button", name="Request new API token").click()
    expect(page.locator("#token-result")).to_have_text(re.compile(r"\w{20,}"))

    watched.open("/hub/admin")
    expect(page.locator("#react-admin-hook").get_by_text("carol", exact=True).first).to_be_visible()

    watched.open("/hub/home")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Stop it").click()
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    watched.open("/user/carol/lab")  # JupyterHub's page of a session that does not run
    expect(page.locator("#start")).to_be_visible()

    client = "client_id=service-tool&response_type=code&state=x&redirect_uri=" + quote(f"{other[0]}/back")
    watched.open(f"/hub/api/oauth2/authorize?{client}")
    page.get_by_role("button", name="Authorize").click()
    page.wait_for_url(f"{other[0]}/back*")

    watched.open("/hub/no-such-page")
    expect(page.get_by_role("heading", name=re.compile("404"))).to_be_visible()
    for path in ("/hub/enrol", "/hub/logout", "/hub/login"):
        watched.open(path)
        expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")

    assert watched.violations == watched.reports == []
    # The two pages that are to be no success: a session that does not run, and no page at all.
    assert [re.search(r"status of (\d+)", error)[1] for error in watched.errors] == ["424", "404"]


def test_the_gates_own_pages_work(gate, watched):
    watched.log_in("/hub/home")
    (device,) = gate.store.devices("carol")
    no_page = "/login/challenge"
    paths = [address for address, *_ in doors.handlers if "(" not in address and address != no_page]
    for path in [*paths, "/admin/people/carol"]:
        which = f"?id={device.id}" if path.endswith("/remove") else ""
        watched.open(f"/hub{path}{which}")
        expect(watched.page.locator("html")).to_have_attribute("data-bs-theme", re.compile("light|dark"))
    watched.open("/hub/enrol")
    watched.page.locator("[name=username]").fill("dora")
    watched.page.locator("[name=password]").fill(PASSWORDS["dora"])
    watched.page.locator("[name=token]").fill(gate.store.enrolments.new_token("dora", 1))
    watched.page.locator("form [type=submit]").click()
    expect(watched.page.locator("svg").first).to_be_visible()  # the picture for the app
    assert watched.violations == watched.reports == watched.errors == []


def test_what_a_template_has_runs_and_what_is_slipped_in_does_not(gate, watched, other):
    page = watched.page
    (gate.folder.parent / "go").touch()
    watched.log_in("/hub/home")
    page.goto("/hub/spawn/carol")
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/user/carol/**")
    assert "slippedIn" in page.goto("/user/carol/evil.js").text()  # a session does serve scripts

    watched.open("/hub/trial")
    page.wait_for_function("window.inline && window.module && window.required")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "what is copied"
    page.locator("#address").click()
    page.locator("#form").evaluate("form => form.requestSubmit()")

    stopped = ["script-src-elem", "script-src-attr", "base-uri", "form-action"]
    page.wait_for_function("rules => rules.every(rule => window.stoppedRules.includes(rule))", arg=stopped)
    told = [violation["what"] for violation in watched.violations]
    assert f"{gate.url}/user/carol/evil.js" in told
    assert f"{other[0]}/evil.js" in told
    assert page.evaluate("window.slippedIn") is None
    assert page.url.endswith("/hub/trial")
    assert not [path for path in other[1] if path.startswith(("/evil.js", "/form"))]


def test_each_answer_has_a_nonce_of_its_own_and_the_api_none(gate):
    nonces = set()
    for path in ("/hub/login", "/hub/login", "/hub/no-such-page", "/hub/enrol"):
        answer = requests.get(gate.url + path, timeout=30)
        header = answer.headers["Content-Security-Policy"]
        found = set(re.findall(r"'nonce-([\w-]{22})'", header))
        assert len(found) == 1
        assert set(re.findall(r"""<script\b[^>]*?\bnonce="([^"]*)""", answer.text)) == found
        assert answer.text.count("<script") == answer.text.count("<script nonce=")
        nonces |= found
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] in {"same-origin", "no-referrer"}
    assert len(nonces) == 4
    api = requests.get(f"{gate.url}/hub/api/user", timeout=30).headers["Content-Security-Policy"]
    assert "default-src 'none'" in api
    assert "nonce" not in api


def test_our_files_are_kept_by_browsers_if_the_address_has_a_version(gate):
    plain = requests.get(f"{gate.url}/hub/carme-static/copy.js", timeout=30)
    assert plain.headers["Content-Type"].startswith(("text/javascript", "application/javascript"))
    assert plain.headers["X-Content-Type-Options"] == "nosniff"
    assert plain.headers["Cache-Control"] == "no-cache"
    versioned = requests.get(f"{gate.url}/hub/carme-static/copy.js?v=1", timeout=30)
    assert int(versioned.headers["Cache-Control"].split("max-age=")[1]) > 86400
    host, port = urlsplit(gate.url).netloc.split(":")
    for outside in ("../login.html", "%2e%2e/login.html", "..%2flogin.html", "%2fetc%2fpasswd", "", "."):
        connection = http.client.HTTPConnection(host, int(port), timeout=30)  # sends the path as it is
        connection.request("GET", f"/hub/carme-static/{outside}")
        status = connection.getresponse().status
        connection.close()
        assert status in {403, 404}, outside
