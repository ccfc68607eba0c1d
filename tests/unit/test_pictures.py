"""The readers of the clusters: when they ask, what stays when nobody answers, and what pages are told."""

import asyncio
import json
import logging
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from traitlets.config import Config

from carme_hub.service import pictures, queue, shapes
from carme_hub.service.forecast import Request
from carme_hub.service.pictures import Pictures, Reader, readers_of
from carme_hub.spawner import cluster, overview
from carme_hub.spawner.catalog import CatalogError
from carme_hub.spawner.slurm import SlurmUnavailable
from carme_hub.spawner.timelimit import Reservation

RECORDED = Path(__file__).parents[1] / "fixtures" / "queue-24.11"
SEEN = cluster.parse_nodes((RECORDED / "sinfo.txt").read_text(), 0.0)
JOBS = queue.parse((RECORDED / "squeue.txt").read_text(), "0123456789abcdef")[0]
LOG = logging.getLogger("tests")


class RecordedSlurm:
    """In Slurm's place, since it can be told to fall silent and how long to take."""

    def __init__(self):
        self.asked = 0
        self.silent = False
        self.seen, self.listed = SEEN, JOBS
        self.closed = []

    async def cluster(self):
        self.asked += 1
        if self.silent:
            raise SlurmUnavailable("sinfo did not answer.")
        return self.seen

    async def jobs(self, wanted, parse):
        assert wanted.startswith("JobID:")
        assert callable(parse)
        if self.silent:
            raise SlurmUnavailable("squeue did not answer.")
        return self.listed, True

    async def reservations(self):
        if isinstance(self.closed, Exception):
            raise self.closed
        return self.closed


class Shelf:
    """In the database's place, since it can be away."""

    def __init__(self, stored=None):
        self.stored = stored
        self.kept = []
        self.away = False
        self.read = 0

    def load(self, name):
        if self.away:
            raise OSError("the disk is gone")
        return self.stored if self.stored and self.stored["name"] == name else None

    def keep(self, picture):
        if self.away:
            raise OSError("the disk is gone")
        self.kept.append(picture)

    def past(self, name, since):
        assert time.time() - since > 86000
        assert name == "big"
        self.read += 1
        if self.away:
            raise OSError("the disk is gone")
        return {"at": [1], "series": {"cpu": {"used": [2]}}}


class World:
    """Pictures of one cluster, and what they told."""

    def __init__(self, **options):
        self.slurm = RecordedSlurm()
        self.shelf = options.pop("shelf", Shelf())
        self.reader = Reader("big", self.slurm, LOG)
        self.told = []
        self.looks = False
        self.pictures = Pictures(
            [self.reader], self.shelf, self.told.append, lambda: self.looks, LOG, **options
        )

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - of several things, none of which tells
                await asyncio.sleep(0.005)


@pytest.fixture
async def world(monkeypatch):
    """Return a world whose clock is a hundred times faster; its reading ends with the test."""
    monkeypatch.setattr(overview, "OFTEN", 0.05)
    monkeypatch.setattr(overview, "SLOWEST", 0.2)
    monkeypatch.setattr(pictures, "SELDOM", 60.0)
    monkeypatch.setattr(pictures, "LOOKING", 0.1)
    monkeypatch.setattr(pictures, "_GLANCE", 0.01)
    made = World()
    made.task = None
    yield made
    if made.task:
        made.task.cancel()
        await asyncio.gather(made.task, return_exceptions=True)


def begin(world):
    world.task = asyncio.create_task(world.pictures.run())


async def test_a_picture_is_taken_at_once_told_and_kept(world):
    begin(world)
    await world.until(lambda: world.shelf.kept)
    newest = world.told[-1]
    (one,) = newest["clusters"]
    assert (one["name"], one["silent_since"], newest["at"]) == ("big", None, one["at"])
    assert abs(one["at"] - time.time()) < 5
    assert [kept["at"] for kept in world.shelf.kept] == [one["at"]]
    json.dumps(newest)


