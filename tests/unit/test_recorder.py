"""What happens to sessions, written down by the hub's thread: a real database, which comes and goes."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace

import pytest

from carme_hub.records import history, maintenance, notices, open_records, recorder
from carme_hub.records.attach import CLOSED, Door
from carme_hub.records.maintenance import Maintenance
from carme_hub.records.recorder import Database, Recorder
from carme_hub.records.words import notice_of
from carme_hub.spawner import events
from carme_hub.spawner.events import Event, Facts, Kind

LOG = logging.getLogger("test")
THEN = 1_800_000_000
FACTS = Facts(
    submitted=THEN,
    profile="gpu",
    title="GPU session",
    image="base",
    partition="gpu",
    nodes=2,
    cpus=8,
    gpus=4,
    gpu_type="a100",
    memory=4096,
    limit=60,
)
SUBMITTED = Event(
    kind=Kind.SUBMITTED, at=THEN, user="rosa", cluster="slurm", job=7, facts=FACTS, options={"profile": "gpu"}
)
RUNNING = replace(SUBMITTED, kind=Kind.RUNNING, at=THEN + 30, started=THEN + 30, node="node1")
READY = replace(RUNNING, kind=Kind.READY, at=THEN + 35)
ENDED = replace(READY, kind=Kind.ENDED, at=THEN + 3630, state="COMPLETED", exit_code=0, was_ready=True)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def url(folder):
    return f"sqlite:///{folder / 'carme.sqlite'}"


@pytest.fixture
def engine(url):
    opened = open_records(url)
    yield opened
    opened.dispose()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(recorder, "SHORTEST", 0.02)
    monkeypatch.setattr(recorder, "LONGEST", 0.02)


@pytest.fixture
def make(url):
    made = []

    def new():
        made.append(Recorder(Database(url), LOG))
        return made[-1]

    yield new
    for one in made:
        one.close()


def test_a_session_is_written_down_from_submission_to_end(make, engine):
    one = make()
    for event in (SUBMITTED, RUNNING, READY, ENDED):
        one.take(event)
    assert one.drain(30)
    (row,) = history.find(engine)
    assert (row.user, row.job, row.profile, row.image, row.partition) == ("rosa", 7, "gpu", "base", "gpu")
    assert (row.nodes, row.cpus, row.gpus, row.gpu_type, row.memory) == (2, 8, 4, "a100", 4096)
    assert (row.submitted, row.started, row.ended, row.node) == (THEN, THEN + 30, THEN + 3630, "node1")
    assert (row.state, row.exit_code, row.time_limit, row.accounted) == ("COMPLETED", 0, 60, False)
    assert [one.kind for one in notices.recent(engine, "rosa")] == ["ended", "started"]


def test_oom_is_a_sentence_a_message_and_the_peak_of_the_row(make, engine):
    one = make()
    killed = replace(RUNNING, kind=Kind.OUT_OF_MEMORY, at=THEN + 100, sentence="Out of memory.")
    for event in (SUBMITTED, RUNNING, READY, killed, killed):
        one.take(event)
    assert one.drain(30)
    (row,) = history.find(engine)
    assert (row.sentence, row.max_memory) == ("Out of memory.", 2048), "what it may use on a node"
    (message,) = [one for one in notices.recent(engine, "rosa") if one.kind == "out_of_memory"]
    assert (message.level, message.text) == ("warning", "Out of memory.")
    one.take(ENDED)
    assert one.drain(30)
    (row,) = history.find(engine)
    assert row.sentence == "Out of memory."


def test_c16_the_history_has_the_limit_that_the_job_had_at_its_end(make, engine):
    one = make()
    for event in (SUBMITTED, RUNNING, READY, replace(ENDED, limit=90)):
        one.take(event)
    assert one.drain(30)
    assert [row.time_limit for row in history.find(engine)] == [90]


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_what_a_killed_hub_did_not_write_is_made_up_for_by_the_next_event(make, engine, lost):
    one = make()
    for event in (SUBMITTED, RUNNING, READY, ENDED)[lost:]:
        one.take(event)
    assert one.drain(30)
    (row,) = history.find(engine)
    assert (row.submitted, row.started, row.state) == (THEN, THEN + 30, "COMPLETED")


def test_a_hub_that_tells_it_again_after_a_restart_changes_nothing(make, engine):
    one = make()
    for event in (SUBMITTED, RUNNING, READY, SUBMITTED, READY, ENDED, READY, ENDED):
        one.take(event)
    assert one.drain(30)
    assert [row.state for row in history.find(engine)] == ["COMPLETED"]
    assert len(notices.recent(engine, "rosa")) == 2


@pytest.mark.usefixtures("quick")
def test_a_database_that_is_away_is_waited_for_and_nobody_waits_with_it(make, engine, folder, caplog):
    caplog.set_level(logging.INFO)
    one = make()
    one.take(SUBMITTED)
    assert one.drain(30)
    with closing(sqlite3.connect(folder / "carme.sqlite", isolation_level=None)) as other:
        other.execute("ALTER TABLE carme_session RENAME TO away")
        for event in (RUNNING, READY, ENDED):
            one.take(event)
        assert not one.drain(0.2)
        other.execute("ALTER TABLE away RENAME TO carme_session")
    assert one.drain(30)
    assert [row.state for row in history.find(engine)] == ["COMPLETED"]
    said = [record.message for record in caplog.records if "written down" in record.message]
    assert [words.startswith("What happens to sessions is not written") for words in said] == [True, False]


@pytest.mark.usefixtures("quick")
def test_a_database_that_cannot_be_opened_is_opened_later(make, folder, url):
    folder.mkdir()
    (folder / "carme.sqlite").mkdir()
    one = make()
    one.take(SUBMITTED)
    assert not one.drain(0.2)
    (folder / "carme.sqlite").rmdir()
    assert one.drain(30)
    opened = open_records(url)
    assert history.count(opened) == 1
    opened.dispose()


def test_an_event_that_cannot_be_written_does_not_keep_the_others_from_it(make, engine, caplog):
    one = make()
    one.take(replace(SUBMITTED, job=8, options={"x": object()}))
    one.take(SUBMITTED)
    assert one.drain(30)
    assert [row.job for row in history.find(engine)] == [7]
    assert "cannot be written down" in caplog.text


@pytest.mark.usefixtures("quick")
def test_while_the_database_is_away_only_so_many_events_are_kept(make, folder, engine, monkeypatch):
    monkeypatch.setattr(recorder, "MOST", 3)
    with closing(sqlite3.connect(folder / "carme.sqlite", isolation_level=None)) as other:
        other.execute("ALTER TABLE carme_session RENAME TO away")
        one = make()
        for job in range(1, 9):
            one.take(replace(SUBMITTED, job=job))
        other.execute("ALTER TABLE away RENAME TO carme_session")
    assert one.drain(30)
    assert [row.job for row in history.find(engine)] == [8, 7, 6]


def test_the_end_of_the_hub_waits_for_what_is_not_written(make, engine):
    one = make()
    for job in range(1, 21):
        one.take(replace(SUBMITTED, job=job))
    one.close()
    assert history.count(engine) == 20
    assert not [thread for thread in threading.enumerate() if thread is one._thread]


def test_a_listener_that_fails_disturbs_neither_session_nor_others(caplog):
    heard = []

    def fail(_event):
        raise ZeroDivisionError

    endings = [events.listen(fail), events.listen(heard.append)]
    events.publish(SUBMITTED)
    for unlisten in endings:
        unlisten()
    events.publish(RUNNING)
    assert heard == [SUBMITTED]
    assert "Nobody was told of submitted of job 7" in caplog.text


# ---- what people are told


@pytest.mark.parametrize(
    ("event", "kind", "level", "words"),
    [
        (SUBMITTED, None, "", ""),
        (RUNNING, None, "", ""),
        (READY, "started", "success", "GPU session is ready"),
        (replace(READY, server="big"), "started", "success", "big is ready"),
        (replace(READY, server="big", display_name="Big one"), "started", "success", "Big one is ready"),
        (replace(READY, kind=Kind.ENDS_SOON, left=900), "ends_soon", "warning", "ends in 15 minutes"),
        (replace(READY, kind=Kind.ENDS_SOON, left=60), "ends_soon", "warning", "ends in 1 minute"),
        (ENDED, "ended", "info", "has ended"),
        (replace(ENDED, state="TIMEOUT", sentence="Its time was over."), "ended", "warning", "has ended"),
        (replace(ENDED, state="OUT_OF_MEMORY", sentence="Memory."), "failed", "danger", "failed"),
        (replace(ENDED, state="CANCELLED", sentence="No.", was_ready=False), "failed", "danger", "failed"),
        (replace(ENDED, state="CANCELLED", stopped=True), None, "", ""),
        (replace(ENDED, state="CANCELLED", stopped=True, by="zoe"), "ended", "warning", "was ended"),
    ],
)
def test_people_are_told_what_they_do_not_know_already(event, kind, level, words):
    told = notice_of(event)
    if kind is None:
        assert told is None
    else:
        assert (told.kind, told.level, told.user, told.server) == (kind, level, "rosa", event.server)
        assert words in told.title
        assert told.text == event.sentence or not event.sentence


def test_a_warning_comes_again_only_when_the_end_was_put_off(engine):
    warning = replace(READY, kind=Kind.ENDS_SOON, left=300, end=THEN + 600)
    for event in (warning, warning, replace(warning, end=THEN + 601), replace(warning, end=THEN + 3600)):
        recorder.record(engine, event)
    assert len(notices.recent(engine, "rosa")) == 2


# ---- maintenance


async def test_the_door_is_closed_while_the_site_is_in_maintenance(url, engine, monkeypatch):
    monkeypatch.setattr("carme_hub.records.attach.FRESH", 0)
    door = Door(Database(url), LOG)
    assert await door.sentence() == ""
    maintenance.set(engine, Maintenance(on=True, text="Back at nine."))
    assert (await door.sentence()).endswith("at the moment. Back at nine.")
    maintenance.set(engine, Maintenance(on=True))
    assert (await door.sentence()).startswith(CLOSED)
    maintenance.set(engine, Maintenance(on=False, text="Back at nine."))
    assert await door.sentence() == ""


async def test_while_the_database_is_away_the_door_stays_as_it_was(url, engine, monkeypatch, folder):
    monkeypatch.setattr("carme_hub.records.attach.FRESH", 0)
    maintenance.set(engine, Maintenance(on=True, text="Back at nine."))
    door = Door(Database(url), LOG)
    assert (await door.sentence()).endswith("at the moment. Back at nine.")
    with closing(sqlite3.connect(folder / "carme.sqlite", isolation_level=None)) as other:
        other.execute("ALTER TABLE carme_setting RENAME TO away")
        assert (await door.sentence()).endswith("at the moment. Back at nine.")


async def test_the_database_is_asked_seldom_and_a_silent_one_is_not_waited_for(monkeypatch):
    asked, go = [], threading.Event()

    class Silent:
        def engine(self):
            asked.append(1)
            go.wait(30)
            raise ZeroDivisionError

    monkeypatch.setattr("carme_hub.records.attach.PATIENCE", 0.05)
    door = Door(Silent(), LOG)
    assert await door.sentence() == ""
    assert await door.sentence() == ""
    assert asked == [1]
    go.set()
    await asyncio.wait([door._asking])
    assert await door.sentence() == ""
    assert asked == [1]
