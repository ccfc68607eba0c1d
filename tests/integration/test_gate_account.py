"""The page of one's own account, and changing it: real slapd, real proxy, and the attacks on it."""

from __future__ import annotations

import re

import pyotp
import pytest
import requests

from carme_hub.authenticator import throttle
from carme_hub.authenticator.audit import Event
from tests.integration.account_world import (
    CHANGES,
    FORMS,
    REFUSED,
    add_second,
    assert_unwritten,
    begin,
    codes_of,
    names,
    proof,
    signed_in,
    state,
    text_of,
)
from tests.integration.gate_world import PASSWORDS, code, gate_config, hub, slapd

# ---- the page


def test_the_page_shows_the_account_and_nobody_elses(gate):
    with signed_in(gate, "bob") as bob:
        gate.store.add_totp("bob", pyotp.random_base32(), "Bob's own tablet")
        assert "Bob's own tablet" in text_of(bob.get("/hub/account"))
    with signed_in(gate, "alice") as alice:
        answer = alice.get("/hub/account")
        page = text_of(answer)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert "<title>Account security</title>" in re.sub(r">\s+|\s+<", lambda m: m[0].strip(), answer.text)
    for shown in ("Authenticator app", "You have none", "Change password", "Signed in", "127.0.0.1"):
        assert shown in page
    assert "Bob's own tablet" not in page
    assert "account/device/remove" not in answer.text  # it is the only one
    assert alice.secret not in answer.text.replace(" ", "")


def test_the_pages_are_linked_for_those_who_are_in(gate):
    with signed_in(gate, "alice") as alice:
        assert 'href="/hub/account"' in alice.get("/hub/token").text
    with gate.visitor() as nobody:
        assert 'href="/hub/account"' not in nobody.get("/hub/login").text


@pytest.mark.parametrize("path", ["/hub/account", *FORMS])
def test_nobody_sees_or_changes_anything_without_a_login(gate, path):
    with gate.visitor() as nobody:
        answer = nobody.get(path, allow_redirects=False)
        assert answer.status_code == 302
        assert answer.headers["Location"].startswith("/hub/login?next=")
        nobody.get("/hub/login")
        if path != "/hub/account":
            assert nobody.post(path, {"password": PASSWORDS["alice"], "otp": "1"}).status_code == 403


def test_an_api_token_opens_none_of_the_pages(gate):
    with signed_in(gate, "alice") as alice:
        token = gate.token("alice", code(alice.secret)).json()["token"]
    headers = {"Authorization": f"token {token}"}
    for path in ("/hub/account", *FORMS):
        answer = requests.get(gate.url + path, headers=headers, timeout=30, allow_redirects=False)
        assert (path, answer.status_code) == (path, 302)
        answer = requests.post(
            gate.url + path,
            {"password": PASSWORDS["alice"], "otp": code(alice.secret, 1)},
            headers=headers,
            timeout=30,
            allow_redirects=False,
        )
        assert answer.status_code in {403, 405}


def test_the_message_after_a_change_is_never_what_the_address_says(gate):
    with signed_in(gate, "alice") as alice:
        assert "The device was added" in alice.get("/hub/account?done=device-added").text
        for text in ("<b>forged</b>", "forged", "__class__", "\xff"):
            page = alice.get("/hub/account", params={"done": text})
            assert page.status_code == 200
            assert "forged" not in page.text


def test_rule_12_the_list_says_what_happened_in_plain_words(gate):
    with signed_in(gate, "alice") as alice:
        gate.login("alice", "000000")
        gate.login("alice", code(alice.secret), "wrong")
        page = text_of(alice.get("/hub/account"))
    assert "Sign-in refused: wrong or used code" in page
    assert "Sign-in refused: wrong password" in page
    assert re.search(
        r"Signed in with a code of “Authenticator app” \d+ \w+ \d+, \d\d:\d\d UTC · 127.0.0.1", page
    )


# ---- the proof before each change


