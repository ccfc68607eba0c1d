"""Sessions on newer Slurms than this machine's: a real hub, our spawner, a real image, Slurm 24.11 and 26.05.

The daemons and the commands that the hub calls are the newer release's (tests/little_slurm.py). Apptainer and
the image are the demo site's. There are no control groups in there: what a job may touch is tested elsewhere.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from carme_hub.demo import apptainer, cache, images
from tests.attacks.hub import Hub
from tests.debian_root import ensure
from tests.little_slurm import LittleSlurm, little_slurm
from tests.support import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CONFIGURATION = """
import carme_hub
c.JupyterHub.spawner_class = "carme_hub.spawner.spawner.CarmeSpawner"
c.JupyterHub.hub_connect_ip = "127.0.0.1"
c.CarmeSpawner.slurm_folder = {folder!r}
c.CarmeSpawner.apptainer = {apptainer!r}
c.CarmeSpawner.images = {{"base": {{"title": "Base", "path": {image!r}, "apps": ["lab"]}}}}
c.CarmeSpawner.profiles = [
    {{"name": "gpu", "title": "GPU", "partition": "gpu", "gpu_type": "a100", "max_gpus_per_node": 4,
      "cpus_per_gpu": 1, "memory_per_gpu": "1G", "max_time": "2:00:00"}},
    {{"name": "big", "title": "Too big", "partition": "gpu", "cpus": 8, "memory": "900G", "max_time": "60"}},
]
"""


@dataclass
class Newer:
    """The little cluster and the hub in front of it."""

    slurm: LittleSlurm
    hub: Hub

    def api(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Call the hub's API from where it runs; return status and answer."""
        words = ["curl", "--silent", "--write-out", "\n%{http_code}", "--max-time", "60", "--request", method]
        words += ["--header", "@-", *(["--data", json.dumps(body)] if body is not None else [])]
        done = subprocess.run(
            [*self.slurm.enter(), *words, f"{self.hub.hub_url}{path}"],
            input=f"Authorization: token {self.hub.token}\nContent-Type: application/json\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        text, _, status = done.stdout.rpartition("\n")
        return int(status or 0), text

    def server(self) -> dict[str, Any]:
        """Return the hub's picture of rosa's session."""
        return json.loads(self.api("GET", "/hub/api/users/rosa")[1])["servers"].get("", {})

    def ready(self) -> bool:
        """Say whether the session is; fail when it has ended."""
        server = self.server()
        assert server, self.hub.log()
        return bool(server["ready"])

    def jobs(self) -> list[tuple[str, str, str]]:
        """Return number, state and gres of rosa's jobs that have not ended."""
        told = self.slurm.run("squeue", "-h", "-a", "-u", "rosa", "-o", "%A|%T|%b")
        return [tuple(line.split("|")) for line in told.splitlines()]  # type: ignore[misc]


@pytest.fixture(scope="module", params=["trixie", "forky"])
def newer(request, tmp_path_factory) -> Iterator[Newer]:
    """A hub whose Slurm is the one of another Debian."""
    store = cache.root()
    root = ensure(request.param, print)
    library = ensure("trixie", print) / "usr/lib/x86_64-linux-gnu/libmariadb.so.3"
    image = images.ensure(store, ["base"], print)["base"]
    command = apptainer.command(apptainer.ensure(store, print))
    folder = tmp_path_factory.mktemp("hub")
    with little_slurm(root, binds={str(store): str(store)}, library=library) as slurm:
        configuration = CONFIGURATION.format(
            folder=str(slurm.work / "bin"), apptainer=str(command), image=str(image)
        )
        ports = [18000, 18081, 18001]  # in the cluster's own network
        enter, scopes = tuple(slurm.enter()), ("admin:users", "admin:servers", "access:servers", "shutdown")
        hub = Hub(folder, configuration, people=["rosa"], ports=ports, enter=enter, scopes=scopes)
        with hub:
            made = Newer(slurm, hub)
            assert made.api("POST", "/hub/api/users/rosa")[0] in {201, 409}
            yield made


def test_a_session_starts_is_watched_and_stops(newer):
    version = newer.slurm.run("sinfo", "--version").split()[1]
    assert version.split(".")[:2] in (["24", "11"], ["26", "05"]), version
    status, text = newer.api("POST", "/hub/api/users/rosa/server", {"profile": "gpu", "gpus": 2})
    assert status in {201, 202}, text
    until(newer.ready, "the session")
    ((number, state, gres),) = newer.jobs()
    assert (state, gres.endswith("gpu:a100:2")) == ("RUNNING", True)
    status, text = newer.api("GET", "/user/rosa/api/status")
    assert status == 200, text
    assert newer.api("DELETE", "/hub/api/users/rosa/server")[0] in {202, 204}
    until(lambda: not newer.server(), "the session's end")
    until(lambda: not newer.jobs(), "the job's end")
    assert f"Job {number} is rosa" in newer.hub.log()
    assert "not readable" not in newer.hub.log()


def test_a_job_that_dies_elsewhere_ends_the_session(newer):
    status, text = newer.api("POST", "/hub/api/users/rosa/server", {"profile": "gpu", "gpus": 1})
    assert status in {201, 202}, text
    until(newer.ready, "the session")
    ((number, _state, _gres),) = newer.jobs()
    newer.slurm.run("scancel", number)
    until(lambda: not newer.server(), "the session's end")
    until(lambda: not newer.jobs(), "the job's end")


def test_what_slurm_refuses_is_said(newer):
    status, text = newer.api("POST", "/hub/api/users/rosa/server", {"profile": "big"})
    events = newer.api("GET", "/hub/api/users/rosa/server/progress")[1]
    assert "Requested node configuration is not available" in text + events, (status, text, events)
    assert newer.jobs() == []
