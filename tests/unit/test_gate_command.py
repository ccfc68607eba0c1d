"""`carme user`, which works without a hub: on a real database."""

import argparse
import io
import json
import os
import pwd
import re
import stat
import time
from datetime import datetime

import pytest
from traitlets.config import Config

from carme_hub.authenticator import throttle, user_command
from carme_hub.authenticator.attempts import password_key
from carme_hub.authenticator.audit import Event
from carme_hub.authenticator.people import printable
from carme_hub.authenticator.secretbox import SecretBox, new_key_file
from carme_hub.authenticator.store import Store

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.delenv("SUDO_USER", raising=False)
    new_key_file(tmp_path / "key")
    config = Config()
    config.JupyterHub.base_url = "/cluster/"
    config.CarmeAuthenticator.database_url = f"sqlite:///{tmp_path}/carme.sqlite"
    config.CarmeAuthenticator.secret_key_file = str(tmp_path / "key")
    config.CarmeAuthenticator.audit_file = str(tmp_path / "audit.jsonl")
    return config


@pytest.fixture
def store(config):
    opened = Store(
        config.CarmeAuthenticator.database_url, SecretBox.load(config.CarmeAuthenticator.secret_key_file)
    )
    yield opened
    opened.close()


@pytest.fixture
def carme(config, capsys):
    """Run a command; returns exit code, standard output and standard error."""

    def run(*words):
        parser = argparse.ArgumentParser()
        user_command.register(parser.add_subparsers(required=True))
        result = user_command.run(parser.parse_args(["user", *words]), config)
        out, err = capsys.readouterr()
        return result, out, err

    return run


@pytest.fixture
def carme_json(carme):
    def run(*words):
        result, out, err = carme(*words, "--json")
        assert (result, err) == (0, "")
        return json.loads(out)

    return run


class Terminal(io.StringIO):
    def isatty(self):
        return True


def fail_codes(store, username, times):
    for _ in range(times):
        store.attempts.fail(throttle.CODE, username)


def me():
    return f"command:{pwd.getpwuid(os.getuid()).pw_name}"


# ---- list and show


def test_an_empty_list_says_what_to_do(carme, carme_json):
    assert "Nobody has a device yet" in carme("list")[1]
    assert carme_json("list") == []


def test_the_list_says_how_it_stands_with_everybody(carme, carme_json, store):
    for name in ("alice", "bob", "carol"):
        store.add_totp(name, SECRET)
    store.new_recovery_codes("alice")
    fail_codes(store, "bob", throttle.CODE.most)
    fail_codes(store, "carol", throttle.CODE.free + 1)
    store.enrolments.new_token("dora", 1)
    listed = {one["username"]: one for one in carme_json("list")}
    assert {name: one["state"] for name, one in listed.items()} == {
        "alice": ["ready"],
        "bob": ["locked"],
        "carol": ["waiting"],
        "dora": ["enrolment open", "no device"],
    }
    assert listed["alice"]["recovery_codes_left"] == 10
    assert listed["bob"]["wrong_codes_in_a_row"] == throttle.CODE.most
    assert datetime.fromisoformat(listed["carol"]["wait_until"]).timestamp() > time.time()
    result, out, _ = carme("list")
    assert result == 0
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert rows["NAME"].split() == ["NAME", "DEVICES", "CODES", "LEFT", "STATE"]
    assert rows["alice"].split() == ["alice", "1", "10", "ready"]
    assert "locked" in rows["bob"]
    assert re.search(r"enrolment open until \d{4}-\d\d-\d\d \d\d:\d\d, no device", rows["dora"])
    assert SECRET not in out + json.dumps(listed)


def test_all_about_one_person(carme, carme_json, store):
    store.add_totp("alice", SECRET, "Phone")
    for outcome, reason in (("refused", "code"), ("success", "")):
        store.audit.write(Event("login", outcome, reason, account="alice", address="192.0.2.7"))
    store.audit.write(Event("unlock", account="alice", actor="carol"))
    shown = carme_json("show", "ALICE")
    assert [device["name"] for device in shown["devices"]] == ["Phone"]
    assert [(one["event"], one["outcome"]) for one in shown["last_logins"]] == [("login", "success")]
    result, out, _ = carme("show", "alice")
    assert result == 0
    assert "Phone (totp), since " in out
    assert re.search(r"login +success +192\.0\.2\.7", out)
    assert "refused" not in out  # that is what `audit` is for
    assert SECRET not in out + json.dumps(shown)


def test_nobody_is_shown_as_somebody(carme):
    for words in (["show", "nobody"], ["reset", "nobody"]):
        assert carme(*words) == (
            1,
            "",
            "carme: nobody never had a device or a token here. 'carme user list' shows who did.\n",
        )


