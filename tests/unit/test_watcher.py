"""The watcher with a scripted Slurm: a real one is not slow, silent or forgetful at the right moment."""

import asyncio
import logging
import time

import pytest

from carme_hub.spawner import watcher as module
from carme_hub.spawner.answers import PHASES, UNKNOWN, Ending, Phase, Picture, QueueEntry
from carme_hub.spawner.slurm import SlurmUnavailable
from carme_hub.spawner.watcher import JobRef, View, Watcher


class ScriptedSlurm:
    def __init__(self):
        self.states = {}
        self.asked = []
        self.endings = {}
        self.endings_asked = []
        self.owners = []
        self.failing = False
        self.complete = True
        self.only_asked = False  # as the real one answers
        self.gate = self.slow = None
        self.late = 0.0

    async def queue(self, job_ids):
        self.asked.append(sorted(job_ids))
        taken_at = time.monotonic() - self.late
        if self.gate is not None:
            await self.gate.wait()
        if self.failing:
            raise SlurmUnavailable("Unable to contact slurm controller")
        await asyncio.sleep(0)
        entries = {
            job: QueueEntry(job, *(state if isinstance(state, tuple) else (state,)))
            for job, state in self.states.items()
            if job in job_ids or not self.only_asked
        }
        return Picture(taken_at, entries, self.complete)

    async def ending(self, job_id, owner=None):
        self.endings_asked.append(job_id)
        self.owners.append(owner)
        if self.slow is not None:
            await self.slow.wait()
        return self.endings.get(job_id)


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(module, "SHORT", 0.01)
    monkeypatch.setattr(module, "GAP", 0.005)
    monkeypatch.setattr(module, "LONG", 0.05)
    monkeypatch.setattr(module, "PATIENT", 0.02)


@pytest.fixture
def slurm():
    return ScriptedSlurm()


@pytest.fixture
async def watcher(slurm):
    made = Watcher(slurm)
    yield made
    for job in list(made._jobs):
        made.forget(job)
    if made._task is not None:
        await asyncio.wait_for(made._task, 5)


async def soon(awaitable):
    return await asyncio.wait_for(awaitable, 5)


async def asked_times(slurm, times):
    async with asyncio.timeout(5):
        while len(slurm.asked) < times:  # noqa: ASYNC110 - the scripted Slurm has no event
            await asyncio.sleep(0.01)


async def test_one_question_for_all_jobs(slurm, watcher):
    slurm.states = dict.fromkeys(range(1, 101), "RUNNING")
    for job in slurm.states:
        watcher.watch(JobRef(job))
    await soon(asyncio.gather(*(watcher.changed(JobRef(job), None) for job in slurm.states)))
    assert slurm.asked[0] == list(range(1, 101))
    assert len(slurm.asked) == 1


async def test_nothing_is_asked_when_nothing_is_watched(slurm, watcher):
    slurm.states = {1: "RUNNING"}
    watcher.watch(JobRef(1))
    await soon(watcher.changed(JobRef(1), None))
    watcher.forget(JobRef(1))
    await soon(watcher._task)
    asked = len(slurm.asked)
    await asyncio.sleep(0.1)
    assert len(slurm.asked) == asked
    watcher.watch(JobRef(1))
    assert (await soon(watcher.changed(JobRef(1), None))).phase is Phase.RUNNING


async def test_all_who_wait_are_woken(slurm, watcher):
    slurm.states = {1: ("PENDING", "Resources")}
    watcher.watch(JobRef(1), submitted=True)
    with watcher.waiting():
        first = await soon(watcher.changed(JobRef(1), None))
        assert (first.phase, first.reason) == (Phase.PENDING, "Resources")
        waiting = [asyncio.ensure_future(watcher.changed(JobRef(1), first)) for _ in range(3)]
        slurm.states = {1: ("RUNNING", "", "node1")}
        views = await soon(asyncio.gather(*waiting))
    assert {view.node for view in views} == {"node1"}


async def test_who_waits_for_a_forgotten_job_is_woken(slurm, watcher):
    slurm.states = {1: "RUNNING"}
    watcher.watch(JobRef(1))
    seen = await soon(watcher.changed(JobRef(1), None))
    waiting = asyncio.ensure_future(watcher.changed(JobRef(1), seen))
    await asyncio.sleep(0)
    watcher.forget(JobRef(1))
    assert await soon(waiting) is None


async def test_a_failure_changes_nothing_and_is_logged_once(slurm, watcher, caplog):
    slurm.states = {1: "RUNNING"}
    watcher.watch(JobRef(1))
    seen = await soon(watcher.changed(JobRef(1), None))
    slurm.failing = True
    with caplog.at_level(logging.WARNING), watcher.waiting():
        asked = len(slurm.asked)
        await asked_times(slurm, asked + 3)
    assert watcher.view(JobRef(1)) == seen
    assert len(caplog.records) == 1
    slurm.failing, slurm.states = False, {1: "COMPLETED"}
    assert (await soon(watcher.changed(JobRef(1), seen))).phase is Phase.ENDED


