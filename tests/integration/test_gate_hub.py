"""The gate in a running hub: real slapd, real proxy, and the attacks that belong to this step."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyotp
import pytest
import requests

from carme_hub.demo import ldap
from tests.integration.gate_world import (
    PASSWORDS,
    carme_user,
    code,
    dripping_server,
    form_field,
    gate_config,
    hub,
    silent_server,
    wait_for,
)

# ---- login


def test_the_page_asks_for_name_password_and_code(gate):
    with gate.visitor() as somebody:
        page = somebody.get("/hub/login").text
    for attribute in ('name="username"', 'autocomplete="current-password"', 'autocomplete="one-time-code"'):
        assert attribute in page
    assert 'href="/hub/enrol"' in page


def test_rule_4_the_right_code_opens_once(gate):
    secret = gate.enrol("alice")
    used = code(secret)
    with gate.visitor() as alice:
        answer = alice.login("alice", PASSWORDS["alice"], used)
        assert (answer.status_code, answer.headers["Location"]) == (302, "/hub/token")
        assert alice.is_in
    refused = gate.login("alice", used)
    assert refused.status_code == 403
    assert "Name, password or code was not right" in refused.text
    assert gate.login("alice", code(secret, 1)).status_code == 302
    assert gate.login("alice", used).status_code == 403  # an older step than the last


def test_rule_4_the_fullwidth_twin_of_a_used_code_is_refused(gate):
    secret = gate.enrol("alice")
    used = code(secret)
    assert gate.login("alice", used).status_code == 302
    fullwidth = "".join(chr(ord(digit) + 0xFEE0) for digit in used)
    assert pyotp.TOTP(secret).verify(fullwidth, valid_window=1)
    assert gate.login("alice", fullwidth).status_code == 403
    assert gate.token("alice", fullwidth).status_code == 403


@pytest.mark.parametrize("typed", ["ALICE", "Alice", " alice "])
def test_rule_2_other_spellings_are_the_same_account(gate, typed):
    secret = gate.enrol("alice")
    used = code(secret)
    assert gate.login("alice", used).status_code == 302
    assert gate.login(typed, used, PASSWORDS["alice"]).status_code == 403
    assert gate.login(typed, code(secret, 1), PASSWORDS["alice"]).status_code == 302
    assert gate.user("alice")["name"] == "alice"


@pytest.mark.parametrize(
    ("username", "password", "otp"),
    [
        ("alice", "wrong", "right"),
        ("alice", "", "right"),
        ("alice", " ", "right"),
        ("alice", "right", ""),
        ("alice", "right", "000000000"),
        ("alice", "right", "of bob"),
        ("nobody", "right", "right"),
        ("*)(uid=*", "right", "right"),
        ("alice,ou=people", "right", "right"),
        ("uid=alice,ou=people,dc=example,dc=org", "right", "right"),
        ("al\\69ce", "right", "right"),
        ("\u212alice", "right", "right"),
        ("ａlice", "right", "right"),  # noqa: RUF001 - fullwidth
        ("", "right", "right"),
        ("a" * 100_000, "right", "right"),
        ("alice", "x" * 100_000, "right"),
        ("alice", "right", "1" * 100_000),
        ("dora", "right", "right"),  # has no device
    ],
)
def test_rule_9_refusals_all_look_the_same(gate, username, password, otp):
    secret, other = gate.known("alice"), gate.enrol("bob")
    typed_password = PASSWORDS.get(username, PASSWORDS["alice"]) if password == "right" else password
    typed_code = {"right": code(secret), "of bob": code(other)}.get(otp, otp)
    form = gate.login(username, typed_code, typed_password)
    auth = {"username": username, "password": typed_password, "otp": typed_code}
    token = gate.ask_token("alice", {"auth": auth})
    assert (form.status_code, token.status_code) == (403, 403)
    assert "Name, password or code was not right" in form.text
    assert gate.token("alice", code(secret)).status_code == 201  # and nothing was used up or broken


def test_rule_2_a_newline_in_the_name_is_refused(gate):
    secret = gate.known("alice")
    auth = {"username": "alice\n", "password": PASSWORDS["alice"], "otp": code(secret)}
    assert gate.ask_token("alice", {"auth": auth}).status_code == 403
    assert gate.token("alice", code(secret)).status_code == 201


@pytest.mark.parametrize("missing", ["username", "password", "otp", "everything"])
def test_rule_1_a_form_with_fields_missing_is_refused(gate, missing):
    secret = gate.enrol("alice")
    fields = {"username": "alice", "password": PASSWORDS["alice"], "otp": code(secret)}
    fields = {} if missing == "everything" else {name: fields[name] for name in fields if name != missing}
    with gate.visitor() as somebody:
        somebody.get("/hub/login")
        assert somebody.post("/hub/login", fields).status_code == 403
        assert not somebody.is_in


def test_rule_13_a_login_without_xsrf_or_by_get_is_none(gate):
    secret = gate.enrol("alice")
    fields = {"username": "alice", "password": PASSWORDS["alice"], "otp": code(secret)}
    with gate.visitor() as somebody:
        assert somebody.post("/hub/login", {**fields, "_xsrf": ""}).status_code == 403
        somebody.get("/hub/login", params=fields)
        assert not somebody.is_in
    assert gate.login("alice", code(secret)).status_code == 302


def test_rule_4_of_parallel_logins_with_one_code_one_wins(gate):
    secret = gate.known("alice")
    together = threading.Barrier(8)
    shared = code(secret)

    def form(_):
        with gate.visitor() as somebody:
            somebody.get("/hub/login")
            together.wait(20)
            fields = {"username": "alice", "password": PASSWORDS["alice"], "otp": shared}
            return somebody.post("/hub/login", fields, allow_redirects=False).status_code

    def api(_):
        together.wait(20)
        return gate.token("alice", shared).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = [*threads.map(lambda index: (form if index % 2 else api)(index), range(8))]
    assert sorted(statuses)[:1] in ([201], [302])
    assert sorted(statuses)[1:] == [403] * 7


# ---- the token API (hole 4)


def test_rule_1_hole_4_a_token_needs_the_code_too(gate):
    secret = gate.enrol("alice")
    used, unused = code(secret), code(secret, 1)
    gate.login("alice", used)
    password_only = {"auth": {"username": "alice", "password": PASSWORDS["alice"]}}
    assert gate.ask_token("alice", password_only).status_code == 403
    assert gate.token("alice", "000000").status_code == 403
    assert gate.token("alice", used).status_code == 403
    answer = gate.token("alice", unused)
    assert answer.status_code == 201
    assert answer.json()["user"] == "alice"
    assert answer.json()["expires_at"] is not None
    assert gate.token("alice", unused).status_code == 403


def test_holes_4_and_5_on_a_hub_with_the_plain_package(tmp_path, directory):
    """A password alone gives a token that never expires, and manage_groups=True makes each login a 500."""
    config = f"""
