"""What Slurm says of jobs' use, as several releases printed it, and what the history takes from it."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from traitlets.config import Config

from carme_hub.records import history, open_records, reconcile
from carme_hub.records.history import Row, Submission
from carme_hub.service import bookkeeping
from carme_hub.service.hub_client import HubState
from carme_hub.spawner import usage
from carme_hub.spawner.slurm import SlurmUnavailable
from carme_hub.spawner.usage import Record

FIXTURES = Path(__file__).parents[1] / "fixtures"
RELEASES = sorted(FIXTURES.glob("slurm-*"))
LOG = logging.getLogger("test")
THEN = 1_700_000_000
NOW = THEN + 100_000
RECORD = Record(
    job=7,
    state="COMPLETED",
    exit_code=0,
    submitted=THEN + 1,
    started=THEN + 60,
    ended=THEN + 3660,
    tres={"cpu": 16, "mem": 8192, "gres/gpu": 4, "node": 2, "billing": 16},
    cpu_seconds=12.5,
    max_memory=300,
)
ROW = Row(id=1, cluster="slurm", job=7, user="rosa", submitted=THEN, nodes=2, cpus=8, gpus=4, memory=8192)


@pytest.fixture(params=RELEASES, ids=lambda folder: folder.name)
def release(request):
    return request.param


@pytest.fixture
def engine(tmp_path):
    opened = open_records(f"sqlite:///{tmp_path / 'carme.sqlite'}")
    yield opened
    opened.dispose()


# ---- what Slurm prints


def test_what_a_running_job_uses_is_read(release):
    use = usage.parse_use((release / "sstat-use.txt").read_text())
    steps = (release / "sstat-use.txt").read_text().splitlines()
    assert len(steps) == 2
    assert use.cpu_seconds >= 0
    assert 10 < use.memory_peak < 500
    assert use.gpu_utilisation is None


def test_what_accounting_says_of_a_job_is_read(release):
    jobs = json.loads((release / "used.json").read_text())
    text = (release / "sacct-records.txt").read_text()
    records = usage.parse_records(text, set(jobs.values()))
    worked, never = records[jobs["worked"]], records[jobs["never"]]
    assert (worked.state, worked.exit_code, worked.tres["node"], worked.tres["cpu"]) == ("FAILED", 3, 2, 2)
    assert worked.tres["mem"] == 400
    assert worked.tres["gres/gpu"] in {1, 2}
    assert worked.submitted <= worked.started < worked.ended
    assert worked.cpu_seconds > 2
    assert worked.max_memory > 60
    assert (never.state, never.tres, never.max_memory) == ("CANCELLED", {}, None)
    assert never.submitted <= never.ended
    assert usage.parse_records(text, {jobs["worked"]}).keys() == {jobs["worked"]}


def test_a_job_that_never_ran_has_no_start_in_the_history(release):
    jobs = json.loads((release / "used.json").read_text())
    text = (release / "sacct-records.txt").read_text()
    record = usage.parse_records(text, set(jobs.values()))[jobs["never"]]
    row = replace(ROW, submitted=record.submitted)
    change = reconcile.change_of(row, record, record.ended + 1000)
    assert (change["state"], change["ended"]) == ("CANCELLED", record.ended)
    assert "started" not in change


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:00", 0.0),
        ("00:06.631", 6.631),
        ("01:02:03", 3723.0),
        ("2-01:00:00", 176400.0),
        ("00:00:04", 4.0),
        ("", None),
        ("x", None),
        ("1:2:3:4", None),
        ("٣:00", None),
    ],
)
def test_processor_time_is_read(text, seconds):
    assert usage.cpu_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "amount"), [("10896K", 11), ("1.5G", 1536), ("0", 0), ("70M", 70), ("", None), ("12Q", None)]
)
def test_memory_is_read(text, amount):
    assert usage.mebibytes(text) == amount


def test_gpu_use_is_read_where_slurm_measures_it():
    line = "7.0|1|00:00:01|1024K|cpu=00:00:01,gres/gpumem=1G,gres/gpuutil=87,mem=1M\n"
    assert usage.parse_use(line).gpu_utilisation == 87


@pytest.mark.parametrize(
    "line", ["", "error: no steps", "7|x", "a.b|1|00:01|1K|", "7.0|1|?|1K|", "7.0|1|00:01|1K|x|y"]
)
def test_what_is_no_answer_is_no_use(line):
    assert usage.parse_use(line) is None


@pytest.mark.parametrize("line", ["", "sacct: error: x", "7\x1fCOMPLETED", "x\x1f" * 8 + "x", "7\x1f" * 20])
def test_what_is_no_record_is_left_out(line):
    assert usage.parse_records(line, {7}) == {}


# ---- what becomes of a row


def test_an_end_that_was_missed_is_filled_in():
    assert reconcile.change_of(ROW, RECORD, NOW) == {
        "started": THEN + 60,
        "ended": THEN + 3660,
        "state": "COMPLETED",
        "exit_code": 0,
        "accounted": True,
        "cpus": 16,
        "cpu_seconds": 12.5,
        "max_memory": 300,
    }


def test_oom_a_peak_that_the_session_told_is_not_taken_back():
    assert reconcile.change_of(replace(ROW, max_memory=4096), RECORD, NOW)["max_memory"] == 4096
    assert reconcile.change_of(replace(ROW, max_memory=10), RECORD, NOW)["max_memory"] == 300


def test_what_accounting_counts_as_less_than_was_asked_for_is_not_believed():
    record = replace(RECORD, tres={"cpu": 8, "gres/gpu": 2, "node": 2, "mem": 8192})
    assert reconcile.change_of(ROW, record, NOW).keys().isdisjoint({"cpus", "gpus", "nodes", "memory"})


@pytest.mark.parametrize(
    ("row", "record", "now", "change"),
    [
        # It just ended: its steps may still be on their way to accounting.
        ({"ended": THEN + 3661}, {}, THEN + 3670, None),
        ({}, {}, THEN + 3670, {"accounted": False}),
        # It runs, as far as accounting knows.
        ({}, {"state": "RUNNING", "ended": None}, NOW, {"started": THEN + 60}),
        ({"started": THEN + 60}, {"state": "RUNNING", "ended": None}, NOW, None),
        ({}, {"state": "PENDING", "started": None, "ended": None}, NOW, None),
        ({}, {"state": "SOMETHING_NEW", "ended": None}, NOW, {"started": THEN + 60}),
    ],
)
def test_a_row_stays_open_until_accounting_knows_the_end(row, record, now, change):
    found = reconcile.change_of(replace(ROW, **row), replace(RECORD, **record), now)
    if change is None:
        assert found == {}
    else:
        assert found.items() >= change.items()
        assert found.get("accounted") is not True


def test_a_job_that_accounting_does_not_know_ends_once_the_hub_has_lost_it_too():
    assert reconcile.change_of(ROW, None, THEN + 10) == {}
    assert reconcile.change_of(ROW, None, THEN + 4000) == {"ended": THEN + 4000, "state": "UNKNOWN"}
    ended = replace(ROW, ended=THEN)
    assert reconcile.change_of(ended, None, THEN + 4000) == {}
    assert reconcile.change_of(ended, None, THEN + 90_000) == {"accounted": True}


def test_an_older_job_with_the_same_number_is_not_taken_for_it():
    old = replace(RECORD, submitted=THEN - 1000)
    assert reconcile.change_of(ROW, old, THEN + 10) == {}
    assert reconcile.change_of(ROW, replace(RECORD, submitted=THEN - 100), NOW)["state"] == "COMPLETED"


# ---- the whole


class Accounting:
    """Answers as a cluster's accounting; a real one is asked in the integration tests."""

    def __init__(self, *records, error=None):
        self.known, self.error, self.asked = {record.job: record for record in records}, error, []

    async def records(self, jobs):
        self.asked.append(sorted(jobs))
        if self.error is not None:
            raise self.error
        return {job: self.known[job] for job in jobs if job in self.known}


