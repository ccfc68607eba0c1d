"""Limits of CarmeSpawner, at a hub of its own on the real cluster, in a partition where nothing starts."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import pytest

from carme_hub.demo import outside
from carme_hub.demo.layout import Layout, checkout
from tests.attacks.hub import Hub
from tests.support import Site, until

PARTITION = "limits"
PEOPLE = ["rosa", "ravi", "adam"]
PORTS = [8120, 8121, 8122]  # in the site's own network
CONFIGURATION = f"""
import carme_hub
carme_hub.configure(c)
c.CarmeSpawner.images = {{"base": {{"title": "Base", "path": "/srv/images/base.sif"}}}}
c.CarmeSpawner.profiles = [
    {{"name": "cpu", "title": "CPU", "partition": "{PARTITION}", "memory": "64M", "max_time": "2:00:00"}},
    {{"name": "gpu", "title": "GPU", "partition": "{PARTITION}", "memory": "64M",
      "max_gpus_per_node": "partition", "max_nodes": "partition"}},
    {{"name": "few", "title": "Few", "partition": "{PARTITION}", "memory": "64M",
      "max_pending": 1, "max_time": 60}},
]
c.CarmeSpawner.limits = {{"max_running": 3, "max_time": "1:00:00"}}
c.CarmeSpawner.group_limits = {{"labs": {{"max_running": None, "max_gpus": 6, "max_nodes": 3}}}}
c.JupyterHub.load_groups = {{"labs": {{"users": ["ravi"]}}}}
"""
# JupyterHub says 201, too, for a start that goes on, when the server's last start had failed.
ACCEPTED = {201, 202}
# Fires all requests at once, from where the hub runs; a list of method, address and body on standard input.
FIRE = """
import json, sys, threading, urllib.error, urllib.request
token, calls = json.load(sys.stdin)
together, answers = threading.Barrier(len(calls)), [None] * len(calls)
def call(place, method, address, body):
    asked = urllib.request.Request(address, json.dumps(body).encode(), method=method,
        headers={"Authorization": f"token {token}", "Content-Type": "application/json"})
    together.wait()
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            answers[place] = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        answers[place] = error.code, error.read().decode()
threads = [threading.Thread(target=call, args=(place, *one)) for place, one in enumerate(calls)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(answers))
"""


class LimitedHub(Hub):
    """The hub, and what the tests ask of it."""

    def __init__(self, site: Site, folder) -> None:
        self.site = site
        enter = tuple(outside.enter_words(Layout(checkout())))
        super().__init__(folder, CONFIGURATION, people=PEOPLE, ports=PORTS, enter=enter)

    def _lines(self) -> str:
        # A refusal is the answer; nothing here ever starts.
        patient = (
            'c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 3}\nc.JupyterHub.cleanup_servers = False'
        )
        return f"{super()._lines()}\n{patient}\nc.JupyterHub.pid_file = {str(self.folder / 'hub.pid')!r}"

    def at_once(self, calls: list[tuple[str, str, object]]) -> list[tuple[int, str]]:
        """Send several requests at the same moment, and return status and text of each answer."""
        done = subprocess.run(
            [*self.enter, "/usr/bin/python3", "-c", FIRE],
            input=json.dumps(
                [self.token, [(how, f"{self.hub_url}/hub/api{path}", body) for how, path, body in calls]]
            ),
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return [(status, text) for status, text in json.loads(done.stdout)]

    def start(self, username: str, name: str, **options: object) -> tuple[int, str]:
        """Start a named server; an admin's script does it, and the person's limits count."""
        (answer,) = self.at_once([("POST", f"/users/{username}/servers/{name}", options)])
        return answer

    def restart(self) -> None:
        """Kill the hub as a crash would, and start it again."""
        self.site.run("kill", "-9", (self.folder / "hub.pid").read_text().strip())
        self.process.wait(30)
        self.__enter__()

    def jobs(self, username: str) -> list[str]:
        """Return the jobs of a person in the tests' partition."""
        return self.site.run("squeue", "-h", "-p", PARTITION, "-u", username, "-o", "%A").split()

    def active(self) -> dict[str, str]:
        """Return all sessions that the hub knows as starting, running or stopping: name -> its owner."""
        answers = self.at_once([("GET", f"/users/{username}", None) for username in PEOPLE])
        found = [json.loads(text) for status, text in answers if status == 200]
        return {
            name: one["name"]
            for one in found
            for name, server in one["servers"].items()
            if server["ready"] or server["pending"]
        }

    def clear(self) -> None:
        """End everybody's sessions."""

        def ended() -> bool:
            active = self.active()
            if active:
                self.at_once(
                    [("DELETE", f"/users/{one}/servers/{name}", None) for name, one in active.items()]
                )
            return not active and not any(self.jobs(username) for username in PEOPLE)

        until(ended, "the end of all sessions")


@pytest.fixture(scope="module")
def limited(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LimitedHub]:
    """The hub, and a partition in which jobs wait."""
    with suppress(AssertionError):
        site.run("scontrol", "create", f"partition={PARTITION}", "nodes=node[1-3]", "maxtime=12:00:00")
    site.run("scontrol", "update", f"partition={PARTITION}", "state=DOWN")
    site.run("scancel", "-p", PARTITION, check=False)  # what an interrupted run left
    try:
        with LimitedHub(site, tmp_path_factory.mktemp("limits")) as running:
            yield running
            running.clear()
    finally:
        site.run("scancel", "-p", PARTITION, check=False)
        until(lambda: not site.run("squeue", "-h", "-p", PARTITION).strip(), "the partition to be empty")
        site.run("scontrol", "delete", f"partition={PARTITION}", check=False)


