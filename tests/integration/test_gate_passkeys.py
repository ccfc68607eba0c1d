"""Passkeys in a running hub: the login page, the token API and the account's pages take them as one gate."""

from __future__ import annotations

import html
import json
import re

import pytest

from carme_hub.authenticator import answers
from tests.integration.gate_world import PASSWORDS, code, form_field, gate_config, hub
from tests.passkey_device import ORIGIN, Authenticator

PAGES = ["/hub/account/passkey", "/hub/account/passkey/confirm"]
CHALLENGE = "/hub/login/challenge"


@pytest.fixture(scope="module")
def gate(tmp_path_factory, directory):
    config = gate_config(directory, passkey_origin=ORIGIN)
    with hub(tmp_path_factory.mktemp("passkeys") / "hub", config) as running:
        yield running


@pytest.fixture
def alice(gate):
    """Alice's browser, in with the code of the step before; the present one is unused."""
    secret = gate.enrol("alice")
    for notice in gate.store.audit.notices("alice"):
        gate.store.audit.seen("alice", notice.id)
    with gate.visitor() as somebody:
        assert somebody.login("alice", PASSWORDS["alice"], code(secret, -1)).status_code == 302
        somebody.secret = secret
        yield somebody


@pytest.fixture
def passkey(alice):
    """Alice's."""
    device = Authenticator()
    ticket, options = begin(alice, name="Laptop")
    done = alice.post(PAGES[1], {"ticket": ticket, "credential": device.make(options)}, allow_redirects=False)
    assert done.status_code == 302
    assert done.headers["Location"] == "/hub/account?done=device-added"
    return device


def begin(somebody, name="", otp=None, username="alice"):
    """Take the first step to a passkey; returns ticket and what the browser is told."""
    fields = {"name": name, "password": PASSWORDS[username], "otp": otp or code(somebody.secret)}
    shown = somebody.post(PAGES[0], fields)
    assert shown.status_code == 200, shown.text
    options = re.search(r'data-options="([^"]*)"', shown.text)
    return form_field(shown.text, "ticket"), json.loads(html.unescape(options[1]))


def challenge(gate):
    """What anybody is told who wants to sign in."""
    with gate.visitor() as somebody:
        somebody.get("/hub/login")
        answer = somebody.post(CHALLENGE, {})
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Cache-Control"] == "no-store"
        return answer.json()


def kinds(gate, username="alice"):
    return sorted(device.kind for device in gate.store.devices(username))


def test_it_takes_the_place_of_the_code_at_every_door_and_once_at_all_of_them(gate, alice, passkey):
    text = passkey.answer_to(challenge(gate))
    assert gate.login("alice", text).status_code == 302
    assert gate.token("alice", text).status_code == 403
    assert gate.login("alice", text).status_code == 403
    gate.store.unlock("alice")

    text = passkey.answer_to(challenge(gate))
    assert gate.token("alice", text).status_code == 201
    assert gate.token("alice", text).status_code == 403
    gate.store.unlock("alice")

    (device,) = [device for device in gate.store.devices("alice") if device.kind == "passkey"]
    text = passkey.answer_to(challenge(gate))
    fields = {"id": device.id, "password": PASSWORDS["alice"], "otp": text}
    assert alice.post("/hub/account/device/remove", fields).status_code == 200
    assert kinds(gate) == ["totp"]
    assert gate.login("alice", passkey.answer_to(challenge(gate))).status_code == 403


def test_it_never_takes_the_place_of_the_password(gate, passkey):
    text = passkey.answer_to(challenge(gate))
    for password in ("", "wrong", text):
        assert gate.login("alice", text, password).status_code == 403
    assert gate.store.account("alice").code_failures == 0
    gate.store.unlock("alice")
    assert gate.login("alice", text).status_code == 302  # it was not used up by that


def test_somebody_elses_is_refused_and_counted_as_a_wrong_code_is(gate, passkey):
    gate.enrol("bob")
    for failures in (1, 2, 3):
        refused = gate.login("bob", passkey.answer_to(challenge(gate)))
        assert refused.status_code == 403
        assert html.escape(answers.LOGIN_REFUSED) in refused.text
        assert gate.store.account("bob").code_failures == failures
    assert gate.store.account("bob").wait_until > 0
    (entry, *_) = gate.store.audit.entries("bob")
    assert (entry.event, entry.outcome, entry.reason) == ("login", "refused", "code")


def test_what_happened_is_written_down_and_told(gate, alice, passkey):
    assert gate.login("alice", passkey.answer_to(challenge(gate))).status_code == 302
    (login, added, *_) = gate.store.audit.entries("alice")
    assert (login.event, login.detail) == ("login", "passkey: Laptop")
    assert (added.event, added.detail) == ("device-added", "Laptop")
    assert "Laptop" in alice.get("/hub/account").text
    assert [notice.event for notice in gate.store.audit.notices("alice")] == ["device-added"]


