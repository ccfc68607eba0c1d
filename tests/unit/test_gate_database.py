"""Opening the gate's database, bringing old ones up to date, and writing to it: on real SQLite files."""

import logging
import multiprocessing
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from carme_hub.authenticator import database
from carme_hub.authenticator.database import StoreError, open_engine, write
from carme_hub.authenticator.migrations import SHAPES
from carme_hub.authenticator.secretbox import SecretBox
from carme_hub.authenticator.tables import account, attempt, device, enrolment, metadata

VERSION_1 = (Path(__file__).parents[1] / "golden" / "gate-version-1.sql").read_text()
VERSION_1_BOX = SecretBox([b"version 1 of the gate's database"])
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "carme.sqlite"


@pytest.fixture
def url(path):
    return f"sqlite:///{path}"


@pytest.fixture
def engine(url):
    opened = open_engine(url)
    yield opened
    opened.dispose()


@pytest.fixture
def old(path):
    """A database of version 1."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)


def execute(path, statement, *values):
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def count_up(connection, key="x"):
    """Read and write in two statements, as a counter does that is no single UPDATE."""
    mine = attempt.c.key == key
    failures = connection.execute(sa.select(attempt.c.failures).where(mine)).scalar()
    if failures is None:
        connection.execute(attempt.insert().values(scope="code", key=key, failures=1, wait_until=0, last=0))
    else:
        connection.execute(attempt.update().where(mine).values(failures=failures + 1))


def counted(engine, key="x"):
    with engine.connect() as connection:
        return connection.execute(sa.select(attempt.c.failures).where(attempt.c.key == key)).scalar()


# ---- opening


def test_the_files_are_for_their_owner_only(engine, path):
    with write(engine) as connection:
        count_up(connection)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(("carme.sqlite", "carme.sqlite-wal", "carme.sqlite-shm"), 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_an_open_file_is_closed(path, url):
    path.parent.mkdir()
    path.touch(mode=0o644)
    open_engine(url).dispose()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("no address", "not a usable database address"),
        ("nosuchdb:///x", "names nosuchdb"),
        ("mysql://localhost/x", "names mysql"),
        ("sqlite:////proc/x", "cannot be opened"),
        ("postgresql+psycopg2://localhost/x", "carme-hub\\[postgresql\\]"),
        ("postgresql+psycopg://carme@localhost/x?host=/nowhere", "cannot be used: .*/nowhere"),
    ],
)
def test_an_address_that_cannot_be_used_is_a_sentence(wrong, said):
    with pytest.raises(StoreError, match=said):
        open_engine(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        "sqlite://user:pass-word@/{}",
        "postgresql+psycopg://user:pass-word@localhost/x?host=/nowhere",
        "postgresql+psycopg2://user:pass-word@localhost/x",
    ],
)
def test_a_password_in_the_address_is_not_shown(tmp_path, wrong):
    with pytest.raises(StoreError) as error:
        open_engine(wrong.format(tmp_path))
    assert "pass-word" not in str(error.value)


def test_a_file_that_is_no_database_is_a_sentence(path, url):
    path.parent.mkdir()
    path.write_text("not a database, but long enough to be taken for the header of one" * 50)
    with pytest.raises(StoreError, match="cannot be used: file is not a database"):
        open_engine(url)


# ---- migrations


def test_the_migrations_make_what_the_tables_say(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": SHAPES.version_table, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []


def test_the_revisions_are_those_in_the_folder():
    config = Config()
    config.set_main_option("script_location", str(SHAPES.folder))
    scripts = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(scripts)) == SHAPES.revisions


@pytest.mark.usefixtures("old")
def test_an_old_database_is_taken_over_with_its_devices(url):
    engine = open_engine(url)
    assert_taken_over(engine)
    engine.dispose()


def assert_taken_over(engine):
    with engine.connect() as connection:
        devices = connection.execute(sa.select(device).order_by(device.c.id)).all()
        accounts = connection.execute(sa.select(account).order_by(account.c.username)).all()
        assert connection.execute(sa.select(enrolment)).all() == []
        context = MigrationContext.configure(connection, opts={"version_table": SHAPES.version_table})
        assert compare_metadata(context, metadata) == []
        assert SHAPES.revision(connection) == SHAPES.newest
        assert not sa.inspect(connection).has_table("carme_schema")
    assert [(one.id, one.username, one.kind, one.name, *one[5:]) for one in devices] == [
        ("a1", "alice", "totp", "Authenticator app", 57, 100, 150, 0, None),
        ("a2", "alice", "totp", "Tablet", 55, 200, 250, 0, None),
        ("b1", "bob", "totp", "Authenticator app", 0, 300, 300, 0, None),
    ]
    for one in devices:
        assert VERSION_1_BOX.open(one.secret, "device", one.username, one.id) == SECRET
    assert accounts == [("alice", 150, 0, 0, 0), ("bob", 300, 0, 0, 0)]


@pytest.mark.usefixtures("old")
def test_a_migration_that_fails_leaves_the_old_database_as_it_was(path, url):
    execute(path, "CREATE TABLE carme_audit (somebody_elses TEXT)")
    before = execute(path, "SELECT name, sql FROM sqlite_master ORDER BY name")
    with pytest.raises(StoreError, match="carme_audit already exists"):
        open_engine(url)
    assert execute(path, "SELECT name, sql FROM sqlite_master ORDER BY name") == before
    execute(path, "DROP TABLE carme_audit")
    engine = open_engine(url)
    assert_taken_over(engine)
    engine.dispose()


def test_what_others_keep_in_the_same_database_stays(path, url):
    path.parent.mkdir()
    execute(path, "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    execute(path, "INSERT INTO alembic_version VALUES ('of JupyterHub')")
    open_engine(url).dispose()
    assert execute(path, "SELECT version_num FROM alembic_version") == [("of JupyterHub",)]


def test_a_newer_database_is_refused_and_left_alone(path, url):
    open_engine(url).dispose()
    execute(path, "UPDATE carme_alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=r"newer carme-hub \(revision 9999, .* Install that version"):
        open_engine(url)
    assert execute(path, "SELECT version_num FROM carme_alembic_version") == [("9999",)]


def test_a_database_that_is_up_to_date_is_opened_without_alembic(url):
    open_engine(url).dispose()
    code = (
        "import sys; from carme_hub.authenticator.database import open_engine; "
        f"open_engine({url!r}).dispose(); print('alembic' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout.strip() == "False"


def test_a_migration_is_silent(url, caplog, capfd):
    caplog.set_level(logging.INFO)
    open_engine(url).dispose()
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("old")
def test_several_threads_may_open_a_database_at_once(url):
    barrier = threading.Barrier(8)

    def open_it(_):
        barrier.wait(10)
        return open_engine(url)

    with ThreadPoolExecutor(8) as threads:
        engines = list(threads.map(open_it, range(8)))
    assert_taken_over(engines[0])
    for opened in engines:
        opened.dispose()


def _open_with_others(url, barrier):
    barrier.wait(60)
    open_engine(url).dispose()


def opened_by_processes(url, number=4):
    """Let several processes open a database at one moment; they all have to come through."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(number)
    workers = [context.Process(target=_open_with_others, args=(url, barrier)) for _ in range(number)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    return [worker.exitcode for worker in workers] == [0] * number


@pytest.mark.usefixtures("old")
def test_several_processes_may_open_an_old_database_at_once(url):
    assert opened_by_processes(url)
    engine = open_engine(url)
    assert_taken_over(engine)
    engine.dispose()


def test_several_processes_may_make_a_new_database_at_once(url, path):
    assert opened_by_processes(url)
    assert execute(path, "SELECT version_num FROM carme_alembic_version") == [(SHAPES.newest,)]


# ---- writing


def test_threads_that_read_and_then_write_lose_nothing_and_wait_in_a_queue(engine):
    def work(_):
        begun = time.monotonic()
        with write(engine) as connection:
            count_up(connection)
        return time.monotonic() - begun

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(400)))
    assert counted(engine) == 400


