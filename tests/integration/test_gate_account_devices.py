"""Adding and removing devices on the account's pages, and the attacks on it."""

from __future__ import annotations

import pyotp
import pytest
import requests

from tests.integration.account_world import (
    add_second,
    assert_unwritten,
    begin,
    names,
    proof,
    secret_of,
    signed_in,
)
from tests.integration.gate_world import PASSWORDS, code, form_field

# ---- a second device


def test_rule_6_the_way_to_a_second_device(gate):
    with signed_in(gate, "alice") as alice:
        assert 'autocomplete="one-time-code"' in alice.get("/hub/account/device").text
        sent = proof(alice, name="  My\x00 Phone\u202e\n", secret="A" * 32, username="bob", ticket="x")
        shown = alice.post("/hub/account/device", sent)
        assert (shown.status_code, shown.headers["Cache-Control"]) == (200, "no-store")
        assert "<svg" in shown.text
        secret, ticket = secret_of(gate, shown.text), form_field(shown.text, "ticket")
        assert secret != "A" * 32
        assert names(gate, "alice") == ["Authenticator app"]
        assert gate.login("alice", code(secret)).status_code == 403  # not yet
        wrong = alice.post("/hub/account/device/confirm", {"ticket": ticket, "otp": "abcdef"})
        assert wrong.status_code == 403
        assert "That code does not fit" in wrong.text
        assert secret not in wrong.text.replace(" ", "")
        assert "<svg" not in wrong.text
        used = code(secret)
        confirm = {"ticket": ticket, "otp": used, "secret": "A" * 32}
        done = alice.post("/hub/account/device/confirm", confirm, allow_redirects=False)
        assert (done.status_code, done.headers["Location"]) == (302, "/hub/account?done=device-added")
        assert names(gate, "alice") == ["Authenticator app", "My Phone"]
        assert "My Phone" in alice.get("/hub/account").text
        again = alice.post("/hub/account/device/confirm", confirm)
        assert again.status_code == 403
    gate.store.unlock("alice")
    assert gate.login("alice", used).status_code == 403  # the confirming code is used up
    assert gate.login("alice", code(secret, 1)).status_code == 302
    assert gate.login("alice", code(alice.secret, 1)).status_code == 302  # the first one works as before
    (added,) = [entry for entry in gate.store.audit.entries("alice", 20) if entry.event == "device-added"][:1]
    assert (added.outcome, added.detail, added.address) == ("success", "My Phone", "127.0.0.1")


def test_rule_6_a_pending_secret_is_never_shown_again(gate):
    with signed_in(gate, "alice") as alice:
        first, ticket = begin(gate, alice)
        for path in ("/hub/account/device", "/hub/account", f"/hub/account/device/confirm?ticket={ticket}"):
            assert first not in alice.get(path).text.replace(" ", "")
        back = alice.get("/hub/account/device/confirm", allow_redirects=False)
        assert (back.status_code, back.headers["Location"]) == (302, "/hub/account/device")
        alice.secret = gate.enrol("alice")
        second, _ = begin(gate, alice)
        assert first != second
        assert (
            alice.post("/hub/account/device/confirm", {"ticket": ticket, "otp": code(first)}).status_code
            == 403
        )


def test_rule_6_somebody_elses_ticket_adds_nothing(gate):
    with signed_in(gate, "alice") as alice, signed_in(gate, "bob") as bob:
        secret, ticket = begin(gate, alice)
        confirm = {"ticket": ticket, "otp": code(secret)}
        for path in ("/hub/account/device/confirm", "/hub/enrol/confirm"):
            stolen = bob.post(path, confirm)
            assert stolen.status_code == 403
            assert "took too long" in stolen.text
            assert secret not in stolen.text.replace(" ", "")
        assert alice.post("/hub/enrol/confirm", confirm).status_code == 403  # that way replaces all devices
        assert (len(names(gate, "alice")), len(names(gate, "bob"))) == (1, 1)
        assert alice.post("/hub/account/device/confirm", confirm, allow_redirects=False).status_code == 302


def test_rule_6_the_ticket_of_an_enrolment_adds_no_second_device(gate):
    with signed_in(gate, "alice") as alice:
        token = gate.store.enrolments.new_token("alice", 1)
        secret = pyotp.random_base32()
        ticket = gate.store.enrolments.begin("alice", token, secret, "By token")
        answer = alice.post("/hub/account/device/confirm", {"ticket": ticket, "otp": code(secret)})
        assert answer.status_code == 403
        assert names(gate, "alice") == ["Authenticator app"]


def test_rule_6_confirming_by_guessing_ends(gate):
    with signed_in(gate, "alice") as alice:
        secret, ticket = begin(gate, alice)
        for _ in range(10):
            wrong = alice.post("/hub/account/device/confirm", {"ticket": ticket, "otp": "abcdef"})
            assert wrong.status_code == 403
        late = alice.post("/hub/account/device/confirm", {"ticket": ticket, "otp": code(secret)})
        assert late.status_code == 403
        assert "This device was not added" in late.text
        assert names(gate, "alice") == ["Authenticator app"]