WRONG = [
    {"password": "wrong"},
    {"otp": "000000"},
    {"otp": ""},
    {"password": ""},
    {"otp": "used"},
    {"password": PASSWORDS["bob"]},
    {"otp": "x" * 100_000},
    {"password": "x" * 100_000},
    {"username": "bob", "password": PASSWORDS["bob"], "otp": "of bob"},
]


@pytest.mark.parametrize("path", CHANGES)
def test_rule_6_a_change_asks_for_password_and_code_again(gate, path):
    other = gate.enrol("bob")
    with signed_in(gate, "alice") as alice:
        gate.store.add_totp("alice", pyotp.random_base32(), "Second")
        (wanted,) = [device.id for device in gate.store.devices("alice") if device.name == "Second"]
        fields = {
            "id": wanted,
            "new_password": "New-" + PASSWORDS["alice"],
            "new_again": "New-" + PASSWORDS["alice"],
        }
        before = state(gate, "alice")
        for wrong in WRONG:
            gate.store.unlock("alice")
            typed = {**proof(alice), **fields, **wrong}
            typed["otp"] = {"used": code(alice.secret, -1), "of bob": code(other)}.get(
                typed["otp"], typed["otp"]
            )
            answer = alice.post(path, typed, allow_redirects=False)
            assert (wrong, answer.status_code) == (wrong, 403)
            assert REFUSED in answer.text
            assert "<svg" not in answer.text
            assert not codes_of(gate, answer.text)
        assert state(gate, "alice") == before
    assert gate.login("bob", code(other)).status_code == 302  # nothing of bob's was used up
    gate.store.unlock("alice")
    assert gate.login("alice", code(alice.secret, 1)).status_code == 302


def test_rule_8_wrong_proofs_count_as_wrong_logins_do(gate):
    with signed_in(gate, "alice") as alice:
        for _ in range(3):
            assert alice.post("/hub/account/recovery", proof(alice, otp="000000")).status_code == 403
        assert gate.store.account("alice").wait_until > 0
        assert alice.post("/hub/account/recovery", proof(alice)).status_code == 403
        assert gate.login("alice", code(alice.secret, 1)).status_code == 403
        gate.store.unlock("alice")
        assert alice.post("/hub/account/recovery", proof(alice)).status_code == 200


def test_a_code_of_one_change_is_used_up(gate):
    with signed_in(gate, "alice") as alice:
        typed = proof(alice)
        assert alice.post("/hub/account/recovery", typed).status_code == 200
        left = gate.store.account("alice").recovery_left
        for path in CHANGES[:1] + CHANGES[2:]:
            new = {"new_password": "Another-1-word", "new_again": "Another-1-word"}
            assert alice.post(path, {**typed, **new}).status_code == 403
        assert gate.store.account("alice").recovery_left == left


@pytest.mark.parametrize("path", FORMS)
def test_rule_13_get_and_forged_posts_change_nothing(gate, path):
    with signed_in(gate, "alice") as alice:
        gate.store.add_totp("alice", pyotp.random_base32(), "Second")
        (wanted,) = [device.id for device in gate.store.devices("alice") if device.name == "Second"]
        gate.store.audit.write(Event("device-added", account="alice", detail="Second"))
        notice = gate.store.audit.notices("alice")[0]
        pending, ticket = begin(gate, alice) if path.endswith("confirm") else ("", "")
        before = state(gate, "alice")
        new = {"new_password": "Another-1-word", "new_again": "Another-1-word"}
        fields = {**proof(alice, id=wanted, last=notice.id, ticket=ticket), **new}
        if pending:
            fields["otp"] = code(pending)
        answer = alice.get(path, params=fields, allow_redirects=False)
        assert answer.status_code in {200, 302}
        assert "<svg" not in answer.text
        for forged in ("", "x", "2|aaaaaaaa|b|1"):
            answer = alice.post(path, {**fields, "_xsrf": forged}, allow_redirects=False)
            assert answer.status_code == 403
            assert "Open the page again" in answer.text
        with gate.visitor() as elsewhere:  # somebody else's token of a form
            elsewhere.get("/hub/login")
            foreign = elsewhere.session.cookies.get("_xsrf", path="/hub/")
        assert alice.post(path, {**fields, "_xsrf": foreign}, allow_redirects=False).status_code == 403
        assert state(gate, "alice") == before
    if not pending:
        assert gate.login("alice", code(alice.secret)).status_code == 302  # the code was not used up either


