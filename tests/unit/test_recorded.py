"""Every parser on what Slurm of several releases really printed; tests/fixtures/record.py records it."""

import json
import re
from pathlib import Path

import pytest

from carme_hub.spawner import answers, cluster, slurm
from carme_hub.spawner.answers import PHASES, Ending, Phase

FIXTURES = Path(__file__).parents[1] / "fixtures"
RELEASES = sorted(FIXTURES.glob("slurm-*"))
REASON = "memory module 3 broken, ticket 4711 | see the wiki"


@pytest.fixture(params=RELEASES, ids=lambda folder: folder.name)
def release(request):
    return request.param


@pytest.fixture
def jobs(release):
    return {
        name: number
        for name, number in json.loads((release / "jobs.json").read_text()).items()
        if name != "version"
    }


@pytest.fixture
def queue(release, jobs):
    return answers.parse_queue((release / "squeue.txt").read_text(), set(jobs.values()))[0]


@pytest.fixture
def seen(release):
    picture = cluster.parse_nodes((release / "sinfo.txt").read_text(), 1.0)
    return cluster.with_rules(
        picture, cluster.parse_partitions((release / "scontrol-partition.txt").read_text())
    )


def read(file):
    return file.read_text() if file.exists() else ""


def test_the_oldest_and_newer_releases_are_recorded():
    assert {"slurm-22.05", "slurm-24.11"} <= {folder.name for folder in RELEASES}


def test_no_job_of_the_queue_is_overlooked(queue, jobs, release):
    assert set(queue) == set(jobs.values())
    everything, whole = answers.parse_queue(read(release / "squeue.txt"), range(1000))
    assert whole
    assert len(everything) == len(read(release / "squeue.txt").splitlines())
    assert {entry.state for entry in everything.values()} <= set(PHASES)


@pytest.mark.parametrize(
    ("name", "phase", "states"),
    [
        ("timeout", Phase.ENDED, {"TIMEOUT"}),
        ("running", Phase.RUNNING, {"RUNNING"}),
        ("hidden", Phase.RUNNING, {"RUNNING"}),
        ("suspended", Phase.RUNNING, {"SUSPENDED"}),
        ("completing", Phase.ENDING, {"COMPLETING"}),
        ("cancelled", Phase.ENDED, {"CANCELLED"}),
        ("completed", Phase.ENDED, {"COMPLETED"}),
        ("failed", Phase.ENDED, {"FAILED"}),
        ("killed", Phase.ENDED, {"FAILED"}),
        ("resources", Phase.PENDING, {"PENDING"}),
        ("held", Phase.PENDING, {"PENDING"}),
        # The part of an array that has not begun, and the first job of several that start together.
        ("array", Phase.PENDING, {"PENDING"}),
        ("het", Phase.RUNNING, {"RUNNING"}),
    ],
)
def test_what_a_job_is_doing(queue, jobs, name, phase, states):
    entry = queue[jobs[name]]
    assert entry.state in states
    assert PHASES[entry.state] is phase
    assert (entry.node != "") == (phase is not Phase.PENDING)
    if phase is Phase.RUNNING and name != "het":
        assert 0 < entry.end - entry.start <= 366 * 86400


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resources", r"Resources"),
        ("priority", r"Priority|ReqNodeNotAvail, .*"),
        ("dependency", r"Dependency"),
        ("held", r"JobHeldUser"),
        ("begin", r"BeginTime"),
        ("closed", r"PartitionDown"),
        ("account", r"AccountNotAllowed|PartitionConfig|Job's account not permitted.*|Nodes required for .*"),
        ("array", r"JobArrayTaskLimit"),
        ("running", r""),
        ("failed", r"NonZeroExitCode"),
    ],
)
def test_why_a_job_waits_or_ended(queue, jobs, name, reason):
    assert re.fullmatch(reason, queue[jobs[name]].reason)


def test_places_in_the_queue(queue, jobs):
    places = {name: queue[number].place for name, number in jobs.items()}
    assert places["resources"] < places["priority"]
    assert {places[name] for name in ("held", "dependency", "begin", "array", "running", "failed")} == {None}
    assert places["closed"] == 1


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("completed", Ending("COMPLETED")),
        ("failed", Ending("FAILED", "NonZeroExitCode", 3)),
        ("killed", Ending("FAILED", "", 0, 9)),
        ("cancelled", Ending("CANCELLED")),
        ("timeout", Ending("TIMEOUT", "TimeLimit")),
    ],
)
def test_how_a_job_ended(release, jobs, name, ending):
    told = answers.parse_job(read(release / f"scontrol-{name}.txt"))
    counted = answers.parse_accounting(read(release / f"sacct-{name}.txt"), jobs[name])
    assert told.state == counted.state == ending.state
    if ending.state in {"COMPLETED", "FAILED"}:  # accounting does not say by which signal Slurm ended others
        for one in (told, counted):
            assert (one.exit_code, one.signal) == (ending.exit_code, ending.signal)
    if ending.reason:
        assert told.reason == ending.reason


