"""The demo site for every test that needs one, and people to use it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

from tests.support import CARME, Person, Site

# The same examples in every run, so that a red run is about the change; `make test-nightly` looks further.
settings.register_profile("default", max_examples=150, derandomize=True, deadline=None)
settings.register_profile("nightly", max_examples=10_000, deadline=None, print_blob=True)
settings.load_profile("default")


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """The demo site, running. One that ran before is left running."""
    ran = subprocess.run([CARME, "demo", "status", "--json"], capture_output=True, text=True, check=False)
    was_ready = json.loads(ran.stdout)["ready"]
    if not was_ready:
        up = subprocess.run([CARME, "demo", "up"], capture_output=True, text=True, check=False, timeout=3600)
        assert up.returncode == 0, up.stdout + up.stderr
    yield Site.running()
    if not was_ready:
        subprocess.run([CARME, "demo", "stop"], check=True, timeout=120)


@pytest.fixture(scope="session")
def people(site: Site) -> Iterator[Callable[[str], Person]]:
    """People by login name; each logs in once, when first asked for."""
    known: dict[str, Person] = {}

    def somebody(username: str) -> Person:
        if username not in known:
            known[username] = site.login(username)
        return known[username]

    yield somebody
    for one in known.values():
        one.http.close()


@pytest.fixture
def person(site: Site, people: Callable[[str], Person]) -> Iterator[Callable[[str], Person]]:
    """People by login name, without a session; what they start is ended after the test."""
    used: dict[str, Person] = {}

    def somebody(username: str) -> Person:
        if username not in used:
            used[username] = people(username)
            used[username].end_session()
            # What a test that was interrupted may have left: code that runs in every session of this person.
            site.run("rm", "-rf", f"/srv/home/{username}/.jupyter/jupyter_server_config.py")
        return used[username]

    yield somebody
    for one in used.values():
        one.end_session()
