"""Devices and enrolments, on a real SQLite file, with threads and processes that want the same thing."""

import multiprocessing
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from carme_hub.authenticator import enrolments
from carme_hub.authenticator.enrolments import MAX_CONFIRMATIONS
from carme_hub.authenticator.secretbox import SecretBox, SecretUnreadableError
from carme_hub.authenticator.store import Store

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
KEY = os.urandom(32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "carme.sqlite"


@pytest.fixture
def url(path):
    return f"sqlite:///{path}"


@pytest.fixture
def store(url):
    opened = Store(url, SecretBox([KEY]))
    yield opened
    opened.close()


def execute(path, statement, *values):
    connection = sqlite3.connect(path)
    with connection:
        rows = connection.execute(statement, values).fetchall()
    connection.close()
    return rows


def test_rule_5_no_secret_and_no_token_is_in_the_file(store, path):
    store.add_totp("alice", SECRET)
    token = store.enrolments.new_token("bob", 1)
    ticket = store.enrolments.begin("bob", token, SECRET, "Phone")
    store.close()
    content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    for secret in (SECRET, token, ticket):
        assert secret.encode() not in content


def test_a_device_comes_back_and_is_not_added_twice(store):
    first = store.add_totp("alice", SECRET)
    assert store.add_totp("alice", SECRET) == first
    assert [(device.id, device.secret) for device in store.totp_devices("alice")] == [(first, SECRET)]
    assert store.totp_devices("bob") == []
    assert [device.username for device in store.devices()] == ["alice"]
    assert SECRET not in repr(store.totp_devices("alice"))


def test_a_secret_moved_to_another_account_is_refused(store, path):
    store.add_totp("mallory", SECRET)
    execute(path, "UPDATE carme_device SET username = 'alice'")
    with pytest.raises(SecretUnreadableError):
        store.totp_devices("alice")


def test_rule_4_a_step_is_used_once_and_older_ones_with_it(store):
    device = store.add_totp("alice", SECRET)
    assert store.consume_step("alice", device, 100)
    assert not store.consume_step("alice", device, 100)
    assert not store.consume_step("alice", device, 99)
    assert not store.consume_step("bob", device, 101)
    assert store.consume_step("alice", device, 101)


def test_rule_4_of_many_threads_one_wins_each_step(store):
    device = store.add_totp("alice", SECRET)
    with ThreadPoolExecutor(16) as threads:
        for step in range(1, 6):
            won = list(threads.map(lambda used: store.consume_step("alice", device, used), [step] * 16))
            assert won.count(True) == 1


def _consume(url, device, barrier, results):
    store = Store(url, SecretBox([KEY]))
    for step in range(1, 31):
        barrier.wait(30)
        results.put((step, store.consume_step("alice", device, step)))
    store.close()


def test_rule_4_of_two_processes_one_wins_each_step(store, url):
    device = store.add_totp("alice", SECRET)
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_consume, args=(url, device, barrier, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    outcomes = [results.get(timeout=30) for _ in range(60)]
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0]
    for step in range(1, 31):
        assert sorted(won for used, won in outcomes if used == step) == [False, True]


def test_an_enrolment_from_token_to_device(store):
    store.add_totp("alice", "A" * 32)
    token = store.enrolments.new_token("alice", 1)
    assert store.enrolments.token_is_valid("alice", token)
    ticket = store.enrolments.begin("alice", token, SECRET, "Phone")
    pending = store.enrolments.attempt(ticket)
    assert (pending.username, pending.secret) == ("alice", SECRET)
    assert store.enrolments.finish(pending, ticket, step=100)
    (device,) = store.totp_devices("alice")  # the old one is gone
    assert device.secret == SECRET
    assert not store.consume_step("alice", device.id, 100)  # the confirming code is used up
    assert not store.enrolments.token_is_valid("alice", token)
    assert store.enrolments.begin("alice", token, SECRET, "Phone") is None
    assert store.enrolments.attempt(ticket) is None
    assert not store.enrolments.finish(pending, ticket, step=101)


def test_a_token_is_for_one_account_and_replaced_by_the_next(store):
    token = store.enrolments.new_token("alice", 1)
    assert not store.enrolments.token_is_valid("bob", token)
    assert not store.enrolments.token_is_valid("alice", "")
    assert not store.enrolments.token_is_valid("alice", "\ud800")
    store.enrolments.new_token("alice", 1)
    assert not store.enrolments.token_is_valid("alice", token)


def test_a_token_expires_also_in_the_middle(store, monkeypatch):
    token = store.enrolments.new_token("alice", 1)
    ticket = store.enrolments.begin("alice", token, SECRET, "Phone")
    later = enrolments._now() + 3601
    monkeypatch.setattr(enrolments, "_now", lambda: later)
    assert not store.enrolments.token_is_valid("alice", token)
    assert store.enrolments.begin("alice", token, SECRET, "Phone") is None
    assert store.enrolments.attempt(ticket) is None


def test_tries_at_confirming_are_counted(store):
    token = store.enrolments.new_token("alice", 1)
    ticket = store.enrolments.begin("alice", token, SECRET, "Phone")
    for _ in range(MAX_CONFIRMATIONS):
        assert store.enrolments.attempt(ticket) is not None
    assert store.enrolments.attempt(ticket) is None
    again = store.enrolments.begin("alice", token, "B" * 32, "Phone")
    assert store.enrolments.attempt(ticket) is None
    assert store.enrolments.attempt(again).secret == "B" * 32


def test_of_two_confirmations_one_wins(store):
    ticket = store.enrolments.begin("alice", store.enrolments.new_token("alice", 1), SECRET, "Phone")
    pending = store.enrolments.attempt(ticket)
    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(lambda step: store.enrolments.finish(pending, ticket, step), range(8)))
    assert won.count(True) == 1
    assert len(store.devices("alice")) == 1


