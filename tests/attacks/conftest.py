"""The plain packages and carme-hub, side by side."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attacks import trap as trap_module
from tests.attacks.targets import Loud, Ours, Target, Upstream
from tests.support import Person, Site


@pytest.fixture(scope="session")
def batchspawner() -> Iterator[Upstream]:
    """JupyterHub with batchspawner."""
    with Upstream.running() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def wrapspawner() -> Iterator[Upstream]:
    """JupyterHub with wrapspawner, which offers one profile, of batchspawner."""
    with Upstream.running("wrapspawner.ProfilesSpawner") as upstream:
        yield upstream


@pytest.fixture(scope="session")
def ours(site: Site, people: Callable[[str], Person]) -> Ours:
    """The demo site."""
    target = Ours(site, people(Ours.username))
    target.clean()
    return target


@pytest.fixture(scope="session")
def loud(site: Site) -> Iterator[Loud]:
    """The demo site with a second hub that logs everything."""
    with tempfile.TemporaryDirectory(prefix="carme-attacks-") as name:
        target = Loud(site, Path(name))
        with target.hub:
            yield target


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Return the target whose fixture the test names; its attacker has no session."""
    one = request.getfixturevalue(request.param)
    yield one
    one.clean()


@pytest.fixture
def trap(target: Target) -> Iterator[int]:
    """Return the port of the attacker's own server on the hub's machine, at `trap.ADDRESS`."""
    process = subprocess.Popen(
        [*target.enter(), sys.executable, trap_module.__file__, trap_module.ADDRESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield int(process.stdout.readline())
        process.stdin.close()
