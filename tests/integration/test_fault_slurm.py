"""Slurm fails in all its ways. Sessions that run go on, and whoever waits reads what for."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from carme_hub.spawner.answers import SEPARATOR
from tests.integration.fault_world import (
    CONTROLLER,
    OPEN,
    PLACE,
    partition,
    stopped,
    trouble,
    until_written_down,
)
from tests.support import until


@pytest.fixture
def running(hub):
    """One session of rosa's that runs; returns its job's number."""
    hub.start("rosa")
    hub.until_ready("rosa")
    return hub.until_reachable("rosa")


def test_a_controller_that_is_silent_for_a_while_ends_nothing(hub, site, running):
    """slurmctld answers nothing. Expected: the session works, a new one is refused with a sentence.

    Afterwards everything is as before, and the next start works.
    """
    with stopped(site, "slurmctld"):
        code, text = hub.start("ravi")
        refused = json.loads(text)["message"] if code >= 400 else hub.until_event("failed", "ravi")["message"]
        assert "did not answer" in refused or "does not answer" in refused
        assert hub.answers("rosa") == running
        assert hub.ready("rosa")
    assert hub.answers("rosa") == running
    until(lambda: hub.start("ravi")[0] in {201, 202}, "Slurm to take sessions again")
    hub.until_ready("ravi")
    hub.until_rows_are_jobs()
    assert hub.ready("rosa")


def test_munge_that_is_dead_ends_nothing(hub, site, running):
    """No Slurm command gets through. Expected: the session works, a start is refused with a sentence."""
    with stopped(site, "munged"):
        code, text = hub.start("ravi")
        refused = json.loads(text)["message"] if code >= 400 else hub.until_event("failed", "ravi")["message"]
        assert "answer" in refused
        assert hub.answers("rosa") == running
        assert hub.ready("rosa")
    until(lambda: hub.start("ravi")[0] in {201, 202}, "Slurm to take sessions again")
    hub.until_ready("ravi")
    assert hub.answers("rosa") == running
    hub.until_rows_are_jobs()


def test_a_stop_while_the_controller_is_silent_is_done_when_it_is_back(hub, site, running):
    """Expected: the session is gone for its owner at once, its route too; the job ends when Slurm answers."""
    with stopped(site, "slurmctld"):
        code, _ = hub.stop("rosa")
        assert code in {202, 204}
        until(lambda: not hub.answers("rosa"), "the route to be gone")
        hub.until_gone("rosa")
    until(lambda: running not in {job.number for job in hub.live_jobs()}, "the job's end")


def test_a_stop_that_slurm_does_not_take_survives_a_restart_of_the_hub(hub, running):
    """scancel fails, the hub forgets the session and is killed. Expected: the next hub ends the job."""
    with trouble(hub.site, "fails-scancel"):
        assert hub.stop("rosa")[0] in {202, 204}
        hub.until_gone("rosa")
        assert [job.number for job in hub.live_jobs()] == [running]
        hub.kill()
    hub.__enter__()
    hub.start("ravi")  # the first who comes makes the hub look
    until(lambda: running not in {job.number for job in hub.live_jobs()}, "the orphan's end")
    hub.until_rows_are_jobs()


def test_a_job_that_slurm_took_without_saying_so_is_found_and_ended(hub):
    """sbatch does not return although the job is there. Expected: the person reads it; no job is left."""
    with trouble(hub.site, "hangs-sbatch"):
        code, text = hub.start("rosa", profile="later")
        assert code in {202, 503}, text
        until(hub.live_jobs, "the job")
        said = hub.until_event("sbatch did not answer", "rosa")
        assert said["failed"]
    until(lambda: not hub.live_jobs(), "the orphan's end")
    assert not hub.rows()


def test_a_job_that_is_being_submitted_is_no_orphan(hub, site):
    """sbatch takes longer than two sweeps. Expected: nobody ends the job, and the session comes up."""
    with ThreadPoolExecutor(1) as aside:
        with trouble(hub.site, "hangs-sbatch"):
            aside.submit(hub.start, "rosa", profile="later")
            (job,) = until(hub.live_jobs, "the job")
            looks = hub.looks()
            # One may have begun before the job was there.
            until(lambda: hub.looks() >= looks + 3, "the sweep to look")
            assert hub.rows().get(("rosa", "")) != job.number, "sbatch was to hang until here"
        until(lambda: hub.rows().get(("rosa", "")) == job.number, "the row")
    partition(site, OPEN)
    assert hub.until_reachable("rosa") == job.number


def test_nobody_has_somebody_elses_job_ended_by_a_comment(hub, site, running):
    """ravi marks a job of his as rosa's, forges a line about one of hers, and marks one as his own.

    Expected: only the last one ends.
    """
    mark = site.run("squeue", "-h", "-j", running, "-o", "%k").strip()
    submit = ("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 600", "--mem=10")
    lie = site.run(*submit, f"--comment={mark}", user="ravi").strip()
    plain = site.run(*submit, user="rosa").strip()
    line = SEPARATOR.join([plain, "rosa", "RUNNING", f"{mark}plain"])
    forged = site.run(*submit, f"--comment=x\n{line}", user="ravi").strip()
    assert line in site.run("squeue", "-h", "-o", "%k")
    own = site.run(*submit, f"--comment={mark.replace('rosa', 'ravi')}", user="ravi").strip()
    try:
        until(lambda: not site.run("squeue", "-h", "-j", own, "-t", "PD,R", check=False).strip(), "its end")
        left = site.run("squeue", "-h", "-t", "PD,R", "-o", "%A").split()
        assert {lie, forged, plain, running} <= set(left)
    finally:
        site.run("scancel", lie, forged, own, plain, check=False)
    assert hub.answers("rosa") == running


def test_a_stop_while_the_session_starts_is_no_error_for_anybody(hub):
    """One tab waits for the start, another one stops it. Expected: both are told so, and no job is left."""
    with ThreadPoolExecutor(1) as aside:
        first = aside.submit(hub.start, "rosa", profile="later")
        until(lambda: hub.server("rosa").get("pending") == "spawn", "the start")
        code, text = hub.stop("rosa")
        assert code in {202, 204}, text
        code, text = first.result()
    assert code in {202, 409}, text
    if code == 409:
        assert "was stopped before it was up" in json.loads(text)["message"]
    hub.until_gone("rosa")
    until(lambda: not hub.live_jobs(), "the job's end")


def test_an_admin_who_requeues_a_session_ends_it(hub, site, running):
    """The job would come back on another node. Expected: the session is gone, and its job too."""
    site.run("scontrol", "update", f"job={running}", "requeue=1")
    site.run("scontrol", "requeue", running)
    hub.until_gone("rosa")
    until(lambda: not hub.answers("rosa"), "the route to be gone")
    until(lambda: not hub.live_jobs(), "the job's end")
    assert not hub.rows()


def test_a_node_that_is_drained_keeps_its_sessions(hub, site, running):
    """Expected: the session works on; it can be stopped as ever."""
    node = site.run("squeue", "-h", "-j", running, "-o", "%N").strip()
    site.run("scontrol", "update", f"node={node}", "state=drain", "reason=a fault test")
    try:
        until(lambda: "drain" in site.run("sinfo", "-h", "-n", node, "-o", "%T"), "the node to drain")
        assert hub.answers("rosa") == running
        assert hub.ready("rosa")
        hub.stop("rosa")
        hub.until_gone("rosa")
    finally:
        site.run("scontrol", "update", f"node={node}", "state=resume")


def test_a_slurmd_that_is_killed_takes_no_session_with_it(hub, site, running):
    """slurmd dies and is started again. Expected: the session works on, and can be stopped."""
    node = site.run("squeue", "-h", "-j", running, "-o", "%N").strip()
    site.run("pkill", "-KILL", "-x", "slurmd", node=node)
    assert hub.answers("rosa") == running
    until(lambda: site.run("pgrep", "-x", "slurmd", node=node, check=False).strip(), "slurmd")
    assert hub.answers("rosa") == running
    hub.stop("rosa")
    hub.until_gone("rosa")
    until(lambda: not hub.live_jobs(), "the job's end")


def test_a_node_that_fails_ends_its_sessions(hub, site, running):
    """Expected: the route goes, nothing is left, and the person can start again."""
    node = site.run("squeue", "-h", "-j", running, "-o", "%N").strip()
    site.run("scontrol", "update", f"node={node}", "state=down", "reason=a fault test")
    try:
        hub.until_gone("rosa")
        until(lambda: not hub.answers("rosa"), "the route to be gone")
        hub.until_rows_are_jobs()
    finally:
        site.run("scontrol", "update", f"node={node}", "state=resume", check=False)  # it may be back already
        until(lambda: "idle" in site.run("sinfo", "-h", "-n", node, "-p", "cpu", "-o", "%T"), "the node")
    assert hub.start("rosa")[0] in {201, 202}
    hub.until_ready("rosa")


def test_nobody_waits_for_the_job_that_got_the_number_of_a_forgotten_one(hub, site):
    """slurmctld is killed before it has written a job down, and gives its number to the next job.

    Expected: whoever waited reads that Slurm has forgotten the job, and who has its number now, keeps it.
    """
    held = until_written_down(site)
    site.run("bash", "-c", f"mkdir {PLACE}/before && cp -a {CONTROLLER}/job_state* {PLACE}/before")
    hub.start("ines", profile="later")
    (forgotten,) = until(hub.live_jobs, "a job with the hub's mark")
    with trouble(site, "fails-squeue"):  # nobody looks before the number has its next owner
        site.run("pkill", "-KILL", "-x", "slurmctld")
        # What it may have written of jobs since is gone, as if it had had no time for it.
        site.run("bash", "-c", f"cp -a {PLACE}/before/* {CONTROLLER} && rm -r {PLACE}/before")
        site.run("slurmctld", "-R")  # without that it forgets the tests' own partition
        until(lambda: "UP" in site.run("scontrol", "ping", check=False), "the controller")
        until(lambda: all_nodes_work(site), "the nodes")
        until(lambda: hub.start("ravi")[0] in {201, 202}, "Slurm to take sessions again")
        until(lambda: site.run("squeue", "-h", "-u", "ravi", "-o", "%A").split(), "ravi's job")
    site.run("scancel", held)
    assert site.run("squeue", "-h", "-u", "ravi", "-o", "%A").split() == [forgotten.number]
    hub.until_event("does not know its job any more", "ines")
    hub.until_ready("ravi")
    hub.until_rows_are_jobs()
    assert hub.answers("ravi") == forgotten.number


def all_nodes_work(site):
    """Have nodes back that a killed controller had last written down as broken; say whether they all work."""
    site.run("scontrol", "update", "nodename=ALL", "state=resume", check=False)
    return set(site.run("sinfo", "-h", "-N", "-o", "%T").split()) <= {"idle", "mixed", "allocated"}
