"""Enrolment in a running hub: names, recovery codes, the mode without a token, and what is written down.

The way from a token to a login, and most attacks on it, are in `test_gate_hub`.
"""

from __future__ import annotations

import html
import re
import time
import urllib.parse

import pytest

from tests.integration.gate_world import PASSWORDS, code, form_field, gate_config, hub

REFUSED = "Name, password or token was not right"


@pytest.fixture(scope="module")
def open_gate(tmp_path_factory, directory):
    """A hub where the first login enrols."""
    config = gate_config(directory, enrolment="first-login")
    with hub(tmp_path_factory.mktemp("first") / "hub", config) as running:
        yield running


def start(somebody, username, token="", **more):
    somebody.get("/hub/enrol")
    fields = {"username": username, "password": PASSWORDS.get(username, "x"), "token": token, **more}
    return somebody.post("/hub/enrol", fields)


def secret_of(gate, page):
    secret = re.search(r'id="secret_text"[^>]*>([A-Z2-7 ]+)<', page)[1].replace(" ", "")
    gate.issued.append(secret)
    return secret


def codes_of(gate, page):
    link = html.unescape(re.search(r'href="(data:text/plain[^"]*)"', page)[1])
    codes = re.findall(r"^[0-9]{5}(?:-[0-9]{5}){3}$", urllib.parse.unquote(link), re.MULTILINE)
    gate.issued.extend(codes)
    return codes


def confirm(somebody, shown, secret, **more):
    fields = {"ticket": form_field(shown.text, "ticket"), "otp": code(secret), **more}
    return somebody.post("/hub/enrol/confirm", fields, allow_redirects=False)


def enrol(gate, somebody, username, token="", **more):
    """Walk through all steps; returns secret and recovery codes."""
    shown = start(somebody, username, token, **more)
    assert shown.status_code == 200, shown.text
    secret = secret_of(gate, shown.text)
    done = confirm(somebody, shown, secret)
    assert (done.status_code, done.headers["Cache-Control"]) == (200, "no-store")
    return secret, codes_of(gate, done.text)


def events(gate, username=None):
    entries = gate.store.audit.entries(username, 20)
    return [(entry.event, entry.outcome, entry.reason, entry.account, entry.detail) for entry in entries]


def new_token(gate, username):
    token = gate.store.enrolments.new_token(username, 1)
    gate.issued.append(token)
    return token


def test_rule_7_enrolment_ends_with_ten_recovery_codes_shown_once(gate):
    with gate.visitor() as erin:
        token = new_token(gate, "erin")
        shown = start(erin, "erin", token, name="Erin's phone")
        secret = secret_of(gate, shown.text)
        ticket = form_field(shown.text, "ticket")
        done = confirm(erin, shown, secret)
        codes = codes_of(gate, done.text)
        assert len({*codes}) == 10
        assert all(one in re.sub(r'href="[^"]*"', "", done.text) for one in codes)
        reloaded = erin.post("/hub/enrol/confirm", {"ticket": ticket, "otp": code(secret)})
        assert reloaded.status_code == 403
        assert codes[0] not in reloaded.text
        assert gate.store.account("erin").recovery_left == 10
        for path in ("/hub/enrol", "/hub/login?enrolled=1"):
            assert codes[0] not in erin.get(path).text
    assert [device.name for device in gate.store.devices("erin")] == ["Erin's phone"]
    assert ("enrol", "success", "", "erin", "Erin's phone") in events(gate, "erin")
    assert gate.login("erin", codes[3]).status_code == 302
    assert gate.login("erin", codes[3]).status_code == 403


def test_rule_6_a_new_enrolment_ends_old_devices_and_codes(gate):
    with gate.visitor() as erin:
        old, old_codes = enrol(gate, erin, "erin", new_token(gate, "erin"))
        gate.store.add_totp("erin", "A" * 32, "Second")
        new, _ = enrol(gate, erin, "erin", new_token(gate, "erin"), name="New")
    assert [device.name for device in gate.store.devices("erin")] == ["New"]
    for stale in (code(old, 1), old_codes[0], code("A" * 32)):
        gate.store.unlock("erin")
        assert gate.login("erin", stale).status_code == 403
    gate.store.unlock("erin")
    assert gate.login("erin", code(new, 1)).status_code == 302


def test_an_enrolment_is_told_at_the_next_login(gate):
    with gate.visitor() as erin:
        secret, _ = enrol(gate, erin, "erin", new_token(gate, "erin"), name="Told")
        answer = erin.login("erin", PASSWORDS["erin"], code(secret, 1))
        assert answer.headers["Location"].startswith("/hub/account/notices?next=")
        page = erin.get(answer.headers["Location"]).content.decode()
        assert "The device “Told” was set up." in page