def add(engine, *jobs, cluster="slurm"):
    for job in jobs:
        history.add_submitted(engine, Submission(cluster=cluster, job=job, user="rosa", submitted=THEN))


async def test_only_what_the_hub_does_not_have_is_asked_for_and_only_once(engine):
    add(engine, 7, 8, 9)
    accounting = Accounting(RECORD, replace(RECORD, job=8))
    assert await reconcile.reconcile(engine, {"slurm": accounting}, {("slurm", 9)}, LOG, NOW) == 2
    assert accounting.asked == [[7, 8]]
    assert {row.job: row.state for row in history.find(engine)} == {
        7: "COMPLETED",
        8: "COMPLETED",
        9: "PENDING",
    }
    assert await reconcile.reconcile(engine, {"slurm": accounting}, {("slurm", 9)}, LOG, NOW) == 0
    assert accounting.asked == [[7, 8]]


async def test_many_jobs_are_asked_for_in_parts(engine, monkeypatch):
    monkeypatch.setattr(reconcile, "AT_ONCE", 2)
    add(engine, 1, 2, 3, 4, 5)
    accounting = Accounting(*(replace(RECORD, job=job) for job in range(1, 6)))
    assert await reconcile.reconcile(engine, {"slurm": accounting}, set(), LOG, NOW) == 5
    assert accounting.asked == [[1, 2], [3, 4], [5]]


async def test_a_cluster_whose_accounting_is_silent_does_not_keep_the_others_from_it(engine, caplog):
    add(engine, 7, cluster="big")
    add(engine, 7, cluster="small")
    clusters = {"big": Accounting(error=SlurmUnavailable("no answer")), "small": Accounting(RECORD)}
    assert await reconcile.reconcile(engine, clusters, set(), LOG, NOW) == 1
    assert {row.cluster: row.state for row in history.find(engine)} == {
        "big": "PENDING",
        "small": "COMPLETED",
    }
    assert "completed later" in caplog.text


async def test_a_session_on_a_cluster_that_is_gone_is_closed(engine):
    add(engine, 7, cluster="gone")
    assert await reconcile.reconcile(engine, {}, set(), LOG, NOW) == 1
    assert [row.state for row in history.find(engine)] == ["UNKNOWN"]


# ---- the service's part


def test_while_the_hub_is_away_nobody_knows_which_sessions_it_has():
    sessions = {"rosa": [{"cluster": "slurm", "job": 7}, {"cluster": "slurm", "job": None}]}
    assert bookkeeping.alive(HubState()) is None
    assert bookkeeping.alive(HubState(sessions, at=1.0, away_since=2.0)) is None
    assert bookkeeping.alive(HubState(sessions, at=1.0)) == {("slurm", 7)}


def test_the_clusters_are_those_of_the_site():
    config = Config()
    config.CarmeSpawner.slurm_folder = "/opt/slurm/bin"
    assert {name: slurm.folder for name, slurm in bookkeeping.clusters_of(config).items()} == {
        "slurm": "/opt/slurm/bin"
    }
    config.CarmeSpawner.clusters = {"big": {"slurm_folder": "/opt/big"}, "small": {}}
    assert {name: slurm.folder for name, slurm in bookkeeping.clusters_of(config).items()} == {
        "big": "/opt/big",
        "small": "/opt/slurm/bin",
    }
