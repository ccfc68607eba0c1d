"""Who gets in at the service, what their pages hear, and what it keeps from whom."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

import pytest
import requests

from tests.integration.gate_world import Slapd, wait_for
from tests.integration.service_world import SERVICE, ServiceHub, service_hub

PAGES = [f"{SERVICE}about", f"{SERVICE}"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, directory: Slapd) -> Iterator[ServiceHub]:
    with service_hub(tmp_path_factory.mktemp("service"), directory) as running:
        running.until_up()
        yield running
        assert "Traceback" not in running.hub.log


def test_who_is_signed_in_at_the_hub_comes_in_without_a_question(world):
    with world.browser("alice") as alice:
        ticket = alice.enter()
        assert alice.api("me").json() == {"name": "alice", "admin": False, "groups": ["ml101", "researchers"]}
        # Pages of the hub have the same one, so that their scripts can ask the service.
        assert alice.ticket() == ticket
    with world.browser("carol") as carol:
        carol.enter()
        assert carol.api("me").json()["admin"] is True


def test_who_is_not_signed_in_goes_to_the_login(world):
    with world.hub.visitor() as nobody:
        page = nobody.get(f"{SERVICE}about")
        assert urlsplit(page.url).path == "/hub/login"
        answer = nobody.get(f"{SERVICE}api/me", headers={"X-XSRFToken": "x"})
        assert (answer.status_code, answer.json()["signed_in"]) == (403, False)


def test_two_pages_of_one_browser_come_in_at_the_same_moment(world):
    with world.browser("alice") as alice:
        session = alice.visitor.session
        first, second = f"{SERVICE}about", f"{SERVICE}history"
        begun = []
        for page in (first, second):
            answer = session.get(f"{world.url}{page}", allow_redirects=False)
            begun.append(urljoin(world.url, answer.headers["Location"]))
            states = [cookie.name for cookie in session.cookies if "oauth-state" in cookie.name]
            assert len(states) == 1
            if page == first:  # the other page asks before this one's answer has arrived
                session.cookies.clear(domain="127.0.0.1", path=SERVICE, name=states[0])
        for page, leads in zip((first, second), begun, strict=True):
            answer = session.get(leads)
            assert (answer.status_code, urlsplit(answer.url).path) == (200, page)


def test_a_made_up_state_lets_nobody_in(world):
    with world.browser("alice") as alice:
        callback = f"{SERVICE}oauth_callback?code=made-up&state=made-up"
        answer = alice.get(callback, allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (302, SERVICE)
        assert "service-carme" not in {cookie.name for cookie in alice.visitor.session.cookies}
    with world.hub.visitor() as nobody:
        assert nobody.get(callback, allow_redirects=False).status_code == 403


def test_the_cookie_is_for_the_services_pages_of_this_site_and_no_script(world):
    with world.browser("alice") as alice:
        alice.enter()
        (cookie,) = [one for one in alice.visitor.session.cookies if one.name == "service-carme"]
        assert cookie.path == SERVICE
        assert {name.lower(): value for name, value in cookie._rest.items()} == {
            "httponly": None,
            "samesite": "Lax",
        }
        assert cookie.expires - time.time() <= 86400
        assert not cookie.secure  # no TLS here; with it:
        secure = requests.get(
            f"{world.url}{SERVICE}about",
            headers={"X-Forwarded-Proto": "https"},
            cookies=alice.visitor.session.cookies.get_dict(path="/hub/"),
            allow_redirects=False,
            timeout=30,
        )
        assert "secure" in secure.headers["Set-Cookie"].lower()


def test_a_page_is_under_the_hubs_policy(world):
    with world.browser("alice") as alice:
        page = alice.get(f"{SERVICE}about")
        policy = page.headers["Content-Security-Policy"]
        nonce = policy.partition("'nonce-")[2].partition("'")[0]
        assert page.text.count("<script") == page.text.count(f'<script nonce="{nonce}"') > 3
        assert "frame-ancestors 'none'" in policy
        assert "form-action 'self'" in policy
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("ticket", ["", "x", "…", "other"])
def test_an_answer_is_for_pages_of_the_persons_own_login_only(world, ticket):
    with world.browser("alice") as alice, world.browser("bob") as bob:
        alice.enter()
        given = bob.ticket() if ticket == "other" else ticket
        answer = alice.api("me", ticket=given.encode())
        assert answer.status_code == 403
        assert answer.json()["message"].startswith("This page is not from your current login")


def test_a_ticket_of_an_earlier_login_does_not_count(world):
    with world.browser("alice") as first, world.browser("alice") as second:
        second.enter()
        assert second.api("me", ticket=first.ticket()).status_code == 403
        assert second.api("me").status_code == 200


def test_what_is_sent_from_elsewhere_is_refused_even_with_a_ticket(world):
    with world.browser("alice") as alice:
        ticket = alice.enter()

        def post(**headers: str) -> int:
            session, url = alice.visitor.session, f"{world.url}{SERVICE}about"
            return session.post(url, headers=headers, data={"_xsrf": ticket}, timeout=30).status_code

        # The page takes no form; who gets so far has been let in.
        assert post() == 405
        assert post(**{"Sec-Fetch-Site": "same-origin"}) == 405
        assert post(**{"Sec-Fetch-Site": "cross-site"}) == 403
        assert post(**{"Sec-Fetch-Site": "same-site"}) == 403
        ticket = ""
        assert post() == 403


def test_a_script_of_somebodys_session_cannot_read_a_page(world):
    with world.browser("alice") as alice:
        ticket = alice.enter()
        fetched = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
        refused = alice.get(f"{SERVICE}about", headers=fetched)
        assert refused.status_code == 403
        assert ticket not in refused.text
        assert alice.get(f"{SERVICE}about", headers={**fetched, "X-XSRFToken": ticket}).status_code == 200


def test_a_forged_host_leads_nobody_away(world):
    with world.browser("alice") as alice:
        for headers in ({"Host": "evil.example.org"}, {"X-Forwarded-Host": "evil.example.org"}):
            for path in PAGES:
                answer = alice.get(path, headers=headers, allow_redirects=False)
                assert answer.status_code == 302
                assert answer.headers["Location"].startswith("/")
                assert not answer.headers["Location"].startswith("//")
                assert "evil" not in answer.headers["Location"]


@pytest.mark.parametrize(
    "path",
    [
        "..%2f..%2fhub/api/users",
        "%2e%2e/%2e%2e/hub/home",
        "..;/about",
        "about/../api/me",
        "about%00",
        "ABOUT",
        "api/../about",
        "static/%2e%2e/%2e%2e/app.py",
        "/evil.example.org/%2f..",
    ],
)
def test_no_path_leads_anywhere_else(world, path):
    with world.browser("alice") as alice:
        alice.enter()
        # As it is written, and at the service's own port: requests and the proxy would tidy it up.
        line = http.client.HTTPConnection("127.0.0.1", world.port, timeout=30)
        cookies = "; ".join(f"{one.name}={one.value}" for one in alice.visitor.session.cookies)
        line.request("GET", f"{SERVICE}{path}", headers={"Cookie": cookies})
        answer = line.getresponse()
        assert answer.status in {400, 404}, (answer.status, answer.headers)
        assert b"Traceback" not in answer.read()
        line.close()


def test_api_tokens_come_in_with_the_right_to_the_service_only(world):
    with world.browser("alice") as alice:
        for scopes, status in ((["access:services!service=carme"], 200), (["read:users!user"], 403)):
            made = alice.visitor.session.post(
                f"{world.url}/hub/api/users/alice/tokens",
                json={"scopes": scopes},
                headers={"X-XSRFToken": alice.visitor.session.cookies.get("_xsrf", path="/hub/")},
                timeout=30,
            )
            assert made.status_code == 201, made.text
            headers = {"Authorization": f"token {made.json()['token']}"}
            # No cookie, so no page of somebody else's can have sent it: no ticket either.
            answer = requests.get(f"{world.url}{SERVICE}api/me", headers=headers, timeout=30)
            assert answer.status_code == status, answer.text
            if status == 200:
                assert answer.json()["name"] == "alice"
    made_up = requests.get(
        f"{world.url}{SERVICE}api/me", headers={"Authorization": "token " + "0" * 32}, timeout=30
    )
    assert made_up.status_code == 403


def test_a_token_of_a_service_is_nobody(world):
    headers = {"Authorization": f"token {world.hub.service_token}"}
    assert requests.get(f"{world.url}{SERVICE}api/me", headers=headers, timeout=30).status_code == 403


def test_the_persons_token_is_good_for_sessions_only(world):
    """What somebody could do who gets hold of a token: less than its owner."""
    with world.browser("carol") as carol:
        carol.enter()
        cookie = carol.visitor.session.cookies.get("service-carme", path=SERVICE)
        # The cookie holds the token, signed: its owner may read it.
        token = base64.b64decode(cookie.strip('"').split("|")[4].split(":")[1]).decode()
        headers = {"Authorization": f"token {token}"}

        def status(method: str, path: str, **options) -> int:
            url = f"{world.url}/hub/api{path}"
            return requests.request(method, url, headers=headers, timeout=30, **options).status_code

        assert status("GET", "/user") == 200
        assert status("DELETE", "/users/alice/server") in {204, 400, 404}
        assert status("POST", "/users/carol/tokens") == 403
        assert status("PATCH", "/users/alice", json={"admin": True}) == 403
        assert status("DELETE", "/users/alice") == 403
        assert status("POST", "/groups/researchers/users", json={"users": ["bob"]}) in {403, 404}
        assert status("POST", "/shutdown") == 403


def test_which_logins_hold_is_told_to_the_service_only(world):
    def ask(token: str, body: object) -> requests.Response:
        return requests.post(
            f"{world.url}/hub/api/carme/logins",
            headers={"Authorization": f"token {token}"},
            data=json.dumps(body),
            timeout=30,
        )

    assert ask(world.hub.service_token, {"tokens": ["a1"]}).status_code == 403
    with world.browser("carol") as carol:
        made = carol.hub_api("POST", "/users/carol/tokens")
        assert ask(made.json()["token"], {"tokens": ["a1"]}).status_code == 403


def test_an_open_page_hears_of_everything_at_once_and_of_its_heartbeat(world):
    with world.browser("alice") as alice:
        alice.enter()
        with alice.listen() as events:
            heard: dict[str, object] = {}
            while {"sessions", "away", "news", "notices"} - heard.keys():
                heard |= [next(events)]
            assert heard["sessions"] == []
        with alice.api("events", stream=True) as answer:
            lines = answer.iter_lines(chunk_size=1, decode_unicode=True)
            beats = (line for line in lines if line == ":")
            assert [next(beats), next(beats)] == [":", ":"]


def test_a_stream_ends_when_its_owner_signs_out(world):
    with world.browser("alice") as alice:
        alice.enter()
        with alice.listen() as events:
            next(events)
            alice.get("/hub/logout")
            wait_for(lambda: not list(events), "the stream's end")
        wait_for(lambda: alice.api("events", ticket="x").json()["signed_in"] is False, "the door to be shut")


def test_a_stream_ends_when_its_token_is_revoked_and_others_go_on(world):
    with world.browser("alice") as alice, world.browser("bob") as bob:
        alice.enter()
        bob.enter()
        with alice.listen() as events, bob.listen() as bobs:
            next(events), next(bobs)
            tokens = alice.hub_api("GET", "/users/alice/tokens").json()["api_tokens"]
            revoked = next(token["id"] for token in tokens if token["oauth_client"].endswith("carme"))
            assert alice.hub_api("DELETE", f"/users/alice/tokens/{revoked}").status_code == 204
            assert all(event for event in events)  # until its end
            assert bob.api("me").status_code == 200
            next(bobs)


def test_one_person_cannot_have_all_streams(world):
    with world.browser("alice") as alice:
        alice.enter()
        answers = [alice.api("events", stream=True) for _ in range(21)]
        assert [answer.status_code for answer in answers] == [200] * 20 + [429]
        assert "Close some of them" in answers[-1].json()["message"]
        for answer in answers:
            answer.close()
        with world.browser("bob") as bob:
            bob.enter()
            with bob.listen() as events:
                next(events)


def test_who_sends_a_request_without_end_is_let_go(world):
    """Anybody can, also who is not signed in; the service has a number of connections, and no more."""
    address = urlsplit(world.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as line:
        line.sendall(f"POST {SERVICE}about HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n.".encode())
        line.recv(1)  # an end, or the proxy's own page; a timeout is neither


@pytest.mark.parametrize(
    "page", ["history", "admin/sessions", "admin/use", "admin/announcements", "admin/site"]
)
def test_short_addresses_at_the_hub_lead_to_the_services_pages(world, page):
    with world.browser("alice") as alice:
        answer = alice.get(f"/hub/{page}?q=a%26b", allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (302, f"{SERVICE}{page}?q=a%26b")
    with world.hub.visitor() as nobody:
        assert "/hub/login" in nobody.get(f"/hub/{page}", allow_redirects=False).headers["Location"]
