"""Attacks on a running hub, over the login page and the token API: all refused, and the hub stays well."""

from __future__ import annotations

import itertools
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from carme_hub.authenticator import throttle
from tests.integration.gate_world import PASSWORDS, code, gate_config, hub

REFUSED = "Name, password or code was not right"
ADDRESSES = (f"127.1.{number // 250}.{number % 250 + 1}" for number in itertools.count())


@pytest.fixture
def address():
    """An address nobody has used."""
    return next(ADDRESSES)


def by_page(gate, username, password, otp, address):
    return gate.login(username, otp, password, address).status_code


def by_token(gate, username, password, otp, address):
    auth = {"username": username, "password": password, "otp": otp}
    return gate.ask_token(username.strip().lower(), {"auth": auth}, address).status_code


DOORS = pytest.mark.parametrize("door", [by_page, by_token])
IN = {302, 201}


def events(gate, username):
    return [(entry.event, entry.outcome, entry.reason) for entry in gate.store.audit.entries(username)]


# ---- rule 8: brute force


@DOORS
def test_rule_8_codes_are_guessed_three_times_and_then_not_even_a_right_one_counts(gate, door, address):
    secret = gate.known("alice")
    for _ in range(3):
        assert door(gate, "alice", PASSWORDS["alice"], "000000", address) == 403
    for other in (by_page, by_token):
        assert other(gate, "alice", PASSWORDS["alice"], code(secret), next(ADDRESSES)) == 403
    assert events(gate, "alice")[0][2] == "wait"
    assert gate.store.account("alice").code_failures == 3  # who waits is not counted
    assert by_page(gate, "bob", PASSWORDS["bob"], code(gate.enrol("bob")), address) == 302
    gate.store.unlock("alice")
    assert door(gate, "alice", PASSWORDS["alice"], code(secret), address) in IN


@DOORS
def test_rule_8_a_right_password_does_not_reset_the_codes_counter(gate, door, address):
    gate.known("alice")
    for password in (PASSWORDS["alice"], "wrong", PASSWORDS["alice"], "wrong", PASSWORDS["alice"]):
        door(gate, "alice", password, "000000", address)
    assert gate.store.account("alice").code_failures == 3


@DOORS
def test_rule_8_a_hundred_wrong_codes_disable_the_device_until_an_admin_helps(gate, door, address):
    secret = gate.known("alice")
    with gate.store.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO carme_attempt VALUES ('code', 'alice', 99, 0, 0)")
    assert door(gate, "alice", PASSWORDS["alice"], "000000", address) == 403
    with gate.store.engine.begin() as connection:  # a year later
        connection.exec_driver_sql("UPDATE carme_attempt SET wait_until = 0")
    assert door(gate, "alice", PASSWORDS["alice"], code(secret), address) == 403
    assert events(gate, "alice")[0][2] == "locked"
    assert gate.store.account("alice").locked
    gate.store.unlock("alice")
    assert door(gate, "alice", PASSWORDS["alice"], code(secret), address) in IN


@DOORS
def test_rule_8_nobody_locks_a_victim_out_without_the_password(gate, door, address):
    secret = gate.known("alice")
    for _ in range(12):
        assert door(gate, "alice", "guess", "000000", address) == 403
    assert events(gate, "alice")[0][2] == "wait"  # the attacker's place waits
    assert gate.store.account("alice").code_failures == 0
    assert door(gate, "alice", PASSWORDS["alice"], code(secret), next(ADDRESSES)) in IN


def test_rule_8_a_known_browser_gets_in_from_the_attackers_own_address(gate, address):
    secret = gate.known("alice")
    with gate.visitor(address) as alice, gate.visitor(address) as mallory:
        assert alice.login("alice", PASSWORDS["alice"], code(secret)).status_code == 302
        alice.session.cookies.clear(domain="127.0.0.1", path="/hub/", name="jupyterhub-hub-login")
        for _ in range(6):
            assert mallory.login("alice", "guess", "000000").status_code == 403
        assert mallory.login("alice", PASSWORDS["alice"], code(secret, 1)).status_code == 403
        # The cookie says which account it knows: it is of no use for another one's.
        name = "carme-known-browser"
        stolen = alice.session.cookies.get(name, path="/hub/")
        mallory.session.cookies.set(name, stolen + "x", domain="127.0.0.1", path="/hub/")
        assert mallory.login("alice", PASSWORDS["alice"], code(secret, 1)).status_code == 403
        assert alice.login("alice", PASSWORDS["alice"], code(secret, 1)).status_code == 302


