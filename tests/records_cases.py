"""What has to be true of `carme_hub.records` on every database; the tests name the database."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from carme_hub.authenticator.database import open_engine
from carme_hub.records import announcements, clearing, history, maintenance, notices, open_records, samples
from carme_hub.records.announcements import Announcement
from carme_hub.records.history import Filter, Submission
from carme_hub.records.maintenance import Maintenance
from carme_hub.records.migrations import SHAPES
from carme_hub.records.notices import Notice
from carme_hub.records.samples import Sample
from carme_hub.records.tables import metadata

DAY = 86400
THEN = 1_800_000_000  # seconds since 1970
LARGEST = 2**80


def submission(job=7, user="alice", **more):
    given = {
        "cluster": "carme",
        "job": job,
        "user": user,
        "server": "",
        "profile": "gpu",
        "image": "torch",
        "partition": "gpu",
        "options": {"profile": "gpu", "gpus": 2},
        "submitted": THEN,
        "nodes": 1,
        "cpus": 8,
        "gpus": 2,
        "gpu_type": "a100",
        "memory": 65536,
        "time_limit": 240,
    }
    return Submission(**(given | more))


def ran(engine, job, *, waited=60, lasted=3600, **more):
    what = submission(job, **more)
    history.add_submitted(engine, what)
    begun = what.submitted + waited
    history.set_running(engine, what.cluster, job, started=begun, node="node1")
    history.set_ended(engine, what.cluster, job, ended=begun + lasted, state="COMPLETED")


class RecordsCases:
    """Tests; the module of a subclass has the fixtures `url` and `engine`."""

    # ---- the tables

    def test_the_migrations_make_what_the_tables_say(self, engine):
        def ours(name, kind, _parents):
            return kind != "table" or name in metadata.tables

        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection,
                opts={
                    "version_table": SHAPES.version_table,
                    "compare_server_default": True,
                    "include_name": ours,
                },
            )
            assert compare_metadata(context, metadata) == []

    def test_gate_and_records_share_a_database(self, url, engine):
        gate = open_engine(url)
        notices.add(engine, Notice(user="alice", kind="message", title="Hello"))
        gate.dispose()
        again = open_records(url)
        assert [one.title for one in notices.unread(again, "alice")] == ["Hello"]
        again.dispose()

    def test_several_threads_may_open_a_database_at_once(self, url):
        barrier = threading.Barrier(8)

        def open_it(_):
            barrier.wait(30)
            return open_records(url)

        with ThreadPoolExecutor(8) as threads:
            engines = list(threads.map(open_it, range(8)))
        assert maintenance.get(engines[0]) == Maintenance()
        for opened in engines:
            opened.dispose()

    def test_a_database_that_is_up_to_date_is_opened_without_alembic(self, url, engine):
        assert maintenance.get(engine) == Maintenance()
        code = (
            "import sys; from carme_hub.records import open_records; "
            f"open_records({url!r}).dispose(); print('alembic' in sys.modules)"
        )
        shown = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
        assert shown.stdout.strip() == "False"

    # ---- history

    def test_a_session_is_kept_from_submission_to_end(self, engine):
        number = history.add_submitted(engine, submission())
        (row,) = history.find(engine, "alice")
        assert (row.id, row.state, row.started, row.ended) == (number, "PENDING", None, None)
        assert row.options == {"profile": "gpu", "gpus": 2}
        assert (row.active, row.waited(THEN + 30), row.lasted(THEN + 30)) == (True, 30, 0)
        assert history.set_running(engine, "carme", 7, started=THEN + 90, node="node1")
        (row,) = history.find(engine, "alice")
        assert (row.state, row.node, row.waited(THEN + 999)) == ("RUNNING", "node1", 90)
        assert row.gpu_hours(THEN + 90 + 1800) == 1.0
        assert history.set_ended(
            engine, "carme", 7, ended=THEN + 90 + 7200, state="TIMEOUT", exit_code=1, sentence="Time is up."
        )
        (row,) = history.find(engine, "alice")
        assert (row.state, row.exit_code, row.sentence, row.active) == ("TIMEOUT", 1, "Time is up.", False)
        assert (row.lasted(), row.gpu_hours(), row.core_hours()) == (7200, 4.0, 16.0)

    def test_a_submission_that_is_told_twice_is_one_row(self, engine):
        assert history.add_submitted(engine, submission()) == history.add_submitted(engine, submission())
        assert history.count(engine) == 1

    def test_a_job_number_that_comes_again_means_the_newer_job(self, engine):
        history.add_submitted(engine, submission())
        history.set_ended(engine, "carme", 7, ended=THEN + 10, state="FAILED")
        history.add_submitted(engine, submission(submitted=THEN + DAY))
        history.set_running(engine, "carme", 7, started=THEN + DAY + 5)
        assert [row.state for row in history.find(engine)] == ["RUNNING", "FAILED"]

    def test_a_session_that_has_ended_does_not_run_again(self, engine):
        history.add_submitted(engine, submission())
        history.set_ended(engine, "carme", 7, ended=THEN + 10, state="CANCELLED")
        assert not history.set_running(engine, "carme", 7, started=THEN + 5)
        assert [row.state for row in history.find(engine)] == ["CANCELLED"]

    def test_a_number_that_slurm_gave_to_two_people_means_each_ones_job(self, engine):
        """A controller that is killed before it has written a job down uses its number again."""
        history.add_submitted(engine, submission())
        history.add_submitted(engine, submission(user="bob", submitted=THEN + 5))
        assert history.set_ended(engine, "carme", 7, ended=THEN + 9, state="UNKNOWN", user="alice")
        assert history.set_running(engine, "carme", 7, started=THEN + 6, user="bob")
        assert {row.user: row.state for row in history.find(engine)} == {"alice": "UNKNOWN", "bob": "RUNNING"}

    def test_the_same_number_on_another_cluster_is_another_job(self, engine):
        history.add_submitted(engine, submission())
        history.add_submitted(engine, submission(cluster="small"))
        history.set_ended(engine, "small", 7, ended=THEN + 10, state="FAILED")
        assert {row.cluster: row.state for row in history.find(engine)} == {
            "carme": "PENDING",
            "small": "FAILED",
        }

    def test_an_end_of_a_job_that_nobody_wrote_down_changes_nothing(self, engine):
        assert not history.set_ended(engine, "carme", 8, ended=THEN, state="FAILED")
        assert history.find(engine) == []

    def test_what_is_not_told_of_an_end_stays(self, engine):
        history.add_submitted(engine, submission())
        history.set_ended(
            engine,
            "carme",
            7,
            ended=THEN,
            state="FAILED",
            exit_code=3,
            sentence="It failed.",
            started=THEN - 5,
        )
        history.set_ended(engine, "carme", 7, ended=THEN + 1, state="FAILED")
        (row,) = history.find(engine)
        assert (row.exit_code, row.sentence, row.started) == (3, "It failed.", THEN - 5)

    def test_what_accounting_has_said_stays_whatever_is_told_later(self, engine):
        number = history.add_submitted(engine, submission())
        said = {"started": THEN, "ended": THEN + 60, "state": "TIMEOUT", "exit_code": 1, "accounted": True}
        history.change(engine, {number: said})
        # A hub that was down meanwhile, and finds out now.
        late = THEN + 7200
        assert history.set_ended(
            engine, "carme", 7, started=late, ended=late, state="UNKNOWN", exit_code=0, sentence="Time is up."
        )
        (row,) = history.find(engine)
        assert (row.started, row.ended, row.state, row.exit_code) == (THEN, THEN + 60, "TIMEOUT", 1)
        assert row.sentence == "Time is up."

    def test_sessions_are_found_by_what_is_asked_for(self, engine):
        ran(engine, 1)
        ran(engine, 2, user="bob", profile="cpu", gpu_type="", gpus=0, image="base", partition="short")
        history.add_submitted(engine, submission(3, user="bob", submitted=THEN + DAY, server="big"))

        def jobs(user=None, **wanted):
            return [row.job for row in history.find(engine, user, Filter(**wanted))]

        assert jobs() == [3, 2, 1]
        assert jobs("bob") == [3, 2]
        assert jobs(user="alice") == [1]
        assert jobs(since=THEN + 1) == [3]
        assert jobs(until=THEN + 1) == [2, 1]
        assert jobs(active=True) == [3]
        assert jobs(active=False) == [2, 1]
        assert (
            jobs(profile="cpu") == jobs(image="base") == jobs(partition="short") == jobs(gpu_type="") == [2]
        )
        assert jobs(server="big") == jobs(state="PENDING") == [3]
        assert jobs("alice", profile="cpu") == []
        assert [row.job for row in history.find(engine, limit=1, offset=1)] == [2]
        assert history.count(engine, "bob", Filter(active=False)) == 1
        assert history.values_of(engine, "gpu_type") == ["a100"]
        assert history.values_of(engine, "profile", "bob") == ["cpu", "gpu"]

    def test_totals_are_of_the_hours_that_fall_into_the_time_asked_for(self, engine):
        ran(engine, 1, waited=100, lasted=4 * 3600)
        ran(engine, 2, waited=300, lasted=3600, user="bob", gpus=0, cpus=2)
        history.add_submitted(engine, submission(3, user="bob"))
        history.set_ended(engine, "carme", 3, ended=THEN + 500, state="CANCELLED")
        alice, bob = history.totals(engine, "user", THEN - DAY, THEN + DAY)
        assert (alice.key, alice.sessions, alice.started, alice.gpu_hours, alice.core_hours) == (
            "alice",
            1,
            1,
            8.0,
            32.0,
        )
        assert (bob.key, bob.sessions, bob.started, bob.gpu_hours, bob.core_hours) == ("bob", 2, 1, 0.0, 2.0)
        assert (alice.mean_wait, bob.mean_wait) == (100.0, 300.0)
        (part,) = history.totals(engine, "user", THEN + 100 + 3600, THEN + 100 + 2 * 3600, user="alice")
        assert (part.gpu_hours, part.core_hours) == (2.0, 8.0)
        assert history.totals(engine, "user", THEN + DAY, THEN + 2 * DAY) == []

    def test_totals_of_what_still_runs_go_up_to_now(self, engine):
        history.add_submitted(engine, submission())
        history.set_running(engine, "carme", 7, started=THEN)
        (total,) = history.totals(engine, "profile", THEN, THEN + DAY, now=THEN + 3600)
        assert (total.key, total.gpu_hours) == ("gpu", 2.0)

    def test_accounting_fills_in_what_it_knows(self, engine):
        number = history.add_submitted(engine, submission())
        assert [row.id for row in history.unaccounted(engine)] == [number]
        values = {"cpu_seconds": 12.5, "max_memory": 300, "accounted": True}
        history.change(engine, {number: values})
        (row,) = history.find(engine)
        assert (row.cpu_seconds, row.max_memory) == (12.5, 300)
        assert history.unaccounted(engine) == []

    # ---- notices

    def test_a_notice_is_new_until_it_is_read(self, engine):
        first, second = notices.add(
            engine,
            Notice(user="alice", kind="started", title="It runs", server="big", at=THEN),
            Notice(user="alice", kind="failed", title="It failed", level="danger", text="Why."),
        )
        notices.add(engine, Notice(user="bob", kind="message", title="For bob"))
        assert [one.title for one in notices.unread(engine, "alice")] == ["It failed", "It runs"]
        assert notices.mark_read(engine, "alice", [first]) == 1
        assert [one.id for one in notices.unread(engine, "alice")] == [second]
        newest, oldest = notices.recent(engine, "alice", 5)
        assert (oldest.server, oldest.at, oldest.read_at is not None) == ("big", THEN, True)
        assert (newest.level, newest.text, newest.read_at) == ("danger", "Why.", None)
        assert [one.id for one in notices.recent(engine, "alice", 5, before=second)] == [first]
        assert notices.mark_read(engine, "alice") == 1
        assert notices.unread(engine, "alice") == []

    def test_nobody_reads_another_ones_notices_away(self, engine):
        (number,) = notices.add(engine, Notice(user="alice", kind="message", title="x"))
        assert notices.mark_read(engine, "bob", [number]) == 0
        assert len(notices.unread(engine, "alice")) == 1

    def test_what_is_about_the_same_is_told_once(self, engine):
        one = Notice(user="alice", kind="ends_soon", title="x", about="carme:7:900")
        assert len(notices.add(engine, one)) == 1
        assert notices.add(engine, one) == []
        assert len(notices.add(engine, Notice(user="bob", kind="ends_soon", title="x", about=one.about))) == 1
        notices.add(engine, Notice(user="alice", kind="message", title="a"))
        notices.add(engine, Notice(user="alice", kind="message", title="a"))
        assert len(notices.unread(engine, "alice")) == 3

    def test_one_question_finds_what_is_new_for_everybody(self, engine):
        assert notices.newest(engine) == 0
        notices.add(engine, Notice(user="alice", kind="message", title="old"))
        seen = notices.newest(engine)
        notices.add(engine, Notice(user="alice", kind="message", title="a"))
        notices.add(engine, Notice(user="bob", kind="message", title="b"))
        assert [(one.user, one.title) for one in notices.after(engine, seen)] == [
            ("alice", "a"),
            ("bob", "b"),
        ]

    # ---- announcements

    def test_an_announcement_is_current_from_its_start_to_its_end(self, engine):
        number = announcements.add(
            engine,
            Announcement(
                title="Down", text="**x**", level="warning", starts=THEN, ends=THEN + 10, author="a"
            ),
        )
        assert announcements.current(engine, THEN - 1) == []
        (one,) = announcements.current(engine, THEN)
        assert (one.id, one.title, one.text, one.level, one.author) == (
            number,
            "Down",
            "**x**",
            "warning",
            "a",
        )
        assert announcements.current(engine, THEN + 10) == []

    def test_announcements_can_be_changed_and_removed(self, engine):
        number = announcements.add(engine, Announcement(title="a", author="root"))
        changed = Announcement(id=number, title="b", level="danger", starts=THEN, author="somebody else")
        assert announcements.change(engine, changed)
        (one,) = announcements.all(engine)
        assert (one.title, one.level, one.ends, one.author) == ("b", "danger", None, "root")
        assert announcements.get(engine, number) == one
        assert announcements.remove(engine, number)
        assert not announcements.remove(engine, number)
        assert not announcements.change(engine, changed)
        assert announcements.get(engine, number) is None

    def test_what_matters_most_is_announced_first(self, engine):
        for level, starts in (("info", THEN), ("danger", THEN), ("info", THEN + 1), ("warning", THEN)):
            announcements.add(
                engine, Announcement(title=f"{level} {starts - THEN}", level=level, starts=starts)
            )
        titles = [one.title for one in announcements.current(engine, THEN + 5)]
        assert titles == ["danger 0", "warning 0", "info 1", "info 0"]

    # ---- samples

    def test_samples_come_back_by_moment(self, engine):
        first = {"cpu": Sample(64, 32), "gpu:a100": Sample(8, 4, 2, 1)}
        samples.add(engine, THEN, "carme", first)
        samples.add(engine, THEN + 300, "carme", {"cpu": Sample(64, 33)})
        samples.add(engine, THEN, "small", {"cpu": Sample(2, 1)})
        assert samples.since(engine, "carme", THEN) == [(THEN, first), (THEN + 300, {"cpu": Sample(64, 33)})]
        assert samples.since(engine, "carme", THEN + 1) == [(THEN + 300, {"cpu": Sample(64, 33)})]
        assert samples.since(engine, "carme", THEN, THEN + 1) == [(THEN, first)]

    def test_a_moment_that_is_sampled_again_is_replaced(self, engine):
        samples.add(engine, THEN, "carme", {"cpu": Sample(1, 1), "gpu:a": Sample(1, 1)})
        samples.add(engine, THEN, "carme", {"cpu": Sample(1, 0)})
        assert samples.since(engine, "carme", 0) == [(THEN, {"cpu": Sample(1, 0)})]

    # ---- maintenance

    def test_maintenance_is_what_was_set_last(self, engine):
        assert maintenance.get(engine) == Maintenance()
        first = Maintenance(on=True, text="Back at nine.", by="rosa", since=THEN)
        maintenance.set(engine, first)
        assert maintenance.get(engine) == first
        maintenance.set(engine, Maintenance())
        assert maintenance.get(engine) == Maintenance()

    # ---- what is old, and what is hostile

    def test_what_is_old_goes_and_what_is_not_stays(self, engine, monkeypatch):
        monkeypatch.setattr(clearing, "AT_ONCE", 2)
        for job in range(1, 6):
            ran(engine, job, lasted=0, waited=0)
            notices.add(engine, Notice(user="alice", kind="message", title="old", at=THEN))
            samples.add(engine, THEN + job, "carme", {"cpu": Sample(1, 1), "gpu": Sample(1, 1)})
        longest = max(days for days, _ in clearing.KEPT)
        later = THEN + longest * DAY + 100
        ran(engine, 10, submitted=THEN, lasted=100)  # it ended after what counts
        ran(engine, 11, submitted=later)
        notices.add(engine, Notice(user="alice", kind="message", title="new", at=later))
        samples.add(engine, later, "carme", {"cpu": Sample(1, 1)})
        assert clearing.clear(engine, later) == 5 + 5 + 10
        assert [row.job for row in history.find(engine)] == [11, 10]
        assert [one.title for one in notices.recent(engine, "alice")] == ["new"]
        assert [at for at, _ in samples.since(engine, "carme", 0)] == [later]
        assert clearing.clear(engine, later) == 0

    @pytest.mark.parametrize("text", ["x" * 100_000, "a\0b", "'; DROP TABLE carme_session; --", "\ud800"])
    def test_hostile_texts_are_only_texts(self, engine, text):
        history.add_submitted(
            engine, submission(user=text, server=text, partition=text, options={"image": "x"})
        )
        history.set_running(engine, "carme", 7, started=THEN, node=text)
        history.set_ended(engine, "carme", 7, ended=THEN, state=text)
        notices.add(
            engine, Notice(user="bob", kind="message", title=text, text="ok", server=text, about=text)
        )
        announcements.add(engine, Announcement(title=text, text="ok", author=text, starts=THEN))
        assert history.find(engine, wanted=Filter(server=text)) == history.find(engine)
        assert len(history.find(engine)) == 1
        assert len(notices.unread(engine, "bob")) == len(announcements.all(engine)) == 1

    def test_numbers_that_no_row_can_have_find_nothing(self, engine):
        notices.add(engine, Notice(user="bob", kind="message", title="x"))
        assert notices.mark_read(engine, "bob", [LARGEST, -1, 0]) == 0
        assert len(notices.recent(engine, "bob", before=LARGEST)) == 1
        assert announcements.get(engine, LARGEST) is None
        assert not announcements.remove(engine, LARGEST)
        assert history.find(engine, offset=LARGEST) == []
