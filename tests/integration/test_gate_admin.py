"""Admins look after people's devices: pages and command on a running hub, and attacks on both."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import ExitStack

import pyotp
import pytest
import requests

from carme_hub.authenticator import throttle
from carme_hub.authenticator.audit import Event
from carme_hub.authenticator.secretbox import KEY_VARIABLE
from tests.integration.gate_world import PASSWORDS, code, free_port, gate_config, hub, wait_for

PEOPLE, AUDIT = "/hub/admin/people", "/hub/admin/audit"
PAGES = [PEOPLE, f"{PEOPLE}/erin", AUDIT]
ROLES = """
c.JupyterHub.load_roles += [
    {"name": "helpdesk", "users": ["bob"], "scopes": ["admin:users!group=ml101"]},
    {"name": "deputy", "users": ["dora"], "scopes": ["admin:users"]},
]
"""


@pytest.fixture(scope="module")
def gate(tmp_path_factory, directory):
    with hub(tmp_path_factory.mktemp("admin") / "hub", gate_config(directory) + ROLES) as running:
        yield running


@pytest.fixture(scope="module")
def people(gate):
    """Everybody with a browser that is logged in, by name."""
    with ExitStack() as stack:
        found = {}
        for username in PASSWORDS:
            found[username] = stack.enter_context(gate.visitor())
            secret = gate.enrol(username)
            assert found[username].login(username, PASSWORDS[username], code(secret)).status_code == 302
        yield found


@pytest.fixture(autouse=True)
def nobody_waits(gate):
    """What one test gets wrong makes no other one wait."""
    yield
    for username in PASSWORDS:
        gate.store.unlock(username)


def own_code(gate, username="carol"):
    """A code that was not used, of one more device: the other tests may have used those of this minute."""
    for old in gate.store.devices(username)[:-1]:
        gate.store.remove_device(username, old.id)
    secret = pyotp.random_base32()
    gate.store.add_totp(username, secret, "One more")
    gate.issued.append(secret)
    return code(secret)


def act(gate, somebody, target, action, otp=None, **fields):
    """Fill in the form on a person's page and send it, as carol unless the code is given."""
    somebody.get(PEOPLE)
    otp = own_code(gate) if otp is None else otp
    return somebody.post(
        f"{PEOPLE}/{target}",
        {"action": action, "password": somebody.password, "otp": otp, **fields},
        allow_redirects=False,
    )


