"""What of others' is in the tree, unchanged: templates/static/vendor/uplot/README.md says how to renew it."""

import hashlib
from pathlib import Path

import pytest

UPLOT = Path(__file__).parents[2] / "templates" / "static" / "vendor" / "uplot"
SUMS = {
    "LICENSE.txt": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    "uPlot.esm.js": "5dd9b3281aa64b461b42d9945f6adb2649d346502b12281a9ae0d46599a80eba",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}


@pytest.mark.parametrize("name", SUMS)
def test_uplot_is_as_npm_has_it(name):
    assert hashlib.sha256((UPLOT / name).read_bytes()).hexdigest() == SUMS[name]


def test_nothing_else_is_there_and_the_version_is_said():
    assert {file.name for file in UPLOT.iterdir()} == {*SUMS, "README.md"}
    version = (UPLOT / "README.md").read_text().split()[1]
    assert f"(v{version})" in (UPLOT / "uPlot.esm.js").read_text()[:400]
