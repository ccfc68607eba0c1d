"""What watching costs the real controller, as sdiag counts it."""

from __future__ import annotations

import asyncio
import re
from collections import Counter

import pytest

from carme_hub.spawner import overview as overview_module
from carme_hub.spawner import watcher as watcher_module
from carme_hub.spawner.answers import Phase
from carme_hub.spawner.slurm import Slurm
from carme_hub.spawner.watcher import JobRef, Watcher
from tests.integration.fault_world import stopped
from tests.support import until

SESSIONS = 60
QUESTIONS = 5


class Counted(Slurm):
    """Slurm that knows how often it was asked."""

    async def queue(self, job_ids):
        picture = await super().queue(job_ids)
        self.asked.append(len(list(job_ids)))
        return picture


@pytest.fixture
def requests(site):
    """Return a function that says what the controller has been asked since it was last called."""

    def since():
        shown = site.run("sdiag")
        site.run("sdiag", "-r")
        by_type = shown.partition("by message type")[2].partition("by user")[0]
        return Counter(
            {name: int(count) for name, count in re.findall(r"(REQUEST_\w+) .*?count:(\d+)", by_type)}
        )

    since()
    return since


@pytest.fixture(scope="module", autouse=True)
def alone(site):
    """Let the demo site's own hub and service ask nothing: sdiag counts everybody's requests."""
    own = "[j]upyterhub --config|[c]arme_hub[.]service"
    with stopped(site, own, by="-f"):
        asking = f"pgrep --runstates D,R,S -P $(pgrep -d, -f '{own}') -x 's(queue|info|control|acctmgr)'"
        until(lambda: not site.run("bash", "-c", f"{asking} || true"), "the end of what they have just asked")
        yield


@pytest.fixture
def jobs(site):
    """Jobs of rosa that wait and will not start."""
    script = "#!/bin/sh\nexit 0\n"
    loop = (
        f"for n in $(seq {SESSIONS}); do printf '{script!s}' | sbatch --parsable --hold -t 5 --mem=10; done"
    )
    numbers = [int(word) for word in site.run("bash", "-c", f"cd /tmp; {loop}", user="rosa").split()]
    yield numbers
    site.run("scancel", *map(str, numbers))


def cluster(site):
    slurm = Counted(conf=site.slurm_conf)
    object.__setattr__(slurm, "asked", [])
    return slurm


async def watched(site, jobs, times):
    """Watch jobs until Slurm was asked so often, while somebody waits."""
    slurm = cluster(site)
    watcher = Watcher(slurm)
    for job in jobs:
        watcher.watch(JobRef(job))
    try:
        with watcher.waiting():
            async with asyncio.timeout(60):
                while len(slurm.asked) < times:  # noqa: ASYNC110 - the count has no event
                    await asyncio.sleep(0.01)
        assert {watcher.view(JobRef(job)).phase for job in jobs} == {Phase.PENDING}
    finally:
        await watcher.close()
    return slurm.asked


async def test_what_the_controller_is_asked_does_not_grow_with_the_sessions(
    site, jobs, requests, monkeypatch
):
    monkeypatch.setattr(watcher_module, "SHORT", 0.05)
    for sessions in (1, 2, SESSIONS):
        requests()
        asked = await watched(site, jobs[:sessions], QUESTIONS)
        counted = requests()
        assert asked[0] == sessions
        assert {name for name in counted if counted[name] >= QUESTIONS} == {
            "REQUEST_JOB_INFO",
            "REQUEST_PARTITION_INFO",
        }
        # One more may have been on its way when the watch ended.
        assert max(counted.values()) <= len(asked) + 1


async def test_the_nodes_are_asked_for_once_however_many_pages_show_them(site, requests, monkeypatch):
    monkeypatch.setattr(overview_module, "OFTEN", 60.0)
    watcher = Watcher(cluster(site))
    try:
        seen = await watcher.first_cluster(30)
        assert all(watcher.need_cluster() is seen for _ in range(500))
        counted = requests()
    finally:
        await watcher.close()
    assert counted["REQUEST_NODE_INFO"] == 1
    assert seen.partitions["gpu"].nodes == ("node1", "node2", "node3")
    assert seen.partitions["cpu"].default
    assert seen.partitions["teaching"].rules.allow_accounts == {"teaching"}
    assert seen.nodes["node1"].gres == {"gpu:a100": 4}
