"""Rules 12 and 7: the audit log in database and file, and what a person is told at the next login."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import REGISTRY

from carme_hub.authenticator import audit as audit_module
from carme_hub.authenticator.audit import Event
from carme_hub.authenticator.secretbox import SecretBox
from carme_hub.authenticator.store import Store

KEY = os.urandom(32)


@pytest.fixture
def store(tmp_path):
    opened = Store(f"sqlite:///{tmp_path}/carme.sqlite", SecretBox([KEY]), str(tmp_path / "audit.jsonl"))
    yield opened
    opened.close()


def lines(tmp_path):
    return [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]


def test_rule_12_time_account_address_outcome_reason(store, tmp_path):
    store.audit.write(Event("login", "refused", "code", account="alice", address="192.0.2.7"))
    (entry,) = store.audit.entries("alice")
    assert (entry.event, entry.outcome, entry.reason) == ("login", "refused", "code")
    assert entry.address == "192.0.2.7"
    (line,) = lines(tmp_path)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "event": "login",
        "outcome": "refused",
        "reason": "code",
        "account": "alice",
        "address": "192.0.2.7",
    }
    assert stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode) == 0o600


def test_the_file_may_be_moved_away_at_any_time(store, tmp_path):
    store.audit.write(Event("login"))
    (tmp_path / "audit.jsonl").rename(tmp_path / "audit.jsonl.1")
    store.audit.write(Event("token"))
    assert [line["event"] for line in lines(tmp_path)] == ["token"]


def test_a_file_that_cannot_be_written_is_reported_and_stops_nobody(tmp_path):
    said = []
    store = Store(
        f"sqlite:///{tmp_path}/carme.sqlite", SecretBox([KEY]), "/proc/none/audit", 365, said.append
    )
    store.audit.write(Event("login"))
    assert said == ["The audit log /proc/none/audit cannot be written: No such file or directory."]
    assert len(store.audit.entries()) == 1
    store.close()


def test_no_link_is_followed(store, tmp_path):
    (tmp_path / "other").write_text("")
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "other")
    store.audit.write(Event("login"))
    assert (tmp_path / "other").read_text() == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for others")
def test_what_root_makes_is_the_folders_owners(tmp_path):
    folder = tmp_path / "hub's"
    folder.mkdir()
    os.chown(folder, 4711, 4712)
    store = Store(f"sqlite:///{folder}/carme.sqlite", SecretBox([KEY]), f"{folder}/audit.jsonl")
    store.audit.write(Event("login"))
    owners = {(file.stat().st_uid, file.stat().st_gid) for file in folder.iterdir()}
    store.close()
    assert owners == {(4711, 4712)}


def test_lines_of_many_threads_do_not_mix(store, tmp_path):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: store.audit.write(Event("login", account=f"p{n}" * 9)), range(100)))
    assert len(lines(tmp_path)) == 100
    assert len(store.audit.entries(limit=200)) == 100


def test_a_strange_text_is_one_line(store, tmp_path):
    store.audit.write(Event("enrol", account="alice", detail='x\n{"event": "forged"}\u2028' + "é" * 500))
    (line,) = lines(tmp_path)
    assert len(line["detail"]) == 128
    assert line["event"] == "enrol"


def test_rule_12_outcomes_are_counted_for_prometheus(store):
    labels = {"event": "login", "outcome": "refused", "reason": "password"}
    before = REGISTRY.get_sample_value("carme_gate_events_total", labels) or 0
    store.audit.write(Event("login", "refused", "password"))
    assert REGISTRY.get_sample_value("carme_gate_events_total", labels) == before + 1


def test_the_table_is_bounded(store, monkeypatch):
    monkeypatch.setattr(audit_module, "MAX_ENTRIES", 10)
    monkeypatch.setattr(audit_module, "PRUNE_EVERY", 5)
    for _ in range(25):
        store.audit.write(Event("login"))
    assert len(store.audit.entries(limit=100)) == 10


def test_old_entries_go(store, monkeypatch):
    monkeypatch.setattr(audit_module, "PRUNE_EVERY", 1)
    store.audit.write(Event("login"))
    later = audit_module.time.time() + 366 * 86400
    monkeypatch.setattr(audit_module.time, "time", lambda: later)
    store.audit.write(Event("token"))
    assert [entry.event for entry in store.audit.entries()] == ["token"]


def test_rule_7_a_person_is_told_once_of_what_matters(store):
    store.add_totp("alice", "A" * 32)
    store.audit.write(Event("login", account="alice"))
    store.audit.write(Event("login", "refused", "code", account="alice"))
    store.audit.write(Event("recovery-used", account="alice", detail="9 left"))
    store.audit.write(Event("recovery-used", account="bob"))
    store.audit.write(Event("device-added", "refused", "code", account="alice"))
    store.audit.write(Event("reset", account="alice", actor="carol"))
    told = store.audit.notices("alice")
    assert [entry.event for entry in told] == ["reset", "recovery-used"]
    store.audit.seen("alice", told[1].id)
    assert [entry.event for entry in store.audit.notices("alice")] == ["reset"]
    store.audit.seen("alice", told[0].id)
    store.audit.seen("alice", 1)  # an older page's form takes nothing back
    assert store.audit.notices("alice") == []


def test_who_has_no_row_yet_is_told_all_the_same(store):
    store.audit.write(Event("reset", account="dora"))
    assert len(store.audit.notices("dora")) == 1
