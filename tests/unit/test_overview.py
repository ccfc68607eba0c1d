"""The cluster's picture with a scripted Slurm: a real one is not slow or silent at the right moment."""

import asyncio
import logging
import time

import pytest

from carme_hub.spawner import overview as module
from carme_hub.spawner.cluster import Cluster
from carme_hub.spawner.slurm import SlurmUnavailable
from carme_hub.spawner.watcher import Watcher


class ScriptedSlurm:
    def __init__(self):
        self.asked = []
        self.failing = False
        self.gate = None

    async def cluster(self):
        self.asked.append(time.monotonic())
        if self.gate is not None:
            await self.gate.wait()
        if self.failing:
            raise SlurmUnavailable("Unable to contact slurm controller")
        return Cluster(self.asked[-1], {}, {})


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    for name, seconds in {"OFTEN": 0.05, "SELDOM": 60.0, "LOOKING": 0.1, "FORGOTTEN": 3600.0}.items():
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture
def slurm():
    return ScriptedSlurm()


@pytest.fixture
async def watcher(slurm):
    made = Watcher(slurm)
    yield made
    await made.close()


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the scripted Slurm has no event
            await asyncio.sleep(0.005)


async def test_a_thousand_pages_are_one_question(slurm, watcher):
    assert watcher.need_cluster() is None
    first = await watcher.first_cluster(5)
    assert all(watcher.need_cluster() is first for _ in range(1000))
    assert (len(slurm.asked), first.taken_at) == (1, slurm.asked[0])


async def test_while_somebody_looks_it_stays_young(slurm, watcher):
    began = time.monotonic()
    while len(slurm.asked) < 5:
        watcher.need_cluster()
        await asyncio.sleep(0.01)
    assert time.monotonic() - began >= 4 * 0.05
    assert watcher.cluster.taken_at >= slurm.asked[3]


async def test_when_nobody_looks_slurm_is_left_alone_until_somebody_does(slurm, watcher, monkeypatch):
    monkeypatch.setattr(module, "LOOKING", 0.0)
    first = await watcher.first_cluster(5)
    # It waits for somebody, and long.
    await until(lambda: watcher._overview._wanted._waiters)
    assert len(slurm.asked) == 1
    assert watcher.need_cluster() is first, "the old picture, at once"
    await until(lambda: len(slurm.asked) == 2)


async def test_a_cluster_that_everybody_forgot_is_not_read_at_all(slurm, watcher, monkeypatch):
    monkeypatch.setattr(module, "FORGOTTEN", 0.2)
    monkeypatch.setattr(module, "SELDOM", 0.06)
    await watcher.first_cluster(5)
    await until(watcher._overview._task.done)
    asked = len(slurm.asked)
    watcher.need_cluster()
    await until(lambda: len(slurm.asked) > asked)


async def test_a_failure_keeps_the_old_picture_and_is_logged_once(slurm, watcher, caplog):
    await watcher.first_cluster(5)
    slurm.failing = True
    with caplog.at_level(logging.WARNING):
        asked = len(slurm.asked)
        await until(lambda: watcher.need_cluster() and len(slurm.asked) >= asked + 3)
    assert len(caplog.records) == 1
    assert watcher.cluster.taken_at <= slurm.asked[asked - 1]
    slurm.failing = False
    old = watcher.cluster
    await until(lambda: watcher.need_cluster() is not old)


async def test_who_waits_for_a_slow_controller_waits_no_longer_than_they_want(slurm, watcher):
    slurm.gate = asyncio.Event()
    assert await watcher.first_cluster(0.05) is None
    slurm.gate.set()
    assert (await watcher.first_cluster(5)).taken_at == slurm.asked[0]


@pytest.mark.parametrize(
    ("failures", "took", "seconds"),
    [
        (0, 0.1, 15.0),
        (0, 10.0, 40.0),  # a slow controller is asked at most a fifth of the time
        (1, 0.1, 30.0),
        (2, 0.1, 60.0),
        (3, 0.1, 120.0),
        (1000, 0.1, 120.0),
        (1000, 60.0, 240.0),
    ],
)
def test_a_controller_that_is_slow_or_fails_is_asked_seldom(monkeypatch, failures, took, seconds):
    monkeypatch.setattr(module, "OFTEN", 15.0)
    assert module.pause(failures, took) == seconds


async def test_who_comes_after_a_pause_waits_a_moment_for_a_new_picture(slurm, watcher):
    await watcher.first_cluster(5)
    await until(lambda: time.monotonic() - watcher.cluster.taken_at > 0.2)  # nobody looks any more
    old = watcher.cluster
    assert await watcher.fresh_cluster(3600, 5) is old, "not old"
    new = await watcher.fresh_cluster(0.01, 5)
    assert new is not old
    asked = len(slurm.asked)
    slurm.gate = asyncio.Event()
    await until(lambda: len(slurm.asked) > asked)
    new = watcher.cluster
    began = time.monotonic()
    assert await watcher.fresh_cluster(0.01, 0.05) is new, "one that takes longer is not waited for"
    assert time.monotonic() - began < 2
    slurm.gate.set()


async def test_nobody_waits_for_a_new_picture_while_slurm_is_slow_or_away(slurm, watcher, monkeypatch):
    old = await watcher.first_cluster(5)
    monkeypatch.setattr(module, "OFTEN", 60.0)
    slurm.failing = True
    await until(lambda: len(slurm.asked) == 2)
    async with asyncio.timeout(2):
        assert await watcher.fresh_cluster(0.0, 60) is old
