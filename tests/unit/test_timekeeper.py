"""When a session asks the hub for its end, and when it warns: a given clock, and real terminals."""

import contextlib
import json
import os
import pty
import random
import stat
import time
from typing import Any

import pytest

from carme_hub.spawner import program, timekeeper
from carme_hub.spawner.timekeeper import Limit, Look, Timekeeper, next_look, skipped, still_due

LEVELS = (900.0, 300.0)
HOUR = 3600.0


@pytest.mark.parametrize(
    ("left", "look"),
    [
        (2 * HOUR, Look(2 * HOUR - 910, 900.0)),
        (905.0, Look(0.0, 900.0)),
        (900.0, Look(timekeeper.REFRESH, None)),  # just warned: has it been extended?
        (440.0, Look(130.0, 300.0)),
        (299.0, Look(timekeeper.REFRESH, None)),
        (-20.0, Look(timekeeper.REFRESH, None)),
        (48 * HOUR, Look(timekeeper.SELDOM, None)),
        (None, Look(timekeeper.UNKNOWN[0], None)),
    ],
)
def test_the_hub_is_asked_shortly_before_a_warning_and_seldom_else(left, look):
    assert next_look(left, LEVELS, 10.0) == look


def test_an_end_that_stays_unknown_is_asked_for_ever_more_seldom():
    pauses = [next_look(None, LEVELS, 10.0, unanswered).after for unanswered in (0, 1, 2, 50)]
    assert pauses == [30.0, 60.0, 120.0, 3600.0]


def test_a_warning_is_stale_when_the_end_has_moved_away():
    assert still_due(310.0, 300.0, 10.0)
    assert still_due(20.0, 300.0, 10.0)
    assert not still_due(300.0 + 1800.0, 300.0, 10.0)
    assert not still_due(None, 300.0, 10.0)
    assert not still_due(10.0, None, 10.0)


def test_a_shortened_limit_is_warned_of_at_once():
    assert skipped(5 * HOUR, 600.0, LEVELS) == 900.0
    assert skipped(5 * HOUR, 200.0, LEVELS) == 300.0
    assert skipped(5 * HOUR, 4 * HOUR, LEVELS) is None
    assert skipped(600.0, 5 * HOUR, LEVELS) is None
    assert skipped(None, 100.0, LEVELS) is None


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("900,300", (900.0, 300.0)),
        ("300,900,900", (900.0, 300.0)),
        ("", ()),
        ("0,-5,inf,nan,x,60", (60.0,)),
    ],
)
def test_levels_are_read_the_earliest_first(text, levels):
    assert timekeeper.read_levels(text) == levels


@pytest.mark.parametrize("answer", [None, [], {}, {"end": "soon"}, {"end": True}, "end"])
def test_an_answer_that_is_none_changes_nothing(answer):
    assert timekeeper.read_limit(answer) is None


class Session:
    """A time keeper whose time is a number that its own sleep moves on, and a hub that knows the end."""

    def __init__(self, end, levels=LEVELS, *, extend=False, first=True):
        self.now, self.end, self.extend = 1000.0, end, extend
        self.asked, self.said, self.shown = [], [], []
        self.answers, self.pace = True, 1.0
        told = {"end": end, "extend": extend} if first else None
        self.keeper = Timekeeper(
            self.ask, levels, told, clock=lambda: self.now, sleep=self.sleep, tell=self.tell, show=self.show
        )

    def ask(self):
        self.asked.append(self.now)
        if not self.answers:
            raise OSError
        return {"end": self.end, "extend": self.extend}

    def sleep(self, seconds):
        assert seconds >= 0
        self.now += seconds * self.pace

    def tell(self, text):
        self.said.append((round(self.end - self.now), text))

    def show(self, limit, warned, following):
        assert following >= self.now
        self.shown.append((limit, warned))

    def until(self, moment):
        while self.now < moment:
            self.keeper.step()


def test_a_day_is_warned_of_twice_and_costs_the_hub_a_handful_of_requests():
    session = Session(1000.0 + 24 * HOUR)
    session.until(session.end)
    assert [left for left, _ in session.said] == [900, 300]
    assert "in 15 minutes" in session.said[0][1]
    assert "in 5 minutes" in session.said[1][1]
    assert len(session.asked) < 20
    short = Session(1000.0 + 2 * HOUR)
    short.until(short.end)
    assert len(short.asked) < 10


def test_a_clock_that_goes_slow_brings_no_warning_twice():
    session = Session(1000.0 + HOUR)
    session.pace = 0.9995
    session.until(session.end - 1)
    assert [left for left, _ in session.said] == [900, 300]


def test_no_chance_makes_it_miss_a_warning():
    for seed in range(200):
        random.seed(seed)
        session = Session(1000.0 + 16 * 60)
        session.until(session.end)
        assert [left for left, _ in session.said] == [900, 300], seed


