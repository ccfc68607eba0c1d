"""What stands around the hub fails: its database, its proxy, and room for its jobs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.fault_world import OPEN, FaultHub, partition
from tests.support import until

# Holds a write lock on a SQLite database until its standard input ends.
LOCK = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
database.execute("begin immediate")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(hub: FaultHub) -> Iterator[None]:
    """Keep the hub from writing to its database while the block runs."""
    words = [*hub.enter, sys.executable, "-c", LOCK, str(hub.folder / "hub.sqlite")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "locked\n"
        try:
            yield
        finally:
            process.stdin.close()


@pytest.fixture
def running(hub):
    """One session of rosa's that runs; returns its job's number."""
    hub.start("rosa")
    hub.until_ready("rosa")
    return hub.until_reachable("rosa")


def test_a_database_that_is_locked_while_a_session_is_asked_for(hub, running):
    """Expected: a sentence for who asks, no job without a row; who works goes on; then all is as before."""
    with locked(hub):
        code, text = hub.start("ravi")
        assert code == 503, text
        assert "database does not answer" in json.loads(text)["message"]
        assert hub.answers("rosa") == running
    until(lambda: hub.start("ravi")[0] in {201, 202}, "the hub to take sessions again")
    hub.until_ready("ravi")
    hub.until_rows_are_jobs()
    assert hub.answers("rosa") == running


def test_a_database_that_is_locked_while_slurm_takes_the_job(hub, site):
    """The job's number cannot be written down. Expected: it is when the lock goes; nothing is lost."""
    site.run("touch", "/srv/fault/hangs-sbatch")
    try:
        hub.start("rosa", profile="later")
        (job,) = until(hub.live_jobs, "the job")
        with locked(hub):
            site.run("rm", "/srv/fault/hangs-sbatch")
            until(lambda: "cannot be written" in hub.log(), "the hub to find its database locked")
    finally:
        site.run("rm", "-f", "/srv/fault/hangs-sbatch")
    until(lambda: hub.rows().get(("rosa", "")) == job.number, "the row")
    partition(site, OPEN)
    assert hub.until_reachable("rosa") == job.number
    hub.until_rows_are_jobs()


def test_a_database_that_is_locked_while_a_session_stops(hub, running):
    """Expected: the session ends as soon as the hub can write again, and its job too."""
    with locked(hub):
        hub.stop("rosa")
    until(lambda: not hub.stop("rosa")[0] >= 500, "the hub to take orders again")
    hub.until_gone("rosa")
    hub.until_rows_are_jobs()
    assert running not in {job.number for job in hub.live_jobs()}


def test_a_proxy_that_dies_comes_back_with_all_routes(hub, site, running):
    """Expected: the hub starts it again and gives every session its route."""
    pid = site.run("cat", str(hub.folder / "proxy.pid")).split()[0]
    site.run("kill", "-KILL", pid)
    assert hub.until_reachable("rosa") == running
    assert hub.ready("rosa")


def test_a_session_that_a_more_urgent_job_takes_the_place_of(hub, site):
    """Slurm preempts it. Expected: it is gone with route and row, and its owner reads why."""
    site.run("scontrol", "create", "partition=urgent", "nodes=node[1-3]", "prioritytier=10")
    urgent = ""
    try:
        partition(site, OPEN)
        hub.start("rosa", profile="later")
        hub.until_ready("rosa")
        (job,) = hub.live_jobs()
        node = site.run("squeue", "-h", "-j", job.number, "-o", "%N").strip()
        words = (
            "sbatch",
            "--parsable",
            "-p",
            "urgent",
            "-w",
            node,
            "-c",
            "8",
            "--mem=10",
            "--wrap",
            "sleep 60",
        )
        urgent = site.run(*words, "-o", "/dev/null", user="ravi").strip()
        hub.until_gone("rosa")
        until(lambda: not hub.answers("rosa"), "the route to be gone")
        said = hub.until_event("a job with a higher priority took its place", "rosa")
        assert said["failed"]
        hub.until_rows_are_jobs()
    finally:
        site.run("scancel", urgent, check=False)
        until(lambda: not site.run("squeue", "-h", "-p", "urgent").strip(), "the urgent job's end")
        site.run("scontrol", "delete", "partition=urgent")
    assert hub.start("rosa")[0] in {201, 202}
    hub.until_ready("rosa")
