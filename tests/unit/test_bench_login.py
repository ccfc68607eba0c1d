"""The figures that `make bench-login` shows."""

import pytest

from tests.benchmarks import figures
from tests.benchmarks.figures import Run, cell, percentile, put, spell, table, verdicts


def run(health=0.01, done=2.0, others=0.0):
    return Run(logins=[1.0, done], health=[0.001, health], quiet=[0.005], waits=5.0, others=others)


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1), (50, 50), (94.1, 95), (95, 95), (99.5, 100), (100, 100)]
)
def test_a_percentile_is_one_of_the_values(percent, value):
    assert percentile(list(range(100, 0, -1)), percent) == value


def test_a_percentile_of_few_values_is_not_lenient():
    assert percentile([1.0, 2.0, 3.0], 95) == 3.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0042, "4.2 ms"), (0.05, "50 ms"), (0.8349, "835 ms"), (2.0, "2.00 s"), (75.04, "75.0 s")],
)
def test_times_are_written_with_their_unit(seconds, text):
    assert spell(seconds) == text


def test_a_cell_has_a_range_only_where_there_is_one():
    assert cell([1.0, 3.0, 2.0], spell) == "2.00 s (1.00 s to 3.00 s)"
    assert cell([2.0, 2.0], spell) == "2.00 s"


def test_the_table_compares_the_first_two():
    shown = table({"a": [run()], "b": [run(health=30, done=90)], "c": [run()]}).splitlines()
    assert len({len(line) for line in shown}) == 1
    by_title = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in shown}
    assert [text.strip() for text in by_title["/hub/health p95"]] == ["10 ms", "30.0 s", "3000", "10 ms"]
    assert [text.strip() for text in by_title["waits for LDAP per login"]] == ["5.0", "5.0", "", "5.0"]


@pytest.mark.parametrize(
    ("runs", "reached"),
    [
        ([run(), run()], True),
        ([run(), run(health=figures.HEALTH_P95)], False),
        ([run(), run(done=figures.ALL_DONE)], False),
        ([run(), run(health=1, others=0.5)], True),  # on a busy machine, which says nothing
        ([run(others=0.5)], False),  # nothing was shown
    ],
)
def test_one_bad_round_on_an_idle_machine_is_enough(runs, reached):
    text, well = verdicts(runs)
    assert well is reached
    assert ("MISSED" in text or "NOT JUDGED" in text) is not reached


def test_a_document_keeps_everything_around_the_block():
    once = put("# Title\n\nText.\n", "first", "bench-login")
    again = put(once + "\nAfter.\n", "second", "bench-login")
    assert again == once.replace("first", "second") + "\nAfter.\n"
    assert once.startswith("# Title\n\nText.\n\n")