def test_two_engines_on_one_file_lose_nothing(engine, url):
    other = open_engine(url)

    def work(number):
        with write((engine, other)[number % 2]) as connection:
            count_up(connection)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(100)))
    other.dispose()
    assert counted(engine) == 100


def test_a_command_that_ends_takes_nobodys_journal_away(engine, path, url):
    """A hub has several engines on its file, and `carme` opens and closes it beside the hub."""

    def count() -> int:
        with engine.connect() as connection:
            return int(connection.execute(sa.text("SELECT count(*) FROM beside")).scalar_one())

    with write(engine) as connection:
        connection.execute(sa.text("CREATE TABLE beside (number INTEGER)"))
    assert count() == 0
    second = open_engine(url)
    command = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
        "c.execute('INSERT INTO beside VALUES (1)'); c.commit(); c.close()"
    )
    for seen in (1, 2):
        subprocess.run([sys.executable, "-c", command, str(path)], check=True, timeout=60)
        assert Path(f"{path}-wal").exists()
        assert count() == seen
    with write(engine) as connection:
        connection.execute(sa.text("INSERT INTO beside VALUES (3)"))
    second.dispose()
    engine.dispose()
    with closing(sqlite3.connect(path)) as after:
        assert after.execute("SELECT count(*) FROM beside").fetchone() == (3,)


def test_a_block_that_raises_leaves_nothing_and_frees_the_lock(engine):
    def fail():
        with write(engine) as connection:
            count_up(connection)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert counted(engine) is None
    with write(engine) as connection:
        count_up(connection)
    assert counted(engine) == 1


def test_readers_do_not_wait_for_a_writer(engine):
    with write(engine) as connection:
        count_up(connection)
        assert counted(engine) is None
    assert counted(engine) == 1


def test_a_writer_of_another_process_is_waited_for(engine, path):
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.3, other.execute, ["COMMIT"])
        timer.start()
        with write(engine) as connection:
            count_up(connection)
        timer.join()
    assert counted(engine) == 1


def test_nobody_waits_for_ever(url, path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    engine = open_engine(url)
    with (
        write(engine),
        ThreadPoolExecutor(1) as threads,
        pytest.raises(sa.exc.TimeoutError, match="busy"),
    ):
        threads.submit(lambda: write(engine).__enter__()).result()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sa.exc.OperationalError, match="locked"), write(engine):
            pass
        other.execute("ROLLBACK")
    with write(engine) as connection:
        count_up(connection)
    engine.dispose()
