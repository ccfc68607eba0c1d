"""The gate on a real PostgreSQL server: everything that has to be atomic is so there too."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from carme_hub.authenticator import database, recovery, rotation, throttle
from carme_hub.authenticator.audit import Event
from carme_hub.authenticator.database import StoreError, open_engine, write
from carme_hub.authenticator.enrolments import MAX_CONFIRMATIONS
from carme_hub.authenticator.migrations import SHAPES
from carme_hub.authenticator.secretbox import SecretBox
from carme_hub.authenticator.store import Store
from carme_hub.authenticator.tables import attempt, metadata
from tests.integration.postgresql_world import Server, running_server
from tests.unit.test_gate_database import VERSION_1, assert_taken_over, opened_by_processes

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
KEY = os.urandom(32)
NAMES = (f"gate{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
def url(server):
    name = next(NAMES)
    server.sql("postgres", f"CREATE DATABASE {name}")
    return server.url(name)


@pytest.fixture
def store(url):
    opened = Store(url, SecretBox([KEY]))
    yield opened
    opened.close()


@pytest.fixture
def stores(url, store):
    """Four programs at work on one database: by their names, so that they share no lock of this process."""
    others = [Store(f"{url}&application_name=another-{number}", SecretBox([KEY])) for number in range(3)]
    yield [store, *others]
    for opened in others:
        opened.close()


def at_once(work, number=16):
    """Run work in many threads that begin together; returns what each got."""
    barrier = threading.Barrier(number)

    def one(index):
        barrier.wait(30)
        return work(index)

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(one, range(number)))


# ---- opening


def test_the_migrations_make_what_the_tables_say(store):
    with store.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": SHAPES.version_table, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []


def test_old_tables_are_taken_over_by_several_processes_at_once(server, url):
    server.sql(sa.make_url(url).database, *filter(str.strip, VERSION_1.split(";\n")))
    assert opened_by_processes(url)
    engine = open_engine(url)
    assert_taken_over(engine)
    engine.dispose()


def test_a_new_database_is_made_by_several_processes_at_once(url):
    assert opened_by_processes(url)


def test_the_database_may_be_the_one_of_jupyterhub(server, url):
    name = sa.make_url(url).database
    server.sql(name, "CREATE TABLE alembic_version (version_num VARCHAR(32))")
    server.sql(name, "INSERT INTO alembic_version VALUES ('of JupyterHub')")
    engine = open_engine(url)
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
    engine.dispose()
    assert found == "of JupyterHub"


def test_a_newer_database_is_refused(server, url):
    open_engine(url).dispose()
    server.sql(sa.make_url(url).database, "UPDATE carme_alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="newer carme-hub"):
        open_engine(url)


def test_a_migration_that_fails_leaves_the_old_tables_as_they_were(server, url):
    name = sa.make_url(url).database
    server.sql(name, *filter(str.strip, VERSION_1.split(";\n")), "CREATE TABLE carme_audit (x TEXT)")
    with pytest.raises(StoreError, match="already exists"):
        open_engine(url)
    server.sql(name, "SELECT version FROM carme_schema", "DROP TABLE carme_audit")
    engine = open_engine(url)
    assert_taken_over(engine)
    engine.dispose()


def test_a_database_that_is_not_there_is_a_sentence(server):
    with pytest.raises(StoreError, match='database "nowhere" does not exist'):
        open_engine(server.url("nowhere"))


# ---- waiting


def test_no_statement_takes_for_ever(url, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 1)
    engine = open_engine(url)
    begun = time.monotonic()
    with pytest.raises(sa.exc.OperationalError, match="statement timeout"), engine.connect() as connection:
        connection.execute(sa.select(sa.func.pg_sleep(60)))
    monkeypatch.undo()
    other = open_engine(f"{url}&application_name=another-process")
    with (
        write(other),
        pytest.raises(sa.exc.OperationalError, match="statement timeout"),
        write(engine),
    ):
        pass
    other.dispose()
    engine.dispose()
    assert time.monotonic() - begun < 20


def test_a_server_that_was_started_anew_is_found_again(server, store):
    store.add_totp("alice", SECRET)
    at_once(lambda _: store.devices("alice"), 4)
    server.stop()
    with pytest.raises(sa.exc.OperationalError):
        store.devices("alice")
    server.start()
    assert [one.username for one in store.devices()] == ["alice"]


# ---- at one instant, in several programs


def test_of_many_threads_one_wins_each_step(stores):
    device = stores[0].add_totp("alice", SECRET)
    for step in range(1, 21):
        won = at_once(lambda index, used=step: stores[index % 4].consume_step("alice", device, used))
        assert won.count(True) == 1


def test_of_many_steps_none_is_won_twice_and_the_newest_is(stores):
    device = stores[0].add_totp("alice", SECRET)
    won = at_once(lambda index: stores[index % 4].consume_step("alice", device, 1 + index // 4), 32)
    steps = [1 + index // 4 for index in range(32) if won[index]]
    assert len(steps) == len(set(steps))
    assert 8 in steps


def test_a_recovery_code_is_used_once(stores):
    stores[0].add_totp("alice", SECRET)
    code = stores[0].new_recovery_codes("alice")[0]
    used = at_once(lambda index: stores[index % 4].use_code("alice", code, time.time(), 1), 8)
    assert sum(one is not None for one in used) == 1
    assert stores[0].account("alice").recovery_left == 9


def test_of_recovery_codes_made_at_once_one_set_is_left(stores, monkeypatch):
    # Hashing takes so long that the statements would hardly ever meet.
    monkeypatch.setattr(recovery, "_COST", {"n": 2, "r": 1, "p": 1})
    stores[0].add_totp("alice", SECRET)
    for _ in range(5):
        at_once(lambda index: stores[index % 4].new_recovery_codes("alice"), 8)
        assert stores[0].account("alice").recovery_left == 10


def test_of_two_confirmations_one_wins(stores):
    enrolments = [store.enrolments for store in stores]
    ticket = enrolments[0].begin("alice", enrolments[0].new_token("alice", 1), SECRET, "Phone")
    pending = enrolments[0].attempt(ticket)
    won = at_once(lambda index: enrolments[index % 4].finish(pending, ticket, index))
    assert won.count(True) == 1
    assert len(stores[0].devices("alice")) == 1


def test_tries_at_confirming_are_counted(stores):
    enrolments = [store.enrolments for store in stores]
    ticket = enrolments[0].begin("alice", enrolments[0].new_token("alice", 1), SECRET, "Phone")
    tries = at_once(lambda index: enrolments[index % 4].attempt(ticket))
    assert sum(one is not None for one in tries) == MAX_CONFIRMATIONS


def test_of_enrolments_begun_at_once_one_is_left(stores):
    enrolments = [store.enrolments for store in stores]
    stores[0].add_totp("alice", SECRET)
    for _ in range(5):
        tickets = at_once(lambda index: enrolments[index % 4].begin_second("alice", SECRET, "Tablet"), 8)
        assert sum(enrolments[0].attempt(ticket) is not None for ticket in tickets) == 1
        tokens = at_once(lambda index: enrolments[index % 4].new_token("bob", 1), 8)
        assert sum(enrolments[0].token_is_valid("bob", token) for token in tokens) == 1


def test_the_last_device_stays_when_all_are_removed_at_once(stores):
    for _ in range(5):
        stores[0].reset("alice")
        devices = [stores[0].add_totp("alice", letter * 32) for letter in "ABCD"]
        at_once(lambda index, ids=devices: stores[index].remove_device("alice", ids[index]), 4)
        assert len(stores[0].devices("alice")) == 1


def test_failures_at_once_are_all_counted_and_no_more_are_let_through(stores):
    counters = [store.attempts for store in stores]
    verdicts = at_once(lambda index: counters[index % 4].begin(throttle.CODE, "alice"))
    assert verdicts.count(throttle.ALLOWED) == throttle.CODE.free + 1
    assert counters[0].count(throttle.CODE, "alice").failures == throttle.CODE.free + 1
    at_once(
        lambda index: [counters[index % 4].fail(throttle.ADDRESS, f"10.0.{index % 3}.0") for _ in range(20)]
    )
    with stores[0].engine.connect() as connection:
        total = connection.execute(
            sa.select(sa.func.sum(attempt.c.failures)).where(attempt.c.scope == throttle.ADDRESS.scope)
        ).scalar_one()
    assert total == 16 * 20


def test_an_account_that_many_see_first_is_made_once(stores):
    at_once(lambda index: stores[index % 4].add_totp("alice", chr(65 + index) * 32))
    assert len(stores[0].account("alice").devices) == 16


def test_the_audit_log_takes_everything(stores):
    at_once(
        lambda index: [stores[index % 4].audit.write(Event("login", account=f"u{index}")) for _ in range(20)]
    )
    entries = stores[0].audit.entries(limit=1000)
    assert len(entries) == 320
    assert [one.id for one in entries] == sorted((one.id for one in entries), reverse=True)


# ---- keys


def test_secrets_are_sealed_anew_while_the_hub_writes(url, store):
    with contextlib.closing(store):
        for index in range(20):
            store.add_totp(f"u{index}", SECRET)
            store.enrolments.begin_second(f"u{index}", SECRET, "Tablet")
        both = SecretBox([os.urandom(32), KEY])
        stopping = threading.Event()

        def hub():
            number = 0
            while not stopping.is_set():
                store.enrolments.begin_second(f"u{number % 20}", SECRET, "Tablet")
                store.consume_step("u1", store.devices("u1")[0].id, number)
                number += 1
            return number

        with ThreadPoolExecutor(1) as threads:
            wrote = threads.submit(hub)
            counts = [rotation.reseal(store.engine, both) for _ in range(3)]
            stopping.set()
            assert wrote.result() > 0
        assert counts[0] >= 20
        rotation.reseal(store.engine, both)
        assert rotation.not_newest(store.engine, both) == []
    after = Store(url, both)
    assert {one.secret for index in range(20) for one in after.totp_devices(f"u{index}")} == {SECRET}
    after.close()
