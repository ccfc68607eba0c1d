"""The picture of all sessions: what is in it, what it costs, and who is woken by news."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace

import pytest
from jupyterhub.scopes import Scope

from carme_hub.spawner import board as module
from carme_hub.spawner import roll
from carme_hub.spawner.answers import QueueEntry
from carme_hub.spawner.board import Board, readable
from tests.unit import test_spawner as world

make, slurm = world.make, world.slurm
MANY = 300
NOW = int(time.time())
FIELDS = {
    *("user", "name", "display_name", "cluster", "job", "profile", "title", "image", "image_title", "what"),
    *("options", "state", "slurm_state", "reason", "place", "expected_start", "start", "end", "limit"),
    *("warn_before", "extend", "node", "nodes", "cpus", "memory", "gpus", "gpu_type", "progress", "message"),
    *("reason_text", "advice", "apps", "url", "submitted", "troubles"),
}


def everybody(_user, _server):
    return True


@pytest.fixture
def board(monkeypatch):
    monkeypatch.setattr(roll, "_HERE", {})
    monkeypatch.setattr(roll, "_LISTENERS", [])
    monkeypatch.setattr(module, "GAP", 0.0)
    return Board()


@pytest.fixture
def described(monkeypatch):
    """The sessions that were described, each time."""
    told = []

    def counted(spawner, *more):
        told.append(spawner)
        return module_brief(spawner, *more)

    module_brief = module.brief
    monkeypatch.setattr(module, "brief", counted)
    return told


@pytest.fixture
def session(make, slurm):
    """Return a function that makes a session of before the hub's restart."""
    made = []

    def new(number, owner=None, state="RUNNING"):
        one = make(owner or f"u{number}")
        one.user.server_url = lambda name, owner=one.user.name: f"/user/{owner}/{name}"
        options = {"profile": "gpu", "image": "base", "gpus": 1, "gpu_type": "a100", "nodes": 2, "time": 60}
        slurm.jobs[number] = entry(number, state)
        port = 40000 if state == "RUNNING" else 0
        one.load_state({"job_id": str(number), "session": options, "port": port, "node": "n1"})
        one.child.watcher.watch(one.child.ref)
        made.append(one)
        return one

    yield new
    for one in made:
        one.clear_state()


def entry(number, state="RUNNING", place=None, end=3600):
    if state == "RUNNING":
        return QueueEntry(number, state, "", "n1", NOW, NOW + end)
    return QueueEntry(number, state, "Priority", "", NOW + 7200, None, place)


async def seen(*sessions):
    for one in sessions:
        await one.child.watcher.changed(one.child.ref, None)


def told(board, may=everybody):
    return [json.loads(text) for text in board.picture(may)[1]]


async def test_a_session_has_all_fields_and_values_of_json(board, session):
    one, other = session(7), session(8, state="PENDING")
    await seen(one, other)
    first, second = told(board)
    assert first.keys() == second.keys() == FIELDS
    assert (first["user"], first["job"], first["nodes"], first["gpus"]) == ("u7", 7, 2, 2)
    assert (first["start"], first["end"], first["limit"]) == (NOW, NOW + 3600, 60)
    assert first["apps"][0] == {"title": "JupyterLab", "url": "/user/u7/lab"}
    assert first["warn_before"] == [900, 300]
    assert (second["state"], second["reason"], second["expected_start"]) == (
        "pending",
        "Priority",
        NOW + 7200,
    )
    assert second["reason_text"]
    assert (second["start"], second["node"], second["message"] != "") == (None, "n1", True)


async def test_a_session_is_in_the_picture_from_its_start_to_its_end(board, make, slurm):
    one = make()
    one.user.server_url = lambda _name: "/user/rosa/"
    slurm.gate = asyncio.Event()
    start = asyncio.ensure_future(one.start())
    await world.until(lambda: one.child is not None)
    assert [(shown["state"], shown["title"]) for shown in told(board)] == [("starting", "GPU session")]
    slurm.gate.set()
    await world.listen(one, slurm)
    await asyncio.wait_for(start, 5)
    one._server = object()  # as JupyterHub does next
    assert told(board)[0]["state"] == "running"
    one._stop_pending = True
    assert told(board)[0]["state"] == "stopping"
    await asyncio.wait_for(one.stop(), 5)
    one.clear_state()
    assert told(board) == []


