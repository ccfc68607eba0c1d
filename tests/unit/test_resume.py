"""What becomes of a session at the next hub: JupyterHub's user and database are real, Slurm is scripted."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from jupyterhub import orm
from jupyterhub.auth import DummyAuthenticator
from jupyterhub.objects import Hub
from jupyterhub.user import User
from traitlets.config import Config

from carme_hub.spawner import job, resume, saver
from carme_hub.spawner import session as module
from carme_hub.spawner import watcher as watching
from carme_hub.spawner.answers import Ending, Phase, Picture, QueueEntry
from carme_hub.spawner.backends import Backend
from carme_hub.spawner.session import SlurmSession
from carme_hub.spawner.slurm import Account, SlurmUnavailable
from carme_hub.spawner.spawner import CarmeSpawner
from carme_hub.spawner.watcher import View, Watcher
from tests.unit.conftest import IMAGES, MOUNTS, PROFILES

PROFILE = PROFILES[0] | {"groups": []}
OPTIONS = {"profile": "gpu", "image": "base", "gpus": 2, "gpu_type": "a100", "nodes": 2, "time": 60}


class ScriptedSlurm:
    """Job 7 runs; ``addresses`` are the next answers of where its node is, the last one for good."""

    def __init__(self):
        self.jobs = {7: QueueEntry(7, "RUNNING", "", "n1")}
        self.addresses, self.cancelled, self.end = ["127.0.0.1"], [], None

    async def queue(self, job_ids):
        return Picture(time.monotonic(), {one: self.jobs[one] for one in job_ids if one in self.jobs})

    async def node_address(self, _node):
        answer = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def cancel(self, number, _account):
        self.cancelled.append(number)
        self.jobs.pop(number, None)

    async def ending(self, _number, _owner=None):
        return self.end

    async def log_tail(self, _path, _account):
        return ""


class Proxy:
    """Writes down the routes."""

    def __init__(self):
        self.routes, self.error = [], None

    async def add_user(self, user, name):
        self.routes.append((user.name, user.spawners[name].server.ip))

    async def delete_user(self, _user, _name):
        if self.error:
            raise self.error
        self.routes.clear()


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_words):
        pass


@pytest.fixture
def port():
    """Return the port of a session's server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "hub.sqlite"


@pytest.fixture
def database(file):
    arguments = {"timeout": 0.05, "check_same_thread": False}
    session = orm.new_session_factory(f"sqlite:///{file}", connect_args=arguments)()
    session.add(orm.User(name="rosa"))
    session.add(orm.OAuthClient(identifier="jupyterhub"))  # the hub itself, to which tokens belong
    session.commit()
    yield session
    session.close()
    session.get_bind().dispose()


@contextmanager
def locked(file):
    """Let nobody write to the database."""
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("begin immediate")
    try:
        yield
    finally:
        holder.execute("rollback")
        holder.close()


@pytest.fixture
def slurm():
    return ScriptedSlurm()


@pytest.fixture
async def hub(database, slurm, port, monkeypatch):
    """Return a function that is the next hub: it makes the spawner of the session that job 7 is."""
    watcher = Watcher(slurm)
    backend = Backend(slurm, watcher)
    monkeypatch.setattr(SlurmSession, "backend", backend)
    monkeypatch.setattr(CarmeSpawner, "_backend", lambda _self, _profile: backend)
    for place, name, value in (
        (watching, "SHORT", 0.01),
        (watching, "LONG", 0.05),
        (watching, "GAP", 0.01),
        (resume, "AGAIN", 0.02),
        (saver, "AGAIN", 0.02),
        (job, "FIRST_PICTURE", 0.2),
        (module, "LINGER", 0.2),
    ):
        monkeypatch.setattr(place, name, value)

    async def account(name):
        return Account(name, 1000, 1000, (1000,), f"/srv/home/{name}")

    for place in (module, job):
        monkeypatch.setattr(place, "account_of", account)

    def new(ip="127.0.0.1", token_id=0, user_options=None):
        config = Config()
        config.CarmeSpawner.update(images=IMAGES, mounts=MOUNTS, profiles=[PROFILE], http_timeout=1)
        person = database.query(orm.User).one()
        row = orm.Spawner(user=person, name="", user_options=user_options or {})
        row.server = orm.Server(base_url="/user/rosa/", ip=ip, port=port)
        row.state = {"cluster": "slurm", "job_id": "7", "session": OPTIONS, "node": "n1", "port": port}
        row.state = {**row.state, "api_token_id": token_id}
        database.add(row)
        database.commit()
        settings = {"config": config, "hub": Hub(), "spawner_class": CarmeSpawner, "proxy": Proxy()}
        user = User(person, settings | {"authenticator": DummyAuthenticator()})
        return user.spawners[""]

    yield new
    await watcher.close()


