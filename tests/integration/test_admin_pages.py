"""The admin pages on a running hub: who opens what, who may do what to whom, and what is left of it.

Sessions are plain processes here, shown by the real board through its own rights: the hub decides.
"""

from __future__ import annotations

import csv
import io
import json
import re
import time

import pytest
import requests

from carme_hub.authenticator.audit import Audit
from carme_hub.records import announcements, history, maintenance, notices, open_records
from carme_hub.records.maintenance import Maintenance
from tests.integration.gate_world import wait_for
from tests.integration.service_world import SERVICE, service_hub

# Carol is an admin. Alice is in ml101, which bob looks after; dora may only look on. Erin is in ml101, too.
ROLES = [
    {"name": "teacher", "users": ["bob"], "scopes": ["read:servers!group=ml101", "servers!group=ml101"]},
    {"name": "onlooker", "users": ["dora"], "scopes": ["read:servers!group=ml101"]},
]
PEOPLE = ("alice", "erin", "carol")
SESSION = {"name": "", "state": "running", "profile": "cpu", "title": "CPU", "node": "n1", "cpus": 1}
MORE = """
import json
from carme_hub.spawner import board, roll
c.JupyterHub.load_roles += {roles!r}
c.CarmeSpawner.slurm_time_out = 2  # there is no cluster
SESSIONS = {sessions!r}
board.board.picture = lambda may_read: (
    "r", [json.dumps(one) for one in SESSIONS if may_read(one["user"], one["name"])]
)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory, directory):
    sessions = [SESSION | {"user": user, "job": number} for number, user in enumerate(PEOPLE, 1)]
    more = MORE.format(roles=ROLES, sessions=sessions)
    with service_hub(tmp_path_factory.mktemp("admin"), directory, more) as running:
        running.until_up()
        yield running
        assert "Traceback" not in running.hub.log


@pytest.fixture(scope="module")
def engine(world):
    """The database that hub and service use."""
    found = re.search(
        r"database_url = ['\"](.+?)['\"]", (world.hub.folder / "jupyterhub_config.py").read_text()
    )
    made = open_records(found[1])
    yield made
    made.dispose()


@pytest.fixture(scope="module")
def people(world):
    """Everybody's browser, and the ticket of their pages."""
    found = {}
    stack = [world.browser(name) for name in ("alice", "bob", "carol", "dora", "erin")]
    for name, entering in zip(("alice", "bob", "carol", "dora", "erin"), stack, strict=True):
        browser = entering.__enter__()
        found[name] = (browser, browser.enter())
    yield found
    for entering in stack:
        entering.__exit__(None, None, None)


def get(people, who, path):
    return people[who][0].get(f"{SERVICE}admin/{path}")


def post(people, who, path, ticket=None, **fields):
    browser, own = people[who]
    data = {"_xsrf": own if ticket is None else ticket, **fields}
    url = f"{browser.world.url}{SERVICE}admin/{path}"
    return browser.visitor.session.post(url, data=data, timeout=60)


@pytest.mark.parametrize(
    ("path", "open_to"),
    [
        ("sessions", {"bob", "dora", "carol"}),
        ("use", {"bob", "dora", "carol"}),
        ("use.csv", {"bob", "dora", "carol"}),
        ("people/alice", {"bob", "dora", "carol"}),
        ("people/carol", {"carol"}),
        ("announcements", {"carol"}),
        ("maintenance", {"carol"}),
        ("site", {"carol"}),
    ],
)
def test_a_page_opens_to_whose_rights_reach_as_far(world, people, path, open_to):
    for who in people:
        expected = 200 if who in open_to else 403
        assert get(people, who, path).status_code == expected, who
    with world.hub.visitor() as nobody:
        assert "/hub/login" in nobody.get(f"{SERVICE}admin/{path}").url


@pytest.mark.parametrize(
    ("path", "fields", "open_to"),
    [
        ("sessions/ask", {"action": "stop", "session": "alice/"}, {"bob", "carol"}),
        ("sessions/do", {"action": "message", "session": "alice/", "title": "Hello"}, {"bob", "carol"}),
        ("announcements", {"title": "Hello", "level": "info", "preview": "yes"}, {"carol"}),
        ("maintenance", {"on": "no"}, {"carol"}),
    ],
)
def test_a_change_is_for_whose_rights_reach_as_far_and_for_a_page_of_theirs(people, path, fields, open_to):
    for who in people:
        expected = 200 if who in open_to else 403
        assert post(people, who, path, **fields).status_code == expected, who
        assert post(people, who, path, ticket="", **fields).status_code == 403
    other = people["alice"][1]
    assert post(people, "carol", path, ticket=other, **fields).status_code == 403