async def test_only_what_has_changed_is_described_again(board, session, slurm, described):
    sessions = [session(number) for number in range(1, MANY + 1)]
    await seen(*sessions)
    revision, texts = board.picture(everybody)
    assert (len(texts), len(described)) == (MANY, MANY)
    described.clear()
    assert board.picture(everybody)[0] == revision
    assert described == []
    slurm.jobs[5] = entry(5, end=7200)
    fifth = sessions[4].child
    await fifth.watcher.changed(fifth.ref, fifth.view)
    assert board.picture(everybody)[0] != revision
    assert described == [sessions[4]]


async def test_the_database_is_asked_once_for_each_session(board, session, slurm, described):
    asked = []
    one = session(1, state="PENDING")
    one.user.server_url = lambda name: asked.append(name) or "/user/u1/"
    await seen(one)
    for place in (3, 2, 1):
        slurm.jobs[1] = entry(1, "PENDING", place)
        await one.child.watcher.changed(one.child.ref, one.child.view)
        board.picture(everybody)
    assert len(described) == 3
    assert len(asked) == 1


async def test_who_may_read_some_sees_some_and_hears_of_nothing_else(board, session, slurm):
    mine, other = session(1, "rosa"), session(2, "ravi")
    await seen(mine, other)

    def may(user, _server):
        return user == "rosa"

    revision = board.picture(may)[0]
    assert [one["user"] for one in told(board, may)] == ["rosa"]
    slurm.jobs[2] = entry(2, end=7200)
    await other.child.watcher.changed(other.child.ref, other.child.view)
    assert board.picture(may)[0] == revision
    assert len(told(board)) == 2


async def test_news_wake_who_waits_all_at_once_and_not_too_often(board, session, monkeypatch):
    monkeypatch.setattr(module, "GAP", 0.2)
    board.picture(everybody)
    began = time.monotonic()
    waiting = [asyncio.ensure_future(board.wait(10)) for _ in range(3)]
    await asyncio.sleep(0)
    for number in range(1, 20):
        session(number)
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert 0.1 < time.monotonic() - began < 5
    await board.wait(0.01)  # nothing more


async def test_news_are_heard_soon_that_come_right_after_somebody_else_has_looked(
    board, session, monkeypatch
):
    monkeypatch.setattr(module, "GAP", 0.2)
    board.picture(everybody)
    await asyncio.sleep(0.25)
    session(1)
    assert len(told(board)) == 1  # an admin's page, between the news and the wake of who follows
    session(2)
    async with asyncio.timeout(5):
        while len(told(board)) < 2:
            await board.wait(10)


async def test_a_hub_that_starts_again_has_other_revisions(board, session):
    one = session(1)
    await seen(one)
    assert board.picture(everybody)[0] != Board().picture(everybody)[0]


class Database:
    """Stands in for JupyterHub's where a group's members are asked for."""

    def __init__(self, *members):
        self.members = members

    def query(self, _column):
        return self

    join = filter = query

    def __iter__(self):
        return iter((name,) for name in self.members)


@pytest.mark.parametrize(
    ("granted", "wanted"),
    [
        (Scope.ALL, {"rosa/", "rosa/big", "ravi/"}),
        ({"user": ["rosa"]}, {"rosa/", "rosa/big"}),
        ({"server": ["rosa/big"]}, {"rosa/big"}),
        ({"group": ["class"]}, {"ravi/"}),
        ({"group": ["class"], "server": ["rosa/"]}, {"ravi/", "rosa/"}),
        ({"service": ["x"]}, set()),
        ({}, set()),
    ],
)
def test_what_may_be_read_follows_jupyterhubs_filters(granted, wanted):
    may = readable(granted, Database("ravi"))
    found = {
        f"{user}/{server}"
        for user, server in (("rosa", ""), ("rosa", "big"), ("ravi", ""))
        if may(user, server)
    }
    assert found == wanted


def test_a_session_without_rows_is_no_part_of_it(board):
    roll._HERE[1] = SimpleNamespace(child=None)
    assert told(board) == []