def test_rule_8_one_password_cannot_be_guessed_from_everywhere(gate, address):
    secret = gate.known("alice")
    with gate.visitor(address) as alice:
        assert alice.login("alice", PASSWORDS["alice"], code(secret)).status_code == 302
        alice.session.cookies.clear(domain="127.0.0.1", path="/hub/", name="jupyterhub-hub-login")
        for _ in range(throttle.ACCOUNT.free):
            gate.store.attempts.fail(throttle.ACCOUNT, "alice")  # a hundred times, from elsewhere
        assert by_token(gate, "alice", "guess", "000000", next(ADDRESSES)) == 403
        assert events(gate, "alice")[0][2] == "password"
        assert by_token(gate, "alice", "guess", "000000", next(ADDRESSES)) == 403
        assert events(gate, "alice")[0][2] == "wait"  # a new place, and no third try there
        # Her own browser is not among those that wait.
        assert alice.login("alice", PASSWORDS["alice"], code(secret, 1)).status_code == 302


def test_rule_8_headers_do_not_make_a_new_address(gate, address):
    secret = gate.known("alice")
    for number in range(6):
        with gate.visitor(address) as mallory:
            forged = {"X-Real-IP": f"192.0.2.{number}", "X-Forwarded-For": f"192.0.2.{number}"}
            mallory.session.headers.update(forged)
            mallory.login("alice", "guess", "000000")
    assert by_page(gate, "alice", PASSWORDS["alice"], code(secret), address) == 403
    assert {entry.address for entry in gate.store.audit.entries("alice", limit=7)} == {address}
    gate.store.unlock("alice")


def test_rule_8_one_address_that_tries_everybody_has_to_wait(gate, address):
    known_secret = gate.enrol("bob")
    with gate.visitor(address) as bob:
        assert bob.login("bob", PASSWORDS["bob"], code(known_secret)).status_code == 302
        bob.session.cookies.clear(domain="127.0.0.1", path="/hub/", name="jupyterhub-hub-login")
        _flood(gate, address)
        # Who sits behind the same address and has been in before is not shut out.
        assert bob.login("bob", PASSWORDS["bob"], code(known_secret, 1)).status_code == 302


def _flood(gate, address):
    secret = gate.known("alice")
    with ThreadPoolExecutor(8) as threads:
        names = [f"name{number}" for number in range(throttle.ADDRESS.free + 1)]
        statuses = list(threads.map(lambda name: by_token(gate, name, "guess", "000000", address), names))
    assert set(statuses) <= {403, 429}
    assert [entry.reason for entry in gate.store.audit.entries(limit=20)].count("address") >= 1
    for door in (by_page, by_token):
        assert door(gate, "alice", PASSWORDS["alice"], code(secret), address) == 429
    told = gate.login("alice", code(secret), address=address)
    assert "Too many logins from your network address" in told.text
    assert int(told.headers["Retry-After"]) > 0
    assert by_page(gate, "alice", PASSWORDS["alice"], code(secret), next(ADDRESSES)) == 302


@DOORS
def test_rule_8_guesses_at_one_instant_are_no_more_than_one_after_the_other(gate, door, address):
    secret = gate.known("alice")
    together = threading.Barrier(12)

    def guess(number):
        together.wait(20)
        return door(gate, "alice", PASSWORDS["alice"], f"{number:06}", address)

    with ThreadPoolExecutor(12) as threads:
        assert set(threads.map(guess, range(12))) == {403}
    assert gate.store.account("alice").code_failures == 3
    assert door(gate, "alice", PASSWORDS["alice"], code(secret), address) == 403
    gate.store.unlock("alice")


# ---- rule 9: nobody learns anything


def kinds(gate):
    """A refused login of each kind: name, password, code."""
    gate.store.reset("bob")
    secret = gate.known("alice")
    used = code(secret)
    assert gate.token("alice", used).status_code == 201
    gate.enrol("erin")
    for _ in range(3):
        by_token(gate, "erin", PASSWORDS["erin"], "000000", next(ADDRESSES))
    return {
        "unknown user": ("nobody", "guess", "000000"),
        "no name": ("*)(uid=*", "guess", "000000"),
        "wrong password": ("alice", "guess", "000000"),
        "wrong code": ("alice", PASSWORDS["alice"], "000000"),
        "used code": ("alice", PASSWORDS["alice"], used),
        "wrong recovery code": ("alice", PASSWORDS["alice"], "00000-00000-00000-00000"),
        "no device": ("bob", PASSWORDS["bob"], "000000"),
        "waiting": ("erin", PASSWORDS["erin"], "000000"),
        "empty": ("", "", ""),
    }