def test_a_passkey_opens_the_way_to_the_next_one(gate, alice, passkey):
    ticket, options = begin(alice, otp=passkey.answer_to(challenge(gate)))
    assert len(options["excludeCredentials"]) == 1
    second = Authenticator("EdDSA")
    assert alice.post(PAGES[1], {"ticket": ticket, "credential": second.make(options)}).ok
    assert sorted(device.name for device in gate.store.devices("alice")) == [
        "Authenticator app",
        "Laptop",
        "Passkey",
    ]
    assert gate.login("alice", second.answer_to(challenge(gate))).status_code == 302


def test_without_password_and_code_none_is_added(gate, alice):
    used = code(alice.secret, -1)
    for wrong in ({"otp": used}, {"password": "wrong"}, {"password": ""}, {"otp": "{}"}):
        fields = {"password": PASSWORDS["alice"], "otp": used, **wrong}
        refused = alice.post(PAGES[0], fields)
        assert refused.status_code == 403
        assert "data-options" not in refused.text
        gate.store.unlock("alice")
    assert kinds(gate) == ["totp"]


def test_a_ticket_is_for_one_person_one_kind_and_one_passkey(gate, alice):
    ticket, options = begin(alice)
    made = Authenticator().make(options)
    secret = gate.enrol("bob")
    with gate.visitor() as bob:
        assert bob.login("bob", PASSWORDS["bob"], code(secret, -1)).status_code == 302
        assert bob.post(PAGES[1], {"ticket": ticket, "credential": made}).status_code == 403
    for otp in ("123456", code(alice.secret, 1), "{}"):
        refused = alice.post("/hub/account/device/confirm", {"ticket": ticket, "otp": otp})
        assert refused.status_code == 403
    for wrong in (
        "{}",
        "{" * 8000,
        made[:-9],
        "x" * 9000,
        Authenticator(origin="https://evil").make(options),
    ):
        assert alice.post(PAGES[1], {"ticket": ticket, "credential": wrong}).status_code == 403
    assert kinds(gate) == ["totp"]
    assert kinds(gate, "bob") == ["totp"]
    assert alice.post(PAGES[1], {"ticket": ticket, "credential": made}).ok
    assert alice.post(PAGES[1], {"ticket": ticket, "credential": made}).status_code == 403
    assert kinds(gate) == ["passkey", "totp"]


def test_an_apps_ticket_makes_no_passkey(gate, alice):
    fields = {"password": PASSWORDS["alice"], "otp": code(alice.secret)}
    ticket = form_field(alice.post("/hub/account/device", fields).text, "ticket")
    made = Authenticator().make({"challenge": "AAAA"})
    assert alice.post(PAGES[1], {"ticket": ticket, "credential": made}).status_code == 403
    assert kinds(gate) == ["totp"]


def test_a_challenge_says_and_leaves_nothing(gate):
    with gate.visitor() as somebody:
        somebody.get("/hub/login")
        assert somebody.get(CHALLENGE).status_code == 405
        assert somebody.session.post(gate.url + CHALLENGE, timeout=30).status_code == 403  # no _xsrf
        first = somebody.post(CHALLENGE, {"username": "alice"}).json()
        second = somebody.post(CHALLENGE, {"username": "nobody"}).json()
    assert first.pop("challenge") != second.pop("challenge")
    assert first == second
    assert first["allowCredentials"] == []


def test_hostile_answers_are_refused_and_the_hub_lives(gate, passkey):
    fine = json.loads(passkey.answer_to(challenge(gate)))
    hostile = [
        "{",
        "{}",
        "{" * 4096,
        '{"":' * 1000,
        "{" + "[" * 4000,
        json.dumps({**fine, "response": None}),
        json.dumps({**fine, "response": {**fine["response"], "authenticatorData": "A" * 2000}}),
        json.dumps({**fine, "more": "x" * 5000}),
        json.dumps({**fine, "id": "\ud800"}),
    ]
    for text in hostile:
        assert gate.login("alice", text).status_code == 403
        assert gate.token("alice", text).status_code == 403
        gate.store.unlock("alice")
    for otp in (fine, [fine], {"otp": fine}):
        assert gate.token("alice", otp).status_code == 403
    gate.store.unlock("alice")
    assert gate.login("alice", json.dumps(fine)).status_code == 302
    assert gate.health() < 5
    assert "Traceback" not in gate.log


def test_every_page_asks_who_is_there_and_where_from(gate, alice):
    with gate.visitor() as somebody:
        for path in PAGES:
            assert "/hub/login" in somebody.get(path).url
            assert somebody.post(path, {"ticket": "x"}).status_code == 403
    for path in PAGES:
        assert alice.session.post(gate.url + path, data={"ticket": "x"}, timeout=30).status_code == 403
        assert alice.get(path).status_code == 200


def test_without_the_setting_there_are_no_passkeys(tmp_path, directory):
    with hub(tmp_path / "hub", gate_config(directory)) as plain, plain.visitor() as somebody:
        page = somebody.get("/hub/login")
        assert "passkey" not in page.text
        for path in [CHALLENGE, *PAGES]:
            assert somebody.get(path).status_code == 404
            assert somebody.post(path, {}).status_code == 404
        secret = plain.enrol("alice")
        assert somebody.login("alice", PASSWORDS["alice"], code(secret)).status_code == 302
        assert "passkey" not in somebody.get("/hub/account").text
        assert somebody.get(PAGES[0]).status_code == 404
