"""What is told of a session, from its start to its end: CarmeSpawner with a scripted Slurm."""

from __future__ import annotations

import asyncio
import time
import weakref

import pytest

from carme_hub.spawner import events, homecare, memorywatch, warner
from carme_hub.spawner.answers import Ending, Phase, QueueEntry
from carme_hub.spawner.brief import view_of
from carme_hub.spawner.events import Kind
from carme_hub.spawner.told import Told
from carme_hub.spawner.watcher import View
from tests.unit import test_spawner as world

make, slurm, running = world.make, world.slurm, world.running
until, listen, refusal = world.until, world.listen, world.refusal
NOW = 1_700_000_000


@pytest.fixture
def heard():
    """All that is told while the test runs."""
    told = []
    unlisten = events.listen(told.append)
    yield told
    unlisten()


def kinds(heard):
    return [event.kind for event in heard]


async def started(make, slurm, **options):
    one = make()
    one.user_options = options
    start = asyncio.ensure_future(one.start())
    await listen(one, slurm)
    await asyncio.wait_for(start, 5)
    return one


async def test_a_start_tells_what_was_asked_for_and_where_it_runs(make, slurm, heard):
    before = time.time()
    await started(make, slurm, gpus=2, nodes=2, time=60)
    assert kinds(heard) == [Kind.SUBMITTED, Kind.RUNNING, Kind.READY]
    submitted, _, ready = heard
    assert (ready.user, ready.server, ready.cluster, ready.job, ready.node) == (
        "rosa",
        "",
        "slurm",
        7,
        "node1",
    )
    assert submitted.options == {
        "profile": "gpu",
        "image": "base",
        "gpus": 2,
        "gpu_type": "a100",
        "nodes": 2,
        "time": 60,
    }
    facts = submitted.facts
    assert (facts.profile, facts.title, facts.image, facts.partition) == ("gpu", "GPU session", "base", "gpu")
    assert (facts.nodes, facts.gpus, facts.gpu_type, facts.cpus) == (2, 4, "a100", 8)
    assert (facts.memory, facts.limit) == (8192, 60)
    assert before - 1 <= facts.submitted <= ready.started + 1


async def test_an_end_by_its_owner_says_so(make, slurm, heard):
    one = await started(make, slurm)
    await asyncio.wait_for(one.stop(), 5)
    one.clear_state()
    assert kinds(heard)[-1] is Kind.ENDED
    end = heard[-1]
    assert (end.state, end.stopped, end.by, end.sentence, end.was_ready) == ("CANCELLED", True, "", "", True)
    assert end.started is not None


async def test_an_end_by_somebody_else_says_by_whom(make, slurm, heard):
    one = await started(make, slurm)
    acting = events.ACTING.set("zoe")
    await asyncio.wait_for(one.stop(), 5)
    events.ACTING.reset(acting)
    one.clear_state()
    assert (heard[-1].stopped, heard[-1].by) == (True, "zoe")


@pytest.mark.parametrize(
    "last_seen",
    [
        QueueEntry(7, "PENDING", "Resources", start=NOW + 60, end=NOW + 3660),
        # What Slurm shows of a job that was cancelled in the queue.
        QueueEntry(7, "CANCELLED", start=NOW, end=NOW),
    ],
)
async def test_a_session_that_is_stopped_in_the_queue_never_ran(make, slurm, heard, last_seen):
    one = make()
    start = asyncio.ensure_future(one.start())
    await until(lambda: slurm.submitted)
    slurm.jobs[7] = last_seen
    await until(lambda: (seen := view_of(one)) is not None and seen.state == last_seen.state)
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    await asyncio.wait_for(one.stop(), 5)
    one.clear_state()
    assert kinds(heard) == [Kind.SUBMITTED, Kind.ENDED]
    assert (heard[-1].state, heard[-1].started, heard[-1].was_ready) == ("CANCELLED", None, False)


async def test_a_start_that_fails_says_why(make, slurm, heard):
    one = make()
    slurm.end = Ending("OUT_OF_MEMORY")
    start = asyncio.ensure_future(one.start())
    await until(lambda: slurm.submitted)
    slurm.jobs[7] = QueueEntry(7, "OUT_OF_MEMORY", start=NOW, end=NOW + 5)
    told = await refusal(start)
    await one.stop()
    one.clear_state()
    end = heard[-1]
    assert (end.kind, end.state, end.sentence) == (Kind.ENDED, "OUT_OF_MEMORY", told.jupyterhub_message)
    assert (end.was_ready, end.stopped, end.started) == (False, False, NOW)


async def test_a_server_that_never_listens_is_a_failure_and_no_stop(make, slurm, heard):
    one = make(server_start_timeout=1)
    start = asyncio.ensure_future(one.start())
    await until(lambda: slurm.submitted)
    slurm.jobs[7] = QueueEntry(7, "RUNNING", "", "node1")
    await refusal(start)
    await asyncio.wait_for(one.stop(), 5)
    one.clear_state()
    assert kinds(heard) == [Kind.SUBMITTED, Kind.RUNNING, Kind.ENDED]
    assert "did not listen" in heard[-1].sentence
    assert (heard[-1].state, heard[-1].stopped) == ("CANCELLED", False)


