"""When waiting jobs start: compared with a schedule worked out minute by minute, and rules for all queues."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carme_hub.service import forecast, queue
from carme_hub.service.forecast import Closed, Forecast, Request
from carme_hub.service.timeline import EVER
from carme_hub.spawner import cluster
from tests.unit.simulated import GPU, NOW, World, runs, share, waits, worlds

FIXTURES = Path(__file__).parents[1] / "fixtures"
EXAMPLES = settings(max_examples=60, deadline=None)


def minutes(world, number):
    """Return in how many minutes a job starts."""
    start = world.forecast().starts.get(number)
    return None if start is None else (start - NOW) / 60


def ordered(world):
    return sorted(world.waiting, key=lambda job: (-job.priority, job.job_id))


# --- Compared with the simulated schedule, and rules that hold for every queue


@EXAMPLES
@given(worlds())
def test_starts_are_those_of_the_simulated_schedule(world):
    assert world.forecast().starts == world.simulated()


@EXAMPLES
@given(worlds())
def test_no_node_ever_holds_more_than_it_has(world):
    made = world.forecast()
    held = [(job.node_names, NOW, job.end, share(job)) for job in world.running]
    held += [(one.nodes, one.start, one.end, share(one.job)) for one in made.placed]
    for moment in {NOW, *(start for _, start, _, _ in held)}:
        for name, whole in world.whole.items():
            there = [need for names, start, end, need in held if name in names and start <= moment < end]
            assert all(sum(need[what] for need in there) <= whole[what] for what in whole)


@EXAMPLES
@given(worlds())
def test_nobody_waits_for_a_job_that_comes_after_them(world):
    queued, all_of_them = ordered(world), world.forecast().starts
    for count in range(1, len(queued) + 1):
        first = replace_waiting(world, queued[:count]).forecast().starts
        assert first == {job.job_id: all_of_them[job.job_id] for job in queued[:count] if job.job_id in first}


def replace_waiting(world, jobs):
    return World(world.cpus, world.gpus, world.running, jobs)


@EXAMPLES
@given(worlds(), st.data())
def test_the_head_of_the_queue_starts_no_later_than_forecast_when_jobs_end_early(world, data):
    head = ordered(world)[0]
    expected = world.forecast().starts.get(head.job_id)
    early = [
        replace(job, end=NOW + 60 * data.draw(st.integers(2, (job.end - NOW) // 60))) for job in world.running
    ]
    sooner = World(world.cpus, world.gpus, early, world.waiting).simulated().get(head.job_id)
    assert (expected is None) == (sooner is None)
    assert expected is None or sooner <= expected


@EXAMPLES
@given(worlds(), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(1, 20))
def test_who_asks_for_more_starts_no_sooner(world, nodes, cpus, gpus, limit):
    made = world.forecast()

    def start(**more):
        wanted = {"nodes": nodes, "cpus": cpus, "gres": {GPU: gpus}, "minutes": limit} | more
        return made.start_of(Request("p", **wanted)) or EVER

    least = start()
    assert least >= NOW
    assert start(nodes=nodes + 1) >= least
    assert start(cpus=cpus + 1) >= least
    assert start(gres={GPU: gpus + 1}) >= least
    assert start(minutes=limit + 7) >= least
    assert start(minutes=None) >= least


@EXAMPLES
@given(worlds())
def test_a_request_starts_when_the_last_job_of_the_queue_would(world):
    most = max(world.cpus)
    asked = Request("p", nodes=2, cpus=most, gres={GPU: 1}, minutes=9)
    last = waits(999, 9, nodes=2, cpus=most, gpus=1, priority=-1)
    longer = replace_waiting(world, [*world.waiting, last]).forecast()
    assert world.forecast().start_of(asked) == longer.starts.get(999)


# --- One thing at a time


def test_a_job_that_fits_starts_now():
    assert minutes(World([4], [0], waiting=[waits(1, 10, cpus=4)]), 1) == 0


def test_a_job_waits_until_the_time_limit_of_one_that_runs():
    world = World([4], [2], [runs(1, ["n0"], 30, gpus=2)], [waits(2, 10, gpus=1)])
    assert minutes(world, 2) == 30


def test_a_small_job_passes_a_big_one_only_where_that_costs_it_nothing():
    running = [runs(1, ["n0"], 30, cpus=3)]
    big = waits(2, 60, cpus=4, priority=9)
    assert minutes(World([4], [0], running, [big, waits(3, 30, cpus=1)]), 3) == 0
    late = World([4], [0], running, [big, waits(3, 31, cpus=1)])
    assert (minutes(late, 2), minutes(late, 3)) == (30, 90)


def test_a_big_job_starts_however_many_small_ones_come():
    running = [runs(number, ["n0"], 10 * number, cpus=1) for number in (1, 2, 3, 4)]
    small = [waits(10 + number, 40, cpus=1) for number in range(50)]
    assert minutes(World([4], [0], running, [waits(9, 5, cpus=4, priority=1), *small]), 9) == 40


def test_a_job_on_several_nodes_starts_when_enough_of_them_are_free_together():
    running = [runs(1, ["n0"], 10), runs(2, ["n1"], 50), runs(3, ["n2"], 20)]
    assert minutes(World([1, 1, 1], [0, 0, 0], running, [waits(4, 60, nodes=2)]), 4) == 20
    assert minutes(World([1, 1, 1], [0, 0, 0], running, [waits(4, 60, nodes=3)]), 4) == 50
    assert minutes(World([1, 1, 1], [0, 0, 0], running, [waits(4, 60, nodes=4)]), 4) is None


def test_a_gap_that_closes_before_enough_nodes_are_free_counts_for_nothing():
    later = waits(9, 30, priority=9, reason="BeginTime", start=NOW + 1200, required_nodes=("n0",))
    world = World([1, 1], [0, 0], [runs(1, ["n1"], 15)], [later, waits(2, 10, nodes=2)])
    assert minutes(world, 2) == 50


def test_what_slurm_expects_comes_first():
    running = [runs(1, ["n0"], 30)]
    promised = waits(2, 60, start=NOW + 3600)
    world = World([1], [0], running, [promised, waits(3, 30, priority=9), waits(4, 31, priority=8)])
    assert [minutes(world, number) for number in (2, 3, 4)] == [60, 30, 120]


def test_what_slurm_expected_and_cannot_be_is_put_off():
    world = World([1], [0], [runs(1, ["n0"], 30)], [waits(2, 60, start=NOW + 60)])
    assert minutes(world, 2) == 30


def test_slurm_is_believed_where_nothing_is_found():
    # 5 cores on nodes of 4 and 1: not the same on each.
    world = World([4, 1], [0, 0], waiting=[waits(2, 60, cpus=5, start=NOW + 60)])
    assert minutes(world, 2) == 1
    assert world.forecast().placed[0].nodes == ()


@pytest.mark.parametrize(
    "reason",
    [
        "JobHeldUser",
        "JobHeldAdmin",
        "Dependency",
        "DependencyNeverSatisfied",
        "JobArrayTaskLimit",
        "QOSMaxGRESPerUser",
        "AssocGrpCpuLimit",
        "PartitionDown",
        "PartitionTimeLimit",
        "BeginTime",
        "AccountNotAllowed",
        "BadConstraints",
        "job requeued in held state",
    ],
)
def test_what_does_not_start_by_itself_is_put_nowhere_and_in_nobodys_way(reason):
    stuck = waits(1, 600, priority=9, reason=reason)
    world = World([1], [0], waiting=[stuck, waits(2, 60)])
    assert (minutes(world, 1), minutes(world, 2)) == (None, 0)


@pytest.mark.parametrize("reason", ["QOSMaxGRESPerUser", "AssocGrpCpuLimit", "MaxGRESPerAccount", "Licenses"])
def test_a_job_held_by_a_limit_is_put_where_slurm_expects_it(reason):
    held = waits(1, 60, priority=9, reason=reason, start=NOW + 600)
    assert minutes(World([1], [0], waiting=[held]), 1) == 10


@pytest.mark.parametrize("reason", ["QOSNotAllowed", "AccountNotAllowed", "PartitionDown"])
def test_a_job_that_cannot_start_is_put_nowhere_whatever_slurm_expected_once(reason):
    assert minutes(World([1], [0], waiting=[waits(1, 60, reason=reason, start=NOW + 600)]), 1) is None


def test_a_job_with_a_begin_starts_then():
    later = waits(1, 60, priority=9, reason="BeginTime", start=NOW + 600)
    assert minutes(World([1], [0], waiting=[later, waits(2, 10), waits(3, 11)]), 1) == 10
    assert minutes(World([1], [0], waiting=[later, waits(2, 10), waits(3, 11)]), 2) == 0
    assert minutes(World([1], [0], waiting=[later, waits(2, 10), waits(3, 11)]), 3) == 70


@pytest.mark.parametrize(
    "change",
    [{"state": "drained"}, {"state": "down"}, {"state": "draining"}, {"mark": "*"}, {"state": "resv"}],
)
def test_nothing_starts_on_a_node_that_is_out_of_service(change):
    world = World([1, 1], [0, 0], [runs(1, ["n1"], 30)], [waits(2, 10)])
    made = Forecast(world.cluster(n0=change), [*world.running, *world.waiting], NOW)
    assert made.starts == {2: NOW + 1800}


def test_nothing_starts_in_a_partition_that_is_down():
    world = World([1], [0], waiting=[waits(1, 10)])
    there = world.cluster()
    down = replace(there, partitions={"p": replace(there.partitions["p"], state="down")})
    assert Forecast(down, world.waiting, NOW).starts == {}


def test_a_job_without_a_time_limit_never_ends():
    world = World([1], [0], [replace(runs(1, ["n0"], 30), end=None)], [waits(2, 10)])
    assert minutes(world, 2) is None


def test_a_job_without_a_time_limit_waits_for_a_node_that_stays_free():
    first = waits(1, 10, priority=9, reason="BeginTime", start=NOW + 600)
    assert minutes(World([1], [0], waiting=[first, waits(2, None, limit=None)]), 2) == 20


def test_a_job_that_should_be_over_is_given_a_minute():
    world = World([1], [0], [runs(1, ["n0"], -5)], [waits(2, 10)])
    assert minutes(world, 2) == 1


def test_nobody_waits_in_a_reservation():
    world = World([1, 1], [0, 0], [runs(1, ["n1"], 100)], [waits(2, 30), waits(3, 10)])
    closed = [Closed(frozenset({"n0", "elsewhere"}), NOW + 900, NOW + 3600)]
    made = Forecast(world.cluster(), [*world.running, *world.waiting], NOW, closed)
    assert made.starts == {2: NOW + 3600, 3: NOW}


def test_the_tasks_of_an_array_start_one_after_the_other():
    world = World([2], [0], waiting=[waits(1, 10, tasks=5)])
    assert [(one.start - NOW) // 60 for one in world.forecast().placed] == [0, 0, 10, 10, 20]
    assert minutes(world, 1) == 0


def test_any_gpu_is_one_of_those_a_node_has():
    world = World([4], [2], [runs(1, ["n0"], 30, gpus=1)], [waits(2, 10, gres={"gpu": 2})])
    assert minutes(world, 2) == 30
    assert world.forecast().placed[0].holds[GPU] == 2


def test_a_type_that_a_node_does_not_have_is_not_put_there():
    assert minutes(World([4], [2], waiting=[waits(2, 10, gres={"gpu:h100": 1})]), 2) is None


def test_shards_and_slices_are_resources_of_their_own():
    world = World([8], [0], [replace(runs(1, ["n0"], 30), gres={"shard": 6})])
    mixed = {"gres": {"shard": 8, "gpu:1g.10gb": 7, "gpu:2g.20gb": 3}, "gres_used": {"shard": 1}}
    jobs = [
        waits(2, 10, gres={"shard": 2}),
        waits(3, 10, gres={"shard": 1}),
        waits(4, 10, gres={"gpu:2g.20gb": 3}),
        waits(5, 10, gres={"gpu:2g.20gb": 1}),
        waits(6, 10, gres={"gpu:1g.10gb": 1}),
    ]
    # Slurm 22.05 says that one GPU has shards in use; the job itself says that it has 6.
    made = Forecast(world.cluster(n0=mixed), [*world.running, *jobs], NOW)
    assert {n: (start - NOW) // 60 for n, start in made.starts.items()} == {2: 0, 3: 10, 4: 0, 5: 10, 6: 0}


def test_a_job_that_wants_its_nodes_for_itself_waits_until_they_are_empty():
    world = World([4], [0], [runs(1, ["n0"], 30)], [waits(2, 10, exclusive=True), waits(3, 60)])
    assert (minutes(world, 2), minutes(world, 3)) == (30, 40)


def test_a_job_waits_for_the_node_that_it_has_to_have():
    world = World([1, 1], [0, 0], [runs(1, ["n1"], 30)], [waits(2, 10, required_nodes=("n1",))])
    assert minutes(world, 2) == 30


def test_many_tasks_go_on_as_many_nodes_as_they_need():
    running = [runs(1, ["n2"], 30)]
    job = replace(waits(2, 10), cpus=9)
    assert minutes(World([4, 4, 4], [0, 0, 0], running, [job]), 2) == 0
    assert minutes(World([4, 4, 4], [0, 0, 0], [runs(1, ["n2"], 30, cpus=4)], [job]), 2) == 30


def test_of_several_partitions_the_earliest_counts():
    world = World([1, 1], [0, 0], [runs(1, ["n0"], 30)], [waits(2, 10, partitions=("busy", "free"))])
    seen = world.cluster()
    parts = {
        "busy": replace(seen.partitions["p"], name="busy", nodes=("n0",)),
        "free": replace(seen.partitions["p"], name="free", nodes=("n1",)),
    }
    assert Forecast(replace(seen, partitions=parts), [*world.running, *world.waiting], NOW).starts == {2: NOW}


def test_a_very_long_queue_is_looked_at_only_so_far(monkeypatch):
    monkeypatch.setattr(forecast, "MOST_EFFORT", 500)
    world = World([1], [0], waiting=[waits(n, 1 + n % 7, cpus=1) for n in range(300)])
    made = world.forecast()
    assert 0 < len(made.placed) < 300
    first = sorted(made.starts)
    assert first == list(range(len(first)))


def test_a_request_without_a_partition_is_for_slurms_default():
    there = World([1], [0]).cluster()
    usual = replace(there, partitions={"p": replace(there.partitions["p"], default=True)})
    assert Forecast(usual, [], NOW).start_of(Request("")) == NOW
    assert Forecast(there, [], NOW).start_of(Request("")) is None


def test_however_often_it_is_asked_a_forecast_grows_no_larger():
    made = World([4], [0], waiting=[waits(1, 10, cpus=3)]).forecast()

    def asked(limits):
        for limit in limits:
            made.start_of(Request("p", cpus=1 + limit % 3, memory=limit, minutes=limit))
        return len(pickle.dumps(made))

    assert asked(range(1, 5)) == asked(range(5, 50))


# --- What Slurm of three releases really said


@pytest.mark.parametrize("release", ["22.05", "24.11", "26.05"])
def test_a_real_queue(release):
    folder = FIXTURES / f"queue-{release}"
    numbers = json.loads((folder / "jobs.json").read_text())
    jobs, _ = queue.parse((folder / "squeue.txt").read_text(), "0123456789abcdef")
    seen = cluster.parse_nodes((folder / "sinfo.txt").read_text(), 0.0)
    by_slurm = {job.job_id: job.start for job in jobs if job.waits and job.start is not None}
    made = Forecast(seen, jobs, numbers["now"])
    stuck = {numbers[name] for name in ("held", "dependency", "array")}
    assert made.starts.keys() == {job.job_id for job in jobs if job.waits} - stuck
    # Where Slurm says when, it is then: Slurm plans by the minute, and this by the second.
    assert all(0 <= made.starts[number] - start <= 120 for number, start in by_slurm.items())
    # Without its word, nothing that is not bound by what Slurm alone knows is far from it.
    alone = Forecast(seen, [replace(j, start=None) if j.waits else j for j in jobs], numbers["now"])
    for name in ("next", "after", *(["all"] if release != "26.05" else [])):
        assert abs(alone.starts[numbers[name]] - by_slurm[numbers[name]]) <= 120
