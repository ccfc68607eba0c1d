"""History and messages at a running service: each sees their own, and only who may, somebody else's."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator

import pytest

from carme_hub.records import announcements, history, maintenance, notices, open_records
from carme_hub.records.history import Submission
from tests.integration.gate_world import Slapd
from tests.integration.service_world import SERVICE, ServiceHub, service_hub

HOSTILE = "<script>alert(1)</script>\"'{{ 7 * 7 }}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, directory: Slapd) -> Iterator[ServiceHub]:
    with service_hub(tmp_path_factory.mktemp("history"), directory) as running:
        running.until_up()
        yield running
        assert "Traceback" not in running.hub.log


@pytest.fixture(scope="module")
def engine(world: ServiceHub):
    (path,) = world.hub.folder.rglob("carme.sqlite")
    opened = open_records(f"sqlite:///{path}")
    now = int(time.time())
    for job, (user, server) in enumerate([("alice", ""), ("alice", HOSTILE), ("bob", "secret")], 1):
        what = {
            "profile": "gpu",
            "image": "ml",
            "options": {"profile": "gpu", "gpus": 2},
            "cpus": 4,
            "gpus": 2,
        }
        history.add_submitted(
            opened,
            Submission(cluster="main", job=job, user=user, server=server, submitted=now - 7200, **what),
        )
        history.set_running(opened, "main", job, started=now - 3600, node="node1")
        history.set_ended(
            opened, "main", job, ended=now, state="TIMEOUT", sentence=f"=Its time was over {HOSTILE}"
        )
        notices.add(
            opened, notices.Notice(user=user, kind="ended", title=f"{user}: {HOSTILE}", server=server)
        )
    yield opened
    opened.dispose()


@pytest.mark.usefixtures("engine")
def test_everybody_sees_their_own_history(world):
    with world.browser("alice") as alice:
        alice.enter()
        page = alice.get("/hub/history").text
        assert "job 1<" in page
        assert "job 2<" in page
        assert "job 3<" not in page
        assert "secret" not in page
        assert HOSTILE not in page
        assert "<script>alert" not in page
        assert "{{ 7 * 7 }}" in page
        assert 'href="/hub/spawn/alice?opt-profile=gpu&amp;opt-gpus=2"' in page
        assert "job 1<" not in alice.get(f"{SERVICE}history?state=failed").text
        assert (
            "job 1<" in alice.get(f"{SERVICE}history?state=timeout&period=week&text=NODE1&profile=gpu").text
        )
        assert alice.get(f"{SERVICE}history?page=zzz&period=%00&state=%FF").status_code in {200, 400}


@pytest.mark.usefixtures("engine")
def test_the_file_has_the_same_rows_and_no_formula(world):
    with world.browser("alice") as alice:
        alice.enter()
        answer = alice.get(f"{SERVICE}history.csv")
        assert answer.headers["Content-Type"].startswith("text/csv")
        assert "attachment" in answer.headers["Content-Disposition"]
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
        assert [row["job"] for row in rows] == ["2", "1"]
        assert rows[0]["how_it_ended"].startswith("'=Its time")
        assert float(rows[1]["gpu_hours"]) == pytest.approx(2, abs=0.1)


@pytest.mark.usefixtures("engine")
def test_somebody_elses_history_is_for_admins_only(world):
    with world.browser("alice") as alice:
        alice.enter()
        for path in ("history?user=bob", "history.csv?user=bob", "history?user=nobody"):
            answer = alice.get(f"{SERVICE}{path}")
            assert answer.status_code == 403
            assert "your own history only" in answer.text
    with world.browser("carol") as carol:
        carol.enter()
        page = carol.get(f"{SERVICE}history?user=bob").text
        assert "secret" in page
        assert "Same again" not in page  # it is bob's to start
        assert '"secret"' in carol.get(f"{SERVICE}history.csv?user=bob").text


@pytest.mark.usefixtures("engine")
def test_messages_are_ones_own_to_read(world):
    with world.browser("alice") as alice, world.browser("bob") as bob:
        alice.enter()
        bob.enter()
        told = bob.api("notices").json()
        assert told["unread"] == 1
        number = told["notices"][0]["id"]
        post = lambda who, **more: who.visitor.session.post(  # noqa: E731
            f"{world.url}{SERVICE}api/notices/read", timeout=30, **more
        )
        ticket = {"X-XSRFToken": alice.ticket()}
        assert post(alice, json={"ids": [number]}, headers=ticket).json() == {"read": 0}
        assert bob.api("notices").json()["unread"] == 1
        assert post(alice, json={"ids": None}).status_code == 403  # from no page of ours
        for body in ({"ids": "all"}, {"ids": [True]}, {"ids": ["1"]}, {}, {"ids": None, "user": "bob"}, []):
            assert post(alice, json=body, headers=ticket).status_code == 400
        assert post(alice, json={"ids": None}, headers=ticket).json() == {"read": 2}
        assert alice.api("notices").json()["unread"] == 0
        page = alice.get(f"{SERVICE}messages").text
        assert "<script>alert" not in page
        assert "bob:" not in page
        assert "Last sign-ins" in page


def test_an_open_page_hears_of_messages_news_and_maintenance(world, engine):
    with world.browser("bob") as bob:
        bob.enter()
        with bob.listen() as events:
            first = next(value for name, value in events if name == "news")
            assert first == {
                "announcements": [],
                "maintenance": {"on": False, "text": "", "since": 0},
            }
            notices.add(engine, notices.Notice(user="alice", kind="message", title="For alice only"))
            notices.add(engine, notices.Notice(user="bob", kind="message", title="For bob"))
            name, value = next(event for event in events if event[0] == "notices")
            assert value["notices"][0]["title"] == "For bob"
            assert "alice" not in str(value)
            announcements.add(engine, announcements.Announcement(title="News", text=f"**now** {HOSTILE}"))
            maintenance.set(engine, maintenance.Maintenance(on=True, text="We move."))
            name, value = next(event for event in events if event[0] == "news")
            assert name == "news"
            assert value["maintenance"]["text"] == "We move."
            assert "<strong>now</strong>" in value["announcements"][0]["html"]
            assert "<script" not in value["announcements"][0]["html"]


@pytest.mark.usefixtures("engine")
def test_what_ended_lately_is_ones_own(world):
    with world.browser("bob") as bob:
        bob.enter()
        (one,) = bob.api("lately").json()
        assert (one["name"], one["kind"], one["again"]) == (
            "secret",
            "timeout",
            "spawn/bob/secret?opt-profile=gpu&opt-gpus=2",
        )


def test_a_database_that_is_away_is_told_in_a_sentence(world, engine):
    with world.browser("alice") as alice:
        alice.enter()
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE carme_session RENAME TO carme_session_away")
        try:
            answer = alice.get(f"{SERVICE}history")
            assert answer.status_code == 503
            assert "does not answer at the moment" in answer.text
        finally:
            with engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE carme_session_away RENAME TO carme_session")
        assert alice.get(f"{SERVICE}history").status_code == 200
