"""A session's time limit on the real cluster: known to the session, extended within limits, and by whom."""

from __future__ import annotations

import json

import pytest

from tests.support import until


@pytest.fixture(scope="module")
def session(people):
    """Rosa's session, for all tests of this module: none of them ends it."""
    rosa = people("rosa")
    rosa.end_session()
    rosa.start(profile="cpu", time="1:00:00")
    yield rosa
    rosa.end_session()


def limit(site, person) -> str:
    """Return the job's limit as Slurm has it."""
    (job,) = site.jobs(person.username)
    return site.run("squeue", "-h", "-j", job, "-o", "%l").strip()


def ask(person, minutes, owner="rosa"):
    """Ask the hub to extend a session."""
    return person.api("PUT", f"/carme/time-limit/{owner}", json={"limit": minutes})


def test_the_session_knows_its_end_as_slurm_does(site, session):
    (job,) = site.jobs("rosa")
    end = int(site.run("env", "SLURM_TIME_FORMAT=%s", "squeue", "-h", "-j", job, "-o", "%e"))
    told = json.loads(
        until(lambda: session.shell("cat /tmp/.carme-time-limit.json").strip(), "the time keeper's file")
    )
    assert told["end"] == end
    assert told["extend"] is True
    assert session.shell("stat -c '%a %U' /tmp/.carme-time-limit.json").split() == ["600", "rosa"]
    page = session.get("/carme/time-limit").json()
    assert (page["end"], page["warned"], page["home"]) == (end, None, "/hub/home")
    assert session.api("GET", "/carme/time-limit/rosa").json()["end"] == end


def test_the_page_of_the_session_is_for_its_owner(site, session):
    assert "token" not in session.shell("cat /tmp/.carme-time-limit.json").lower()
    stranger = session.http.__class__()
    url = f"{site.hub_url}/user/rosa/carme/time-limit"
    assert stranger.get(url, timeout=30, allow_redirects=False).status_code in (302, 403)


def test_an_extension_is_absolute_and_the_picture_is_right_at_once(site, session):
    first = ask(session, 90)
    assert first.status_code == 200, first.text
    assert first.json()["limit"] == 90
    assert ask(session, 90).json()["limit"] == 90
    assert limit(site, session) == "1:30:00"
    # A page of before the extension does not make it shorter.
    assert ask(session, 70).json()["limit"] == 90
    assert limit(site, session) == "1:30:00"


def test_more_than_the_profile_allows_is_refused_with_both_numbers(site, session):
    before = limit(site, session)
    refused = ask(session, 721)
    assert refused.status_code == 409
    assert "12 h in all" in refused.json()["message"]
    assert "12 h 1 min was asked for" in refused.json()["message"]
    assert limit(site, session) == before


def test_the_partitions_limit_holds_although_slurm_would_let_the_hub_go_beyond_it(site, session):
    before = limit(site, session)
    site.run("scontrol", "update", "PartitionName=cpu", "MaxTime=3:00:00")
    try:
        refused = ask(session, 240)
    finally:
        site.run("scontrol", "update", "PartitionName=cpu", "MaxTime=2-00:00:00")
    assert refused.status_code == 409
    assert "partition cpu may last 3 h in all; 4 h was asked for" in refused.json()["message"]
    assert limit(site, session) == before


def test_the_time_of_the_qos_holds_too(site, session):
    before = limit(site, session)
    site.run("sacctmgr", "-i", "modify", "qos", "normal", "set", "MaxWall=5:00:00")
    try:
        refused = ask(session, 360)
    finally:
        site.run("sacctmgr", "-i", "modify", "qos", "normal", "set", "MaxWall=-1")
    assert refused.status_code == 409
    assert "QOS normal may last 5 h in all; 6 h was asked for" in refused.json()["message"]
    assert limit(site, session) == before


def test_the_time_of_the_partitions_own_qos_comes_first(site, session):
    before = limit(site, session)
    site.run("sacctmgr", "-i", "add", "qos", "own", "set", "MaxWall=5:00:00")
    site.run("scontrol", "update", "PartitionName=cpu", "QoS=own")
    try:
        refused = ask(session, 360)
    finally:
        site.run("scontrol", "update", "PartitionName=cpu", "QoS=")
        site.run("sacctmgr", "-i", "delete", "qos", "own")
    assert refused.status_code == 409, refused.text
    assert "QOS own may last 5 h in all; 6 h was asked for" in refused.json()["message"]
    assert limit(site, session) == before


def test_maintenance_of_its_nodes_is_not_run_into(site, session):
    before = limit(site, session)
    (job,) = site.jobs("rosa")
    node = site.run("squeue", "-h", "-j", job, "-o", "%N").strip()
    words = ["StartTime=now+4hours", "Duration=60", "Users=root", "Flags=MAINT,IGNORE_JOBS", f"Nodes={node}"]
    site.run("scontrol", "create", "reservation", "ReservationName=upkeep", *words)
    try:
        refused = ask(session, 600)
    finally:
        site.run("scontrol", "delete", "ReservationName=upkeep")
    assert refused.status_code == 409
    assert "(upkeep)" in refused.json()["message"]
    assert limit(site, session) == before


def test_nobody_else_extends_it_but_an_admin_may(site, session, people):
    before = limit(site, session)
    assert ask(people("ravi"), 120).status_code in (403, 404)
    # The session's own token reports and asks, and does nothing else.
    token = session.shell("echo $JUPYTERHUB_API_TOKEN").strip()
    api = f"{site.hub_url}/hub/api/carme"
    headers = {"Authorization": f"token {token}"}
    plain = session.http.__class__()
    own = plain.put(f"{api}/time-limit/rosa", json={"limit": 120}, headers=headers, timeout=30)
    assert own.status_code in (403, 404)
    assert plain.get(f"{api}/report", headers=headers, timeout=30).json()["extend"] is True
    assert session.api("GET", "/carme/report").status_code == 403
    assert limit(site, session) == before
    assert ask(people("adam"), 100).status_code == 200
    assert limit(site, session) == "1:40:00"


def test_a_form_needs_its_token_and_a_session_that_there_is(site, session):
    url = f"{site.hub_url}/hub/carme/time-limit"
    page = session.http.get(f"{site.hub_url}/hub/home", timeout=30)
    assert "Extend by" in page.text
    assert session.http.post(f"{url}/rosa", data={"limit": "150"}, timeout=30).status_code == 403
    form = {"limit": "5000", "_xsrf": session.xsrf("/hub/")}
    refused = session.http.post(f"{url}/rosa", data=form, timeout=30)
    assert refused.status_code == 409
    assert "The session was not extended" in refused.text
    assert session.http.post(f"{url}/rosa", data=form | {"limit": "soon"}, timeout=30).status_code == 400
    assert session.http.post(f"{url}/rosa/other", data=form, timeout=30).status_code == 404
    done = session.http.post(f"{url}/rosa", data=form | {"limit": "130"}, timeout=30)
    assert (done.status_code, done.url) == (200, f"{site.hub_url}/hub/home")
    assert limit(site, session) == "2:10:00"