def test_rule_9_refused_enrolments_are_one_answer(gate):
    token = new_token(gate, "erin")
    wrong = [
        ("erin", {"token": "x"}),
        ("erin", {"token": token, "password": "wrong"}),
        ("erin", {"token": token, "password": ""}),
        ("erin", {}),
        ("nobody", {"token": token}),
        ("alice", {"token": token}),
        ("", {"token": token}),
        ("*)(uid=*", {"token": token}),
        ("x" * 100_000, {"token": token, "name": "x" * 100_000}),
    ]
    pages = set()
    for username, fields in wrong:
        with gate.visitor() as somebody:
            answer = start(somebody, username, **fields)
        assert (username, answer.status_code) == (username, 403)
        assert REFUSED in answer.text
        assert "<svg" not in answer.text
        pages.add(
            len(re.sub(r'value="[^"]*"|nonce="[^"]*"|autofocus|xsrf_token: "[^"]*"|\s+', "", answer.text))
        )
    assert len(pages) == 1
    gate.store.unlock("erin")


def test_rule_9_refused_enrolments_take_one_time(tmp_path, directory):
    config = gate_config(directory, refusal_seconds=0.7)
    with hub(tmp_path / "hub", config) as slow:
        token = new_token(slow, "erin")
        wrong = [("erin", "x", "wrong"), ("erin", token, "wrong"), ("nobody", "x", "wrong"), ("", "", "")]
        for username, typed, password in wrong:
            with slow.visitor() as somebody:
                somebody.get("/hub/enrol")
                began = time.monotonic()
                fields = {"username": username, "token": typed, "password": password}
                assert somebody.post("/hub/enrol", fields).status_code == 403
                taken = time.monotonic() - began
            assert 0.65 < taken < 1.2, (username, taken)


def test_rule_12_refusals_are_written_down_without_what_is_no_name(gate):
    with gate.visitor() as somebody:
        start(somebody, "erin", "x")
        start(somebody, "correct-horse", "x")
        start(somebody, "Correct Horse 9", "x")
    newest = [entry[:4] for entry in events(gate)[:3]]
    refused = ("enrol", "refused", "token")
    assert newest == [(*refused, ""), (*refused, ""), (*refused, "erin")]
    assert "orse" not in (gate.folder / "audit.jsonl").read_text() + gate.log


def test_rule_8_passwords_are_throttled_here_as_well(gate):
    gate.enrol("erin")
    token = new_token(gate, "erin")
    with gate.visitor() as thief:
        for _ in range(4):
            assert start(thief, "erin", token, password="guess").status_code == 403
        assert start(thief, "erin", token).status_code == 403  # has to wait now
    assert events(gate, "erin")[0][:3] == ("enrol", "refused", "wait")
    gate.store.unlock("erin")
    with gate.visitor() as erin:
        assert start(erin, "erin", token).status_code == 200


# ---- the first login enrols


def test_rule_6_the_first_login_may_enrol_where_the_admin_says_so(open_gate):
    assert "a stolen password is enough" in open_gate.log
    open_gate.never_seen("dora")
    with open_gate.visitor() as dora:
        page = dora.get("/hub/enrol").text
        assert 'id="token_input"' in page  # for those who have lost a device
        assert "required" not in page[page.index('id="token_input"') : page.index('id="token_help"')]
        secret, codes = enrol(open_gate, dora, "dora", name="First")
    assert len(codes) == 10
    assert open_gate.login("dora", code(secret, 1)).status_code == 302


def test_rule_6_only_the_first_device_needs_no_token(open_gate):
    for end in (lambda: None, lambda: open_gate.store.reset("dora")):  # nor after a reset
        open_gate.enrol("dora")
        end()
        with open_gate.visitor() as thief:
            refused = start(thief, "dora")
            assert refused.status_code == 403
            assert REFUSED in refused.text
            assert "<svg" not in refused.text
        with open_gate.visitor() as dora:
            assert start(dora, "dora", new_token(open_gate, "dora")).status_code == 200
            assert start(dora, "dora").status_code == 403  # who was given a token needs it


def test_rule_6_the_first_login_needs_the_password(open_gate):
    open_gate.never_seen("dora")
    with open_gate.visitor() as thief:
        for wrong in ("", "wrong", PASSWORDS["alice"]):
            assert start(thief, "dora", password=wrong).status_code == 403
        assert start(thief, "dora", "x").status_code == 403  # a wrong token is not no token
        assert start(thief, "nobody").status_code == 403
    assert open_gate.store.devices("dora") == []


def test_rule_6_of_two_first_enrolments_one_wins(open_gate):
    open_gate.never_seen("dora")
    with open_gate.visitor() as thief, open_gate.visitor() as dora:
        theirs, hers = start(thief, "dora"), start(dora, "dora")
        first, second = secret_of(open_gate, theirs.text), secret_of(open_gate, hers.text)
        assert confirm(thief, theirs, first).status_code == 403  # hers took its place
        assert confirm(dora, hers, second).status_code == 200
        assert confirm(thief, theirs, first).status_code == 403
    assert len(open_gate.store.devices("dora")) == 1


def test_rule_5_no_secret_was_written_down(gate, open_gate):
    for one in (gate, open_gate):
        written = one.log + (one.folder / "audit.jsonl").read_text()
        assert one.issued
        for secret in (*one.issued, *PASSWORDS.values()):
            assert secret not in written