def carme(gate, *words):
    """Run the command as an admin does: in a process of its own, while the hub runs."""
    done = subprocess.run(
        [sys.executable, "-m", "carme_hub", "--config", gate.folder / "jupyterhub_config.py", "user", *words],
        cwd=gate.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def shown_token(page):
    return re.search(r'id="new_token".*?value="([^"]+)"', page, re.DOTALL)[1]


def everything(gate, username):
    """All that an admin's action may change about somebody."""
    return gate.store.account(username), gate.user(username), gate.store.totp_devices(username)


class Belongings:
    """What somebody has who works here: a browser, an API token, a device, recovery codes."""

    def __init__(self, gate, stack, username):
        self.gate, self.username = gate, username
        self.browser = stack.enter_context(gate.visitor())
        self.secret = gate.enrol(username)
        assert self.browser.login(username, PASSWORDS[username], code(self.secret)).status_code == 302
        made = gate.token(username, code(self.secret, 1))
        self.token = made.json()["token"]
        self.recovery = gate.store.new_recovery_codes(username)
        gate.issued += [self.token, *self.recovery]
        self.enrolment = gate.store.enrolments.new_token(username, 1)

    @property
    def token_opens(self):
        headers = {"Authorization": f"token {self.token}"}
        return requests.get(f"{self.gate.url}/hub/api/user", headers=headers, timeout=10).status_code == 200

    def assert_over(self):
        """Nothing of it opens anything any more."""
        assert not self.browser.is_in
        assert not self.token_opens
        assert self.gate.login(self.username, code(self.secret, -1)).status_code == 403
        assert self.gate.login(self.username, self.recovery[0]).status_code == 403
        assert not self.gate.store.enrolments.token_is_valid(self.username, self.enrolment)
        account = self.gate.store.account(self.username)
        assert (account.devices, account.recovery_left, account.open_enrolment) == ([], 0, 0)


# ---- reset


def test_rule_10_a_reset_by_an_admin_ends_everything_at_once(gate, people):
    with ExitStack() as stack:
        erin = Belongings(gate, stack, "erin")
        assert erin.browser.is_in
        assert erin.token_opens
        done = act(gate, people["carol"], "erin", "reset")
        assert done.status_code == 200
        assert "erin has no device any more (1 device removed)" in done.text
        erin.assert_over()
    entry = next(one for one in gate.store.audit.entries("erin") if one.event == "reset")
    assert (entry.actor, entry.address, entry.detail) == ("carol", "127.0.0.1", "1 device")
    assert people["carol"].is_in  # nobody else was meant
    generation, ended = gate.store.generations("erin")
    assert generation == ended > 0
    # And a new device opens again, with a login that lasts.
    with gate.visitor() as erin_again:
        assert erin_again.login("erin", PASSWORDS["erin"], code(gate.enrol("erin"))).status_code == 302
        assert erin_again.is_in


def test_rule_10_a_reset_on_the_command_line_ends_everything_at_the_next_refresh(tmp_path, directory):
    config = gate_config(directory, auth_refresh_age=1)
    with hub(tmp_path / "hub", config) as running, ExitStack() as stack:
        erin, alice = (Belongings(running, stack, name) for name in ("erin", "alice"))
        assert erin.browser.is_in
        assert erin.token_opens
        assert "1 s from now at the latest" in carme(running, "reset", "ERIN")
        wait_for(lambda: not erin.browser.is_in, "the end of erin's login")
        wait_for(lambda: not erin.token_opens, "the end of erin's token")
        erin.assert_over()
        assert alice.browser.is_in
        assert alice.token_opens
        entry = next(one for one in running.store.audit.entries("erin") if one.event == "reset")
        assert entry.actor.startswith("command:")
        assert "Traceback" not in running.log


@pytest.mark.parametrize("action", ["token", "unlock", "reset"])
@pytest.mark.parametrize("kind", ["wrong", "used", "none", "empty", "of the other", "too long", "fullwidth"])
def test_rule_10_without_a_fresh_code_of_the_admin_nothing_changes(gate, people, action, kind):
    secret = gate.enrol("erin")
    gate.store.attempts.fail(throttle.CODE, "erin")
    carol = people["carol"]
    fresh = own_code(gate)
    if kind == "used":
        assert act(gate, carol, "bob", "unlock", fresh).status_code == 200
    codes = {
        "wrong": f"{(int(fresh) + 1) % 10**6:06}",
        "used": fresh,
        "empty": "",
        "of the other": code(secret),
        "too long": fresh * 100,
        "fullwidth": "".join(chr(ord(digit) + 0xFEE0) for digit in fresh),
    }
    fields = {"action": action, "hours": "72", "password": PASSWORDS["carol"]} | (
        {"otp": codes[kind]} if kind in codes else {}
    )
    before = everything(gate, "erin")
    carol.get(PEOPLE)
    refused = carol.post(f"{PEOPLE}/erin", fields)
    assert refused.status_code == 403
    assert "Your own password or code was not right, so nothing was changed" in refused.text
    assert 'id="new_token"' not in refused.text
    assert everything(gate, "erin") == before
    newest = gate.store.audit.entries("carol", limit=1)[0]
    assert (newest.event, newest.outcome) == ("prove", "refused")


def test_rule_8_guessing_at_an_admins_code_has_to_wait(gate, people):
    gate.enrol("erin")
    for _ in range(throttle.CODE.free + 1):
        assert act(gate, people["carol"], "erin", "reset", "abcdef").status_code == 403
    assert act(gate, people["carol"], "erin", "reset").status_code == 403  # a right one, too early
    assert len(gate.store.devices("erin")) == 1
    gate.store.unlock("carol")
    assert act(gate, people["carol"], "erin", "reset").status_code == 200


def test_rule_10_one_code_is_good_for_one_action(gate, people):
    gate.enrol("erin")
    fresh = own_code(gate)
    assert act(gate, people["carol"], "erin", "unlock", fresh).status_code == 200
    assert act(gate, people["carol"], "erin", "reset", fresh).status_code == 403
    assert len(gate.store.devices("erin")) == 1


# ---- unlock


def test_rule_8_an_admin_unlocks(gate, people):
    secret = gate.enrol("erin")
    for _ in range(throttle.CODE.most):
        gate.store.attempts.fail(throttle.CODE, "erin")
    assert gate.login("erin", code(secret)).status_code == 403
    assert ">locked<" in people["carol"].get(f"{PEOPLE}/erin").text
    done = act(gate, people["carol"], "erin", "unlock")
    assert done.status_code == 200
    assert "erin can sign in again without waiting" in done.text
    assert gate.login("erin", code(secret, 1)).status_code == 302
    assert "nothing was changed" in act(gate, people["carol"], "erin", "unlock").text
    unlocks = [entry.actor for entry in gate.store.audit.entries("erin") if entry.event == "unlock"]
    assert unlocks[0] == "carol"


def test_rule_8_the_command_unlocks(gate):
    secret = gate.enrol("erin")
    for _ in range(throttle.CODE.most):
        gate.store.attempts.fail(throttle.CODE, "erin")
    assert gate.login("erin", code(secret)).status_code == 403
    assert json.loads(carme(gate, "unlock", "Erin", "--json")) == {"username": "erin", "unlocked": True}
    assert gate.login("erin", code(secret)).status_code == 302


# ---- enrolment token


def test_rule_6_a_token_is_shown_once(gate, people):
    gate.enrol("erin")
    carol = people["carol"]
    made = act(gate, carol, "erin", "token", hours="2")
    assert made.status_code == 200
    assert made.headers["Cache-Control"] == "no-store"
    assert made.headers["Referrer-Policy"] == "no-referrer"
    token = shown_token(made.text)
    assert gate.store.enrolments.token_is_valid("erin", token)
    assert "Valid for 2 hours" in made.text
    pages = [carol.get(page).text for page in (*PAGES, f"{AUDIT}?account=erin")]
    assert all(token not in page for page in pages)
    assert "valid for 2 hours" in pages[-1]
    assert all(token.encode() not in path.read_bytes() for path in gate.folder.iterdir() if path.is_file())
    gate.issued.append(token)


def test_rule_6_somebody_new_gets_a_token(gate, people):
    carol = people["carol"]
    assert f'href="{PEOPLE}/zoe"' in carol.get(f"{PEOPLE}?name=ZOE").text
    assert "Check the spelling" in carol.get(f"{PEOPLE}/zoe").text
    token = shown_token(act(gate, carol, "zoe", "token", hours="72").text)
    assert gate.store.enrolments.token_is_valid("zoe", token)
    gate.never_seen("zoe")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"action": ""},
        {"action": "delete"},
        {"action": "reset" * 100},
        {"action": "token"},
        {"action": "token", "hours": "0"},
        {"action": "token", "hours": "-1"},
        {"action": "token", "hours": "1e3"},
        {"action": "token", "hours": "²"},
        {"action": "token", "hours": "745"},
        {"action": "token", "hours": "9" * 5000},
        {"action": b"\xff\xfe", "hours": b"\x00"},
    ],
)
def test_strange_forms_are_400_and_cost_no_code(gate, people, fields):
    gate.enrol("erin")
    before = everything(gate, "erin")
    fresh = own_code(gate)
    people["carol"].get(PEOPLE)
    answer = people["carol"].post(f"{PEOPLE}/erin", {"password": PASSWORDS["carol"], "otp": fresh, **fields})
    assert answer.status_code == 400
    assert "Choose what to do" in answer.text
    assert everything(gate, "erin") == before
    assert act(gate, people["carol"], "erin", "unlock", fresh).status_code == 200