def test_rule_9_one_answer_for_all_refusals(gate):
    pages, bodies = {}, {}
    for kind, (username, password, otp) in kinds(gate).items():
        page = gate.login(username, otp, password, next(ADDRESSES))
        shown = re.sub(r'value="[^"]*"|autofocus|xsrf_token: "[^"]*"|nonce="[^"]*"', "", page.text)
        headers = sorted(set(page.headers) - {"Date"})
        pages[kind] = (page.status_code, re.sub(r"\s+", " ", shown), headers)
        auth = {"username": username, "password": password, "otp": otp}
        answer = gate.ask_token("alice", {"auth": auth}, next(ADDRESSES))
        bodies[kind] = (answer.status_code, answer.json(), sorted(set(answer.headers) - {"Date"}))
    assert pages["unknown user"][0] == 403
    assert REFUSED in pages["unknown user"][1]
    for kind, page in pages.items():
        assert page == pages["unknown user"], kind
        assert bodies[kind] == bodies["unknown user"], kind


def test_rule_9_none_is_answered_before_its_time(tmp_path, directory):
    with hub(tmp_path / "hub", gate_config(directory, refusal_seconds=0.7)) as slow:
        for kind, (username, password, otp) in kinds(slow).items():
            with slow.visitor(next(ADDRESSES)) as somebody:
                page = somebody.login(username, password, otp)
                assert page.elapsed.total_seconds() >= 0.7, kind
            auth = {"username": username, "password": password, "otp": otp}
            answer = slow.ask_token("alice", {"auth": auth}, next(ADDRESSES))
            assert answer.elapsed.total_seconds() >= 0.7, kind


# ---- rule 7: recovery codes


@DOORS
def test_rule_7_a_recovery_code_opens_once(gate, door, address):
    gate.known("alice")
    codes = gate.store.new_recovery_codes("alice")
    gate.issued.extend(codes)
    assert door(gate, "alice", PASSWORDS["alice"], codes[0].replace("-", " "), address) in IN
    for other in (by_page, by_token):
        assert other(gate, "alice", PASSWORDS["alice"], codes[0], next(ADDRESSES)) == 403
    assert gate.store.audit.notices("alice")[0].event == "recovery-used"


def test_rule_7_a_recovery_code_at_one_instant_opens_once(gate):
    gate.known("alice")
    one = gate.store.new_recovery_codes("alice")[0]
    together = threading.Barrier(3)

    def use(door):
        together.wait(20)
        return door(gate, "alice", PASSWORDS["alice"], one, next(ADDRESSES))

    with ThreadPoolExecutor(3) as threads:
        statuses = list(threads.map(use, [by_page, by_token, by_token]))
    assert sum(status in IN for status in statuses) == 1


@DOORS
def test_rule_7_recovery_codes_are_guessed_no_more_often_than_others(gate, door, address):
    gate.known("alice")
    codes = gate.store.new_recovery_codes("alice")
    for _ in range(3):
        assert door(gate, "alice", PASSWORDS["alice"], "00000-00000-00000-00000", address) == 403
    assert door(gate, "alice", PASSWORDS["alice"], codes[0], address) == 403
    gate.store.unlock("alice")
    assert door(gate, "alice", "guess", codes[0], address) == 403
    assert gate.store.account("alice").recovery_left == 10  # a wrong password uses none up


# ---- rule 13: where a login leads to


@pytest.mark.parametrize(
    "spelling",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example/",
        "/\\evil.example/",
        "https:evil.example",
        "\\\\evil.example/",
        "javascript:alert(1)",
        "/%09/evil.example",
        "http://127.0.0.1@evil.example/",
    ],
)
def test_rule_13_a_login_leads_nowhere_else(gate, spelling, address):
    secret = gate.enrol("alice")
    with gate.visitor(address) as alice:
        alice.get("/hub/login", params={"next": spelling})
        fields = {"username": "alice", "password": PASSWORDS["alice"], "otp": code(secret)}
        answer = alice.post("/hub/login", fields, params={"next": spelling}, allow_redirects=False)
        assert answer.status_code == 302
        target = requests.compat.urljoin(alice.url + "/hub/login", answer.headers["Location"])
        assert target.startswith(alice.url + "/")
        assert not re.match(r"^(/|\\|%5c){2}", answer.headers["Location"], re.IGNORECASE)


def test_rule_12_every_attempt_is_in_the_audit_log_and_no_secret(gate, address):
    secret = gate.known("alice")
    typed = ["Tr0ub4dor", PASSWORDS["alice"], code(secret), "000000"]
    by_page(gate, "tr0ub4dor", "guess", "000000", address)  # a password where the name belongs
    by_page(gate, "alice", "Tr0ub4dor", "000000", address)
    by_page(gate, "alice", PASSWORDS["alice"], "000000", address)
    by_page(gate, "alice", PASSWORDS["alice"], typed[2], address)
    entries = gate.store.audit.entries(limit=4)
    assert [(entry.account, entry.outcome, entry.reason) for entry in entries] == [
        ("alice", "success", ""),
        ("alice", "refused", "code"),
        ("alice", "refused", "password"),
        ("", "refused", "password"),
    ]
    assert {entry.address for entry in entries} == {address}
    lines = (gate.folder / "audit.jsonl").read_text()
    for word in [*typed[:3], secret, "tr0ub4dor"]:
        assert word not in lines
        assert word not in gate.log
    metrics = requests.get(f"{gate.url}/hub/metrics", timeout=10, headers=service(gate)).text
    assert 'carme_gate_events_total{event="login",outcome="refused",reason="password"}' in metrics