def test_a_directory_that_is_down_is_said(tmp_path):
    with (
        slapd(tmp_path / "slapd") as directory,
        hub(tmp_path / "hub", gate_config(directory)) as gate,
        signed_in(gate, "alice") as alice,
    ):
        wanted, _ = add_second(gate, "alice")
        directory.stop()
        for path in CHANGES:
            fields = {"id": wanted, "new_password": "Another-1-word", "new_again": "Another-1-word"}
            answer = alice.post(path, proof(alice, **fields))
            assert (path, answer.status_code) == (path, 503)
            assert "the user directory does not answer" in answer.text
        assert names(gate, "alice") == ["Authenticator app", "Second"]


def test_passkeys_are_offered_where_there_are_any(tmp_path, directory, gate):
    config = gate_config(directory, passkey_origin="http://localhost:8000")
    with hub(tmp_path / "hub", config) as other:
        for one, offered in ((gate, False), (other, True)):
            with signed_in(one, "alice") as alice:
                wanted, _ = add_second(one, "alice")
                assert ('href="/hub/account/passkey"' in alice.get("/hub/account").text) is offered
                for path in CHANGES:
                    page = alice.get(path, params={"id": wanted}).text
                    assert ('data-passkey="get"' in page) is offered


# ---- strange input, and what is written down


@pytest.mark.parametrize("path", FORMS)
def test_strange_input_is_no_500_and_not_logged(gate, path):
    gate.enrol("alice")
    with signed_in(gate, "alice") as alice:
        add_second(gate, "alice")
        wanted = gate.store.devices("alice")[0].id
        gate.store.audit.write(Event("unlock", account="alice", actor="carol"))
        fields = [
            "password",
            "otp",
            "name",
            "ticket",
            "new_password",
            "new_again",
            "last",
            "elsewhere",
        ]
        values = ["", "\0", "x" * 100_000, "é" * 1000, b"Geheim\xe4nis-7", "\u202e", "%00", "{{7*7}}", "[]"]
        for value in values:
            gate.store.unlock("alice")
            gate.store.attempts.clear(throttle.ADDRESS, "127.0.0.1")
            sent = {"id": wanted, **dict.fromkeys(fields, value)}
            assert alice.post(path, sent, allow_redirects=False).status_code in {200, 302, 400, 403, 404}
            repeated = {**sent, "otp": [value, "x"], "password": ["x", value, value]}
            assert alice.post(path, repeated, allow_redirects=False).status_code in {200, 302, 400, 403, 404}
        xsrf = alice.session.cookies.get("_xsrf", path="/hub/")
        headers = {"X-XSRFToken": xsrf}
        for body in (
            {"json": {"password": ["x"], "otp": {}}},
            {"data": b"\xff\xfe"},
            {"files": {"otp": b"Geheim\xe4nis-7"}},
        ):
            answer = alice.session.post(
                gate.url + path, headers=headers, timeout=30, allow_redirects=False, **body
            )
            assert answer.status_code in {200, 302, 400, 403, 404}
        for query in ("%ff", "x" * 2000, "%00"):
            answer = alice.get(
                f"{path}?id={query}&done={query}&next={query}&ticket={query}", allow_redirects=False
            )
            assert answer.status_code in {200, 302, 404}
    assert "nis-7" not in gate.log
    assert "Traceback" not in gate.log
    gate.health()


def test_rule_5_no_secret_was_written_down(gate):
    assert_unwritten(gate)
