"""Sessions are of the hub's origin: what their scripts get of hub and service, and what a copied login opens.

A real hub with the service; what browsers add to requests is added here by hand. The browser itself is in
tests/browser/test_one_origin.py.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator

import pytest
import requests

from tests.integration.gate_world import PASSWORDS, Slapd, code, wait_for
from tests.integration.service_world import SERVICE, Browser, ServiceHub, service_hub

PAGES = ["home", "token", "account", "login", "history", "logout", "no-such-page", "user-redirect/x"]
# What looks like a proof: in a field, in JupyterHub's own variables, in ours.
PROOF = re.compile(r'(?:name="_xsrf"\s+value|xsrf_token:|data-xsrf=)[=\s]*"([^"]+)"')
NAVIGATION = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
MODES, DESTS = (
    ["navigate", "cors", "no-cors", "same-origin"],
    ["document", "iframe", "frame", "object", "embed", "empty", "script", "image"],
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, directory: Slapd) -> Iterator[ServiceHub]:
    with service_hub(tmp_path_factory.mktemp("origin"), directory) as running:
        running.until_up()
        yield running
        assert "Traceback" not in running.hub.log


def proofs(answer: requests.Response) -> list[str]:
    return PROOF.findall(answer.text)


def test_a4_only_a_navigation_gets_a_proof(world):
    with world.browser("alice") as alice:
        alice.enter()
        assert proofs(alice.get("/hub/home", headers=NAVIGATION)), "the page itself has lost it"
        assert proofs(alice.get("/hub/home")), "a browser without these headers has lost it"
        for page in PAGES[:-2]:
            for mode, dest in itertools.product(MODES, DESTS):
                if (mode, dest) == ("navigate", "document"):
                    continue
                headers = {**NAVIGATION, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
                answer = alice.get(f"/hub/{page}", headers=headers, allow_redirects=False)
                assert not proofs(answer), (page, mode, dest)
        for page, dest in itertools.product(("about", "history", "nothing"), DESTS[1:]):
            headers = {**NAVIGATION, "Sec-Fetch-Dest": dest}
            answer = alice.get(f"{SERVICE}{page}", headers=headers)
            assert not proofs(answer), (page, dest)


def test_a4_a_script_can_neither_make_a_token_nor_read_messages(world):
    with world.browser("alice") as alice:
        alice.enter()
        fetch = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
        found = proofs(alice.get("/hub/home", headers=fetch))
        for given in ["", *found]:
            headers = {**fetch, "X-XSRFToken": given, "Content-Type": "application/json"}
            made = alice.visitor.session.post(
                f"{world.url}/hub/api/users/alice/tokens", json={}, headers=headers, timeout=30
            )
            assert made.status_code == 403
            for mode in MODES[1:]:
                read = alice.get(f"{SERVICE}api/me", headers={**headers, "Sec-Fetch-Mode": mode})
                assert read.status_code == 403
        # A fetch of the same origin sees the answer in this mode, too.
        for path in ("user", "users/alice", "users/alice/tokens"):
            assert (
                alice.get(f"/hub/api/{path}", headers={**fetch, "Sec-Fetch-Mode": "no-cors"}).status_code
                == 403
            )


def test_a4_a_script_cannot_read_the_hubs_cookies(world):
    with world.browser("alice") as alice:
        alice.enter()
        kept = [cookie for cookie in alice.visitor.session.cookies if not cookie.path.startswith("/user/")]
        assert {cookie.name for cookie in kept} >= {"_xsrf", "jupyterhub-session-id", "jupyterhub-hub-login"}
        for cookie in kept:
            assert cookie.has_nonstandard_attr("HttpOnly"), cookie


@pytest.mark.parametrize("headers", [{"Service-Worker": "script"}, {"Sec-Fetch-Dest": "serviceworker"}])
def test_a4_nothing_of_hub_and_service_becomes_a_service_worker(world, headers):
    with world.browser("alice") as alice:
        alice.enter()
        paths = [f"/hub/{page}" for page in PAGES]
        paths += [
            "/hub/api/",
            "/hub/api/user",
            "/hub/static/js/home.js",
            f"{SERVICE}about",
            f"{SERVICE}api/me",
        ]
        for path in paths:
            assert alice.get(path, headers=headers, allow_redirects=False).status_code == 403, path


def test_a4_no_page_shows_in_a_frame_or_belongs_to_whoever_opened_it(world):
    with world.browser("alice") as alice:
        for path in ("/hub/home", "/hub/token", "/hub/no-such-page", "/hub/api/", f"{SERVICE}about"):
            answer = alice.get(path)
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"], path
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin", path


# --- Tokens ---


def make_token(world: ServiceHub, browser: Browser, *scopes: str, note: str = "") -> dict[str, str]:
    made = browser.visitor.session.post(
        f"{world.url}/hub/api/users/{browser.username}/tokens",
        json={"scopes": list(scopes), "note": note},
        headers={"X-XSRFToken": browser.visitor.session.cookies.get("_xsrf", path="/hub/")},
        timeout=30,
    )
    assert made.status_code == 201, made.text
    return {"Authorization": f"token {made.json()['token']}"}


def test_a4_who_has_a_token_made_is_told(world):
    with world.browser("alice") as alice:
        alice.enter()
        make_token(world, alice, note="for [31m<b>my</b>\u202e  script ")
        told = wait_for(lambda: alice.api("notices").json()["notices"], "the notice")
        assert told[0]["title"] == "An API token was made for your account"
        assert "for [31m<b>my</b> script" in " ".join(told[0]["text"].split())
        make_token(world, alice)
        page = alice.get("/hub/account").text
        assert page.count("API token made by somebody who was signed in") == 2
        assert len(alice.api("notices").json()["notices"]) == 1, "one of an hour is enough"


OPEN = ["api/me", "about"]
OWN = ["history", "api/notices", "api/lately", "api/cluster", "api/events", "history.csv", "messages", "news"]


def test_a12_a_token_for_the_pages_alone_reads_nothing_of_its_owner(world):
    with world.browser("alice") as alice:
        alice.enter()
        bare = make_token(world, alice, "access:services!service=carme")
        reading = make_token(world, alice, "access:services!service=carme", "read:servers!user")
    for path in OPEN:
        assert requests.get(f"{world.url}{SERVICE}{path}", headers=bare, timeout=30).status_code == 200, path
    found = 0
    for path in OWN:
        refused = requests.get(f"{world.url}{SERVICE}{path}", headers=bare, timeout=30, stream=True)
        given = requests.get(f"{world.url}{SERVICE}{path}", headers=reading, timeout=30, stream=True)
        assert refused.status_code in {403, 404}, path
        assert given.status_code in {200, 404}, path
        found += (refused.status_code, given.status_code) == (403, 200)
        refused.close()
        given.close()
    assert found >= 4


# --- Signing out ---


def a_copy(browser: Browser) -> requests.Session:
    """Return another browser with the same cookies."""
    session = requests.Session()
    for cookie in browser.visitor.session.cookies:
        session.cookies.set_cookie(copy.copy(cookie))
    return session


def opens(world: ServiceHub, session: requests.Session, path: str = "/hub/home") -> bool:
    answer = session.get(f"{world.url}{path}", timeout=30)
    return answer.status_code == 200 and "/hub/login" not in answer.url


DOORS = ["/hub/home", "/hub/token", f"{SERVICE}about", "/hub/account"]


def test_a8_signing_out_ends_this_login_wherever_its_cookies_are(world):
    with world.browser("alice") as alice, world.hub.visitor() as phone:
        secret = world.hub.enrol("alice")
        assert phone.login("alice", PASSWORDS["alice"], code(secret)).status_code == 302
        alice.enter()
        copied = a_copy(alice)
        assert all(opens(world, copied, door) for door in DOORS)
        alice.get("/hub/logout", headers=NAVIGATION)
        assert not opens(world, copied), "the copy outlives the sign-out"
        wait_for(lambda: not any(opens(world, copied, door) for door in DOORS), "the end of the copy", 5)
        assert phone.is_in, "another browser of theirs was signed out, too"
        # Not with the next start of the hub, either.
        world.kill_hub()
        world.start_hub()
        wait_for(world.answers, "the service's answer")
        assert not any(opens(world, copied, door) for door in DOORS)
        assert phone.is_in


def test_a8_the_login_counts_in_its_own_session_only(world):
    with world.browser("alice") as alice, world.browser("alice") as other:
        alice.enter()
        mixed = a_copy(alice)
        for cookie in other.visitor.session.cookies:
            if cookie.name == "jupyterhub-session-id":
                mixed.cookies.set_cookie(copy.copy(cookie))
        assert not opens(world, mixed)
        bare = a_copy(alice)
        bare.cookies.clear(domain="127.0.0.1", path="/", name="jupyterhub-session-id")
        assert not opens(world, bare)
        assert opens(world, alice.visitor.session)


def test_a8_a_login_that_takes_anothers_place_ends_it(world):
    with world.browser("alice") as alice:
        copied = a_copy(alice)
        secret = world.hub.enrol("alice")
        fields = {"username": "alice", "password": PASSWORDS["alice"], "otp": code(secret)}
        alice.get("/hub/home")
        assert alice.visitor.post("/hub/login", fields, allow_redirects=False).status_code == 302
        assert opens(world, alice.visitor.session)
        assert not opens(world, copied)


@pytest.mark.parametrize(
    "headers",
    [
        {**NAVIGATION, "Sec-Fetch-Site": "cross-site"},
        {**NAVIGATION, "Sec-Fetch-Site": "same-site"},
        {**NAVIGATION, "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {"Referer": "https://evil.example/"},
    ],
)
def test_a8_no_get_of_another_page_signs_anybody_out(world, headers):
    with world.browser("alice") as alice:
        asked = alice.get("/hub/logout", headers=headers)
        assert opens(world, alice.visitor.session)
        if headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
            return
        assert "Sign out?" in asked.text
        forged = alice.visitor.session.post(f"{world.url}/hub/logout", data={"_xsrf": "x"}, timeout=30)
        assert forged.status_code == 403
        assert opens(world, alice.visitor.session)
        alice.visitor.post("/hub/logout", {})
        assert not opens(world, alice.visitor.session)
