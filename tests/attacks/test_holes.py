"""The holes of the packages that carme-hub builds on: each attack succeeds on the package and fails here.

What is not here: a second factor that only the login page checks, a directory that stays silent or shows a
foreign certificate, and one-time codes are the gate's, tests/integration/test_gate_*.py.
"""

from __future__ import annotations

import sys

import pytest
import requests

from tests.attacks.targets import PROCESSES, Target
from tests.attacks.trap import ADDRESS, BAIT
from tests.support import until

# Where a job tells the hub about itself: batchspawner's place and ours.
REPORTS = ("batchspawner", "carme/report")


def report(target: Target, token: str, body: object) -> None:
    """Send something as a job would, to each place."""
    headers = {"Authorization": f"token {token}"}
    for place in REPORTS:
        url = f"{target.attacker.site.hub_url}/hub/api/{place}"
        requests.post(url, headers=headers, json=body, timeout=30)


def on(*targets: str) -> pytest.MarkDecorator:
    """Run an attack on each of these targets (fixtures of conftest.py)."""
    return pytest.mark.parametrize("target", targets, indirect=True)


@on("batchspawner", "ours")
def test_a_job_cannot_run_commands_as_the_hub(target):
    path = target.forbidden()
    token = target.hold()
    report(target, token, target.poison(path))
    target.attacker.end_session()  # with the next command about this job at the latest
    assert (target.run("sh", "-c", f"cat {path} 2>/dev/null || true") == "root\n") == target.vulnerable


@on("batchspawner", "ours")
def test_a_job_cannot_say_where_its_server_is(target, trap):
    token = target.hold()
    report(target, token, {"ip": ADDRESS, "state_exechost_exp": ADDRESS, "port": trap})
    target.release()
    until(lambda: target.attacker.server()["ready"], "the session")
    assert (target.attacker.get("/api").text == BAIT) == target.vulnerable


@on("batchspawner", "ours")
@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"partition": "cpu\n#SBATCH --nodelist=node3"}, "#SBATCH --nodelist=node3"),
        ({"prologue": "id > /tmp/attack"}, "id > /tmp/attack"),
        ({"srun": "", "cmd": "sh -c id"}, "sh -c id"),
        ({"options": "--uid=0"}, "#SBATCH --uid=0"),
    ],
    ids=["line break", "prologue", "command", "options"],
)
def test_the_api_does_not_write_the_script(target, options, line):
    answer = target.attacker.ask(profile="cpu", **options)
    if answer.ok:
        until(target.scripts, "the job")
    written = any(line in script.splitlines() for script in target.scripts())
    assert written == target.vulnerable
    if not target.vulnerable:
        assert answer.status_code == requests.codes.bad_request
        assert next(iter(options)) in answer.json()["message"]


@on("wrapspawner", "ours")
@pytest.mark.parametrize("options", [{}, {"profile": "nonsense"}], ids=["missing", "unknown"])
def test_a_profile_that_does_not_exist_starts_nothing_on_the_hubs_machine(target, options):
    attacker = target.attacker

    def processes() -> str:
        return target.run(sys.executable, "-c", PROCESSES, attacker.username)

    answer = attacker.ask(**options)
    if answer.ok:
        until(processes, "a process on the hub's machine")
    assert bool(processes()) == target.vulnerable
    if not target.vulnerable:
        assert answer.status_code == requests.codes.bad_request
        assert "profile" in answer.json()["message"]


@on("batchspawner", "loud")
def test_the_log_does_not_tell_the_jobs_token(target):
    token = target.hold()
    assert "[D " in target.log()
    assert (token in target.log()) == target.vulnerable
