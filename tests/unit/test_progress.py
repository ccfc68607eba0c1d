"""What the waiting page says of a start: the step, the reason, the time, and a bar that never goes back."""

import pytest

from carme_hub.spawner import progress
from carme_hub.spawner.answers import Phase
from carme_hub.spawner.progress import CONTAINER, NODE, QUEUE, SERVER, SUBMIT, Known, differs, event, later
from carme_hub.spawner.usual import LEAST, Usual
from carme_hub.spawner.watcher import View

NOW = 1_700_000_000.0
RUNNING = View(Phase.RUNNING, "RUNNING", "", "node1", start=int(NOW) - 4)


def pending(reason="Priority", **more):
    return View(Phase.PENDING, "PENDING", reason, **more)


@pytest.mark.parametrize(
    ("job", "view", "known", "step", "words"),
    [
        ("", None, Known(), SUBMIT, "Handing"),
        ("7", None, Known(), QUEUE, "Job 7 is in the queue"),
        ("7", pending(place=3), Known(), QUEUE, "at place 3: Other jobs"),
        ("7", pending("Resources", start=int(NOW) + 60), Known(), QUEUE, "expects it to start at"),
        ("7", pending("ReqNodeNotAvail, UnavailableNodes:n1"), Known(), QUEUE, "(n1)"),
        ("7", pending("NewReason"), Known(), QUEUE, "NewReason"),
        ("7", View(Phase.PENDING, "CONFIGURING", "", "node1"), Known(), NODE, "makes them ready"),
        ("7", RUNNING, Known(), CONTAINER, "runs on node1: Its node checks"),
        ("7", RUNNING, Known(begun=NOW), SERVER, "runs on node1: The container runs"),
        ("7", RUNNING, Known(begun=NOW, reported=True), SERVER, "listens"),
        ("7", View(Phase.RUNNING, "SUSPENDED", "", "node1"), Known(), CONTAINER, "suspended"),
        ("7", View(Phase.ENDED, "FAILED"), Known(), CONTAINER, "FAILED"),
    ],
)
def test_each_state_is_a_step_and_a_sentence(job, view, known, step, words):
    said = event(job, view, known, now=NOW)
    assert said["step"] == step
    assert words in said["message"]
    assert said["job"] == (7 if job else None)


def test_a_whole_start_moves_the_bar_forward_only():
    start = [
        event("", None, now=NOW),
        event("7", None, Known(NOW), now=NOW),
        event("7", pending(start=int(NOW) + 100), Known(NOW), now=NOW + 50),
        event("7", pending(start=int(NOW) + 1000), Known(NOW), now=NOW + 60),  # Slurm changed its mind
        event("7", View(Phase.PENDING, "CONFIGURING"), Known(NOW), now=NOW + 70),
        event("7", RUNNING, Known(NOW, container=10), now=NOW + 80),
        event("7", RUNNING, Known(NOW, begun=NOW + 80, server=10), now=NOW + 85),
        event("7", RUNNING, Known(NOW, begun=NOW + 80, reported=True), now=NOW + 86),
    ]
    shown = [start[0]]
    for one in start[1:]:
        shown.append(later(shown[-1], one))
    bar = [one["progress"] for one in shown]
    assert bar == sorted(bar)
    assert bar[3] == bar[2] > start[3]["progress"]
    assert bar[-1] < 100
    assert all(one["progress"] <= one["to"] for one in shown)


def test_a_start_that_falls_back_into_the_queue_says_so():
    before = event("7", RUNNING, now=NOW)
    again = event("7", pending("BeginTime"), now=NOW)
    assert later(before, again)["progress"] == again["progress"] < before["progress"]


def test_the_bar_follows_slurms_estimate_and_says_so():
    half = event("7", pending(start=int(NOW) + 100, place=2), Known(NOW - 100), now=NOW)
    assert (half["eta"], half["eta_by"], half["expected_start"]) == (NOW + 100, "slurm", int(NOW) + 100)
    assert half["progress"] == 30  # half of the way from 20 to 40
    assert half["place"] == 2


@pytest.mark.parametrize("reason", ["PartitionDown", "QOSMaxGRESPerUser"])
def test_a_place_in_the_line_is_told_only_to_who_waits_for_others(reason):
    assert event("7", pending(reason, place=1), now=NOW)["place"] is None
    assert event("7", pending("Resources", place=1), now=NOW)["place"] == 1


@pytest.mark.parametrize("reason", ["JobHeldAdmin", "PartitionTimeLimit"])
def test_what_never_starts_by_itself_has_no_estimate_and_no_place(reason):
    said = event("7", pending(reason, start=int(NOW) + 100, place=1), Known(NOW - 100), now=NOW)
    assert said["hopeless"]
    assert said["advice"]
    assert said["expected_start"] is said["eta"] is said["place"] is None


def test_an_estimate_that_has_passed_is_none():
    said = event("7", pending(start=int(NOW) - 1), Known(NOW - 100), now=NOW)
    assert said["expected_start"] is said["eta"] is None
    assert said["progress"] == 20


def test_within_a_step_the_bar_moves_by_what_is_usual_here_and_never_to_its_end():
    early = event("7", RUNNING, Known(container=8), now=NOW)
    late = event("7", RUNNING, Known(container=8), now=NOW + 1000)
    assert early["eta_by"] == "usual"
    assert 60 < early["progress"] < late["progress"] < 80
    unknown = event("7", RUNNING, now=NOW + 1000)
    assert (unknown["progress"], unknown["eta"], unknown["eta_by"]) == (60, None, "")


def test_time_alone_is_no_news():
    one = event("7", pending(start=int(NOW) + 100), Known(NOW), now=NOW)
    assert not differs(one, event("7", pending(start=int(NOW) + 100), Known(NOW), now=NOW + 10))
    assert differs(one, event("7", pending(start=int(NOW) + 200), Known(NOW), now=NOW + 10))
    assert differs(None, one)


def test_the_steps_have_names_and_borders():
    assert len(progress.STEPS) == SERVER + 1


def test_usual_is_the_middle_of_the_last_ones_and_nothing_before_there_are_some():
    usual = Usual()
    for seconds in [5, 7][: LEAST - 1]:
        usual.took("base", seconds)
    assert usual.seconds("base") is None
    usual.took("base", 100)
    assert usual.seconds("base") == 7
    assert usual.seconds("ml") is None
    for _ in range(50):
        usual.took("base", 1)
    assert usual.seconds("base") == 1
    for number in range(1000):
        usual.took(number, 1)
    assert len(usual._known) <= 200