async def test_a_picture_older_than_the_submission_says_nothing(slurm, watcher):
    slurm.states, slurm.late = {}, 3600.0
    watcher.watch(JobRef(1), submitted=True)
    await asked_times(slurm, 3)
    assert watcher.view(JobRef(1)) is None
    assert not slurm.endings_asked
    slurm.late = 0.0
    assert (await soon(watcher.changed(JobRef(1), None))).phase is Phase.ENDED


async def test_a_missing_job_is_gone_and_accounting_is_asked_once(slurm, watcher):
    slurm.endings = {1: Ending("OUT_OF_MEMORY")}
    watcher.watch(JobRef(1))
    view = await soon(watcher.changed(JobRef(1), None))
    if view.ending is None:
        view = await soon(watcher.changed(JobRef(1), view))
    assert (view.phase, view.state, view.ending) == (Phase.ENDED, "OUT_OF_MEMORY", Ending("OUT_OF_MEMORY"))
    await asyncio.sleep(0.15)
    assert slurm.endings_asked == [1]
    assert len(slurm.asked) == 1, "an ended job is not asked for again"


async def test_somebody_elses_job_of_the_same_number_is_not_the_sessions(slurm, watcher):
    """A controller killed before it has written a job down gives the job's number to the next."""
    slurm.states = {1: ("RUNNING", "", "node1", None, None, None, 20004)}
    slurm.endings = {1: Ending("PENDING")}  # as accounting last heard of the job
    watcher.watch(JobRef(1, 20004), submitted=True)
    seen = await soon(watcher.changed(JobRef(1, 20004), None))
    assert (seen.phase, seen.node) == (Phase.RUNNING, "node1")
    slurm.states = {1: ("RUNNING", "", "node2", None, None, None, 20005)}
    with watcher.waiting():
        view = await soon(watcher.changed(JobRef(1, 20004), seen))
        if view.ending is None:
            view = await soon(watcher.changed(JobRef(1, 20004), view))
    assert (view.phase, view.ending, slurm.owners) == (Phase.ENDED, Ending(UNKNOWN), [20004])


async def test_somebody_elses_job_is_not_cancelled_for_an_abandoned_one(slurm, watcher):
    cancelled = []

    async def cancel():
        cancelled.append(1)

    slurm.states = {1: ("RUNNING", "", "node2", None, None, None, 20005)}
    watcher.abandon(JobRef(1, 20004), cancel)
    await soon(watcher._task)
    assert not cancelled


async def test_the_job_of_a_row_without_an_owner_is_anybodys(slurm, watcher):
    """Rows of before this was written down."""
    slurm.states = {1: ("RUNNING", "", "node2", None, None, None, 20005)}
    watcher.watch(JobRef(1))
    assert (await soon(watcher.changed(JobRef(1), None))).phase is Phase.RUNNING


async def test_nothing_follows_from_a_job_that_is_missing_in_an_answer_that_is_not_whole(
    slurm, watcher, caplog
):
    cancelled = []

    async def cancel():
        cancelled.append(2)

    slurm.complete = False
    watcher.watch(JobRef(1))
    watcher.abandon(JobRef(2), cancel)
    await asked_times(slurm, 3)
    assert watcher.view(JobRef(1)) is None
    assert watcher.abandoned == {2}
    assert caplog.text.count("could be read") == 1
    assert slurm.asked[-1] == [1, 2]
    slurm.complete = True
    assert (await soon(watcher.changed(JobRef(1), None))).phase is Phase.ENDED
    assert not cancelled, "it is not known to be there"


async def test_a_job_that_is_abandoned_during_a_question_is_not_gone_by_its_answer(slurm, watcher):
    async def cancel():
        slurm.states[8] = "CANCELLED"

    slurm.only_asked, slurm.gate = True, asyncio.Event()
    slurm.states = {7: "RUNNING", 8: "RUNNING"}
    watcher.watch(JobRef(7))
    await asked_times(slurm, 1)
    watcher.abandon(JobRef(8), cancel)
    slurm.gate.set()
    async with asyncio.timeout(5):
        while slurm.states[8] == "RUNNING":  # noqa: ASYNC110 - the scripted Slurm has no event
            await asyncio.sleep(0.01)


async def test_slow_accounting_holds_nobody_up(slurm, watcher):
    slurm.slow = asyncio.Event()
    slurm.states = {1: "FAILED", 2: "PENDING", 3: "TIMEOUT"}
    for job in slurm.states:
        watcher.watch(JobRef(job))
    with watcher.waiting():
        ended = await soon(watcher.changed(JobRef(1), None))
        assert (ended.phase, ended.ending) == (Phase.ENDED, None)
        pending = await soon(watcher.changed(JobRef(2), None))
        slurm.states[2] = "RUNNING"
        assert (await soon(watcher.changed(JobRef(2), pending))).phase is Phase.RUNNING
    assert sorted(slurm.endings_asked) == [1, 3], "at the same time"
    slurm.endings = {1: Ending("FAILED", "", 3)}
    slurm.slow.set()
    assert (await soon(watcher.changed(JobRef(1), ended))).ending == Ending("FAILED", "", 3)
    assert (await soon(watcher.changed(JobRef(3), View(Phase.ENDED, "TIMEOUT")))).ending == Ending("TIMEOUT")


