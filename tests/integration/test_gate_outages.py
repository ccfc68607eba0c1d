"""Rule 3 in a running hub, over both doors: directories that are silent, slow, down, or somebody else's."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from carme_hub.authenticator.throttle import ADDRESS, CODE, PASSWORD
from tests.integration.gate_world import (
    PASSWORDS,
    code,
    dripping_server,
    free_port,
    gate_config,
    hub,
    silent_server,
    slapd,
)


@contextlib.contextmanager
def somebody_elses(folder):
    """A directory with the right people and the right passwords, whose certificate nobody vouches for."""
    with slapd(folder) as other:
        yield other.port


@contextlib.contextmanager
def no_server(_folder):
    yield free_port()


@contextlib.contextmanager
def silent(_folder):
    with silent_server() as port:
        yield port


@contextlib.contextmanager
def dripping(_folder):
    with dripping_server() as (port, _):
        yield port


@pytest.mark.parametrize("kind", [somebody_elses, no_server, silent, dripping])
def test_rule_3_an_outage_is_no_wrong_password_and_no_attempt(tmp_path, directory, kind):
    (tmp_path / "other").mkdir()
    with kind(tmp_path / "other") as port:
        config = gate_config(directory, port, receive_timeout=1, directory_deadline=1.5)
        with hub(tmp_path / "hub", config) as gate, ThreadPoolExecutor(8) as threads:
            secret = gate.enrol("alice")
            doors = [
                *(threads.submit(gate.login, "alice", code(secret)) for _ in range(2)),
                *(threads.submit(gate.token, "alice", code(secret)) for _ in range(2)),
            ]
            slowest = 0.0
            while not all(door.done() for door in doors):
                slowest = max(slowest, gate.health())
                time.sleep(0.02)
            answers = [door.result() for door in doors]
            assert {answer.status_code for answer in answers} == {503}
            assert all("the user directory does not answer" in answer.text for answer in answers)
            assert slowest < 1
            attempts = gate.store.attempts
            counters = [
                (CODE, "alice"),
                (PASSWORD, "alice address:127.0.0.1"),
                (ADDRESS, "address:127.0.0.1"),
            ]
            assert [attempts.count(*counter).failures for counter in counters] == [0, 0, 0]
            outcomes = {(entry.outcome, entry.reason) for entry in gate.store.audit.entries()}
            assert outcomes == {("error", "directory")}
            assert "Traceback" not in gate.log


def test_rule_3_where_one_server_is_not_to_be_trusted_the_next_is_asked(tmp_path, directory):
    (tmp_path / "other").mkdir()
    with slapd(tmp_path / "other") as other:
        servers = [f"127.0.0.1:{other.port}", f"127.0.0.1:{directory.port}"]
        with hub(tmp_path / "hub", gate_config(directory, server_address=servers)) as gate:
            secret = gate.enrol("alice")
            assert gate.login("alice", code(secret)).status_code == 302
            assert gate.token("alice", code(secret, 1)).status_code == 201
            assert gate.login("alice", "000000", "wrong").status_code == 403


def test_rule_4_a_code_is_used_up_on_all_hubs_of_one_database(gate, tmp_path, directory):
    shared = {
        "database_url": f"sqlite:///{gate.folder}/carme.sqlite",
        "secret_key_file": f"{gate.folder}/carme.key",
    }
    with hub(tmp_path / "hub", gate_config(directory, **shared)) as second, ThreadPoolExecutor(2) as threads:
        secret = gate.known("alice")
        assert gate.token("alice", code(secret)).status_code == 201
        assert second.login("alice", code(secret)).status_code == 403
        assert second.login("alice", code(secret, 1)).status_code == 302
        # Wrong codes on either count for both.
        secret = gate.known("alice")
        auth = {"username": "alice", "password": PASSWORDS["alice"], "otp": "000000"}
        for one in (gate, second, gate):
            assert one.ask_token("alice", {"auth": auth}).status_code == 403
        assert second.login("alice", code(secret)).status_code == 403
        gate.store.unlock("alice")
        both = threads.map(lambda one: one.login("alice", code(secret)).status_code, [gate, second])
        assert sorted(both) == [302, 403]