def test_what_somebody_typed_is_no_order_to_the_terminal(carme, carme_json, store):
    nasty = "Phone\x1b]0;owned\x07\r\n\u202eevil\x9b2J"
    store.add_totp("alice", SECRET, nasty)
    store.audit.write(Event("device-added", account="alice", detail=nasty))
    for words in (["show", "alice"], ["audit", "alice"]):
        out = carme(*words)[1]
        assert "owned" in out
        assert all(letter.isprintable() for line in out.split("\n") for letter in line)
    assert carme_json("show", "alice")["devices"][0]["name"] == nasty
    assert printable("Müller's phone") == "Müller's phone"


# ---- enrol-token


def test_rule_6_a_token_comes_with_the_page_to_take_it_to(carme, store):
    result, out, _ = carme("enrol-token", "Alice", "--hours", "2")
    assert result == 0
    assert "/cluster/hub/enrol" in out
    assert "valid for 2 hours" in out
    assert store.enrolments.token_is_valid("alice", out.split("\n\n")[1].strip())


def test_rule_6_a_token_for_programs(carme_json, store):
    made = carme_json("enrol-token", "alice", "--hours", "1.5")
    assert (made["username"], made["path"]) == ("alice", "/cluster/hub/enrol")
    assert store.enrolments.token_is_valid("alice", made["token"])
    left = datetime.fromisoformat(made["expires"]).timestamp() - time.time()
    assert 1.4 * 3600 < left <= 1.5 * 3600


# ---- reset and unlock


def test_rule_10_a_reset_leaves_nothing_that_opens(carme, carme_json, store):
    store.add_totp("alice", SECRET)
    store.new_recovery_codes("alice")
    token = store.enrolments.new_token("alice", 1)
    result, out, _ = carme("reset", "Alice")
    assert result == 0
    assert "alice has no device any more (1 device removed)" in out
    assert "300 s from now at the latest" in out
    account = store.account("alice")
    assert (account.devices, account.recovery_left, account.open_enrolment) == ([], 0, 0)
    assert not store.enrolments.token_is_valid("alice", token)
    assert store.generations("alice") == (1, 0)
    assert carme_json("reset", "alice") == {
        "username": "alice",
        "devices_removed": 0,
        "logins_end_within_seconds": 300,
    }


@pytest.mark.parametrize("typed", ["bob\n", "", "\n", "alice bob\n"])
def test_rule_10_a_reset_asks_on_a_terminal(carme, store, monkeypatch, typed):
    store.add_totp("alice", SECRET)
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    result, out, err = carme("reset", "alice")
    assert (result, out) == (1, "")
    assert "This removes 1 device" in err
    assert err.endswith("carme: That is not the name; nothing was changed.\n")
    assert len(store.devices("alice")) == 1
    assert store.audit.entries("alice") == []


@pytest.mark.parametrize(("typed", "words"), [("alice\n", []), ("", ["--yes"])])
def test_rule_10_a_reset_that_is_confirmed(carme, store, monkeypatch, typed, words):
    store.add_totp("alice", SECRET)
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    assert carme("reset", "alice", *words)[0] == 0
    assert store.devices("alice") == []


def test_rule_8_unlocking_forgets_the_failures(carme, carme_json, store):
    store.add_totp("alice", SECRET)
    fail_codes(store, "alice", throttle.CODE.most)
    store.attempts.fail(throttle.PASSWORD, password_key("alice", "address:192.0.2.7"))
    fail_codes(store, "alice2", 5)
    result, out, _ = carme("unlock", "ALICE")
    assert (result, out) == (0, "alice can log in again without waiting.\n")
    assert not store.account("alice").locked
    assert len(store.devices("alice")) == 1
    assert store.attempts.count(throttle.PASSWORD, password_key("alice", "address:192.0.2.7")).failures == 0
    assert store.attempts.count(throttle.CODE, "alice2").failures == 5
    assert "nothing was changed" in carme("unlock", "alice")[1]
    assert carme_json("unlock", "alice") == {"username": "alice", "unlocked": False}
    assert [entry.event for entry in store.audit.entries("alice")] == ["unlock"]


# ---- audit


def test_rule_12_every_change_is_in_the_audit_log_with_who_did_it(carme, store, monkeypatch, tmp_path):
    carme("enrol-token", "alice", "--hours", "3")
    fail_codes(store, "alice", 1)
    carme("unlock", "alice")
    monkeypatch.setenv("SUDO_USER", "op\x1berator" + "r" * 100)
    carme("reset", "alice", "--yes")
    entries = store.audit.entries("alice")
    assert [(entry.event, entry.outcome, entry.detail) for entry in reversed(entries)] == [
        ("enrol-token", "success", "valid for 3 hours"),
        ("unlock", "success", ""),
        ("reset", "success", "0 devices"),
    ]
    assert [entry.actor for entry in reversed(entries)][:2] == [me(), me()]
    assert entries[0].actor.startswith("command:op\\x1berator")
    lines = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["enrol-token", "unlock", "reset"]
    assert stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode) == 0o600


