"""Programs that were killed for want of memory, by the files of control groups of both versions."""

from __future__ import annotations

import pytest

from carme_hub.spawner import memorywatch
from carme_hub.spawner.told import Told

V1 = "9:name=systemd:/\n4:memory:/slurm_node1/uid_2/job_7/step_batch/task_0\n1:cpu:/\n0::/\n"
V2 = "0::/system.slice/slurmstepd.scope/job_7/step_batch/user/task_0\n"


def write(path, killed, others=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"oom_kill_disable 0\noom {others}\nunder_oom 0\noom_kill {killed}\noom_group_kill {others}\n"
    )


@pytest.fixture
def one(tmp_path):
    job = tmp_path / "memory/slurm_node1/uid_2/job_7"
    for group in ("", "step_batch", "step_batch/task_0", "step_0/task_0"):
        write(job / group / "memory.oom_control", 0)
    return job


@pytest.fixture
def two(tmp_path):
    job = tmp_path / "system.slice/slurmstepd.scope/job_7"
    write(job / "memory.events", 0)
    write(job / "step_batch/memory.events", 0)
    return job


def test_oom_groups_of_the_job_are_found_in_both_versions(tmp_path, one, two):
    assert memorywatch.job_groups(V1, str(tmp_path)) == [one]
    assert memorywatch.job_groups(V2, str(tmp_path)) == [two]
    for nothing in (
        "",
        "0::/\n",
        "4:memory:/user.slice\n",
        "0::/../../job_7/x\n",
        "4:memory:/none/job_9\n",
        "x",
    ):
        assert memorywatch.job_groups(nothing, str(tmp_path)) == []


def test_oom_version_1_is_counted_in_every_step_and_a_step_that_ends_takes_nothing_back(one):
    watch = memorywatch.MemoryWatch([one])
    assert watch.look() == 0
    write(one / "step_batch/task_0/memory.oom_control", 1, others=5)
    assert watch.look() == 1
    assert watch.look() == 1
    write(one / "step_0/task_0/memory.oom_control", 2)
    assert watch.look() == 3
    for path in (one / "step_0/task_0/memory.oom_control", one / "step_0/task_0", one / "step_0"):
        path.unlink() if path.is_file() else path.rmdir()
    assert watch.look() == 3
    write(one / "step_1/task_0/memory.oom_control", 1)
    assert watch.look() == 4


def test_oom_version_2_counts_what_is_below_once(two):
    watch = memorywatch.MemoryWatch([two])
    write(two / "step_batch/memory.events", 1)
    write(two / "memory.events", 1)
    assert watch.look() == 1


def test_oom_files_that_say_nothing_are_no_error(one):
    for text in ("", "oom_kill x\n", "\xff", "oom_kill -1"):
        (one / "memory.oom_control").write_text(text)
        assert memorywatch.MemoryWatch([one]).look() == 0
    assert memorywatch.MemoryWatch([one / "none"]).look() == 0


def test_oom_the_limit_is_slurms_or_the_groups(one, two):
    assert memorywatch.limit_of([one], "1024") == 1024
    assert memorywatch.limit_of([one], "0") == memorywatch.limit_of([], "x") == 0
    (one / "memory.limit_in_bytes").write_text(f"{500 << 20}\n")
    assert memorywatch.limit_of([one]) == 500
    (two / "memory.max").write_text("max\n")
    assert memorywatch.limit_of([two]) == 0


@pytest.mark.parametrize(("limit", "spoken"), [(1024, " (1 GiB)"), (1500, " (1500 MiB)"), (0, "")])
def test_oom_the_sentence_says_what_happened_and_what_to_do(limit, spoken):
    said = memorywatch.sentence(limit)
    assert said.startswith(f"A program in this session was stopped: the session ran out of memory{spoken}.")
    assert "start a session with more memory" in said
    assert Told(killed=3).sentences(limit) == [said]
    assert Told().sentences(limit) == []