@pytest.mark.parametrize(
    ("state", "words"),
    [("COMPLETED", "by itself"), ("OUT_OF_MEMORY", "more memory"), ("TIMEOUT", "time limit")],
)
async def test_a_session_that_ends_by_itself_says_how(running, slurm, heard, state, words):
    one, _ = await running(poll_interval=3600)
    world.forgets(one)
    slurm.end = Ending(state, exit_code=0)
    slurm.jobs[7] = QueueEntry(7, state, start=NOW, end=NOW + 3600)
    await until(lambda: heard and heard[-1].kind is Kind.ENDED)
    end = heard[-1]
    assert (end.state, end.exit_code, end.at, end.was_ready) == (state, 0, NOW + 3600, True)
    assert words in end.sentence
    assert bool(words) == bool(end.sentence)
    assert not end.stopped


async def test_each_thing_is_told_once(make, slurm, heard):
    one = await started(make, slurm)
    await asyncio.wait_for(one.stop(), 5)
    one.clear_state()
    one.clear_state()
    assert len(heard) == len(set(kinds(heard))) == 4


async def test_a_restarted_hub_tells_again_what_a_killed_one_may_not_have_written(make, slurm, heard):
    one = await started(make, slurm)
    state = one.get_state()
    heard.clear()
    other = make()
    other.load_state(state)
    view = await other.child.watcher.changed(other.child.ref, None)
    assert await asyncio.wait_for(other.child.up_again(), 5)
    assert await asyncio.wait_for(other.child.up_again(), 5), "a route may take several attempts"
    assert kinds(heard) == [Kind.SUBMITTED, Kind.RUNNING, Kind.READY]
    assert view.node == heard[-1].node
    assert heard[0].facts == one.child.facts


async def test_a_refused_start_is_no_session(make, slurm, heard):
    slurm.error = world.SubmitRefused("no")
    one = make()
    await refusal(one.start())
    one.clear_state()
    assert heard == []


# ---- the end of the time limit


def view(left=None, whole=3600, state="RUNNING"):
    phase = Phase.RUNNING if state == "RUNNING" else Phase.PENDING
    end = None if left is None else NOW + left
    return View(phase, state, start=None if end is None else end - whole, end=end)


@pytest.mark.parametrize(
    ("seen", "level"),
    [
        (None, None),
        (view(), None),
        (view(901), None),
        (view(900), 900),
        (view(301), 900),
        (view(300), 300),
        (view(1), 300),
        (view(0), None),
        (view(-5), None),
        (view(800, whole=840), None),  # it never had that much time
        (view(299, whole=840), 300),
        (view(200, state="PENDING"), None),
    ],
)
def test_a_warning_is_due_from_its_moment_to_the_next_one(seen, level):
    assert warner.due(seen, [900.0, 300.0], NOW) == level


async def test_the_end_is_warned_of_once_and_again_when_it_was_put_off(running, slurm, heard, monkeypatch):
    monkeypatch.setattr(warner, "INTERVAL", 0.01)
    # What other tests' loops and sessions have left behind is not this one's.
    monkeypatch.setattr(warner, "_tasks", [])
    monkeypatch.setattr(warner, "_WATCHED", weakref.WeakKeyDictionary())
    one, ended = await running(poll_interval=3600)
    now = int(time.time())

    def warned():
        return [(event.left, event.end) for event in heard if event.kind is Kind.ENDS_SOON]

    def end(left):
        slurm.jobs[7] = QueueEntry(7, "RUNNING", "", "node1", start=now - 7200, end=now + left)

    end(600)
    await until(lambda: len(warned()) == 1)
    end(250)
    await until(lambda: len(warned()) == 2)
    end(5000)
    await until(lambda: one.child.view.end == now + 5000)
    end(700)
    await until(lambda: len(warned()) == 3)
    assert warned() == [(900, now + 600), (300, now + 250), (900, now + 700)]
    slurm.jobs.clear()
    await until(lambda: ended)


async def test_oom_is_told_once_and_the_end_remembers_it(make, slurm, heard):
    one = await started(make, slurm)
    assert one.take_told(Told(killed=1))
    assert one.take_told(Told(killed=2))
    assert one.child.troubles == [memorywatch.sentence(one.child.memory_of_a_node)]
    assert kinds(heard)[-1] is Kind.OUT_OF_MEMORY
    assert kinds(heard).count(Kind.OUT_OF_MEMORY) == 1
    said = heard[-1].sentence
    assert said.startswith("A program in this session was stopped")
    state = one.get_state()
    assert state["told"] == {"home": [], "killed": 2, "log": ""}
    await one.stop()
    one.clear_state()
    assert heard[-1].kind is Kind.ENDED
    assert heard[-1].sentence == said
    assert not one.take_told(Told(killed=1))


async def test_c12_what_is_wrong_with_a_home_is_told_and_taken_back(make, slurm, heard, monkeypatch):
    one = await started(make, slurm)
    before = len(heard)
    assert one.take_told(Told(home=("full",), log="the end"))
    assert one.child.troubles == [homecare.sentence("full")]
    assert (await one.child._left_behind(7))[1] == "<last words>\n", "the log in its place counts"

    async def nothing(*_):
        return ""

    monkeypatch.setattr(slurm, "log_tail", nothing)
    assert (await one.child._left_behind(7))[1] == "the end"
    assert one.take_told(Told())
    assert one.child.troubles == []
    assert len(heard) == before, "nobody needs a message of it"