@pytest.mark.parametrize(
    ("minutes", "warnings"), [(16, [900, 300]), (15, [300]), (10, [300]), (5, []), (1, [])]
)
def test_a_short_session_is_told_only_what_is_news(minutes, warnings):
    session = Session(1000.0 + 60 * minutes)
    session.until(session.end)
    assert [left for left, _ in session.said] == warnings


def test_an_extension_before_the_warning_keeps_it_back():
    session = Session(1000.0 + 2 * HOUR)
    session.end += 4 * HOUR
    session.until(1000.0 + 3 * HOUR)
    assert session.said == []
    session.until(session.end)
    assert [left for left, _ in session.said] == [900, 300]


def test_an_extension_after_a_warning_is_noticed_told_and_warned_of_anew():
    session = Session(1000.0 + 2 * HOUR, extend=True)
    session.until(session.end - 890)
    ((_, text),) = session.said
    assert "extend it" in text
    assert session.keeper._warned == 900.0
    before, session.end = session.end, session.end + HOUR
    session.until(before - 600)
    assert "was extended" in session.said[1][1]
    session.until(session.end)
    assert (Limit(session.end, extend=True), None) in session.shown
    assert [left for left, _ in session.said[2:]] == [900, 300]


def test_without_an_answer_it_goes_by_what_it_knew():
    session = Session(1000.0 + HOUR)
    session.answers = False
    session.until(session.end)
    assert [left for left, _ in session.said] == [900, 300]


def test_an_end_that_was_not_known_at_first_is_learnt():
    session = Session(1000.0 + HOUR, first=False)
    session.until(session.end)
    assert [left for left, _ in session.said] == [900, 300]
    assert len(session.asked) < 12


def test_a_limit_that_an_administrator_shortens_is_noticed():
    session = Session(1000.0 + 24 * HOUR)
    session.until(1000.0 + HOUR)
    session.end = session.now + timekeeper.SELDOM * 1.2 + 600
    session.until(session.end)
    assert [left for left, _ in session.said][-1] == 300


def test_sessions_that_begin_together_do_not_ask_together():
    moments = []
    for _ in range(30):
        session = Session(1000.0 + 2 * HOUR)
        session.keeper.step()
        moments.append(session.asked[0])
    assert max(moments) - min(moments) > 10


def test_every_terminal_gets_the_line_and_none_is_waited_for(tmp_path):
    outer, inner = pty.openpty()
    stuck_outer, stuck = pty.openpty()
    os.set_blocking(stuck, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(stuck, b"x" * 4096):
            pass
    for number, terminal in enumerate((stuck, inner)):
        (tmp_path / str(number)).symlink_to(os.ttyname(terminal))
    (tmp_path / "ptmx").write_text("")
    timekeeper.tell_terminals("This session ends.", str(tmp_path))
    assert b"*** This session ends. ***" in os.read(outer, 1000)
    assert (tmp_path / "ptmx").read_text() == ""
    for one in (outer, inner, stuck_outer, stuck):
        os.close(one)


def test_no_terminals_is_no_error(tmp_path):
    timekeeper.tell_terminals("x", str(tmp_path / "none"))


def test_the_file_is_the_owners_and_follows_no_link(tmp_path):
    file, precious = tmp_path / "limit.json", tmp_path / "precious"
    precious.write_text("mine")
    file.symlink_to(precious)
    (tmp_path / f"limit.json.{os.getpid()}").symlink_to(precious)
    timekeeper.publish(Limit(5000.0, extend=True), 900.0, 4000.0, str(file))
    assert precious.read_text() == "mine"
    assert json.loads(file.read_text()) == {"end": 5000.0, "warned": 900.0, "extend": True, "next": 4000.0}
    assert stat.S_IMODE(file.lstat().st_mode) == 0o600
    assert stat.S_ISREG(file.lstat().st_mode)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    timekeeper.publish(Limit(), None, 0.0, str(tmp_path / "none" / "limit.json"))


def test_a_nap_ends_when_somebody_wants_to_know_but_not_too_often(tmp_path):
    wanted = tmp_path / "wanted"
    wanted.touch()
    began = time.monotonic()
    timekeeper.doze(60, str(wanted), rarely=0.2, tick=0.05)
    assert 0.2 <= time.monotonic() - began < 30
    assert not wanted.exists()
    began = time.monotonic()
    timekeeper.doze(0.2, str(wanted), rarely=0, tick=0.05)
    assert time.monotonic() - began >= 0.2


def test_the_program_is_the_reporter_with_the_time_keeper_inside():
    text = program.source()
    module: dict[str, Any] = {"__name__": "program"}
    exec(compile(text, "program", "exec"), module)  # noqa: S102 - the text is ours
    inside: dict[str, object] = {"__name__": "timekeeper"}
    exec(compile(str(module["PARTS"]["timekeeper"]), "timekeeper", "exec"), inside)  # noqa: S102
    assert inside["next_look"](905.0, LEVELS, 10.0) == (0.0, 900.0)
