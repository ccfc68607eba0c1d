"""All jobs of a cluster: read from what Slurm of three releases printed (tests/fixtures/record_queue.py)."""

import json
from pathlib import Path

import pytest

from carme_hub.service import queue
from carme_hub.service.queue import names
from carme_hub.spawner.answers import SEPARATOR

RELEASES = sorted((Path(__file__).parents[1] / "fixtures").glob("queue-*"))
MARK = "0123456789abcdef"


@pytest.fixture(params=RELEASES, ids=lambda folder: folder.name)
def release(request):
    return request.param


@pytest.fixture
def numbers(release):
    return json.loads((release / "jobs.json").read_text())


@pytest.fixture
def jobs(release, numbers):
    """Return the jobs by the names that they were recorded with."""
    found, whole = queue.parse((release / "squeue.txt").read_text(), MARK)
    assert whole
    by_number = {job.job_id: job for job in found}
    return {name: by_number[n] for name, n in numbers.items() if n in by_number}


def line(**values):
    """Return a line as squeue would print it."""
    known = dict.fromkeys(queue.FIELDS, "N/A") | {"job_id": "7", "state": "RUNNING", "tres": "cpu=2,node=1"}
    first, *rest = (known | values).values()
    return SEPARATOR.join([first, MARK, *rest, ""]) + "\n"


def read(**values):
    (job,), whole = queue.parse(line(**values), MARK)
    assert whole
    return job


def test_three_releases_are_recorded():
    assert {folder.name for folder in RELEASES} == {"queue-22.05", "queue-24.11", "queue-26.05"}


def test_all_recorded_jobs_are_there(jobs, numbers):
    assert jobs.keys() == numbers.keys() - {"version", "now"}


def test_who_waits_and_who_runs(jobs):
    runs = {"gpus", "shards", "slices", "untyped", "whole", "two", "endless"}
    assert {name for name, job in jobs.items() if job.runs} == runs
    assert {name for name, job in jobs.items() if job.waits} == jobs.keys() - runs


@pytest.mark.parametrize(
    ("name", "nodes", "cpus", "memory", "gres"),
    [
        ("gpus", ("n1",), 1, 100, {"gpu:a100": 2}),
        ("shards", ("n1",), 1, 100, {"shard": 3}),
        ("slices", ("n3",), 1, 100, {"gpu:1g.10gb": 2}),
        ("untyped", ("n2",), 1, 100, {"gpu": 1}),
        ("whole", ("n6",), 8, 100, {"gpu:h100": 2}),
        ("two", ("n4", "n7"), 4, 200, {}),
        ("all", (), 3, 300, {"gpu": 3}),
        ("per job", (), 1, 100, {"gpu": 2}),
    ],
)
def test_what_a_job_holds_or_wants(jobs, name, nodes, cpus, memory, gres):  # noqa: PLR0917 - a table
    job = jobs[name]
    assert (job.node_names, job.cpus, job.memory, dict(job.gres)) == (nodes, cpus, memory, gres)


def test_when_a_job_ends_and_when_it_is_expected(jobs):
    gpus, following, held = jobs["gpus"], jobs["next"], jobs["held"]
    assert gpus.end - gpus.start == 60 * gpus.limit == 1800
    assert following.start >= jobs["whole"].end - 60
    assert (held.start, held.end, held.limit) == (None, None, 60)
    assert jobs["two"].limit == 2 * 1440


def test_which_nodes_slurm_means_and_which_a_job_has_to_have(jobs):
    assert jobs["all"].expected_nodes == ("n1", "n2", "n3")
    assert jobs["next"].required_nodes == ("n6",)
    assert jobs["held"].expected_nodes == jobs["held"].required_nodes == ()


def test_the_tasks_of_an_array_count(jobs):
    assert jobs["many"].tasks == 501
    assert jobs["array"].tasks == 99
    assert jobs["next"].tasks == 1