def test_a_job_that_is_ending(release, jobs):
    assert answers.parse_job(read(release / "scontrol-completing.txt")).state == "COMPLETING"
    assert (
        answers.parse_accounting(read(release / "sacct-completing.txt"), jobs["completing"]).state
        == "CANCELLED"
    )


def test_a_job_that_was_out_of_memory():
    """Only where control groups watch: on the demo site, which is 22.05."""
    folder = FIXTURES / "demo-22.05"
    number = json.loads((folder / "jobs.json").read_text())["memory"]
    assert answers.parse_job(read(folder / "scontrol-memory.txt")).state == "OUT_OF_MEMORY"
    assert answers.parse_accounting(read(folder / "sacct-memory.txt"), number).state == "OUT_OF_MEMORY"


def test_a_job_that_slurm_does_not_know(release):
    assert answers.parse_job(read(release / "scontrol-unknown.txt")) is None
    assert answers.parse_accounting(read(release / "sacct-unknown.txt"), 4_000_000) is None


@pytest.mark.parametrize(
    ("name", "state", "usable", "reason"),
    [
        ("n1", "mixed", True, ""),
        ("n2", "draining", False, REASON),
        ("n3", "mixed", True, ""),
        ("n4", "completing", True, ""),
        ("n5", "down*", False, REASON),
        ("n6", "allocated", True, ""),
        ("n7", "drained", False, REASON),
    ],
)
def test_what_a_node_is_doing(seen, name, state, usable, reason):
    node = seen.nodes[name]
    assert (node.state + node.mark, node.usable, node.reason) == (state, usable, reason)


def test_what_the_nodes_have_and_what_is_free(seen):
    nodes = seen.nodes
    assert nodes["n1"].gres == {"gpu:a100": 4, "shard:a100": 16}
    assert nodes["n1"].gres_used["gpu:a100"] == 2
    assert nodes["n1"].gres_used["shard:a100"] > 0
    assert nodes["n1"].gres_free["gpu:a100"] == 2
    assert (nodes["n2"].gres, nodes["n2"].gres_used, nodes["n2"].gres_free) == (
        {"gpu": 2},
        {"gpu": 1},
        {"gpu": 0},
    )
    assert nodes["n3"].gres == {"gpu:1g.10gb": 7, "gpu:2g.20gb": 3}
    assert nodes["n3"].gres_free == {"gpu:1g.10gb": 5, "gpu:2g.20gb": 3}
    assert (nodes["n4"].gres, nodes["n4"].gres_used) == ({}, {})
    assert nodes["n6"].gres_free == {"gpu:h100": 0}
    assert (nodes["n6"].cpus, nodes["n6"].cpus_used, nodes["n6"].cpus_idle) == (8, 8, 0)
    assert (nodes["n1"].memory, nodes["n1"].memory_used, nodes["n1"].cpus_idle) == (16000, 300, 5)


def test_partitions(seen):
    gpu, cpu, teaching = (seen.partitions[name] for name in ("gpu", "cpu", "teaching"))
    assert [name for name, partition in seen.partitions.items() if partition.default] == ["gpu"]
    assert set(gpu.nodes) == {"n1", "n2", "n3", "n6"}
    assert (gpu.max_time, gpu.default_time, gpu.max_nodes, gpu.state) == (1440, 60, None, "up")
    assert (cpu.max_time, cpu.default_time) == (None, None)
    assert (teaching.max_time, teaching.default_time, teaching.max_nodes) == (240, 30, 1)
    assert seen.partitions["closed"].state == "down"
    assert set(seen.nodes["n4"].partitions) == {"cpu", "teaching", "hidden", "closed"}


def test_who_may_use_the_partitions(seen):
    rules = {name: partition.rules for name, partition in seen.partitions.items()}
    assert None not in rules.values()
    assert [rules["teaching"].account(name) for name in ("course", "research")] == [True, False]
    assert [rules["hidden"].account(name) for name in ("course", "research")] == [False, True]
    assert rules["gpu"].account("anything")


@pytest.mark.parametrize("what", ["partition", "account", "size", "gres"])
def test_a_refusal_is_none_of_the_controllers_troubles(release, what):
    error = read(release / f"sbatch-refused-{what}.err")
    assert error
    assert not slurm._UNAVAILABLE.search(error)


@pytest.mark.parametrize("file", ["sbatch-down.err", "sbatch-munge.err", "squeue-down.err", "sinfo-down.err"])
def test_the_controllers_troubles_are_none_of_the_jobs(release, file):
    assert slurm._UNAVAILABLE.search(read(release / file))