# ---- who may what


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("action", ["token", "unlock", "reset"])
def test_rule_10_who_is_no_admin_is_refused_everywhere(gate, people, page, action):
    gate.enrol("erin")
    before = everything(gate, "erin")
    alice = people["alice"]
    assert alice.get(page).status_code == 403
    posted = act(gate, alice, page.removeprefix(PEOPLE).strip("/") or "erin", action, own_code(gate, "alice"))
    assert posted.status_code in {403, 404, 405}
    assert everything(gate, "erin") == before


@pytest.mark.parametrize("page", PAGES)
def test_rule_10_who_is_not_logged_in_is_sent_to_the_login(gate, page):
    with gate.visitor() as somebody:
        sent = somebody.get(page, allow_redirects=False)
        assert (sent.status_code, sent.headers["Location"].partition("?")[0]) == (302, "/hub/login")
        somebody.get("/hub/login")
        posted = somebody.post(page, {"action": "reset", "otp": "000000"})
        assert posted.status_code in {403, 405}


def test_rule_10_an_api_token_opens_no_page(gate, people):
    gate.enrol("erin")
    before = everything(gate, "erin")
    token = gate.token("carol", own_code(gate)).json()["token"]
    headers = {"Authorization": f"token {token}"}
    assert requests.get(f"{gate.url}/hub/api/user", headers=headers, timeout=10).json()["admin"]
    for page in PAGES:
        sent = requests.get(gate.url + page, headers=headers, timeout=10, allow_redirects=False)
        assert sent.status_code == 302
    fields = {"action": "reset", "password": PASSWORDS["carol"], "otp": own_code(gate)}
    posted = requests.post(f"{gate.url}{PEOPLE}/erin", data=fields, headers=headers, timeout=10)
    assert posted.status_code == 403
    assert everything(gate, "erin") == before
    assert people["carol"].is_in


