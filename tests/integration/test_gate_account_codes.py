"""Recovery codes, notices and the password on the account's pages, and the attacks on them."""

from __future__ import annotations

import html
import re
import urllib.parse

import pytest

from carme_hub.authenticator.audit import Event
from tests.integration.account_world import (
    assert_unwritten,
    begin,
    codes_of,
    names,
    proof,
    signed_in,
    text_of,
)
from tests.integration.gate_directory_world import slapd_with
from tests.integration.gate_world import PASSWORDS, code, form_field, gate_config, hub

# ---- recovery codes


def test_rule_7_recovery_codes_are_shown_once(gate):
    with signed_in(gate, "alice") as alice:
        old = gate.store.new_recovery_codes("alice")
        assert "10 are left" in text_of(alice.get("/hub/account"))
        assert "10 that are left" in text_of(alice.get("/hub/account/recovery"))
        typed = proof(alice)
        shown = alice.post("/hub/account/recovery", typed)
        assert (shown.status_code, shown.headers["Cache-Control"]) == (200, "no-store")
        codes = codes_of(gate, shown.text)
        assert (len(codes), len({*codes} - {*old})) == (10, 10)
        link = html.unescape(re.search(r'href="(data:text/plain[^"]*)"', shown.text)[1])
        file = urllib.parse.unquote(link.partition(",")[2])
        assert all(one in file.splitlines() for one in codes)
        assert "alice" in file
        for path in ("/hub/account", "/hub/account/recovery"):
            assert not codes_of(gate, alice.get(path).text)
        assert not codes_of(gate, alice.post("/hub/account/recovery", typed).text)  # reloaded
        assert gate.store.account("alice").recovery_left == 10
    assert gate.login("alice", old[0]).status_code == 403  # those from before are over
    assert gate.login("alice", codes[0].replace("-", " ")).status_code == 302
    assert gate.login("alice", codes[0]).status_code == 403
    assert gate.store.account("alice").recovery_left == 9


def test_rule_7_few_codes_are_told(gate):
    with signed_in(gate, "alice") as alice:
        codes = gate.store.new_recovery_codes("alice")
        for one in codes[:6]:
            assert gate.login("alice", one).status_code == 302
        page = text_of(alice.get("/hub/account"))
        assert "4 are left" in page
        assert "Make new ones before you need them" not in page
        assert gate.login("alice", codes[6]).status_code == 302
        page = text_of(alice.get("/hub/account"))
        assert "You have only 3 left. Make new ones before you need them" in page


def test_rule_7_a_recovery_code_proves_as_well(gate):
    """Whoever has lost the phone adds a new one and removes the old one."""
    with signed_in(gate, "alice") as alice:
        codes = gate.store.new_recovery_codes("alice")
        (old,) = gate.store.devices("alice")
        secret, ticket = begin(gate, alice, otp=codes[0])
        alice.post("/hub/account/device/confirm", {"ticket": ticket, "otp": code(secret)})
        done = alice.post(
            "/hub/account/device/remove", proof(alice, id=old.id, otp=code(secret, 1)), allow_redirects=False
        )
        assert done.status_code == 302
        assert len(names(gate, "alice")) == 1
        used = [entry for entry in gate.store.audit.entries("alice", 20) if entry.event == "recovery-used"]
        assert used[0].detail == "9 left"


# ---- notices


def test_rule_7_what_happened_is_told_at_the_next_login(gate):
    secret = gate.enrol("alice")
    gate.store.audit.seen("alice", max([entry.id for entry in gate.store.audit.entries(limit=1)], default=0))
    one = gate.store.new_recovery_codes("alice")[0]
    gate.store.audit.write(Event("reset", account="alice", actor="carol", address="192.0.2.77"))
    with gate.visitor() as alice:
        answer = alice.login("alice", PASSWORDS["alice"], one)
        assert answer.status_code == 302
        assert answer.headers["Location"] == "/hub/account/notices?next=%2Fhub%2Ftoken"
        for _ in range(2):  # looking at it marks nothing
            page = alice.get(answer.headers["Location"])
            assert page.status_code == 200
            text = text_of(page)
            assert "A recovery code was used; 9 left." in text
            assert "from 127.0.0.1" in text
            assert "An administrator (carol) removed your devices and recovery codes." in text
            assert "192.0.2.77" not in text
            assert "tell your administrator" in text
        last = form_field(page.text, "last")
        gate.store.audit.write(Event("device-added", account="alice", detail="Later"))
        onward = alice.post("/hub/account/notices?next=%2Fhub%2Ftoken", {"last": last}, allow_redirects=False)
        assert (onward.status_code, onward.headers["Location"]) == (302, "/hub/token")
        assert [entry.detail for entry in gate.store.audit.notices("alice")] == ["Later"]  # it was not shown
        page = text_of(alice.get("/hub/account/notices"))
        assert "The device “Later” was added." in page
        assert "A recovery code was used" not in page
    assert gate.login("alice", code(secret)).headers["Location"].startswith("/hub/account/notices")