async def test_slurm_is_asked_often_while_somebody_looks_and_seldom_when_nobody_does(world):
    world.looks = True
    begin(world)
    await world.until(lambda: world.slurm.asked >= 4)
    world.looks = False
    await asyncio.sleep(0.3)
    before = world.slurm.asked
    await asyncio.sleep(0.5)
    assert world.slurm.asked == before
    world.pictures.looked()
    await world.until(lambda: world.slurm.asked > before)


async def test_the_picture_is_kept_seldom_however_many_look(world):
    world.looks = True
    begin(world)
    await world.until(lambda: world.slurm.asked >= 5)
    assert len(world.shelf.kept) == 1


async def test_when_slurm_falls_silent_the_last_picture_stays_with_its_time(world):
    world.looks = True
    begin(world)
    await world.until(lambda: world.told and world.told[-1]["clusters"])
    world.slurm.silent = True
    await world.until(lambda: world.told[-1]["clusters"][0]["silent_since"])
    (one,) = world.told[-1]["clusters"]
    assert one["resources"]
    assert one["silent_since"] >= one["at"]
    world.slurm.silent = False
    await world.until(lambda: world.told[-1]["clusters"][0]["silent_since"] is None)


async def test_who_fails_is_asked_less_and_less_often(world):
    world.looks = world.slurm.silent = True
    assert overview.pause(3, 0.0) > overview.pause(0, 0.0)
    begin(world)
    await world.until(lambda: world.slurm.asked >= 3)
    assert world.told[-1] == {"at": None, "clusters": []}


async def test_after_a_restart_while_slurm_is_away_the_stored_picture_is_shown(world):
    yesterday = int(time.time()) - 86400
    stored = shapes.picture_of("big", yesterday, SEEN, JOBS, shapes.resources_of(SEEN, JOBS, yesterday))
    world.shelf.stored = json.loads(json.dumps(stored))
    world.slurm.silent = True
    begin(world)
    await world.until(lambda: world.told and world.told[-1]["clusters"][0]["silent_since"])
    assert world.told[-1]["at"] == yesterday
    chart = await world.pictures.chart("big")
    assert (chart["past"]["at"], chart["forecast"]) == ([1], None)
    assert await world.reader.start_of(Request("gpu")) is None


async def test_without_the_database_there_is_still_the_picture_of_now(world):
    world.shelf.away = True
    begin(world)
    await world.until(lambda: world.told and world.told[-1]["clusters"])
    chart = await world.pictures.chart("")
    assert chart["past"] == {"at": [], "series": {}}
    assert chart["forecast"]["series"]["gpu:a100"]["total"][0] == 4


async def test_while_the_database_hangs_there_are_pictures_all_the_same(world, monkeypatch):
    monkeypatch.setattr(pictures, "_PATIENCE", 0.05)
    answers = threading.Event()
    for name in ("load", "keep", "past"):
        monkeypatch.setattr(world.shelf, name, lambda *_: answers.wait(20))
    world.looks = True
    try:
        begin(world)
        await world.until(lambda: world.slurm.asked >= 3)
        chart = await asyncio.wait_for(world.pictures.chart(""), 5)
        assert chart["past"] == {"at": [], "series": {}}
    finally:
        answers.set()


async def test_the_chart_is_made_once_for_all_who_ask(world):
    begin(world)
    await world.until(lambda: world.told and world.told[-1]["clusters"])
    charts = await asyncio.gather(*(world.pictures.chart("big") for _ in range(50)))
    assert world.shelf.read == 1
    assert all(one is charts[0] for one in charts)
    assert await world.pictures.chart("elsewhere") is None


async def test_what_cannot_be_understood_is_a_failure_and_no_end(world, caplog):
    world.looks = True
    world.slurm.listed = None
    begin(world)
    await world.until(lambda: world.slurm.asked >= 2)
    assert "was not understood" in caplog.text
    world.slurm.listed = JOBS
    await world.until(lambda: world.told[-1]["clusters"])