@pytest.mark.parametrize(
    ("admin", "target", "answers"),
    [
        ("carol", "erin", (200, 200)),
        ("carol", "bob", (200, 200)),
        ("carol", "carol", (200, 403)),  # oneself
        ("bob", "erin", (200, 200)),  # in the group that bob looks after
        ("bob", "dora", (404, 404)),  # not in it
        ("bob", "carol", (404, 404)),
        ("bob", "bob", (404, 404)),
        ("bob", "nobody", (404, 404)),
        ("dora", "erin", (200, 200)),  # everybody,
        ("dora", "carol", (200, 403)),  # but no admin
        ("dora", "dora", (200, 403)),
    ],
)
def test_rule_10_who_may_see_and_do_what_to_whom(gate, people, admin, target, answers):
    seen, acted = answers
    assert people[admin].get(f"{PEOPLE}/{target}").status_code == seen
    assert act(gate, people[admin], target, "unlock", own_code(gate, admin)).status_code == acted
    if acted == 200:
        return
    for action in ("reset", "token"):
        otp = own_code(gate, admin)
        before = gate.store.account(target)
        refused = act(gate, people[admin], target, action, otp, hours="1")
        assert refused.status_code == acted
        assert 'id="new_token"' not in refused.text
        assert gate.store.account(target) == before


def test_rule_10_rights_over_some_show_some(people):
    bob = people["bob"]
    names = re.findall(rf'href="{PEOPLE}/([^"]+)"', bob.get(PEOPLE).text)
    assert names == ["alice", "erin"]
    assert "Name an account" in bob.get(AUDIT).text
    assert f'href="{PEOPLE}/erin"' in bob.get(f"{AUDIT}?account=erin").text
    for other in ("carol", "nobody", "*", "alice!user=carol", "CAROL"):
        answer = bob.get(AUDIT, params={"account": other})
        assert "There is nothing to show about" in answer.text
        assert "<tbody>" not in answer.text
    assert f'href="{PEOPLE}/zoe"' not in bob.get(f"{PEOPLE}?name=zoe").text


# ---- forms and addresses


def test_rule_13_without_xsrf_nothing_changes(gate, people):
    gate.enrol("erin")
    before = everything(gate, "erin")
    carol = people["carol"]
    with gate.visitor() as stranger:
        stranger.get("/hub/login")
        foreign = stranger.session.cookies.get("_xsrf", path="/hub/")
    for xsrf in ("", "x", foreign, people["alice"].session.cookies.get("_xsrf", path="/hub/")):
        fields = {
            "_xsrf": xsrf,
            "action": "reset",
            "password": PASSWORDS["carol"],
            "otp": own_code(gate),
        }
        carol.get(PEOPLE)
        refused = carol.post(f"{PEOPLE}/erin", fields)
        assert refused.status_code == 403
        assert "This form has expired" in refused.text
    assert everything(gate, "erin") == before


def test_rule_13_get_changes_nothing(gate, people):
    gate.enrol("erin")
    fresh = own_code(gate)
    before, log = everything(gate, "erin"), gate.store.audit.entries()
    xsrf = people["carol"].session.cookies.get("_xsrf", path="/hub/")
    for action in ("token", "unlock", "reset"):
        fields = {
            "action": action,
            "otp": fresh,
            "hours": "72",
            "_xsrf": xsrf,
            "done": action,
            "password": "x",
        }
        for page in PAGES:
            shown = people["carol"].get(page, params=fields)
            assert shown.status_code == 200
            assert 'role="status"' not in shown.text  # and a link claims nothing
    assert everything(gate, "erin") == before
    assert gate.store.audit.entries() == log
    assert act(gate, people["carol"], "erin", "unlock", fresh).status_code == 200