@pytest.fixture
def hub(limited: LimitedHub) -> Iterator[LimitedHub]:
    """The same hub without sessions."""
    yield limited
    limited.clear()


def sentence(answer: tuple[int, str]) -> str:
    """Return what a refusal says."""
    status, text = answer
    assert status == 400, answer
    return str(json.loads(text)["message"])


def test_of_twenty_starts_at_once_as_many_get_in_as_are_allowed(hub):
    answers = hub.at_once([("POST", f"/users/rosa/servers/s{n}", {"profile": "cpu"}) for n in range(20)])
    assert {status for status, _ in answers} <= {*ACCEPTED, 400}
    told = "1 more session asked, 3 in use, 3 allowed at once. Please stop one of them first."
    refused = re.compile(rf"Not starting rosa's server s[0-9]+: .*{re.escape(told)}")
    until(lambda: len(refused.findall(hub.log())) == 17, "17 refusals")
    assert len(hub.active()) == 3
    until(lambda: len(hub.jobs("rosa")) >= 3, "three jobs")
    assert len(hub.jobs("rosa")) == 3
    assert hub.start("adam", "his", profile="cpu")[0] in ACCEPTED, "another person's limits are another's"


def test_after_a_restart_of_the_hub_the_count_holds(hub):
    assert {hub.start("rosa", f"s{n}", profile="cpu")[0] for n in range(3)} <= ACCEPTED
    jobs = hub.jobs("rosa")
    hub.restart()
    assert "3 in use, 3 allowed" in sentence(hub.start("rosa", "more", profile="cpu"))
    assert sorted(hub.jobs("rosa")) == sorted(jobs)


def test_gpus_and_nodes_count_over_all_sessions_until_they_end(hub):
    assert hub.start("ravi", "one", profile="gpu", gpus=2, nodes=2)[0] in ACCEPTED
    told = sentence(hub.start("ravi", "two", profile="gpu", gpus=3))
    assert "3 GPUs asked in all, 4 in use, 6 allowed at once" in told
    told = sentence(hub.start("ravi", "two", profile="gpu", gpus=1, nodes=2))
    assert "2 nodes asked in all, 2 in use, 3 allowed at once" in told
    assert len(hub.jobs("ravi")) == 1
    hub.clear()
    assert hub.start("ravi", "two", profile="gpu", gpus=3)[0] in ACCEPTED


def test_waiting_sessions_of_a_profile_are_limited(hub):
    assert hub.start("ravi", "one", profile="few")[0] in ACCEPTED
    told = sentence(hub.start("ravi", "two", profile="few"))
    assert "1 more session asked, 1 waiting to start, 1 allowed to wait in “Few”" in told
    assert hub.start("ravi", "two", profile="cpu")[0] in ACCEPTED


def test_what_the_site_does_not_bound_the_partition_and_the_limits_do(hub):
    assert "(gpus): 5 asked, 1 to 4 allowed" in sentence(hub.start("ravi", "x", profile="gpu", gpus=5))
    assert "(nodes): 4 asked, 1 to 3 allowed" in sentence(hub.start("ravi", "x", profile="gpu", nodes=4))
    assert "2:00:00 asked, at most 1:00:00 allowed" in sentence(
        hub.start("ravi", "x", profile="gpu", time="2:00:00")
    )


def test_a_start_that_slurm_refuses_holds_nothing(hub):
    for _ in range(4):
        told = sentence(hub.start("rosa", "wrong", profile="cpu", account="teaching"))
        assert "(account): 'teaching' asked, but “CPU” has research" in told
    assert hub.start("rosa", "right", profile="cpu")[0] in ACCEPTED


def test_a_visit_without_a_login_is_sent_there_and_leaves_no_error(limited):
    script = (
        "import sys, urllib.request, urllib.error\n"
        "for path in ('spawn', 'spawn/rosa', 'spawn/rosa/work'):\n"
        "    print(urllib.request.urlopen(f'{sys.argv[1]}/hub/{path}', timeout=30).url)\n"
    )
    said = limited.site.run("/usr/bin/python3", "-c", script, limited.hub_url)
    assert said.count("/hub/login") == 3
    assert "Traceback" not in limited.log()
    assert "TypeError" not in limited.log()


def test_an_estimate_is_about_one_more_session_unless_one_is_named(hub):
    assert hub.start("rosa", "a", profile="cpu")[0] in ACCEPTED
    assert hub.start("rosa", "b", profile="cpu")[0] in ACCEPTED
    assert hub.at_once([("POST", "/users/rosa/server", {"profile": "cpu"})])[0][0] in ACCEPTED

    def estimate(where):
        def answer():
            (said,) = hub.at_once([("POST", f"/carme/estimate/rosa{where}", {"profile": "cpu"})])
            return None if said[0] == 429 else said

        return until(answer, "an estimate", 20)

    for where in ("", "/new"):
        status, text = estimate(where)
        assert status == 400, text
        assert "3 in use, 3 allowed at once" in text
    status, text = estimate("/a")
    assert "in use" not in text
    hub.at_once([("DELETE", "/users/rosa/server", None)])
