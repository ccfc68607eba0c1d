"""The figures that `make bench` shows, and what it copies into the hubs' databases."""

import pytest

from tests.benchmarks.job import controller, sessions, streams
from tests.benchmarks.job.figures import (
    BATCH_FLOOR,
    FLOOR,
    GROWTH,
    OURS,
    PENDING,
    Sample,
    Samples,
    table,
    verdicts,
)
from tests.benchmarks.job.plan import Plan
from tests.benchmarks.job.systems import SYSTEMS, configuration, form

SDIAG = """
*******************************************************
Remote Procedure Call statistics by message type
\tREQUEST_JOB_INFO                        ( 2003) count:11     ave_time:189    total_time:2085
\tMESSAGE_NODE_REGISTRATION_STATUS        ( 1002) count:3      ave_time:300    total_time:900
\tREQUEST_PARTITION_INFO                  ( 2009) count:7      ave_time:100    total_time:700

Remote Procedure Call statistics by user
\troot            (       0) count:21     ave_time:100    total_time:2100
"""


def idle(system, case, rpcs, cpu=0.0, round_=0):
    values = {
        "rpcs": rpcs,
        "types": {"REQUEST_JOB_INFO": 3},
        "cpu": cpu,
        "commands": 0.0,
        "rss": 1.0,
        "pss": 1.0,
    }
    return Sample("idle", system, case, round_, 0.0, values)


def timed(figure, system, seconds, others=0.0, round_=0, **more):
    return Sample(figure, system, 0, round_, others, {"seconds": seconds, **more})


def clicks(seconds, others=0.0):
    return [
        timed("click", FLOOR, [0.4, 0.5, 0.6]),
        timed("click", BATCH_FLOOR, [0.6, 0.7, 0.8]),
        timed("click", OURS, [seconds] * 3, others),
    ]


def reached(*samples):
    return [verdict.reached for verdict in verdicts(Samples(samples))]


def test_rpcs_are_counted_without_what_the_cluster_says_to_itself():
    assert controller.parse(SDIAG) == {"REQUEST_JOB_INFO": 11, "REQUEST_PARTITION_INFO": 7}


@pytest.mark.parametrize(("most", "well"), [(20.0 * GROWTH, True), (20.0 * GROWTH + 4, False)])
def test_rpcs_may_not_grow_with_the_number_of_sessions(most, well):
    assert reached(idle(OURS, 0, 0.0), idle(OURS, 10, 20.0), idle(OURS, 500, most)) == [well]


def test_one_number_of_sessions_shows_no_growth():
    assert reached(idle(OURS, 0, 0.0), idle(OURS, 10, 20.0)) == [None]


@pytest.mark.parametrize(("rpcs", "well"), [(PENDING, True), (PENDING + 1, False)])
def test_pending_jobs_cost_no_more_than_one_look_each_half_second(rpcs, well):
    sample = Sample("pending", OURS, 100, 0, 0.0, {"rpcs": rpcs, "cpu": 1.0, "commands": 1.0})
    assert reached(sample) == [well]


@pytest.mark.parametrize(
    ("seconds", "others", "well"), [(0.9, 0.0, True), (1.1, 0.0, False), (1.1, 0.5, None), (0.9, 0.5, True)]
)
def test_a_click_is_judged_beyond_what_srun_takes(seconds, others, well):
    assert reached(*clicks(seconds, others)) == [well]


@pytest.mark.parametrize(
    ("seconds", "rpcs", "well"), [(0.05, 0.0, True), (0.2, 0.0, False), (0.05, 1.0, False)]
)
def test_a_start_page_is_quick_and_asks_slurm_nothing(seconds, rpcs, well):
    assert reached(timed("page", OURS, [0.01, seconds], rpcs=rpcs)) == [well]


def test_the_table_has_a_line_for_each_figure_that_was_measured():
    found = [*clicks(0.8), *(idle(system, case, 9.0, case / 100) for system in SYSTEMS for case in (0, 200))]
    shown = table(Samples(found)).splitlines()
    assert len({len(line) for line in shown}) == 1
    lines = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in shown}
    assert lines["3. beyond plain srun, median"] == ["300 ms", "", "", "0.0 ms", "200 ms"]
    assert lines["3. beyond plain sbatch, median"] == ["100 ms", "", "", "-200 ms", "0.0 ms"]
    assert lines["6. hub, per 100 idle sessions"] == ["1.00 s/min"] * 3 + ["", ""]
    assert "5. RPCs per page" not in lines


def test_only_what_is_asked_for_takes_time():
    least = Plan(1, [5], [0], 0.1).seconds(3)
    assert least < Plan(1, [3, 5], [0], 0.1).seconds(3) < Plan(2, [], [0, 500], 0.5).seconds(3)


def test_a_full_run_takes_less_than_forty_minutes():
    assert Plan(2, [], [0, 10, 100, 500], 0.5).seconds(3) < 2400


def test_few_sessions_are_measured_once():
    plan = Plan(2, [], [0, 10, 100, 500], 0.5)
    assert [plan.cases(0), plan.cases(1)] == [[0, 10, 100, 500], [100, 500]]
    assert Plan(2, [], [0, 10], 0.5).cases(1) == [0, 10]


def test_a_state_is_moved_to_another_job_wherever_it_names_the_old_one():
    state = {
        "child_state": {"job_id": "12", "node": "node1", "port": 12012, "owner": 12, "api_token_id": 12},
        "job_status": "RUNNING node1",
    }
    assert sessions.job_of(state) == "12"
    assert sessions.moved(state, "12", "345", "node3", {"port": 9999, "owner": 7}) == {
        "child_state": {"job_id": "345", "node": "node3", "port": 9999, "owner": 7, "api_token_id": 12},
        "job_status": "RUNNING node3",
    }


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_hub_has_a_configuration_that_python_reads(system):
    compile(configuration(system, "bench"), system, "exec")
    assert (form(system, "bench") is None) == (system == "batchspawner")


def test_open_dashboards_are_shown_for_each_number_of_them():
    samples = [
        Sample(
            "streams", OURS, case, round_, 0.0, {"hub": 1.0 + round_, "service": case / 1000, "events": case}
        )
        for case in (0, 200, 1000)
        for round_ in (0, 1)
    ]
    lines = [line for line in table(Samples(samples)).splitlines() if "dashboards" in line]
    assert len(lines) == 9
    assert "1.50 s/min" in lines[0]
    assert "1.00 s/min" in lines[-2]


def test_dashboards_are_many_peoples_and_each_has_few():
    names = [f"u{number}" for number in range(200)]
    whose = streams.owners(1000, names)
    assert max(whose.count(name) for name in set(whose)) <= streams.EACH
    assert set(streams.PEOPLE[: streams.STARTERS]) <= set(streams.owners(200, names))
    with pytest.raises(ValueError, match="need 400 people"):
        streams.owners(2000, names)