async def test_an_abandoned_job_is_cancelled_until_it_has_ended(slurm, watcher, caplog):
    slurm.states = {1: "RUNNING"}
    tries = []

    async def cancel():
        tries.append(time.monotonic())
        if len(tries) == 1:
            raise SlurmUnavailable("no answer")
        if len(tries) == 3:
            slurm.states = {1: "CANCELLED"}

    began = time.monotonic()
    watcher.abandon(JobRef(1), cancel, after=0.2)
    await soon(watcher._task)
    assert len(tries) == 3, "taking the order is not the end: Slurm could start it again"
    assert tries[0] - began >= 0.2
    assert "Job 1 has no session any more" in caplog.text


async def test_an_abandoned_job_that_ends_by_itself_is_let_alone(slurm, watcher):
    slurm.states = {1: "COMPLETING"}
    cancelled = []

    async def cancel():
        cancelled.append(1)

    watcher.abandon(JobRef(1), cancel, after=3600)
    await asked_times(slurm, 2)
    slurm.states = {}
    await soon(watcher._task)
    assert not cancelled


async def test_an_abandoned_job_that_would_start_again_gets_no_time(slurm, watcher):
    slurm.states = {1: "COMPLETING"}

    async def cancel():
        slurm.states = {1: "CANCELLED"}

    watcher.abandon(JobRef(1), cancel, after=3600)
    await asked_times(slurm, 2)
    slurm.states = {1: "PENDING"}
    await soon(watcher._task)


async def test_an_unknown_state_is_alive_with_one_warning(slurm, watcher, caplog):
    slurm.states = {1: "DREAMING"}
    watcher.watch(JobRef(1))
    with watcher.waiting():
        assert (await soon(watcher.changed(JobRef(1), None))).phase is Phase.RUNNING
        await asked_times(slurm, 3)
    assert [record.getMessage() for record in caplog.records if "DREAMING" in record.getMessage()] != []
    assert len(caplog.records) == 1


async def test_a_slow_controller_is_asked_seldom(slurm, watcher):
    slurm.states, slurm.gate = {1: "RUNNING"}, asyncio.Event()
    watcher.watch(JobRef(1))
    with watcher.waiting():
        await asyncio.sleep(0.1)
        slurm.gate.set()
        slurm.gate = None
        await soon(watcher.changed(JobRef(1), None))
        answered = len(slurm.asked)
        await asyncio.sleep(0.1)
    assert len(slurm.asked) <= answered + 1, "a fifth of the time at most"


async def test_many_in_a_hurry_are_one_question(slurm, watcher, monkeypatch):
    monkeypatch.setattr(module, "GAP", 0.1)
    slurm.states = dict.fromkeys(range(200), "RUNNING")
    began = time.monotonic()
    for job in slurm.states:
        watcher.watch(JobRef(job), submitted=True)
        await asyncio.sleep(0.002)
    await soon(asyncio.gather(*(watcher.changed(JobRef(job), None) for job in slurm.states)))
    assert len(slurm.asked) <= (time.monotonic() - began) / 0.1 + 2


async def test_a_hurry_does_not_press_a_slow_controller(slurm, watcher):
    slurm.states, slurm.gate = {1: "RUNNING"}, asyncio.Event()
    watcher.watch(JobRef(1))
    await asyncio.sleep(0.1)
    slurm.gate.set()
    slurm.gate = None
    await soon(watcher.changed(JobRef(1), None))
    answered = len(slurm.asked)
    for _ in range(20):
        watcher.look()
        await asyncio.sleep(0.005)
    assert len(slurm.asked) == answered
    await asked_times(slurm, answered + 1)


async def test_the_place_in_the_queue_is_news(slurm, watcher):
    slurm.states = {1: ("PENDING", "Priority", "", None, None, 7)}
    watcher.watch(JobRef(1))
    with watcher.waiting():
        seen = await soon(watcher.changed(JobRef(1), None))
        slurm.states = {1: ("PENDING", "Priority", "", None, None, 6)}
        assert (seen.place, (await soon(watcher.changed(JobRef(1), seen))).place) == (7, 6)


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ("PENDING", Phase.PENDING),
        ("CONFIGURING", Phase.PENDING),
        ("REQUEUED", Phase.PENDING),
        ("RUNNING", Phase.RUNNING),
        ("SUSPENDED", Phase.RUNNING),
        ("SIGNALING", Phase.RUNNING),
        ("COMPLETING", Phase.ENDING),
        ("CANCELLED", Phase.ENDED),
        ("PREEMPTED", Phase.ENDED),
        ("NODE_FAIL", Phase.ENDED),
    ],
)
def test_states_are_mapped_on_purpose(state, phase):
    assert PHASES[state] is phase