def test_everybody_sees_the_sessions_that_are_theirs_to_see(people):
    def shown(who):
        return set(re.findall(r"admin/people/(\w+)\"", get(people, who, "sessions").text))

    assert shown("carol") == {"alice", "erin", "carol"}
    assert shown("bob") == {"alice", "erin"}
    assert shown("dora") == {"alice", "erin"}
    assert 'name="session"' in get(people, "bob", "sessions").text
    assert 'name="session"' not in get(people, "dora", "sessions").text  # she may do nothing with them


def test_a_session_is_stopped_by_whoever_may_and_by_nobody_else(people, engine):
    for who in ("alice", "carol"):
        browser = people[who][0]
        assert browser.hub_api("POST", f"/users/{who}/server").status_code in {201, 202}

    def runs(who):
        servers = people["carol"][0].hub_api("GET", f"/users/{who}").json()["servers"]
        return servers.get("", {}).get("ready", False)

    for who in ("alice", "carol"):
        wait_for(lambda who=who: runs(who), f"{who}'s session")
    # Carol's is out of bob's reach, whatever his form says.
    assert "not running any more" in post(people, "bob", "sessions/do", action="stop", session="carol/").text
    assert post(people, "dora", "sessions/do", action="stop", session="alice/").status_code == 403
    assert runs("carol")
    assert runs("alice")
    asked = post(people, "bob", "sessions/ask", action="stop", session="alice/")
    assert "Stop one session?" in asked.text
    assert runs("alice")
    assert (
        "1 session is being stopped"
        in post(people, "bob", "sessions/do", action="stop", session="alice/").text
    )
    wait_for(lambda: not runs("alice"), "the end of alice's session")
    assert runs("carol")
    assert audited(engine)[:1] == [("session-stopped", "alice", "bob", "default, job 1")]
    # All that fit: erin has none that runs, and the hub has nothing against that.
    post(people, "carol", "sessions/do", action="stop", all="yes", user="carol")
    wait_for(lambda: not runs("carol"), "the end of carol's session")


def audited(engine):
    entries = Audit(engine, "", 365, print).entries(limit=20)
    wanted = ("session-", "message-", "announcement-", "maintenance-", "site-")
    return [
        (one.event, one.account, one.actor, one.detail) for one in entries if one.event.startswith(wanted)
    ]


def test_a_message_reaches_each_owner_once_and_nobody_else(people, engine):
    before = notices.newest(engine)
    answer = post(
        people, "bob", "sessions/do", action="message", all="yes", title="<b>Save</b>", text="Now\nplease"
    )
    assert "Sent to 2 people" in answer.text
    told = {one.user: one for one in notices.after(engine, before)}
    assert set(told) == {"alice", "erin"}
    assert told["erin"].title == "<b>Save</b>"
    assert told["erin"].text.endswith("bob")
    assert told["erin"].kind == "message"
    assert [entry[:3] for entry in audited(engine)[:2]] == [
        ("message-sent", "erin", "bob"),
        ("message-sent", "alice", "bob"),
    ]
    empty = post(people, "bob", "sessions/do", action="message", session="alice/", title=" ", text="kept")
    assert empty.status_code == 400
    assert "Write a subject" in empty.text
    assert "kept" in empty.text


def test_an_announcement_comes_changes_and_goes(people, engine):
    hostile = "<script>alert(1)</script> **bold** [x](javascript:alert(1))"
    shown = post(people, "carol", "announcements", title="T1", text=hostile, level="warning", preview="yes")
    assert "<strong>bold</strong>" in shown.text
    assert "<script>alert" not in shown.text
    assert 'href="javascript' not in shown.text
    assert not announcements.all(engine)
    assert (
        "It is announced"
        in post(people, "carol", "announcements", title="T1", text=hostile, level="info").text
    )
    (one,) = announcements.all(engine)
    assert (one.title, one.author, one.ends) == ("T1", "carol", None)
    later = {"starts": "2040-01-01T10:00", "ends": "2040-01-01T09:00"}
    wrong = post(people, "carol", f"announcements/{one.id}", title="T2", level="info", **later)
    assert wrong.status_code == 400
    assert "ends before it starts" in wrong.text
    post(people, "carol", f"announcements/{one.id}", title="T2", level="danger", ends="2040-01-01T09:00")
    (one,) = announcements.all(engine)
    assert (one.title, one.level, one.ends) == ("T2", "danger", 2209021200)
    assert post(people, "bob", f"announcements/{one.id}", remove="yes").status_code == 403
    assert "It is removed" in post(people, "carol", f"announcements/{one.id}", remove="yes").text
    assert not announcements.all(engine)
    assert get(people, "carol", f"announcements/{one.id}").status_code == 404
    assert get(people, "carol", "announcements/99999999999999999999").status_code == 404
    events = [entry[0] for entry in audited(engine)[:3]]
    assert events == ["announcement-removed", "announcement-changed", "announcement-added"]