STRANGE = [
    "%00",
    "%0a",
    "a" * 3000,
    "ERIN",
    "%20erin",
    "erin%20",
    "%ef%bc%a5rin",
    "..%2fcarol",
    "*",
    "'",
    "<b>",
]


@pytest.mark.parametrize("name", STRANGE)
def test_rule_2_strange_names_are_404(gate, people, name):
    assert people["carol"].get(f"{PEOPLE}/{name}").status_code == 404
    assert act(gate, people["carol"], name, "reset").status_code == 404


@pytest.mark.parametrize(
    "value", [*STRANGE, "%ff%fe", "", "0", "-1", "2", "999999", "9" * 400, "1e9", "%C2%B2", "[]"]
)
def test_strange_words_in_an_address_are_a_page(people, value):
    for page in (PEOPLE, AUDIT):
        for query in (f"name={value}&account={value}", f"page={value}", f"name=a&page={value}&page=2"):
            shown = people["carol"].get(f"{page}?{query}")
            assert shown.status_code == 200
            assert "<b>" not in shown.text


def test_lists_come_in_pages(gate, people):
    carol = people["carol"]
    names = [f"student{number:03}" for number in range(120)]
    for name in names:
        gate.store.enrolments.new_token(name, 1)
    try:
        found = []
        for number in (1, 2, 3):
            page = carol.get(f"{PEOPLE}?name=stu&page={number}").text
            found += re.findall(rf'fw-semibold" href="{PEOPLE}/([^"]+)"', page)
            assert f"Page {number} of 3, 120 people" in page
        assert found == names
    finally:
        for name in names:
            gate.never_seen(name)
    for number in range(120):
        gate.store.audit.write(Event("login", account="alice", detail=f"number {number}."))
    shown = [carol.get(f"{AUDIT}?account=alice&page={number}").text for number in (1, 2, 3)]
    numbers = [int(number) for page in shown for number in re.findall(r"number (\d+)\.", page)]
    assert numbers == list(range(119, -1, -1))


def test_the_list_has_everybody_that_gate_or_hub_knows(gate, people):
    gate.never_seen("alice")
    try:
        page = people["carol"].get(PEOPLE).text
        names = re.findall(rf'href="{PEOPLE}/([^"]+)"', page)
        assert names == sorted(PASSWORDS)
        assert "no device" in page
    finally:
        gate.enrol("alice")


def test_rule_3_an_admin_sees_which_directory_server_does_not_answer(tmp_path, directory):
    down = f"127.0.0.1:{free_port()}"
    servers = [down, f"127.0.0.1:{directory.port}"]
    with (
        hub(tmp_path / "hub", gate_config(directory, server_address=servers)) as gate,
        gate.visitor() as carol,
    ):
        assert carol.login("carol", PASSWORDS["carol"], code(gate.enrol("carol"))).status_code == 302
        assert f"Directory server {down} has not answered since" in carol.get(PEOPLE).text


# ---- last, because it reads what all others left behind


def test_rule_12_the_log_shows_all_and_holds_no_secret(gate, people):
    shown = "".join(people["carol"].get(f"{AUDIT}?page={number}").text for number in range(1, 21))
    printed = carme(gate, "audit", "--limit", "10000", "--json")
    entries = [json.loads(line) for line in printed.splitlines()]
    assert {(one["event"], one["outcome"]) for one in entries} >= {
        ("login", "success"),
        ("login", "refused"),
        ("token", "success"),
        ("prove", "success"),
        ("prove", "refused"),
        ("enrol-token", "success"),
        ("reset", "success"),
        ("unlock", "success"),
    }
    file = (gate.folder / "audit.jsonl").read_text()
    assert set(file.splitlines()) <= set(printed.splitlines())
    for text in (
        "Enrolment token made",
        "Account unlocked",
        "Devices and recovery codes removed",
        "by carol",
    ):
        assert text in shown
    log = "\n".join(line for line in gate.log.splitlines() if "otp=" not in line)
    files = b"".join(path.read_bytes() for path in gate.folder.glob("*.sqlite*"))
    assert not re.search(KEY_VARIABLE, log)
    assert len(gate.issued) > 20
    for secret in [*gate.issued, *PASSWORDS.values()]:
        assert secret not in shown + printed + file + log
        assert secret.encode() not in files
    assert " 500 " not in log
    assert "Traceback" not in log