c.JupyterHub.authenticator_class = "ldapauthenticator.LDAPAuthenticator"
c.LDAPAuthenticator.server_address = "127.0.0.1"
c.LDAPAuthenticator.server_port = {directory.port}
c.LDAPAuthenticator.bind_dn_template = "uid={{username}},ou=people,{ldap.BASE}"
c.LDAPAuthenticator.allowed_users = {{"alice"}}
c.LDAPAuthenticator.request_otp = True
c.LDAPAuthenticator.manage_groups = True
c.JupyterHub.token_expires_in_max_seconds = 0
"""
    with hub(tmp_path / "upstream", config) as plain:
        token = plain.ask_token("alice", {"auth": {"username": "alice", "password": PASSWORDS["alice"]}})
        assert (token.status_code, token.json()["expires_at"]) == (201, None)
        assert plain.login("alice", "000000").status_code == 500
        assert "Does LDAPAuthenticator support manage_groups=True?" in plain.log


@pytest.mark.parametrize("other", ["bob", "carol", "tests", "nobody", "alice%0a"])
def test_rule_1_a_token_is_for_oneself_only(gate, other):
    secret = gate.enrol("alice")
    gate.login("alice", code(secret))
    auth = {"username": "alice", "password": PASSWORDS["alice"], "otp": code(secret, 1)}
    assert gate.ask_token(other, {"auth": auth}).status_code in {403, 404}
    assert gate.token("alice", auth["otp"]).status_code == 403  # that code was a right one


SHAPES = [
    None,
    [],
    "alice",
    7,
    True,
    {},
    [{"username": "alice"}],
    {"username": ["alice"], "password": ["x"], "otp": ["1"]},
    {"username": {"a": 1}, "password": {"$ne": ""}, "otp": {}},
    {"username": "alice", "password": None, "otp": None},
    {"username": "alice", "password": "RIGHT", "otp": 123456},
    {"username": "alice", "password": "RIGHT", "otp": ["RIGHT"]},
    {"username": "alice", "password": "RIGHT", "otp": True},
    {
        "username": "alice",
        "password": "RIGHT",
        "otp": None,
        "name": "alice",
        "admin": True,
        "groups": ["hpc-admins"],
    },
    {"username": "alice", "password": "\ud800", "otp": "RIGHT"},
    {"username": "\ud800", "password": "RIGHT", "otp": "RIGHT"},
    {"username": "alice", "password": "RIGHT", "otp": "\ud800"},
    {"username": "alice\0", "password": "RIGHT", "otp": "RIGHT"},
    {"name": "alice", "password": "RIGHT", "otp": "RIGHT"},
]


@pytest.mark.parametrize("shape", SHAPES, ids=range(len(SHAPES)))
def test_rule_1_any_other_shape_is_a_plain_403(gate, shape):
    secret = gate.known("alice")
    text = json.dumps(shape).replace('"RIGHT"', json.dumps("@"), 1).replace("@", PASSWORDS["alice"])
    body = json.loads(text.replace("RIGHT", code(secret)))
    assert gate.ask_token("alice", {"auth": body}).status_code == 403
    assert gate.token("alice", code(secret)).status_code == 201
    gate.health()


def test_rule_1_forged_fields_change_nothing(gate):
    secret = gate.enrol("alice")
    gate.login("alice", code(secret))
    forged = {
        "name": "carol",
        "admin": True,
        "groups": ["hpc-admins"],
        "auth_state": {"x": 1},
        "roles": ["admin"],
    }
    assert gate.token("alice", code(secret, 1), **forged).status_code == 201
    known = gate.user("alice")
    assert (known["admin"], sorted(known["groups"])) == (False, ["ml101", "researchers"])
    assert secret not in str(known)  # with its auth_state


# ---- groups and rights


def test_rule_3_groups_and_admin_right_come_and_go(gate, directory):
    secret = gate.enrol("carol")
    assert gate.login("carol", code(secret)).status_code == 302
    assert (gate.user("carol")["admin"], gate.user("carol")["groups"]) == (True, ["hpc-admins"])
    directory.set_members("hpc-admins", [])
    try:
        assert gate.login("carol", code(secret, 1)).status_code == 302
        assert (gate.user("carol")["admin"], gate.user("carol")["groups"]) == (False, [])
    finally:
        directory.set_members("hpc-admins", ["carol"])


def test_rule_3_a_token_has_the_groups_and_the_right_of_its_moment(gate, directory):
    gate.known("carol")
    directory.set_members("hpc-admins", [])
    try:
        answer = gate.token("carol", code(gate.enrol("carol")))
        assert answer.status_code == 201
        assert not any(scope.startswith("admin") for scope in answer.json()["scopes"])
        assert (gate.user("carol")["admin"], gate.user("carol")["groups"]) == (False, [])
        headers = {"Authorization": f"token {answer.json()['token']}"}
        assert requests.get(f"{gate.url}/hub/api/users", headers=headers, timeout=10).status_code == 403
    finally:
        directory.set_members("hpc-admins", ["carol"])
    answer = gate.token("carol", code(gate.enrol("carol")))
    assert (gate.user("carol")["admin"], gate.user("carol")["groups"]) == (True, ["hpc-admins"])
    headers = {"Authorization": f"token {answer.json()['token']}"}
    assert requests.get(f"{gate.url}/hub/api/users", headers=headers, timeout=10).status_code == 200


def test_a_refused_request_for_a_token_changes_no_right(gate, directory):
    gate.known("carol")
    directory.set_members("hpc-admins", [])
    try:
        assert gate.token("carol", "000000").status_code == 403
        assert gate.user("carol")["admin"] is True
    finally:
        directory.set_members("hpc-admins", ["carol"])


def test_rule_11_a_login_gets_a_new_session_id(gate):
    secret = gate.enrol("alice")
    with gate.visitor() as alice:
        alice.session.cookies.set("jupyterhub-session-id", "planted", domain="127.0.0.1", path="/")
        assert alice.login("alice", PASSWORDS["alice"], code(secret)).status_code == 302
        kept = [cookie.value for cookie in alice.session.cookies if cookie.name == "jupyterhub-session-id"]
        assert len(kept) == 1
        assert kept != ["planted"]
        assert alice.is_in


# ---- what people type does not get into the log


@pytest.mark.parametrize("path", ["/hub/login", "/hub/enrol", "/hub/enrol/confirm"])
def test_rule_12_a_password_in_another_encoding_is_refused_and_not_shown(gate, path):
    fields = dict.fromkeys(("username", "password", "otp", "token", "ticket"), b"Geheim\xe4nis-7")
    with gate.visitor() as somebody:
        somebody.get("/hub/enrol")
        for more in ({}, {"username": "alice"}):
            answer = somebody.post(path, {**fields, **more})
            assert answer.status_code == 403
    assert "Invalid unicode" not in gate.log
    assert "nis-7" not in gate.log


def test_rule_12_a_password_in_the_name_field_is_not_logged(gate):
    refusals = gate.log.count("Failed login for ''")
    assert gate.login("Tr0ub4dor&3 staple", "000000", "x").status_code == 403
    assert gate.log.count("Failed login for ''") == refusals + 1
    assert "Tr0ub4dor" not in gate.log


def test_rule_5_a_broken_body_is_not_logged(gate):
    answer = requests.post(
        f"{gate.url}/hub/api/users/alice/tokens", data=b'{"auth": {"password": "correct-horse"', timeout=10
    )
    assert answer.status_code == 400
    assert "correct-horse" not in gate.log + answer.text


def test_a_deleted_user_has_no_device(gate):
    secret = gate.enrol("bob")
    assert gate.login("bob", code(secret)).status_code == 302
    headers = {"Authorization": f"token {gate.service_token}"}
    assert requests.delete(f"{gate.url}/hub/api/users/bob", headers=headers, timeout=10).status_code == 204
    assert gate.store.devices("bob") == []
    assert gate.login("bob", code(secret, 1)).status_code == 403


# ---- enrolment


def start_enrolment(somebody, username, password, token, **more):
    somebody.get("/hub/enrol")
    return somebody.post("/hub/enrol", {"username": username, "password": password, "token": token, **more})


def new_token(gate, username):
    token = re.search(r"^ {4}(\S+)$", carme_user(gate, "user", "enrol-token", username), re.MULTILINE)[1]
    gate.issued.append(token)
    return token


def test_rule_6_the_way_from_a_token_to_a_login(gate):
    gate.store.reset("erin")
    token = new_token(gate, "erin")
    with gate.visitor() as erin:
        shown = start_enrolment(erin, "erin", PASSWORDS["erin"], token, secret="A" * 32)
        assert shown.status_code == 200
        assert shown.headers["Cache-Control"] == "no-store"
        assert "<svg" in shown.text
        secret = form_secret(gate, shown.text)
        assert secret != "A" * 32
        assert len(base64.b32decode(secret)) == 20
        ticket = form_field(shown.text, "ticket")
        assert gate.login("erin", code(secret)).status_code == 403  # not yet
        wrong = erin.post("/hub/enrol/confirm", {"ticket": ticket, "otp": "12345"})
        assert wrong.status_code == 403
        assert "That code does not fit" in wrong.text
        assert secret not in wrong.text.replace(" ", "")
        assert "<svg" not in wrong.text
        used = code(secret)
        confirm = {"ticket": ticket, "otp": used, "secret": "A" * 32}
        done = erin.post("/hub/enrol/confirm", confirm, allow_redirects=False)
        assert done.status_code == 200
        assert "Your recovery codes" in done.text
        assert 'href="/hub/login?enrolled=1"' in done.text
        assert "After setting up a device" in erin.get("/hub/login?enrolled=1").text
    assert gate.login("erin", used).status_code == 403  # the confirming code is used up
    assert gate.login("erin", code(secret, 1)).status_code == 302
    assert "erin" in carme_user(gate, "user", "list")
    listed = json.loads(carme_user(gate, "user", "list", "--json"))
    assert [person["username"] for person in listed].count("erin") == 1
    with gate.visitor() as again:
        assert start_enrolment(again, "erin", PASSWORDS["erin"], token).status_code == 403


def form_secret(gate, page):
    secret = re.search(r'id="secret_text"[^>]*>([A-Z2-7 ]+)<', page)[1].replace(" ", "")
    gate.issued.append(secret)
    return secret


def test_rule_6_a_stolen_password_enrols_nothing(gate):
    with gate.visitor() as thief:
        for token in ("", "x", new_token(gate, "erin")[:-1], new_token(gate, "alice")):
            answer = start_enrolment(thief, "erin", PASSWORDS["erin"], token)
            assert answer.status_code == 403
            assert "<svg" not in answer.text


def test_rule_6_a_stolen_token_enrols_nothing(gate):
    token = new_token(gate, "erin")
    with gate.visitor() as thief:
        for password in ("", "wrong", PASSWORDS["alice"]):
            assert start_enrolment(thief, "erin", password, token).status_code == 403
        assert start_enrolment(thief, "alice", PASSWORDS["alice"], token).status_code == 403
        assert start_enrolment(thief, "erin", PASSWORDS["erin"], token).status_code == 200


def test_a_new_device_takes_the_place_of_the_old_one_when_confirmed(gate):
    old = gate.enrol("erin")
    with gate.visitor() as erin:
        shown = start_enrolment(erin, "erin", PASSWORDS["erin"], new_token(gate, "erin"))
        secret, ticket = form_secret(gate, shown.text), form_field(shown.text, "ticket")
        assert gate.login("erin", code(old)).status_code == 302  # still
        erin.post("/hub/enrol/confirm", {"ticket": ticket, "otp": code(secret)}, allow_redirects=False)
    assert gate.login("erin", code(old, 1)).status_code == 403
    assert gate.login("erin", code(secret, 1)).status_code == 302


def test_rule_10_a_new_device_ends_what_the_old_one_opened(gate):
    old = gate.enrol("erin")
    with gate.visitor() as before, gate.visitor() as erin:
        assert before.login("erin", PASSWORDS["erin"], code(old)).status_code == 302
        token = {"Authorization": f"token {gate.token('erin', code(old, 1)).json()['token']}"}
        me = f"{gate.url}/hub/api/user"
        assert before.is_in
        assert requests.get(me, headers=token, timeout=10).status_code == 200
        page = start_enrolment(erin, "erin", PASSWORDS["erin"], new_token(gate, "erin")).text
        secret, ticket = form_secret(gate, page), form_field(page, "ticket")
        assert before.is_in  # nothing has changed yet
        done = erin.post("/hub/enrol/confirm", {"ticket": ticket, "otp": code(secret)})
        assert done.status_code == 200
        assert not before.is_in
        assert requests.get(me, headers=token, timeout=10).status_code == 403
    assert gate.login("erin", code(secret, 1)).status_code == 302


@pytest.mark.parametrize("setting", [{"blocked_users": {"erin"}}, {"allowed_groups": {"researchers"}}])
def test_who_may_not_come_in_enrols_nothing(tmp_path, directory, setting):
    with hub(tmp_path / "hub", gate_config(directory, **setting)) as strict, strict.visitor() as somebody:
        refused = start_enrolment(somebody, "erin", PASSWORDS["erin"], new_token(strict, "erin"))
        assert refused.status_code == 403
        assert "<svg" not in refused.text
        shown = start_enrolment(somebody, "alice", PASSWORDS["alice"], new_token(strict, "alice"))
        assert shown.status_code == 200
        assert "lookup_dn_search_user is not set" in strict.log


def test_rule_6_the_secret_is_not_shown_again_while_it_is_pending(gate):
    token = new_token(gate, "erin")
    with gate.visitor() as erin:
        first = form_secret(gate, start_enrolment(erin, "erin", PASSWORDS["erin"], token).text)
        assert first not in erin.get("/hub/enrol").text.replace(" ", "")
        sent_back = erin.get("/hub/enrol/confirm", allow_redirects=False)
        assert (sent_back.status_code, sent_back.headers["Location"]) == (302, "/hub/enrol")
        second = form_secret(gate, start_enrolment(erin, "erin", PASSWORDS["erin"], token).text)
    assert first != second


def test_rule_8_confirming_by_guessing_ends(gate):
    with gate.visitor() as erin:
        page = start_enrolment(erin, "erin", PASSWORDS["erin"], new_token(gate, "erin")).text
        secret, ticket = form_secret(gate, page), form_field(page, "ticket")
        for _ in range(10):
            assert erin.post("/hub/enrol/confirm", {"ticket": ticket, "otp": "abcdef"}).status_code == 403
        late = erin.post("/hub/enrol/confirm", {"ticket": ticket, "otp": code(secret)}, allow_redirects=False)
        assert late.status_code == 403
        assert "This enrolment is over" in late.text


def test_rule_13_enrolment_changes_nothing_without_xsrf_or_by_get(gate):
    before = gate.enrol("erin")
    token = new_token(gate, "erin")
    fields = {"username": "erin", "password": PASSWORDS["erin"], "token": token}
    with gate.visitor() as erin:
        forged = erin.post("/hub/enrol", {**fields, "_xsrf": ""})
        assert forged.status_code == 403
        assert "Open the page again" in forged.text
        assert "<svg" not in erin.get("/hub/enrol", params=fields).text
        page = start_enrolment(erin, "erin", PASSWORDS["erin"], token).text
        secret, ticket = form_secret(gate, page), form_field(page, "ticket")
        confirm = {"ticket": ticket, "otp": code(secret)}
        assert erin.post("/hub/enrol/confirm", {**confirm, "_xsrf": ""}).status_code == 403
        erin.get("/hub/enrol/confirm", params=confirm)
    assert [device.secret for device in gate.store.totp_devices("erin")] == [before]


@pytest.mark.parametrize("path", ["/hub/enrol", "/hub/enrol/confirm"])
def test_strange_fields_are_no_500(gate, path):
    fields = {
        "username": "a" * 100_000,
        "password": "\x01",
        "token": "é" * 1000,
        "ticket": "x" * 1000,
        "otp": "é",
    }
    with gate.visitor() as somebody:
        for sent in (fields, {}, {**fields, "username": "erin", "token": "x", "ticket": "x"}):
            somebody.get("/hub/enrol")
            assert somebody.post(path, sent).status_code == 403


def test_reset_on_the_command_line_ends_a_device(gate):
    secret = gate.enrol("erin")
    assert "has no device any more" in carme_user(gate, "user", "reset", "ERIN")
    assert gate.login("erin", code(secret)).status_code == 403


# ---- a directory that is silent


def test_rule_3_a_silent_directory_stops_nobody_else_and_says_so(tmp_path, directory):
    with silent_server() as port:
        config = gate_config(directory, port, receive_timeout=2, directory_deadline=2.5)
        with hub(tmp_path / "hub", config) as silent, ThreadPoolExecutor(8) as threads:
            secret = silent.enrol("alice")
            forms = [threads.submit(silent.login, "alice", code(secret)) for _ in range(6)]
            api = threads.submit(silent.token, "alice", code(secret))
            slowest = 0.0
            until = time.monotonic() + 30
            while not all(form.done() for form in forms) and time.monotonic() < until:
                slowest = max(slowest, silent.health())
                time.sleep(0.05)
            answers = [form.result(30) for form in forms]
            assert slowest < 1
            assert {answer.status_code for answer in answers} == {503}
            assert all("the user directory does not answer" in answer.text for answer in answers)
            assert api.result(30).status_code == 503
            assert "the user directory does not answer" in api.result().json()["message"]
            with silent.visitor() as erin:
                answer = start_enrolment(erin, "alice", PASSWORDS["alice"], new_token(silent, "alice"))
            assert answer.status_code == 503
            assert "the user directory does not answer" in answer.text
            assert "Traceback" not in silent.log


def test_a_dripping_directory_does_not_keep_the_hub_from_stopping(tmp_path, directory):
    with dripping_server() as (port, _):
        config = gate_config(directory, port, directory_deadline=60)
        with hub(tmp_path / "hub", config) as dripping, ThreadPoolExecutor(4) as threads:
            for name in ("alice", "bob", "carol", "dora"):
                threads.submit(dripping.token, name, "000000")
            wait_for(lambda: dripping.process.poll() is None and connected(port) >= 4, "four logins")
            dripping.process.terminate()
            assert dripping.process.wait(12) == 0


def connected(port):
    """Count the connections to a port on this machine."""
    with open("/proc/net/tcp") as table:  # noqa: PTH123
        rows = [line.split() for line in table]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


# ---- last, because it reads what all others left behind


def test_rule_5_no_secret_is_in_the_log_or_in_the_database(gate):
    # What the tests themselves put into an address stands in the access log.
    log = "\n".join(line for line in gate.log.splitlines() if "?username=" not in line)
    files = b"".join(path.read_bytes() for path in gate.folder.glob("*.sqlite*"))
    assert len(gate.issued) > 20
    for secret in [*gate.issued, *PASSWORDS.values()]:
        assert secret not in log
        assert secret.encode() not in files
    assert " 500 " not in log
    assert "Traceback" not in log