def test_notices_are_marked_by_what_was_shown_only(gate):
    with signed_in(gate, "bob") as bob, signed_in(gate, "alice") as alice:
        for username in ("alice", "bob"):
            gate.store.audit.write(Event("unlock", account=username, actor="carol"))
        before = gate.store.audit.notices("alice")
        theirs = gate.store.audit.notices("bob")[0].id
        strange = ["", "0", "-1", "x", "9" * 18, "9" * 400, "1e3", "٣", theirs, "0x10", "1 or 1=1", " "]
        for last in strange:
            answer = alice.post("/hub/account/notices", {"last": last}, allow_redirects=False)
            assert (last, answer.status_code) == (last, 200)
            assert "Changes to your account" in answer.text
        assert alice.post("/hub/account/notices", {}).status_code == 200
        assert gate.store.audit.notices("alice") == before
        last = str(before[0].id)
        twice = alice.post("/hub/account/notices", {"last": ["x", last]}, allow_redirects=False)
        assert twice.status_code == 302
        assert gate.store.audit.notices("alice") == []
        assert gate.store.audit.notices("bob")
        assert "unlocked your account" in bob.get("/hub/account/notices").text
        done = alice.get("/hub/account/notices?next=%2Fhub%2Ftoken", allow_redirects=False)
        assert (done.status_code, done.headers["Location"]) == (302, "/hub/token")


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "http:///evil.example",
        "/%09/evil.example",
        "javascript:alert(1)",
        "https:evil.example",
        "@evil.example",
    ],
)
def test_rule_13_the_way_on_stays_on_this_site(gate, elsewhere):
    with signed_in(gate, "alice") as alice:
        gate.store.audit.write(Event("unlock", account="alice", actor="carol"))
        where = "/hub/account/notices?next=" + urllib.parse.quote(elsewhere, safe="")
        page = alice.get(where)
        last = form_field(page.text, "last")
        action = html.unescape(re.search(r'action="(/hub/account/notices[^"]*)"', page.text)[1])
        for path in (where, action):
            answer = alice.post(path, {"last": last}, allow_redirects=False)
            assert answer.status_code == 302
            target = urllib.parse.urljoin(gate.url + "/hub/", answer.headers["Location"].replace("\\", "/"))
            assert urllib.parse.urlsplit(target).hostname == "127.0.0.1"


# ---- password


def change(somebody, new, again=None, **more):
    fields = proof(somebody, new_password=new, new_again=new if again is None else again, **more)
    return somebody.post("/hub/account/password", fields, allow_redirects=False)


def test_a_password_is_changed(gate):
    old, new = PASSWORDS["erin"], "Correct horse 7 Batterié"
    with signed_in(gate, "erin") as erin:
        gate.issued.append(new)
        done = change(erin, new)
        assert (done.status_code, done.headers.get("Location")) == (302, "/hub/account?done=password-changed")
        assert "Your password was changed" in erin.get(done.headers["Location"]).text
        second = gate.store.new_recovery_codes("erin")
        assert gate.login("erin", second[0], old).status_code == 403
        assert gate.login("erin", second[0], new).status_code == 302
        entries = [
            entry for entry in gate.store.audit.entries("erin", 20) if entry.event == "password-changed"
        ]
        assert [entry.outcome for entry in entries] == ["success"]
        back = {"password": new, "otp": second[1], "new_password": old, "new_again": old}
        assert erin.post("/hub/account/password", back, allow_redirects=False).status_code == 302
        assert gate.login("erin", second[2], old).status_code == 302


@pytest.mark.parametrize(
    ("new", "again", "sentence"),
    [
        ("", "", "cannot be a password"),
        ("   ", "   ", "cannot be a password"),
        ("x" * 1025, "x" * 1025, "cannot be a password"),
        ("Another-1-word", "Another-1-w0rd", "not the same"),
        ("Another-1-word", "", "not the same"),
        (PASSWORDS["erin"], PASSWORDS["erin"], "the password you have now"),
    ],
)
def test_a_new_password_that_cannot_be_uses_up_no_code(gate, new, again, sentence):
    with signed_in(gate, "erin") as erin:
        answer = change(erin, new, again)
        assert answer.status_code == 400
        assert sentence in answer.text
        assert 'aria-invalid="true"' in answer.text
        assert 'role="alert"' in answer.text
    assert gate.login("erin", code(erin.secret)).status_code == 302


def test_a_password_that_the_directory_does_not_take_is_said_at_the_field(tmp_path):
    with (
        slapd_with(tmp_path / "slapd", "", "readonly on\n") as directory,
        hub(tmp_path / "hub", gate_config(directory)) as gate,
        signed_in(gate, "alice") as alice,
    ):
        answer = change(alice, "Another-1-word")
        assert answer.status_code == 400
        assert "Your code is used up by this: wait for the next one." in answer.text
        assert 'aria-describedby="new_password_error"' in answer.text
        assert change(alice, "Another-1-word").status_code == 403  # it is
        assert "password-changed" not in [entry.event for entry in gate.store.audit.entries("alice", 20)]
    assert "Another-1-word" not in gate.log


def test_rule_5_no_secret_was_written_down(gate):
    assert_unwritten(gate)