def test_a_reset_removes_everything(store):
    store.add_totp("alice", SECRET)
    store.add_totp("bob", SECRET)
    token = store.enrolments.new_token("alice", 1)
    assert store.reset("alice") == 1
    assert store.devices("alice") == []
    assert not store.enrolments.token_is_valid("alice", token)
    assert len(store.devices("bob")) == 1


def test_rule_10_resets_are_counted_until_the_hub_has_ended_the_logins(store):
    store.add_totp("alice", SECRET)
    assert store.generations("alice") == (0, 0)
    store.reset("alice")
    assert store.generations("alice") == (1, 0)
    store.reset("alice")
    store.logins_ended("alice", 1)  # by a hub that had not heard of the second
    assert store.generations("alice") == (2, 1)
    store.logins_ended("alice", 2)
    store.logins_ended("alice", 1)
    assert store.generations("alice") == (2, 2)
    assert store.generations("nobody") == (0, 0)


def test_rule_10_a_reset_in_the_same_moment_leaves_nothing_behind(store):
    store.add_totp("alice", SECRET)
    ticket = store.enrolments.begin_second("alice", "B" * 32, "Tablet")
    pending = store.enrolments.attempt(ticket)
    store.reset("alice")
    assert not store.enrolments.finish(pending, ticket, step=1)
    assert store.enrolments.begin_second("alice", "B" * 32, "Tablet") is None
    assert store.new_recovery_codes("alice") == []
    assert store.account("alice").recovery_left == 0
    assert store.devices("alice") == []


def test_rule_6_the_first_login_enrols_those_only_who_never_had_anything(store):
    assert store.enrolments.may_enrol_first("alice")
    store.add_totp("alice", SECRET)
    assert not store.enrolments.may_enrol_first("alice")
    store.reset("alice")
    assert not store.enrolments.may_enrol_first("alice")
    store.enrolments.new_token("bob", 1)
    assert not store.enrolments.may_enrol_first("bob")
    store.reset("alice")  # else the name could be taken by whoever knows the password
    assert not store.enrolments.may_enrol_first("alice")


def test_the_last_device_cannot_be_removed(store):
    first = store.add_totp("alice", SECRET)
    other = store.add_totp("bob", "B" * 32)
    assert store.remove_device("alice", first) is None
    second = store.add_totp("alice", "C" * 32, "Tablet")
    assert store.remove_device("alice", other) is None  # somebody else's
    assert store.remove_device("alice", first).name == "Authenticator app"
    assert [one.id for one in store.devices("alice")] == [second]
    assert store.remove_device("alice", second) is None


def test_of_two_removals_at_once_one_device_is_left(store):
    ids = [store.add_totp("alice", letter * 32) for letter in "ABCD"]
    with ThreadPoolExecutor(4) as threads:
        removed = list(threads.map(lambda one: store.remove_device("alice", one), ids))
    assert sum(one is not None for one in removed) == 3
    assert len(store.devices("alice")) == 1


def test_rule_4_a_weak_secret_is_no_device(store):
    with pytest.raises(ValueError, match="128 bit"):
        store.add_totp("alice", "A" * 16)


def test_what_is_known_of_an_account(store):
    assert store.account("alice").devices == []
    assert not store.knows("alice")
    store.add_totp("alice", SECRET)
    store.new_recovery_codes("alice")
    store.enrolments.new_token("bob", 1)
    assert [one.username for one in store.accounts()] == ["alice", "bob"]
    alice, bob = store.accounts()
    assert (len(alice.devices), alice.recovery_left, alice.open_enrolment) == (1, 10, 0)
    assert (bob.devices, bob.enrolled) == ([], 0)
    assert bob.open_enrolment > alice.enrolled > 0
    assert store.knows("bob")