async def until(condition):
    async with asyncio.timeout(8):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.01)


def routes(one):
    return one.user.settings["proxy"].routes


async def end(one):
    one.stop_polling()
    if one._guard is not None:
        one._guard.cancel()
        await asyncio.gather(one._guard, return_exceptions=True)


async def test_a_database_that_is_locked_at_the_restart_ends_no_session(hub, slurm, file, caplog):
    one = hub(ip="")
    with locked(file):
        await until(lambda: "cannot be written" in caplog.text)
        assert one.pending == "spawn"
    await until(lambda: routes(one))
    assert one.ready
    assert not slurm.cancelled
    with sqlite3.connect(file) as reader:
        assert reader.execute("select ip from servers").fetchall() == [("127.0.0.1",)]
    await end(one)


async def test_what_nobody_thought_of_ends_no_session(hub, slurm, caplog):
    slurm.addresses = [RuntimeError("a mistake of ours"), "127.0.0.1"]
    one = hub()
    await until(lambda: routes(one))
    assert "a mistake of ours" in caplog.text
    assert not slurm.cancelled
    await end(one)


async def test_a_session_that_is_not_taken_up_yet_can_be_stopped_and_is_left_in_peace(hub, slurm, caplog):
    slurm.addresses = [RuntimeError("a mistake of ours")]
    one = hub()
    taking = one._spawn_future
    await until(lambda: "a mistake of ours" in caplog.text)
    await one.user.stop("")
    assert slurm.cancelled == [7]
    one._spawn_future = later = asyncio.get_running_loop().create_future()  # another start
    await asyncio.wait_for(taking, 5)
    assert one._spawn_future is later
    assert "ended while the hub was down" not in caplog.text


async def test_a_hub_that_starts_while_slurmctld_is_down_waits_for_the_nodes_address(hub, slurm, caplog):
    slurm.addresses = [SlurmUnavailable("Unable to contact slurm controller")]
    one = hub(ip="")
    await until(lambda: caplog.text.count("Unable to contact") > 1)
    assert not routes(one)
    slurm.addresses = ["127.0.0.1"]
    await until(lambda: routes(one))
    await end(one)


async def test_a_hub_that_starts_while_slurmctld_is_down_believes_what_the_last_one_knew(hub, slurm):
    slurm.addresses = [SlurmUnavailable("Unable to contact slurm controller")]
    one = hub()
    await until(lambda: routes(one))
    await end(one)


async def test_an_address_where_nothing_answers_is_asked_for_again(hub, slurm):
    slurm.addresses = ["127.0.0.99", "127.0.0.1"]
    one = hub()
    await until(lambda: routes(one))
    assert routes(one) == [("rosa", "127.0.0.1")]
    await end(one)


async def test_the_token_of_a_session_that_outlived_a_hub_is_revoked_at_its_end(hub, database):
    person = User(database.query(orm.User).one(), {})
    text = person.new_api_token(note="Server at /user/rosa/")
    mine = person.new_api_token(note="my script")
    one = hub(token_id=orm.APIToken.find(database, text).id)
    await until(lambda: routes(one))
    await one.user.stop("")
    assert orm.APIToken.find(database, text) is None
    assert orm.APIToken.find(database, mine) is not None