def service(gate):
    return {"Authorization": f"token {gate.service_token}"}


# ---- what a first attack on all this found


def raced(gate, username, otp, passwords, address):
    """Ask for a token with each password, all requests complete at one instant."""
    together = threading.Barrier(len(passwords))

    def ask(password):
        auth = {"username": username, "password": password, "otp": otp}
        together.wait(30)
        return gate.ask_token(username, {"auth": auth}, address).status_code

    with ThreadPoolExecutor(len(passwords)) as threads:
        return list(threads.map(ask, passwords))


def test_rule_8_passwords_at_one_instant_are_no_more_than_one_after_the_other(gate, address):
    secret = gate.known("alice")
    statuses = raced(gate, "alice", code(secret), [f"guess{number}" for number in range(40)], address)
    assert set(statuses) == {403}
    reasons = [entry.reason for entry in gate.store.audit.entries("alice", limit=40)]
    assert reasons.count("password") == 3
    assert reasons.count("wait") == 37


def test_rule_10_a_reset_between_code_and_cookie_ends_the_login(gate, address):
    """The moment is made here: the reset comes as soon as the code is used."""
    stop = threading.Event()

    def reset_when_used():
        while not stop.is_set():
            if any(device.last_used for device in gate.store.devices("erin")):
                gate.store.reset("erin")
                return

    outcomes = []
    for door in (by_page, by_token) * 3:
        secret = gate.known("erin")
        watching = threading.Thread(target=reset_when_used)
        watching.start()
        outcomes.append(door(gate, "erin", PASSWORDS["erin"], code(secret), address))
        stop.set()
        watching.join(10)
        stop.clear()
        generation, ended = gate.store.generations("erin")
        # Refused, or in and about to be ended; never in with the mark taken away.
        assert outcomes[-1] == 403 or generation > ended or gate.store.devices("erin")


def test_rule_11_a_token_from_a_token_ends_with_it(gate, address):
    secret = gate.known("alice")
    auth = {"username": "alice", "password": PASSWORDS["alice"], "otp": code(secret)}
    first = gate.ask_token("alice", {"auth": auth, "expires_in": 60}, address).json()
    url = f"{gate.url}/hub/api/users/alice/tokens"
    headers = {"Authorization": f"token {first['token']}"}
    for body in (None, {}, {"expires_in": 86400}, {"expires_in": None}):
        second = requests.post(url, json=body, headers=headers, timeout=10)
        assert second.status_code == 201
        assert second.json()["expires_at"] <= first["expires_at"]
    assert requests.post(url, json={"expires_in": "x"}, headers=headers, timeout=10).status_code == 400
    newest = gate.store.audit.entries("alice", limit=1)[0]
    assert (newest.event, newest.actor, newest.detail) == ("token-made", "alice", "")


def test_a_long_request_for_a_token_is_refused_unread(gate):
    answer = gate.ask_token("alice", {"auth": {"username": "alice", "password": "x" * 2**20, "otp": "1"}})
    assert answer.status_code == 413


def test_rule_8_a_known_browsers_failures_are_its_own(gate, address):
    secret, other = gate.known("bob"), gate.enrol("alice")
    with gate.visitor(address) as bob:
        assert bob.login("bob", PASSWORDS["bob"], code(secret)).status_code == 302
        bob.session.cookies.clear(domain="127.0.0.1", path="/hub/", name="jupyterhub-hub-login")
        statuses = {bob.login("bob", "guess", "000000").status_code for _ in range(throttle.ADDRESS.free + 2)}
        assert statuses == {403, 429}
    assert by_page(gate, "alice", PASSWORDS["alice"], code(other), address) == 302


def test_rule_7_who_may_not_come_in_uses_up_no_code(tmp_path, directory):
    with hub(tmp_path / "hub", gate_config(directory, blocked_users={"alice"})) as strict:
        secret = strict.enrol("alice")
        codes = strict.store.new_recovery_codes("alice")
        for otp in (code(secret), codes[0]):
            assert strict.token("alice", otp).status_code == 403
        assert strict.store.account("alice").recovery_left == 10
        assert not any(device.last_used for device in strict.store.devices("alice"))