def test_maintenance_says_who_switched_it_on_and_off(people, engine):
    answer = post(people, "carol", "maintenance", on="yes", text="New\ndisks")
    assert "Maintenance is on" in answer.text
    state = maintenance.get(engine)
    assert (state.on, state.text, state.by) == (True, "New disks", "carol")
    maintenance.set(engine, Maintenance(True, state.text, state.by, state.since - 60))
    post(people, "carol", "maintenance", on="yes", text="Newer disks")
    assert maintenance.get(engine).since == state.since - 60  # the text has changed, it was on before
    assert "Maintenance is off" in post(people, "carol", "maintenance", on="no", text="").text
    assert not maintenance.get(engine).on
    assert post(people, "carol", "maintenance", on="perhaps").status_code == 400
    assert [entry[0] for entry in audited(engine)[:3]] == [
        "maintenance-off",
        "maintenance-on",
        "maintenance-on",
    ]


def test_no_link_can_claim_that_something_was_done(people):
    assert "It is removed" not in get(people, "carol", "announcements?told=It+is+removed").text
    # What was said is said once.
    post(people, "carol", "maintenance", on="no", text="")
    assert 'role="status">Maintenance is off' not in get(people, "carol", "maintenance").text


def test_use_is_added_up_of_those_whom_the_reader_may_see(people, engine):
    now = int(time.time())
    for job, user in enumerate(("alice", "carol"), 101):
        what = history.Submission(
            cluster="slurm",
            job=job,
            user=user,
            profile="cpu",
            image="base",
            submitted=now - 7300,
            gpus=2,
            cpus=4,
        )
        history.add_submitted(engine, what)
        history.set_running(engine, "slurm", job, started=now - 7200)
        history.set_ended(engine, "slurm", job, ended=now - 3600, state="COMPLETED")

    def rows(who, query):
        return {
            row["user"]: row for row in csv.DictReader(io.StringIO(get(people, who, f"use.csv?{query}").text))
        }

    whole = rows("carol", "by=user&period=week")
    assert whole["alice"]["gpu_hours"] == "2.0"
    assert whole["alice"]["core_hours"] == "4.0"
    assert whole["alice"]["median_wait_seconds"] == "100"
    assert {"alice", "carol"} <= whole.keys()
    assert "carol" not in rows("bob", "by=user&period=week")
    page = get(people, "bob", "use?by=group&period=week").text
    assert "ml101" in page
    assert "hpc-admins" not in page


def test_a_person_is_shown_with_sessions_limits_and_the_way_to_their_devices(people):
    page = get(people, "carol", "people/alice").text
    assert "/hub/admin/people/alice" in page
    assert "Longest session" in page
    assert get(people, "carol", "people/nobody-at-all").status_code == 404
    assert get(people, "bob", "people/nobody-at-all").status_code == 403
    gate = people["carol"][0].get("/hub/admin/people/alice").text
    assert f"{SERVICE}admin/people/alice" in gate


def test_the_hubs_watchers_are_for_those_who_see_all_sessions(world, people):
    url = "/carme/watchers"
    assert people["carol"][0].hub_api("GET", url).status_code == 200
    assert people["bob"][0].hub_api("GET", url).status_code == 403
    assert requests.get(f"{world.url}/hub/api{url}", timeout=30).status_code == 403


def test_the_site_is_checked_once_however_many_ask(people):
    first = post(people, "carol", "site")
    assert "is being checked" in first.text
    assert "is being checked" in post(people, "carol", "site").text
    wait_for(lambda: "Check again" in get(people, "carol", "site").text, "the site check", 90)
    page = get(people, "carol", "site").text
    assert "Directory server" in page  # and much that a hub without a cluster does not have
    assert post(people, "bob", "site").status_code == 403


def test_ways_lead_where_one_may_go(people):
    def ways(who):
        page = people[who][0].get("/hub/home").text
        return {
            name
            for name in ("sessions", "use", "announcements", "site", "people")
            if f'admin/{name}"' in page
        }

    assert ways("alice") == set()
    assert ways("bob") == {"sessions", "use"}
    assert ways("carol") == {"sessions", "use", "announcements", "site", "people"}
    assert json.dumps(sorted(ways("dora"))) == '["sessions", "use"]'
