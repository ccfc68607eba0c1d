"""What somebody tries who has an account, a browser, and a session to run code in."""

from __future__ import annotations

import pytest
import requests

from tests.support import until

REFUSED = {403, 404}  # the hub denies that there is what one may not see
BREAK_OUT = '"><script>alert(1)</script>'
WRONG_REPORTS = [
    '{"port": 0}',
    '{"port": -1}',
    '{"port": 65536}',
    '{"port": 1e3}',
    '{"port": true}',
    '{"port": null}',
    '{"port": "8888"}',
    '{"port": [8888]}',
    '{"port": NaN}',
    '{"port": 8888, "ip": "127.0.0.1"}',
    '{"port": 8888, "host": "head.example.org"}',
    '{"port": 8888, "exec_prefix": "id;"}',
    '{"port": 8888, "_port": 8888}',
    '{"port": 8888, "__class__": "x"}',
    '{"exec_prefix": "id;"}',
    '[["port", 8888]]',
    "8888",
    "{}",
    "{",
    "",
    "\xff",
    '{"port": ' + "1" * 1000 + "}",
    "[" * 100_000,
]


def call(hub_url: str, method: str, path: str, token: str = "", **options: object) -> int:
    """Call the hub's API and return the answer's status."""
    headers = {"Authorization": f"token {token}"} if token else {}
    url = f"{hub_url}/hub/api{path}"
    return requests.request(method, url, headers=headers, timeout=30, **options).status_code


@pytest.fixture
def attacker(ours):
    """Somebody without a session; what they start is ended."""
    yield ours.attacker
    ours.clean()


def test_a_report_is_a_port_once_by_the_server_that_starts(ours, attacker, people):
    hub_url, good = ours.site.hub_url, {"port": 8888}
    token = ours.hold()
    for body in WRONG_REPORTS:
        assert call(hub_url, "POST", "/carme/report", token, data=body.encode("latin-1")) == 400, body
    for method in ("PUT", "PATCH", "DELETE"):
        assert call(hub_url, method, "/carme/report", token, json=good) in {403, 404, 405}, method
    for stranger in (attacker.token, people("ines").token, people("adam").token, "", "nonsense"):
        for method in ("GET", "POST"):  # the first asks for the end of the time limit
            assert call(hub_url, method, "/carme/report", stranger, json=good) == 403
    headers = {"X-XSRFToken": attacker.xsrf("/hub/")}
    by_cookie = attacker.http.post(f"{hub_url}/hub/api/carme/report", json=good, headers=headers, timeout=30)
    assert by_cookie.status_code == 403
    assert call(hub_url, "POST", "/batchspawner", token, json=good) == 404
    ours.release()
    until(lambda: attacker.server()["ready"], "the session, which nothing of this has stopped")
    assert call(hub_url, "POST", "/carme/report", token, json=good) == 409
    assert attacker.get("/api").status_code == 200
    attacker.end_session()
    assert call(hub_url, "POST", "/carme/report", token, json=good) == 403


def test_a_jobs_token_opens_its_own_server_and_nothing_else(ours, attacker):
    token = ours.hold()
    for method, path in [
        ("GET", "/users"),
        ("GET", "/users/ines"),
        ("GET", "/proxy"),
        ("GET", "/services"),
        ("GET", "/groups"),
        ("POST", "/users/ravi/server"),
        ("DELETE", "/users/ravi/server"),
        ("POST", "/users/ravi/tokens"),
        ("POST", "/users/ines/server"),
        ("POST", "/users/ines/activity"),
        ("POST", "/users/mallory"),
        ("POST", "/groups/hpc-admins/users"),
        ("POST", "/shutdown"),
    ]:
        status = call(ours.site.hub_url, method, path, token, json={"users": ["ravi"]})
        assert status in REFUSED, (method, path)
    assert attacker.server()["pending"] == "spawn"


def test_a_session_is_for_its_owner(attacker, person):
    ines = person("ines")
    ines.start(profile="cpu")
    for path in ("/", "/api/contents", "/api/kernels", "/lab", "/code-server/"):
        url = f"{ines.site.hub_url}/user/ines{path}"
        token = requests.get(url, headers={"Authorization": f"token {attacker.token}"}, timeout=30)
        assert token.status_code == 403, path
        browser = attacker.http.get(url, timeout=30)  # follows to the hub's own question who this is
        assert browser.status_code == 403, path
    assert attacker.api("DELETE", "/users/ines/server").status_code in REFUSED
    assert attacker.api("GET", "/users/ines/server/progress").status_code in REFUSED
    assert ines.server()["ready"]


