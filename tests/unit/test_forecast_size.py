"""A forecast of a large cluster stays a matter of a second, however busy the machine is."""

from tests.benchmarks.forecast import measure


def test_two_thousand_nodes_and_ten_thousand_jobs():
    took = measure(2000, 10_000, print)
    # Several times what it takes when nothing else runs: tests/benchmarks/forecast.py prints that.
    assert sum(took.values()) < 6