def test_many_tasks_take_many_nodes(jobs):
    assert (jobs["tasks"].cpus, jobs["tasks"].nodes) == (44, 3)


def test_several_partitions(jobs):
    assert jobs["anywhere"].partitions == ("gpu", "cpu")


def test_a_job_that_has_its_nodes_to_itself_is_known_where_slurm_says_it(jobs, release):
    knows = release.name != "queue-26.05"
    assert [jobs[name].exclusive for name in ("whole", "all", "gpus", "next")] == [knows, knows, False, False]


def test_nothing_says_whose_a_job_is(release):
    assert "rosa" not in (release / "squeue.txt").read_text()
    assert not {"UserName", "UserID", "Name", "Comment", "Account"} & set(queue.FIELDS.values())


def test_a_forged_line_is_no_job():
    forged = line(job_id="8").replace(MARK, "guessed")
    jobs, whole = queue.parse(line(required_nodes=f"n1\n{forged}"), MARK)
    assert not whole
    assert [job.job_id for job in jobs] == []
    assert queue.parse(line() + forged + line(job_id="9"), MARK)[0] == [read(), read(job_id="9")]


def test_an_error_in_the_answer_makes_it_incomplete():
    assert queue.parse(line() + "slurm_load_jobs error: Socket timed out\n", MARK) == ([read()], False)
    assert queue.parse("", MARK) == ([], True)


@pytest.mark.parametrize(
    ("tres", "per_node", "nodes", "gres"),
    [
        # A site that has Slurm count no GPUs, and the three ways to write what was wished.
        ("cpu=4,node=2", "gres:gpu:a100:2", 2, {"gpu:a100": 4}),
        ("cpu=4,node=2", "gres/gpu:a100:2", 2, {"gpu:a100": 4}),
        ("cpu=4,node=2", "gpu:2", 2, {"gpu": 4}),
        ("cpu=4,node=1", "gres:gpu", 1, {"gpu": 1}),
        # One that has it count each type.
        ("cpu=4,node=2,gres/gpu=4,gres/gpu:a100=4", "gres:gpu:4", 2, {"gpu:a100": 4}),
        ("cpu=4,node=1,gres/gpu=2,gres/gpu:a100=0", "N/A", 1, {"gpu": 2}),
        ("cpu=4,node=1,gres/gpu=2,gres/shard=3", "N/A", 1, {"gpu": 2, "shard": 3}),
        ("cpu=4,node=1", "N/A", 1, {}),
    ],
)
def test_gres_in_all_ways_in_which_slurm_writes_them(tres, per_node, nodes, gres):
    job = read(tres=tres, tres_per_node=per_node)
    assert (job.nodes, dict(job.gres)) == (nodes, gres)


@pytest.mark.parametrize(("text", "mib"), [("8G", 8192), ("100M", 100), ("1.50T", 1572864), ("512K", 1)])
def test_memory(text, mib):
    assert read(tres=f"cpu=1,mem={text},node=1").memory == mib


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("n1", ["n1"]),
        ("n[1-3,07-08],m1", ["n1", "n2", "n3", "n07", "n08", "m1"]),
        ("rack[1-2]-n[1-2]", ["rack1-n1", "rack1-n2", "rack2-n1", "rack2-n2"]),
        ("gpu-a100-[001-003].hpc", ["gpu-a100-001.hpc", "gpu-a100-002.hpc", "gpu-a100-003.hpc"]),
        ("", []),
        ("(null)", []),
        ("n/a", []),
        ("n[1-999999999]", []),
        ("n[1-300]x[1-300]", []),
        ("n[a-b]", []),
        ("../../etc", []),
    ],
)
def test_lists_of_nodes(text, written):
    assert names(text) == written


@pytest.mark.parametrize("text", ["UNLIMITED", "INVALID", "NOT_SET"])
def test_no_time_limit(text):
    assert read(limit=text).limit is None
