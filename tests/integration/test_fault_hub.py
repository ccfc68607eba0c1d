"""The hub dies. Whatever its sessions were doing goes on, and the next hub finds them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from carme_hub.spawner.progress import QUEUE
from tests.integration.fault_world import OPEN, PEOPLE, partition, stopped
from tests.support import until


def test_a_hub_that_is_killed_loses_none_of_twenty_sessions(hub, site):
    """Twenty sessions of four people: ten run, four wait in the queue, three start, three are stopped.

    Expected after SIGKILL and a restart: who ran is reachable in the same job; who waited comes up in the
    same job; who was starting comes up or is not there, and then has no job either; who was being stopped is
    gone, or runs on if the order had not arrived. No job without a row, no row without a job.
    """
    everybody = [(person, f"s{index}") for person in PEOPLE for index in range(5)]
    running, waiting = everybody[:10], everybody[10:14]
    starting, stopping = everybody[14:17], everybody[17:]
    with ThreadPoolExecutor(8) as together:
        asked = list(together.map(lambda one: hub.start(*one), running + stopping))
        asked += list(together.map(lambda one: hub.start(*one, profile="later"), waiting))
        assert {code for code, _ in asked} <= {201, 202}, asked
        for one in running + stopping:
            hub.until_ready(*one)
        until(lambda: len(hub.live_jobs()) == 17, "all jobs")
        before = {(job.username, job.server): job.number for job in hub.live_jobs()}
        for one in starting:
            together.submit(hub.start, *one)
        for one in stopping:
            together.submit(hub.stop, *one)
        hub.kill()
    hub.__enter__()
    for one in running:
        assert hub.until_reachable(*one) == before[one]
    assert all(hub.server(*one)["pending"] == "spawn" for one in waiting)
    hub.until_rows_are_jobs()
    partition(site, OPEN)
    for one in waiting:
        assert hub.until_reachable(*one) == before[one]
    for one in set(hub.rows()) & set(starting):
        hub.until_reachable(*one)
    hub.until_rows_are_jobs()
    assert set(running) | set(waiting) <= set(hub.rows())


def test_a_session_that_waits_while_the_hub_restarts_can_be_watched_and_comes_up(hub, site):
    """Expected: the hub is there at once, progress is as before, and then the session is ready."""
    hub.start("rosa", profile="later")
    before = hub.until_event("is in the queue", "rosa")
    hub.restart()
    assert hub.server("rosa")["pending"] == "spawn"
    said = hub.until_event("let nothing start in its part of the cluster", "rosa")
    assert (said["reason"], said["job"], said["step"]) == ("PartitionDown", before["job"], QUEUE)
    assert said["submitted"] == before["submitted"], "how long it has waited is not forgotten"
    assert hub.start("rosa", profile="now")[0] == 202  # it starts already
    partition(site, OPEN)
    hub.until_reachable("rosa")
    assert hub.ready("rosa")
    assert hub.until_event("ready", "rosa")["ready"]
    assert hub.stop("rosa")[0] in {202, 204}
    hub.until_gone("rosa")


def test_a_session_that_waits_while_the_hub_restarts_can_be_stopped(hub):
    """Expected: DELETE is taken as for any start, and the job is gone."""
    hub.start("rosa", "b", profile="later")
    hub.until_event("is in the queue", "rosa", "b")
    hub.restart()
    code, text = hub.stop("rosa", "b")
    assert code in {202, 204}, text
    hub.until_gone("rosa", "b")
    until(lambda: not hub.live_jobs(), "the job's end")


def test_a_session_that_dies_after_the_restart_says_why(hub, site):
    """Expected: the same sentence as without the restart, where the waiting page and the API look for it."""
    hub.start("rosa", profile="later")
    hub.until_event("is in the queue", "rosa")
    hub.restart()
    (job,) = hub.live_jobs()
    site.run("scancel", job.number)
    said = hub.until_event("its job was cancelled", "rosa")
    assert said["failed"]
    assert not hub.rows()


def test_a_session_that_ended_while_there_was_no_hub_is_gone(hub, site):
    """Expected: no row, no route, and another one can be started."""
    hub.start("rosa")
    hub.until_ready("rosa")
    (job,) = hub.live_jobs()
    hub.kill()
    site.run("scancel", job.number)
    hub.__enter__()
    hub.until_gone("rosa")
    assert not hub.answers("rosa")
    hub.until_event("its job was cancelled", "rosa")
    assert hub.start("rosa")[0] in {201, 202}
    hub.until_ready("rosa")


def test_a_hub_that_starts_while_slurmctld_does_not_answer_gives_its_sessions_their_routes(hub, site):
    """Expected: the session is reachable where it was before, in the same job; when Slurm is back, too."""
    hub.start("rosa")
    hub.until_ready("rosa")
    before = hub.until_reachable("rosa")
    hub.kill()
    with stopped(site, "slurmctld"):
        hub.__enter__()
        assert hub.until_reachable("rosa") == before
        until(lambda: hub.ready("rosa"), "the session to be ready")
    hub.until_rows_are_jobs()
    assert hub.until_reachable("rosa") == before


def test_a_hub_ends_when_it_is_told_to_whatever_it_is_asking(hub):
    """SIGTERM while Slurm is asked. Expected: it ends within seconds, and its sessions go on."""
    hub.start("rosa")
    hub.until_ready("rosa")
    hub.site.run("kill", "-TERM", (hub.folder / "hub.pid").read_text().strip())
    assert hub.process is not None
    hub.process.wait(20)
    hub.__enter__()
    hub.until_reachable("rosa")
