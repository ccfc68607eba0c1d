"""Faults that last: minutes without a controller, and thousands of sessions in the queue of a new hub."""

from __future__ import annotations

import json
import time

import pytest

from tests.integration.conftest import fault_hub, hub  # noqa: F401 - fixtures
from tests.integration.fault_world import PARTITION, PEOPLE, stopped, until_written_down
from tests.support import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MANY = 2000
# Submits held jobs as a person and prints their numbers.
SUBMIT = """
for ((i = 0; i < {number}; i++)); do
  sbatch --parsable --hold -p {partition} -o /dev/null --mem=1 --comment={mark}$i --wrap true
done
"""
# Writes sessions with these jobs into the hub's database, as if it had been killed after sbatch.
WRITE = """
import json, sqlite3, sys
path, person, jobs = sys.argv[1], sys.argv[2], sys.argv[3].split()
with sqlite3.connect(path) as database:
    (user,) = database.execute("select id from users where name = ?", [person]).fetchone()
    for index, job in enumerate(jobs):
        place = f"/user/{person}/m{index}/"
        server = database.execute(
            "insert into servers (proto, ip, port, base_url, cookie_name) values ('http', '', 0, ?, 'c')",
            [place],
        ).lastrowid
        state = {"cluster": "slurm", "job_id": job, "token_sha256": "0" * 64, "session": {"profile": "later"}}
        database.execute(
            "insert into spawners (user_id, server_id, state, name, user_options) values (?, ?, ?, ?, ?)",
            [user, server, json.dumps(state), f"m{index}", json.dumps({"profile": "later"})],
        )
"""


@pytest.mark.parametrize("how", ["silent", "killed"])
def test_two_minutes_without_a_controller(hub, site, how):  # noqa: F811 - the fixture
    """Expected: who works notices nothing, who waits goes on waiting, and all is as before afterwards."""
    hub.start("rosa")
    hub.until_ready("rosa")
    job = hub.until_reachable("rosa")
    hub.start("ines", profile="later")
    hub.until_event("is in the queue", "ines")
    end = time.monotonic() + 120

    def works_on():
        while time.monotonic() < end:
            assert hub.answers("rosa") == job
            assert hub.ready("rosa")
            assert hub.server("ines")["pending"] == "spawn"
            time.sleep(5)

    if how == "silent":
        with stopped(site, "slurmctld"):
            works_on()
    else:
        site.run("scancel", until_written_down(site))
        site.run("pkill", "-KILL", "-x", "slurmctld")
        try:
            works_on()
        finally:
            site.run("slurmctld", "-R")  # without that it forgets the tests' own partition
    until(lambda: "UP" in site.run("scontrol", "ping", check=False), "the controller")
    until(lambda: hub.start("ravi")[0] in {201, 202}, "Slurm to take sessions again")
    hub.until_ready("ravi")
    hub.until_rows_are_jobs()
    assert hub.answers("rosa") == job
    assert hub.server("ines")["pending"] == "spawn"


def test_a_hub_that_finds_two_thousand_sessions_in_the_queue(hub, site):  # noqa: F811 - the fixture
    """Expected: it is there within seconds, each session can be watched and stopped, none is lost."""
    hub.start("rosa", profile="later")
    (first,) = until(hub.live_jobs, "a job with the hub's mark")
    comment = site.run("squeue", "-h", "-a", "-j", first.number, "-o", "%k").strip()
    hub.stop("rosa")
    for person in PEOPLE:
        hub.ask("POST", f"/hub/api/users/{person}/tokens", {"note": "so that the person is known"})
    hub.kill()
    site.run("scontrol", "update", f"partition={PARTITION}", "state=UP")  # held jobs stay where they are
    jobs = {}
    for person in PEOPLE:
        mark = comment.replace("rosa/", f"{person}/m")
        words = SUBMIT.format(number=MANY // len(PEOPLE), partition=PARTITION, mark=mark)
        jobs[person] = site.run("bash", "-c", words, user=person).split()
        site.run("/usr/bin/python3", "-c", WRITE, f"{hub.folder}/hub.sqlite", person, " ".join(jobs[person]))
    try:
        began = time.monotonic()
        hub.__enter__()
        assert time.monotonic() - began < 30
        last = f"m{len(jobs['ravi']) - 1}"
        assert hub.server("ravi", last)["pending"] == "spawn"
        assert hub.until_event("is in the queue", "ravi", last)
        code, text = hub.stop("ravi", last)
        assert code in {202, 204}, text
        until(lambda: not site.run("squeue", "-h", "-j", jobs["ravi"][-1], check=False).strip(), "its end")
        asked = time.monotonic()
        assert len(json.loads(hub.ask("GET", "/hub/api/users/rosa")[1])["servers"]) >= MANY // len(PEOPLE)
        assert time.monotonic() - asked < 5
        assert len(hub.live_jobs()) == MANY - 1
    finally:
        hub.kill()
        for person in PEOPLE:
            site.run("scancel", f"--user={person}")
        until(lambda: not hub.live_jobs(), "the end of all jobs")
        wipe = "update spawners set server_id = null, state = '{}'"
        program = f"import sqlite3; sqlite3.connect('{hub.folder}/hub.sqlite').executescript({wipe!r})"
        site.run("/usr/bin/python3", "-c", program)
        hub.__enter__()