def test_devices_are_bounded_in_number(gate):
    with signed_in(gate, "alice") as alice:
        for number in range(9):
            gate.store.add_totp("alice", pyotp.random_base32(), f"Device {number}")
        assert "as many as it can have" in alice.get("/hub/account/device").text
        refused = alice.post("/hub/account/device", proof(alice))
        assert refused.status_code == 400
        assert "as many as it can have" in refused.text
        assert "<svg" not in refused.text
    assert gate.login("alice", code(alice.secret)).status_code == 302  # no code was used up


def test_a_device_may_have_any_name_and_its_page_stays_whole(gate):
    with signed_in(gate, "alice") as alice:
        secret, ticket = begin(gate, alice, name='"><script>alert(1)</script>{{7*7}}')
        alice.post("/hub/account/device/confirm", {"ticket": ticket, "otp": code(secret)})
        for path in ("/hub/account", "/hub/account/notices"):
            page = alice.get(path).text
            assert "<script>alert(1)" not in page
            assert "&lt;script&gt;alert(1)&lt;/script&gt;{{7*7}}" in page


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("", "Authenticator app"),
        (" \t\n", "Authenticator app"),
        ("\x00\x1b[31m", "[31m"),
        ("n" * 64, "n" * 64),
        ("n" * 65, "Authenticator app"),
        ("Ü-Handy 📱", "Ü-Handy 📱"),
        ("a\u2028b\u200b", "a b"),
    ],
)
def test_a_name_is_one_short_line(gate, typed, kept):
    with signed_in(gate, "erin") as erin:
        begin(gate, erin, name=typed)
        secret, ticket = pyotp.random_base32(), ""
        (pending,) = [row for row in open_names(gate) if row[0] == "erin"]
    assert pending == ("erin", kept)
    assert (secret, ticket) != ("", "")


def open_names(gate):
    with gate.store.engine.connect() as connection:
        return [
            tuple(row) for row in connection.exec_driver_sql("select username, name from carme_enrolment")
        ]


# ---- the end of a device


def test_rule_6_a_device_is_removed(gate):
    with signed_in(gate, "alice") as alice:
        second, secret = add_second(gate, "alice")
        assert f"account/device/remove?id={second}" in alice.get("/hub/account").text
        assert "Second" in alice.get(f"/hub/account/device/remove?id={second}").text
        done = alice.post("/hub/account/device/remove", proof(alice, id=second), allow_redirects=False)
        assert (done.status_code, done.headers["Location"]) == (302, "/hub/account?done=device-removed")
        assert names(gate, "alice") == ["Authenticator app"]
    assert gate.login("alice", code(secret)).status_code == 403
    removed = [entry for entry in gate.store.audit.entries("alice", 20) if entry.event == "device-removed"]
    assert removed[0].detail == "Second"


def test_the_last_device_stays(gate):
    with signed_in(gate, "alice") as alice:
        (only,) = gate.store.devices("alice")
        assert "only device" in alice.get(f"/hub/account/device/remove?id={only.id}").text
        refused = alice.post("/hub/account/device/remove", proof(alice, id=only.id))
        assert refused.status_code == 400
        assert "only device" in refused.text
        assert names(gate, "alice") == ["Authenticator app"]
    assert gate.login("alice", code(alice.secret)).status_code == 302  # no code was used up


def test_rule_6_somebody_elses_device_stays(gate):
    with signed_in(gate, "bob"), signed_in(gate, "alice") as alice:
        add_second(gate, "bob")
        add_second(gate, "alice")
        theirs = [device.id for device in gate.store.devices("bob")]
        for wanted in (*theirs, "", "x", "../x", "' or 1=1 --", "é" * 500, "\0"):
            params = {"id": wanted}
            assert alice.get("/hub/account/device/remove", params=params).status_code == 404
            refused = alice.post("/hub/account/device/remove", proof(alice, id=wanted))
            assert refused.status_code == 404
        assert (len(names(gate, "bob")), len(names(gate, "alice"))) == (2, 2)
    assert gate.login("alice", code(alice.secret)).status_code == 302


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_change_signs_out_elsewhere_if_wanted(gate, elsewhere):
    with signed_in(gate, "alice") as alice, gate.visitor() as other:
        second, secret = add_second(gate, "alice")
        assert other.login("alice", PASSWORDS["alice"], code(secret, -1)).status_code == 302
        token = {"Authorization": f"token {gate.token('alice', code(secret)).json()['token']}"}
        me = f"{gate.url}/hub/api/user"
        fields = proof(alice, id=second, **({"elsewhere": "end"} if elsewhere else {}))
        done = alice.post("/hub/account/device/remove", fields, allow_redirects=False)
        assert done.status_code == 302
        assert alice.is_in
        assert other.is_in is not elsewhere
        assert requests.get(me, headers=token, timeout=10).status_code == (403 if elsewhere else 200)
        assert alice.get("/hub/account?done=device-removed").status_code == 200
        # Forms work on: the sign of this browser's forms fits its new login.
        alice.get("/hub/account/recovery")
        fresh = gate.store.new_recovery_codes("alice")
        assert alice.post("/hub/account/recovery", proof(alice, otp=fresh[0])).status_code == 200


def test_rule_5_no_secret_was_written_down(gate):
    assert_unwritten(gate)