def test_rule_12_looking_changes_nothing(carme, store):
    store.add_totp("alice", SECRET)
    for words in (["list"], ["show", "alice"], ["audit"], ["audit", "alice", "--json"], ["unlock", "bob"]):
        assert carme(*words)[0] == 0
    assert store.audit.entries() == []


def test_rule_12_a_token_is_printed_once_and_written_down_nowhere(carme, carme_json, tmp_path):
    token = carme_json("enrol-token", "alice")["token"]
    for words in (["list"], ["show", "alice"], ["audit"]):
        assert token not in carme(*words)[1] + carme(*words, "--json")[1]
    assert all(token.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_rule_12_the_log_by_account_by_time_and_by_number(carme, store, monkeypatch):
    now = time.time()
    for hours, account in ((50, "alice"), (5, "bob"), (1, "alice")):
        monkeypatch.setattr("time.time", lambda then=now - hours * 3600: then)
        store.audit.write(Event("login", account=account, detail=f"{hours} hours ago"))
    monkeypatch.undo()

    def details(*words):
        return [json.loads(line)["detail"] for line in carme("audit", *words, "--json")[1].splitlines()]

    assert details() == ["50 hours ago", "5 hours ago", "1 hours ago"]  # newest last, as in the file
    assert details("Alice") == ["50 hours ago", "1 hours ago"]
    assert details("--since", "2d") == ["5 hours ago", "1 hours ago"]
    assert details("--since", "90m", "--limit", "1") == ["1 hours ago"]
    assert details("--limit", "2") == ["5 hours ago", "1 hours ago"]
    date = datetime.fromtimestamp(now - 6 * 3600).isoformat()  # noqa: DTZ006 - as an admin types it
    assert details("--since", date) == ["5 hours ago", "1 hours ago"]
    assert details("--since", "2999-01-01") == []
    assert "Nothing is in the audit log" in carme("audit", "carol")[1]
    out = carme("audit")[1].splitlines()
    assert out[0].split() == ["TIME", "ACCOUNT", "EVENT", "OUTCOME", "ADDRESS", "DETAIL"]
    assert [line.split()[2] for line in out[1:]] == ["alice", "bob", "alice"]


# ---- what makes no sense


@pytest.mark.parametrize("name", ["../alice", "alice\n", "alice\x1b[2J", "*", "", "a" * 100_000, "álice"])
@pytest.mark.parametrize("action", ["show", "enrol-token", "reset", "unlock", "audit"])
def test_rule_2_what_is_no_name_is_a_sentence(carme, store, action, name):
    result, out, err = carme(action, name)
    assert (result, out) == (1, "")
    assert err.startswith("carme: ")
    assert err.endswith("cannot be a login name here (valid_username_regex).\n")
    assert err.rstrip("\n").isprintable()
    assert store.accounts() == []


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["enrol-token"],
        ["reset"],
        ["enrol-token", "alice", "--hours", "0"],
        ["enrol-token", "alice", "--hours", "-1"],
        ["enrol-token", "alice", "--hours", "nan"],
        ["enrol-token", "alice", "--hours", "1e9"],
        ["enrol-token", "alice", "--hours", "soon"],
        ["audit", "--limit", "0"],
        ["audit", "--limit", "²"],
        ["audit", "--limit", "999999999"],
        ["audit", "--since", "yesterday"],
        ["audit", "--since", "9999999d"],
        ["audit", "--since", "2026-13-01"],
    ],
)
def test_a_wrong_command_line_is_2(carme, capsys, store, words):
    with pytest.raises(SystemExit) as ended:
        carme(*words)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err
    assert store.accounts() == []


def test_a_missing_key_is_a_sentence(carme, tmp_path):
    (tmp_path / "key").unlink()
    result, _, err = carme("list")
    assert result == 1
    assert "carme new-key" in err


def test_a_wrong_setting_is_a_sentence(carme, config):
    config.CarmeAuthenticator.admin_groups = {"cn=admins,dc=example"}
    result, _, err = carme("list")
    assert result == 1
    assert err.startswith("carme: CarmeAuthenticator.admin_groups takes names")


def test_a_database_that_fails_is_a_sentence_without_values(carme, store):
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE carme_enrolment")
    result, out, err = carme("enrol-token", "alice")
    assert (result, out) == (1, "")
    assert err == "carme: The database of devices failed (OperationalError).\n"
