"""Devices and enrolments, on a real SQLite file, with threads and processes that want the same thing."""

import multiprocessing
import os
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from carme_hub.authenticator import store as store_module
from carme_hub.authenticator.secretbox import SecretBox, SecretUnreadableError
from carme_hub.authenticator.store import MAX_CONFIRMATIONS, Store
from carme_hub.authenticator.tables import StoreError

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


def test_the_file_is_for_its_owner_only(store, path):
    store.add_totp("alice", SECRET)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_an_open_file_is_closed(path, url):
    path.parent.mkdir()
    path.touch(mode=0o644)
    Store(url, SecretBox([KEY])).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_secret_and_no_token_is_in_the_file(store, path):
    store.add_totp("alice", SECRET)
    token = store.new_enrolment("bob", 1)
    ticket = store.begin_enrolment("bob", token, SECRET)
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


def test_a_step_is_used_once_and_older_ones_with_it(store):
    device = store.add_totp("alice", SECRET)
    assert store.consume_step("alice", device, 100)
    assert not store.consume_step("alice", device, 100)
    assert not store.consume_step("alice", device, 99)
    assert not store.consume_step("bob", device, 101)
    assert store.consume_step("alice", device, 101)


def test_of_many_threads_one_wins_each_step(store):
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


def test_of_two_processes_one_wins_each_step(store, url):
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


def test_several_may_open_a_new_database_at_once(url):
    barrier = threading.Barrier(8)

    def open_it(_):
        barrier.wait(10)
        return Store(url, SecretBox([KEY]))

    with ThreadPoolExecutor(8) as threads:
        stores = list(threads.map(open_it, range(8)))
    for opened in stores:
        opened.close()


def test_a_newer_schema_is_refused(path, url):
    Store(url, SecretBox([KEY])).close()
    execute(path, "UPDATE carme_schema SET version = version + 1")
    with pytest.raises(StoreError, match="newer carme-hub"):
        Store(url, SecretBox([KEY]))


@pytest.mark.parametrize(
    "wrong", ["sqlite://", "sqlite:///:memory:", "no address", "nosuchdb:///x", "sqlite:////proc/x"]
)
def test_an_address_that_cannot_be_used_is_a_sentence(wrong):
    with pytest.raises(StoreError):
        Store(wrong, SecretBox([KEY]))


def test_a_password_in_the_address_is_not_shown(tmp_path):
    with pytest.raises(StoreError) as error:
        Store(f"sqlite://user:pass-word@/{tmp_path}", SecretBox([KEY]))
    assert "pass-word" not in str(error.value)


def test_an_enrolment_from_token_to_device(store):
    store.add_totp("alice", "A" * 32)
    token = store.new_enrolment("alice", 1)
    assert store.token_is_valid("alice", token)
    ticket = store.begin_enrolment("alice", token, SECRET)
    pending = store.attempt_enrolment(ticket)
    assert (pending.username, pending.secret) == ("alice", SECRET)
    assert store.finish_enrolment(pending, ticket, step=100)
    (device,) = store.totp_devices("alice")  # the old one is gone
    assert device.secret == SECRET
    assert not store.consume_step("alice", device.id, 100)  # the confirming code is used up
    assert not store.token_is_valid("alice", token)
    assert store.begin_enrolment("alice", token, SECRET) is None
    assert store.attempt_enrolment(ticket) is None
    assert not store.finish_enrolment(pending, ticket, step=101)


def test_a_token_is_for_one_account_and_replaced_by_the_next(store):
    token = store.new_enrolment("alice", 1)
    assert not store.token_is_valid("bob", token)
    assert not store.token_is_valid("alice", "")
    assert not store.token_is_valid("alice", "\ud800")
    store.new_enrolment("alice", 1)
    assert not store.token_is_valid("alice", token)


def test_a_token_expires_also_in_the_middle(store, monkeypatch):
    token = store.new_enrolment("alice", 1)
    ticket = store.begin_enrolment("alice", token, SECRET)
    later = store_module._now() + 3601
    monkeypatch.setattr(store_module, "_now", lambda: later)
    assert not store.token_is_valid("alice", token)
    assert store.begin_enrolment("alice", token, SECRET) is None
    assert store.attempt_enrolment(ticket) is None


def test_tries_at_confirming_are_counted(store):
    token = store.new_enrolment("alice", 1)
    ticket = store.begin_enrolment("alice", token, SECRET)
    for _ in range(MAX_CONFIRMATIONS):
        assert store.attempt_enrolment(ticket) is not None
    assert store.attempt_enrolment(ticket) is None
    again = store.begin_enrolment("alice", token, "B" * 32)
    assert store.attempt_enrolment(ticket) is None
    assert store.attempt_enrolment(again).secret == "B" * 32


def test_of_two_confirmations_one_wins(store):
    ticket = store.begin_enrolment("alice", store.new_enrolment("alice", 1), SECRET)
    pending = store.attempt_enrolment(ticket)
    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(lambda step: store.finish_enrolment(pending, ticket, step), range(8)))
    assert won.count(True) == 1
    assert len(store.devices("alice")) == 1


def test_a_reset_removes_everything(store):
    store.add_totp("alice", SECRET)
    store.add_totp("bob", SECRET)
    token = store.new_enrolment("alice", 1)
    assert store.reset("alice") == 1
    assert store.devices("alice") == []
    assert not store.token_is_valid("alice", token)
    assert len(store.devices("bob")) == 1