async def test_reservations_are_part_of_the_forecast_and_not_needed_for_it(world):
    now = int(time.time())
    nodes = "n[1-3,6]"
    world.slurm.listed = []
    world.slurm.seen = replace(
        SEEN, nodes={n: replace(x, gres_used={}, cpus_used=0, memory_used=0) for n, x in SEEN.nodes.items()}
    )
    world.slurm.closed = [Reservation("upgrade", now - 60, now + 7200, nodes, frozenset({"MAINT"}))]
    assert await world.reader.read()
    assert await world.reader.start_of(Request("gpu")) == now + 7200
    world.slurm.closed = SlurmUnavailable("scontrol did not answer.")
    assert await world.reader.read()
    assert abs(await world.reader.start_of(Request("gpu")) - now) < 5


# --- What pages are told


def numbers(now):
    return shapes.resources_of(SEEN, JOBS, now)


def recorded_at():
    return json.loads((RECORDED / "jobs.json").read_text())["now"]


def test_resources_are_counted_by_kind_with_gpus_first_and_cores_last():
    found = numbers(recorded_at())
    assert list(found) == ["gpu", "gpu:1g.10gb", "gpu:2g.20gb", "gpu:a100", "gpu:h100", "shard:a100", "cpu"]
    assert found["gpu:a100"] == {"total": 4, "used": 2, "down": 0, "queued": 0}
    assert found["shard:a100"]["used"] == 3
    # n5 is down, all other nodes are in service.
    assert found["cpu"]["down"] == 8
    # 501 tasks of one GPU, and what "next", "after" want; "per job" wants 2 of any type.
    assert found["gpu:h100"]["queued"] == 501 + 2 + 2


def test_a_draining_node_is_in_use_while_somebody_is_on_it():
    seen = replace(SEEN, nodes=SEEN.nodes | {"n1": replace(SEEN.nodes["n1"], state="draining")})
    assert shapes.resources_of(seen, JOBS, recorded_at())["gpu:a100"] == {
        "total": 4,
        "used": 2,
        "down": 2,
        "queued": 0,
    }


def test_the_chart_begins_with_now_and_ends_where_all_limits_are_over():
    now = recorded_at()
    resources = numbers(now)
    view = pictures.look("big", now, SEEN, JOBS, [])
    chart = view.chart
    assert (chart["at"][0], chart["at"][-1], chart["as_of"]) == (now, now + 86400, now)
    for name, series in chart["series"].items():
        assert series["used"][0] <= series["total"][0]
        assert series["queued"][0] <= resources[name]["queued"]
        assert all(0 <= used <= series["total"][0] for used in series["used"])
    a100 = chart["series"]["gpu:a100"]["used"]
    # 2 until their limit of 30 minutes; then a job on three whole nodes takes one for 20.
    assert (a100[0], a100[-1]) == (2, 0)
    assert chart["series"]["gpu:h100"]["queued"][-1] < chart["series"]["gpu:h100"]["queued"][0]


def test_many_nodes_are_not_in_the_stream():
    picture = {"name": "x", "nodes": [{"name": str(n)} for n in range(41)]}
    assert (shapes.shortened(picture)["nodes"], shapes.shortened(picture)["nodes_total"]) == ([], 41)
    picture["nodes"].pop()
    assert len(shapes.shortened(picture)["nodes"]) == 40


def test_no_page_is_told_whose_jobs_they_are_or_their_numbers():
    now = recorded_at()
    view = pictures.look("big", now, SEEN, JOBS, [])
    text = json.dumps([view.picture, view.chart])
    assert "rosa" not in text
    assert "job" not in text.replace("jobs", "")


# --- Which clusters there are


def test_one_reader_for_each_cluster_of_the_site():
    config = Config()
    config.CarmeSpawner.slurm_conf = "/etc/slurm/slurm.conf"
    config.CarmeSpawner.slurm_time_out = 7
    (only,) = readers_of(config, LOG)
    assert (only.name, only._slurm.conf, only._slurm.time_out) == ("slurm", "/etc/slurm/slurm.conf", 7.0)
    config.CarmeSpawner.clusters = {"big": {"slurm_conf": "/etc/big.conf"}, "small": {}}
    big, small = readers_of(config, LOG)
    assert (big._slurm.conf, small._slurm.conf) == ("/etc/big.conf", "/etc/slurm/slurm.conf")
    config.CarmeSpawner.clusters = {"local": {}}
    with pytest.raises(CatalogError):
        readers_of(config, LOG)
