"""The history: what an address asks for, what a row says, and the file for other programs."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carme_hub.records import history, open_records
from carme_hub.records.history import Filter, Row, Submission
from carme_hub.records.sums import Sums, sums
from carme_hub.service.history_csv import HEADER, safe, table
from carme_hub.service.history_filter import DAY, LAST_PAGE, PAGE, STATES, Asked, kind_of
from carme_hub.service.history_view import Titles, again, hours, shown, span
from carme_hub.spawner.answers import PHASES

NOW = 1_800_000_000.0
AN_HOUR_AGO = int(NOW) - 3600
ROW = Row(
    id=1,
    cluster="main",
    job=42,
    user="rosa",
    server="work",
    profile="gpu",
    image="ml",
    partition="gpu",
    options={"profile": "gpu", "image": "ml", "gpus": 2, "time": 120},
    submitted=AN_HOUR_AGO,
    started=AN_HOUR_AGO + 600,
    ended=int(NOW),
    state="COMPLETED",
    exit_code=0,
    nodes=2,
    cpus=4,
    gpus=4,
    gpu_type="a100",
    memory=8192,
    time_limit=120,
    cpu_seconds=6000.0,
    max_memory=1024,
)


class TestAnAddress:
    """What it asks for, whoever wrote it."""

    def test_says_what_is_wanted(self):
        asked = Asked.parse(
            {"period": "year", "profile": "gpu", "state": "failed", "text": " node1 ", "page": "3"}
        )
        assert asked == Asked("year", "gpu", "failed", "node1", "", 3)
        wanted = asked.filter(NOW)
        assert wanted == Filter(since=NOW - 365 * DAY, profile="gpu", states=STATES["failed"], text="node1")
        assert asked.offset == 2 * PAGE

    def test_that_is_empty_asks_for_the_last_month(self):
        assert Asked.parse({}) == Asked()
        assert Asked().filter(NOW) == Filter(since=NOW - 30 * DAY)
        assert Asked(period="all").filter(NOW) == Filter()

    @pytest.mark.parametrize("page", ["0", "-1", "x", "", "1e3", "٣", "9" * 400, "1.5"])
    def test_with_a_page_that_is_none_asks_for_one_that_is(self, page):
        assert 1 <= Asked.parse({"page": page}).page <= LAST_PAGE

    @given(
        st.dictionaries(st.sampled_from(["period", "profile", "state", "text", "user", "page"]), st.text())
    )
    def test_is_read_whatever_it_says(self, query):
        asked = Asked.parse(query)
        asked.filter(NOW)
        assert Asked.parse(dict(parse_qsl(asked.query(asked.page)))) == asked

    def test_leads_to_the_same_on_another_page(self):
        asked = Asked(period="week", text="a&b=c", user="mia")
        assert dict(parse_qsl(asked.query(2))) == {
            "period": "week",
            "text": "a&b=c",
            "user": "mia",
            "page": "2",
        }
        assert Asked().query() == ""


def test_every_state_of_slurm_has_a_kind():
    assert {state for state in PHASES if kind_of(state) == "other"} <= {"UNKNOWN"}
    assert kind_of("SOMETHING_NEW") == "other"


class TestARow:
    """What the page shows of it."""

    titles = Titles({"gpu": "GPU session"}, {"ml": "Machine learning"})

    def test_says_what_it_held_and_used(self):
        one = shown(ROW, self.titles, NOW, "rosa")
        assert (one.title, one.image, one.kind) == ("GPU session", "Machine learning", "completed")
        assert (one.waited, one.lasted, one.memory_held) == ("10 min", "50 min", "8 GiB")
        assert one.cpu.percent == 50  # 6000 s of 4 cores in 3000 s
        assert (one.memory.percent, one.memory.text) == (25, "1 GiB / 4 GiB")  # on one of two nodes

    def test_of_a_profile_that_is_gone_keeps_its_name(self):
        assert shown(ROW, Titles(), NOW, "rosa").title == "gpu"

    def test_that_never_ran_used_nothing(self):
        row = replace(ROW, started=None, state="CANCELLED", cpu_seconds=None, max_memory=None)
        one = shown(row, self.titles, NOW, "rosa")
        assert (one.lasted, one.cpu, one.memory, one.kind) == ("", None, None, "stopped")
        assert one.waited == "1 h"

    def test_leads_to_the_start_page_filled_in_alike(self):
        place, query = again(ROW).split("?")
        assert place == "spawn/rosa/work"
        assert parse_qs(query) == {
            "opt-profile": ["gpu"],
            "opt-image": ["ml"],
            "opt-gpus": ["2"],
            "opt-time": ["120"],
        }
        assert shown(ROW, self.titles, NOW, "ada").again == ""  # an admin starts nothing for rosa

    def test_with_hostile_options_leads_nowhere_else(self):
        row = replace(
            ROW, server="../../x?y", options={"profile": "a&opt-gpus=9#", "evil": "x", "gpus": {"a": 1}}
        )
        address = urlsplit(f"https://hub.example/hub/{again(row)}")
        assert address.path == "/hub/spawn/rosa/..%2F..%2Fx%3Fy"
        assert parse_qs(address.query) == {"opt-profile": ["a&opt-gpus=9#"]}

    def test_says_times_and_hours_for_people(self):
        assert [span(0), span(59), span(60), span(3700)] == ["0 s", "59 s", "1 min", "1 h 2 min"]
        assert [hours(0), hours(1.25), hours(123456)] == ["0.0", "1.2", "123,456"]


class TestTheFile:
    """Comma-separated values (RFC 4180) that no spreadsheet runs."""

    def read(self, text):
        return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))

    def test_has_a_header_and_a_row_for_each_session(self):
        text = table([ROW, replace(ROW, job=43, started=None, ended=None, exit_code=None)], NOW)
        assert text.endswith("\r\n")
        assert text.count("\r\n") == text.count("\n") == 3
        first, second = self.read(text)
        assert tuple(first) == HEADER
        assert first["session"] == "work"
        assert first["submitted"] == "2027-01-15T07:00:00Z"
        assert first["gpu_hours"] == "3.333"
        assert (second["started"], second["ended"], second["exit_code"], second["gpu_hours"]) == (
            "",
            "",
            "",
            "0.0",
        )

    @pytest.mark.parametrize(
        "text",
        [
            "=1+1",
            "+1",
            "-1",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\n=1",
            "  =1",
            "\uff1d1",
            "=cmd|'/c calc'!A0",
            '=HYPERLINK("x")',
        ],
    )
    def test_holds_no_formula(self, text):
        assert safe(text).startswith("'")
        (row,) = self.read(table([replace(ROW, sentence=text, server=text, node=text)], NOW))
        assert row["how_it_ended"].startswith("'")
        assert row["session"].startswith("'")

    def test_keeps_a_text_with_quotes_commas_and_line_breaks_in_one_cell(self):
        sentence = 'It said "no",\r\n=1+1; really'
        (row,) = self.read(table([replace(ROW, sentence=sentence)], NOW))
        assert row["how_it_ended"] == 'It said "no", =1+1; really'

    @given(st.text())
    def test_is_read_back_whatever_a_text_says(self, text):
        (row,) = self.read(table([replace(ROW, sentence=text)], NOW))
        assert row["how_it_ended"].removeprefix("'") == " ".join(text.split()).removeprefix("'")


@pytest.fixture
def engine(tmp_path):
    opened = open_records(f"sqlite:///{tmp_path / 'carme.sqlite'}")
    yield opened
    opened.dispose()


def add(engine, job, user="rosa", **more):
    values = {
        "cluster": "main",
        "job": job,
        "user": user,
        "submitted": AN_HOUR_AGO,
        "cpus": 2,
        "gpus": 1,
        **more,
    }
    return history.add_submitted(engine, Submission(**values))


class TestTheDatabase:
    """Filters and sums of what is there."""

    def test_finds_by_text_whatever_its_case_and_without_wildcards(self, engine):
        add(engine, 1, server="thesis-run", image="torch")
        add(engine, 2, server="50%_done")
        add(engine, 3, user="mia", server="thesis-run")
        found = lambda text: [row.job for row in history.find(engine, "rosa", Filter(text=text))]  # noqa: E731
        assert found("THESIS") == [1]
        assert found("torch") == [1]
        assert found("%") == [2]
        assert found("_") == [2]
        assert found("'; DROP TABLE carme_session; --") == []
        assert found("2") == [2]

    def test_finds_by_how_sessions_ended(self, engine):
        for job, state in enumerate(["COMPLETED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL"], 1):
            add(engine, job)
            history.set_ended(engine, "main", job, ended=int(NOW), state=state)
        add(engine, 9)
        assert [row.job for row in history.find(engine, "rosa", Filter(states=STATES["failed"]))] == [4, 3]
        assert [row.job for row in history.find(engine, "rosa", Filter(states=STATES["waiting"]))] == [9]

    def test_adds_up_what_the_filter_finds(self, engine):
        add(engine, 1)
        history.set_running(engine, "main", 1, started=AN_HOUR_AGO + 1800)
        add(engine, 2, gpus=4)
        history.set_running(engine, "main", 2, started=AN_HOUR_AGO)
        history.set_ended(engine, "main", 2, ended=int(NOW), state="COMPLETED")
        add(engine, 3)
        add(engine, 4, user="mia")
        assert sums(engine, "rosa", now=NOW) == Sums(3, 2, 4.5, 3.0, 900.0)
        assert sums(engine, "rosa", Filter(states=("COMPLETED",)), NOW) == Sums(1, 1, 4.0, 2.0, 0.0)
        assert sums(engine, "nobody") == Sums()
