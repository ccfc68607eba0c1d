"""Profiles on two clusters and on the hub's own machine, with a real hub that is killed in between.

Both clusters are the demo site's, by two names; what is real about it is two sets of commands and watchers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.integration.fault_world import PLACE, FaultHub, clean_up, prepare
from tests.support import Site, until

MORE = f"""
c.CarmeSpawner.clusters = {{
    "big": {{"slurm_conf": "/etc/slurm/slurm.conf"}}, "small": {{"slurm_folder": "{PLACE}/bin"}},
}}
common = {{"cpus": 1, "memory": "64M", "max_time": 60}}
c.CarmeSpawner.profiles = [
    {{"name": "big", "title": "Big", "cluster": "big", "partition": "cpu", **common}},
    {{"name": "small", "title": "Small", "cluster": "small", "partition": "cpu", **common}},
    {{"name": "here", "title": "Here", "cluster": "local", **common}},
]
"""


@pytest.fixture(scope="module")
def hub(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultHub]:
    """A hub with three things to run sessions on."""
    prepare(site)
    try:
        with FaultHub(site, tmp_path_factory.mktemp("backends"), MORE) as running:
            yield running
            running.clear()
    finally:
        clean_up(site)


@pytest.fixture(autouse=True)
def _without_sessions(hub):
    yield
    hub.clear()


def states(hub: FaultHub) -> dict[str, str]:
    """Return what the sessions of the hub's database run on, by their names."""
    query = "select s.name, s.state from spawners s where s.server_id is not null"
    database = f"sqlite3.connect('{hub.folder}/hub.sqlite')"
    program = f"import json, sqlite3; print(json.dumps({database}.execute({query!r}).fetchall()))"
    found = json.loads(hub.site.run("/usr/bin/python3", "-c", program))
    return {name: json.loads(state)["cluster"] for name, state in found}


def here(site: Site) -> list[str]:
    """Return rosa's sessions on the hub's machine, by their first process; those on nodes begin otherwise."""
    return site.run("pgrep", "-u", "rosa", "-f", "^/usr/bin/timeout --kill-after", check=False).split()


def test_named_sessions_run_side_by_side_wherever_their_profiles_say(hub, site):
    for name, profile in (("one", "big"), ("two", "small"), ("three", "here")):
        code, text = hub.start("rosa", name, profile=profile)
        assert code in {201, 202}, text
    for name in ("one", "two", "three"):
        hub.until_ready("rosa", name)
    assert states(hub) == {"one": "big", "two": "small", "three": "local"}
    answers = {hub.until_reachable("rosa", name) for name in ("one", "two", "three")}
    assert len(answers) == 3
    assert len(site.jobs("rosa")) == 2, "the third needs no Slurm"
    assert here(site)

    hub.restart()
    assert {hub.until_reachable("rosa", name) for name in ("one", "two", "three")} == answers

    assert hub.stop("rosa", "three")[0] in {202, 204}
    until(lambda: not here(site), "the end of the session on the hub's machine")
    hub.until_gone("rosa", "three")
    assert hub.answers("rosa", "one")
    assert hub.answers("rosa", "two")


def test_a_profile_that_does_not_exist_starts_nothing(hub, site):
    hub.start("rosa", "one", profile="LocalProcessSpawner")
    hub.until_event("you can have big or small or here", "rosa", "one")
    assert not site.jobs("rosa")
    assert not here(site)


def test_a_session_on_the_hubs_machine_says_how_far_it_is_and_ends_by_itself(hub, site):
    hub.start("rosa", profile="here")
    hub.until_ready("rosa")
    (event,) = [event for event in hub.events("rosa") if event.get("ready")]
    assert event["progress"] == 100
    (first,) = here(site)
    site.run("pkill", "-KILL", "-g", first, "-f", "light_session")
    hub.until_gone("rosa")
    assert not hub.rows()
    until(lambda: not here(site), "the end of its processes")
