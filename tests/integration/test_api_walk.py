"""The hub's whole JSON API, asked with values of wrong types and sizes by somebody who may do everything."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from carme_hub.front.bounds import SERVER
from tests.integration.gate_world import Slapd, code
from tests.integration.service_world import ServiceHub, service_hub

HALF = json.loads('"\\ud800"')
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    -(10**30),
    1e308,
    "",
    "x",
    "a\0b",
    HALF,
    "x" * 2000,
    "0001-01-01T00:00:00+14:00",
    [],
    ["x"],
    ["x", 5],
    [["x"]],
    [HALF],
    {},
    {"a": 1},
    {"": {"last_activity": 5}},
    {"x" * 300: "\0"},
]
# Methods, addresses below /hub/api, and fields. Whatever they do, they do to dora's.
DOORS: list[tuple[str, str, tuple[str, ...]]] = [
    ("POST", "/users", ("usernames", "admin", "junk")),
    ("POST", "/users/dora", ("admin", "name", "groups", "roles", "auth_state")),
    ("PATCH", "/users/walked", ("name", "admin", "groups", "roles", "auth_state", "junk")),
    ("POST", "/users/dora/tokens", ("note", "expires_in", "roles", "scopes", "auth", "junk")),
    ("PUT", "/users/dora/servers/put", ("display_name", "user_options", "name")),
    ("POST", "/users/nobody/servers/x", ("display_name", "user_options")),
    ("PATCH", "/users/dora/servers/x", ("name", "display_name", "user_options", "junk")),
    ("PATCH", "/users/dora/servers/", ("name", "display_name", "user_options")),
    ("PATCH", "/users/dora/server", ("name", "display_name", "user_options")),
    ("DELETE", "/users/dora/servers/none", ("remove",)),
    ("POST", "/users/dora/activity", ("last_activity", "servers")),
    ("POST", "/users/dora/admin-access", ("junk",)),
    ("POST", "/groups", ("groups", "users", "name", "roles")),
    ("POST", "/groups/walked", ("users", "name", "roles")),
    ("POST", "/groups/walk/users", ("users",)),
    ("DELETE", "/groups/walk/users", ("users",)),
    ("PUT", "/groups/walk/properties", ("junk",)),
    ("PATCH", "/proxy", ("api_url", "auth_token", "junk")),
    ("POST", "/services/new", ("admin", "url", "api_token", "info", "command", "oauth_client_id", "display")),
    ("POST", "/shares/dora/x", ("user", "group", "scopes")),
    ("PATCH", "/shares/dora/x", ("user", "group", "scopes")),
    ("POST", "/share-codes/dora/x", ("scopes", "expires_in")),
    ("POST", "/carme/logins", ("tokens",)),
    ("POST", "/carme/report", ("port", "begun", "ended")),
    ("POST", "/carme/estimate", ("profile", "image", "time")),
    ("POST", "/carme/estimate/dora", ("profile",)),
    ("POST", "/carme/time-limit/dora", ("limit",)),
    ("POST", "/carme/time-limit/dora/x", ("limit",)),
]
NUMBERS = "9" * 30
ADDRESSES = [
    f"/users?offset={NUMBERS}",
    f"/users?limit={NUMBERS}",
    "/users?limit=x",
    "/users?state=x&sort=x",
    "/users/a%00b",
    "/users/%0a",
    f"/users/dora/tokens/a{NUMBERS}",
    "/users/dora/tokens/a%00",
    "/users/dora/tokens/a-1",
    "/users/dora/servers/a%00b",
    "/users/dora/servers/nothing/progress",
    f"/groups?offset={NUMBERS}",
    "/groups/%00",
    f"/proxy?offset={NUMBERS}",
    f"/shares/dora/x?offset={NUMBERS}",
    f"/share-codes/dora/x?id=sc_{NUMBERS}",
    "/services/%00",
]


class Walker:
    """Somebody who asks the hub itself, as an admin."""

    def __init__(self, world: ServiceHub, token: str) -> None:
        self.world, self.read = world, 0
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"token {token}"

    def ask(self, method: str, path: str, body: Any = ..., data: bytes | None = None) -> requests.Response:
        sent = data if body is ... else json.dumps(body).encode()
        return self.session.request(method, f"{self.world.url}/hub/api{path}", data=sent, timeout=60)

    def new_log(self) -> str:
        text = self.world.hub.log
        new, self.read = text[self.read :], len(text)
        return new


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory, directory: Slapd) -> Iterator[Walker]:
    with service_hub(tmp_path_factory.mktemp("walk"), directory) as world:
        secret = world.hub.enrol("carol")
        made = world.hub.token("carol", code(secret))
        assert made.status_code == 201, made.text
        one = Walker(world, made.json()["token"])
        assert one.ask("POST", "/users", {"usernames": ["dora"]}).status_code in {201, 409}
        one.ask("POST", "/users", {"usernames": ["walked"]})
        assert one.ask("PUT", "/users/dora/servers/x", {"display_name": "X"}).status_code == 201
        one.ask("POST", "/groups/walk", {"users": []})
        one.new_log()
        yield one
        one.session.close()


@pytest.mark.parametrize(("method", "path", "fields"), DOORS, ids=[f"{one[0]} {one[1]}" for one in DOORS])
def test_a14_wrong_types_are_refused_without_a_traceback(walker, method, path, fields):
    bodies: list[Any] = [{field: value} for field, value in itertools.product(fields, VALUES)]
    bodies += [value for value in VALUES if value not in (None, {}, "")]
    wrong = []
    for body in bodies:
        answer = walker.ask(method, path, body)
        if answer.status_code >= 500:
            wrong.append((body, answer.status_code))
    log = walker.new_log()
    assert not wrong
    assert "Traceback" not in log


@pytest.mark.parametrize("path", ADDRESSES)
def test_a14_addresses_that_nothing_has_are_refused_without_a_traceback(walker, path):
    answers = [walker.ask(method, path).status_code for method in ("GET", "DELETE")]
    log = walker.new_log()
    assert max(answers) < 500
    assert "Traceback" not in log


BROKEN = [b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN', b"nonsense", b"\0"]


@pytest.mark.parametrize("data", BROKEN, ids=range(len(BROKEN)))
def test_a14_what_is_no_json_is_refused_and_not_logged(walker, data):
    for method, path, _fields in DOORS[:: 1 if data == b"{" else 4]:
        if path == "/users/dora/admin-access":
            continue
        assert walker.ask(method, path, data=data).status_code < 500, (method, path)
    log = walker.new_log()
    assert "Traceback" not in log
    assert "nonsense" not in log


@pytest.mark.parametrize("field", ["proxy", "servers"])
@pytest.mark.parametrize("value", ["x", 0, 1, [], ["x"], {}, 1.0], ids=repr)
def test_a14_no_wrong_type_shuts_the_hub_down(walker, field, value):
    assert walker.ask("POST", "/shutdown", {field: value}).status_code == 400
    assert "Traceback" not in walker.new_log()


LONG = "x" * 256
STORED = [
    ("PUT", "/users/dora/servers/new", "display_name"),
    ("POST", "/users/dora/servers/x", "display_name"),
    ("PATCH", "/users/dora/servers/x", "display_name"),
    ("PATCH", "/users/dora/servers/x", "name"),
    ("POST", "/users/dora/tokens", "note"),
    ("POST", "/groups", "groups"),
    ("POST", "/users", "usernames"),
]


@pytest.mark.parametrize(
    ("method", "path", "field"), STORED, ids=[f"{one[0]} {one[1]} {one[2]}" for one in STORED]
)
@pytest.mark.parametrize("text", [LONG, "x" * 2_000_000, "a\0b", "a\nb", "\x1b[31m", "a\x85b", HALF])
def test_a5_no_text_is_kept_that_is_long_or_has_line_ends(walker, method, path, field, text):
    value = [text] if field in {"groups", "usernames"} else text
    answer = walker.ask(method, path, {field: value})
    assert answer.status_code in {400, 413}, answer.text[:500]
    assert len(answer.content) < 1000
    assert len(walker.new_log()) < 20_000


@pytest.mark.parametrize(
    "options",
    [{"a": "x" * 20_000}, {"a": ["x"] * 10_000}, {"a" * 20_000: 1}, {"a": "\0"}, {"a": "x" * 2_000_000}],
    ids=["text", "list", "name", "nul", "2 MB"],
)
@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH"])
def test_a5_options_are_bounded_at_every_door(walker, method, options):
    path = "/users/dora/servers/new" if method == "PUT" else "/users/dora/servers/x"
    assert walker.ask(method, path, {"user_options": options}).status_code in {400, 413}
    if method != "PATCH":
        assert walker.ask(method, path, options).status_code in {400, 413}
    kept = walker.ask("GET", "/users/dora?include_stopped_servers=1").json()["servers"]
    assert "new" not in kept
    assert len(json.dumps(kept)) < 2000


def test_a5_texts_that_fit_are_kept(walker):
    name = "Größe 北京 " + "x" * 200
    assert walker.ask("PATCH", "/users/dora/servers/x", {"display_name": name}).status_code == 200
    assert walker.ask("GET", "/users/dora/servers/x").json()["display_name"] == name
    made = walker.ask("POST", "/users/dora/tokens", {"note": "Größe " + "x" * 240, "expires_in": 60})
    assert made.status_code == 201, made.text


REPORT = {"csp-report": {"document-uri": "https://hub/hub/home?token=hidden", "blocked-uri": "inline"}}


def report(person, body: bytes, kind: str = "application/csp-report") -> int:
    """Send a report as a browser does: with cookies, without a token of the page."""
    session = person.visitor.session
    url = f"{person.world.url}/hub/security/csp-report"
    return session.post(url, data=body, headers={"Content-Type": kind}, timeout=30).status_code


def test_a9_reports_of_browsers_are_taken_short_and_few(walker):
    with walker.world.browser("alice") as alice:
        walker.new_log()
        assert report(alice, json.dumps(REPORT).encode()) == 204
        line = [one for one in walker.new_log().splitlines() if "policy forbids" in one]
        assert len(line) == 1
        assert "alice" in line[0]
        assert "inline" in line[0]
        assert "hidden" not in line[0]
        evil = {
            "csp-report": {"document-uri": "\x1b[31m\nforged line" + "x" * 3000, "blocked-uri": ["x"] * 50}
        }
        for body in (
            json.dumps(evil).encode(),
            b"x" * 4097,
            b"[" * 4000,
            b"\xff",
            b"5",
            b'{"csp-report": 5}',
            b"[]",
        ):
            assert report(alice, body) == 204
        for _ in range(30):
            assert report(alice, json.dumps(REPORT).encode(), "application/reports+json") == 204
        log = walker.new_log()
        assert log.count("policy forbids") <= 5
        assert "\x1b" not in log
        assert not [one for one in log.splitlines() if one.startswith("forged line")]
        assert max(len(one) for one in log.splitlines()) < 1500
        assert "Traceback" not in log


def test_a9_strangers_reports_are_not_written_down(walker):
    walker.new_log()
    answer = requests.post(f"{walker.world.url}/hub/security/csp-report", json=REPORT, timeout=30)
    assert answer.status_code == 204
    assert "policy forbids" not in walker.new_log()


def hub_memory(world: ServiceHub) -> int:
    status = Path(f"/proc/{world.hub.process.pid}/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


@pytest.mark.parametrize(
    "path", ["/hub/login", "/hub/enrol", "/hub/security/csp-report", "/hub/api/carme/report"]
)
def test_a6_the_hub_takes_no_large_body_of_strangers(walker, path):
    before = hub_memory(walker.world)
    for _ in range(3):
        answer = requests.post(f"{walker.world.url}{path}", data=b"x" * 40_000_000, timeout=60)
        assert answer.status_code == 413
    assert hub_memory(walker.world) - before < 20_000_000


@pytest.mark.parametrize("size", [SERVER.stranger_body + 1, SERVER.body])
def test_a6_somebody_who_is_in_may_send_more(walker, size):
    body = json.dumps({"tokens": ["x" * 9] * 4}) + " " * (size - 100)
    assert walker.ask("POST", "/carme/logins", data=body.encode()).status_code == 403  # that is the service's
    assert walker.ask("POST", "/carme/logins", data=b"x" * (SERVER.body + 1)).status_code == 413


def test_c_static_files_are_small_and_kept(walker):
    world = walker.world
    page = requests.get(f"{world.url}/hub/login", timeout=30)
    assert "Content-Encoding" not in page.headers  # it has what its form proves itself with
    address = next(part.split('"')[0] for part in page.text.split('href="') if "carme-static" in part)
    file = requests.get(f"{world.url}{address}", timeout=30)
    assert file.headers["Content-Encoding"] == "gzip"
    assert file.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    plain = requests.get(f"{world.url}{address}", headers={"Accept-Encoding": "identity"}, timeout=30)
    assert plain.content == file.content
    assert int(file.headers["Content-Length"]) < len(plain.content) / 2
    own = next(part.split('"')[0] for part in page.text.split('href="') if "style.min.css" in part)
    style = requests.get(f"{world.url}{own}", timeout=30)
    assert style.headers["Content-Encoding"] == "gzip"
    assert "max-age" in style.headers["Cache-Control"]