async def test_a_number_that_now_is_another_tokens_revokes_nothing(hub, database):
    mine = User(database.query(orm.User).one(), {}).new_api_token(note="my script")
    one = hub(token_id=orm.APIToken.find(database, mine).id)
    await until(lambda: routes(one))
    await one.user.stop("")
    assert orm.APIToken.find(database, mine) is not None


async def test_limits_count_what_the_job_holds_and_not_what_would_be_asked_for_now(hub):
    one = hub(user_options={"profile": "gpu", "gpus": 1})
    await until(lambda: routes(one))
    one.child.request = one.parse_options({"profile": "gpu", "gpus": 1})
    assert (one.held().gpus, one.held().nodes) == (4, 2)
    await end(one)


async def test_a_session_that_ended_while_there_was_no_hub_says_why(hub, slurm):
    slurm.jobs, slurm.end = {}, Ending("TIMEOUT")
    one = hub()
    await until(lambda: one.last_words)
    assert one.last_words == "The session has ended: its time limit of 1 h was over."
    assert one.orm_spawner.server is None
    assert one.user.spawners[""] is one


async def test_a_session_whose_route_cannot_be_removed_ends_all_the_same(hub, slurm):
    one = hub()
    await until(lambda: routes(one))
    one.user.settings["proxy"].error = OSError("no proxy")
    slurm.jobs = {}
    await until(lambda: one.orm_spawner.server is None and not one._stop_pending)
    await until(lambda: one._teller is not None and one._teller.done())


async def test_a_session_that_is_forgotten_while_its_death_is_asked_for(hub, monkeypatch):
    monkeypatch.setattr(module, "LAST_WORDS", 0.1)
    one = hub()
    await until(lambda: routes(one))
    await end(one)
    child = one.child
    child.clear_state()
    error = await child._death(View(Phase.ENDED, "TIMEOUT"))
    assert "ended before its server was up" in error.jupyterhub_message


# --- saver.py ---


async def test_all_that_waits_for_the_database_is_written_with_one_commit(database, file, monkeypatch):
    monkeypatch.setattr(saver, "AGAIN", 0.05)
    person, log = database.query(orm.User).one(), logging.getLogger("test")
    rows = [orm.Spawner(user=person, name=f"s{number}") for number in range(20)]
    database.add_all(rows)
    database.commit()
    commits, commit = [], database.commit
    monkeypatch.setattr(database, "commit", lambda: commits.append(1) or commit())

    def writes(row):
        return lambda: setattr(row, "state", {"job_id": row.name})

    with locked(file):
        saving = [saver.save(row, writes(row), log) for row in rows]
        assert len(commits) == 1, "one of them has to find out"
        await asyncio.sleep(0)
        assert not any(one.done() for one in saving)
        tried = len(commits)
    await asyncio.wait_for(asyncio.gather(*saving), 5)
    assert len(commits) == tried + 1
    with sqlite3.connect(file) as reader:
        assert reader.execute("select count(*) from spawners where state like '%job_id%'").fetchone() == (20,)


async def test_a_write_that_never_works_keeps_no_other_from_being_written(database, monkeypatch):
    monkeypatch.setattr(saver, "AGAIN", 0.02)
    person, log = database.query(orm.User).one(), logging.getLogger("test")
    rows = [orm.Spawner(user=person, name=name) for name in "ab"]
    database.add_all(rows)
    database.commit()
    bad = saver.save(rows[0], lambda: setattr(rows[0], "user_id", {"no": "number"}), log)
    good = saver.save(rows[1], lambda: setattr(rows[1], "state", {"job_id": "1"}), log)
    broken = saver.save(rows[1], lambda: 1 // 0, log)
    await asyncio.wait_for(good, 5)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(broken, 5)
    assert not bad.done()
    assert rows[1].state == {"job_id": "1"}
    database.info[saver.Saver]._task.cancel()