def test_nobody_starts_a_session_for_somebody_else(attacker, person):
    ines = person("ines")
    for path in ("/users/ines/server", "/users/ines/servers/x", "/users/ines/tokens", "/users/root/server"):
        assert attacker.api("POST", path, json={"profile": "cpu"}).status_code in REFUSED, path
    page = attacker.http.post(
        f"{ines.site.hub_url}/hub/spawn/ines",
        params={"_xsrf": attacker.xsrf("/hub/")},
        data={"profile": "cpu"},
        timeout=30,
    )
    assert page.status_code in REFUSED
    assert not ines.server()
    assert not ines.site.jobs("ines")


def test_nobody_changes_their_own_record(attacker):
    before = attacker.api("GET", "/users/ravi").json()
    for body in ({"admin": True}, {"name": "root"}, {"groups": ["hpc-admins"]}, {"auth_state": {}}):
        assert attacker.api("PATCH", "/users/ravi", json=body).status_code in REFUSED, body
    assert attacker.api("POST", "/groups/hpc-admins/users", json={"users": ["ravi"]}).status_code in REFUSED
    after = attacker.api("GET", "/users/ravi").json()
    assert {**after, "last_activity": ""} == {**before, "last_activity": ""}


@pytest.mark.parametrize(
    "options",
    [
        {"profile": "cpu", "prologue": "id"},
        {"profile": "gpu", "nodes": 99},
        {"profile": ["cpu"]},
        {"profile": "cpu", "image": BREAK_OUT},
    ],
    ids=["unknown", "too much", "list", "markup"],
)
def test_options_slipped_in_behind_the_form_are_checked_when_they_are_used(ours, attacker, options):
    """The hub itself keeps options for later (PATCH), without looking at them."""
    url = "/users/ravi/server"
    assert attacker.api("PATCH", url, json={"user_options": options}).status_code == 200
    field = list(options)[-1]
    page = attacker.http.get(f"{ours.site.hub_url}/hub/spawn", timeout=30)
    assert page.status_code == 200
    assert BREAK_OUT not in page.text
    started = attacker.api("POST", url)
    assert started.status_code == 400, started.text
    assert field in started.json()["message"]
    assert not ours.scripts()


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2froot",
        "%2e%2e",
        "x%2f..%2fines",
        "x%0a%23SBATCH%20--uid=0",
        "$(id)",
        "a;id",
        "x%00",
        "x" * 300,
    ],
)
def test_a_servers_name_leads_nowhere(ours, attacker, name):
    answer = attacker.api("POST", f"/users/ravi/servers/{name}", json={"profile": "cpu"})
    assert answer.status_code in {400, 403, 404}, answer.text
    assert not ours.site.jobs("ravi")


def test_another_sites_page_starts_nothing(ours, attacker):
    hub_url, form = ours.site.hub_url, {"profile": "cpu"}
    for path in ("/hub/spawn", "/hub/spawn/ravi", "/hub/api/users/ravi/server"):
        for options in ({"data": form}, {"json": form}, {"data": '{"profile": "cpu"}'}):
            answer = attacker.http.post(f"{hub_url}{path}", timeout=30, **options)
            assert answer.status_code == 403, (path, options, answer.text)
    assert not attacker.server()
    assert not ours.site.jobs("ravi")


@pytest.mark.parametrize(
    "path",
    [
        "/hub/spawn?profile=cpu",
        "/hub/spawn?opt-profile=cpu",
        "/hub/spawn/ravi?profile=cpu&image=base",
        "/hub/spawn?profile=cpu&_xsrf=none",
        "/hub/user/ravi/lab?profile=cpu",
        "/user/ravi/lab?opt-profile=cpu",
        "/hub/spawn-pending/ravi?opt-profile=cpu",
        "/hub/api/users/ravi/server?profile=cpu",
    ],
)
def test_a_link_starts_nothing(ours, attacker, path):
    attacker.http.get(f"{ours.site.hub_url}{path}", timeout=30)
    assert not attacker.server()
    assert not ours.site.jobs("ravi")
