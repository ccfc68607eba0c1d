"""The three hubs: ours, batchspawner's SlurmSpawner, jupyterhub_moss' MOSlurmSpawner. One at a time.

All have the same people, proxy, database engine, image, server, memory and time; JupyterHub's
DummyAuthenticator lets everybody in, because logins are another benchmark. What each package sets by default
stays; what its README asks for is set.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carme_hub.demo.layout import HEAD_ADDRESS
from carme_hub.demo.services import environment
from tests.benchmarks.job.site import BENCH, BIG, STAND_IN, WAIT, until

OURS, BATCHSPAWNER, MOSS = "carme-hub", "batchspawner", "jupyterhub_moss"
SYSTEMS = (OURS, BATCHSPAWNER, MOSS)
URL = f"http://{HEAD_ADDRESS}:8000"
IMAGE = "/srv/images/base.sif"
SERVER = str(STAND_IN / "bin" / "server")
MEMORY, TIME = "1G", "4:00:00"
# An absolute path: batchspawner's jobs have the PATH of a login shell.
APPTAINER = "/usr/local/bin/apptainer"
# How a site without our container would write it; batchspawner, which the image lacks, is bound into it.
CONTAINER = [
    *(APPTAINER, "exec", "--bind", str(STAND_IN)),
    *("--env", f"PYTHONPATH={STAND_IN}/site", "--env", f"PREPEND_PATH={STAND_IN}/bin"),
]

_COMMON = """
c.JupyterHub.bind_url = "{url}"
c.JupyterHub.hub_ip = ""
c.JupyterHub.hub_connect_ip = "{address}"
c.JupyterHub.db_url = "sqlite:///{folder}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/cookie_secret"
c.JupyterHub.cleanup_servers = False
c.JupyterHub.api_page_max_limit = 1000
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.allow_all = True
c.JupyterHub.services = [{{"name": "bench", "api_token": "{token}"}}]
c.JupyterHub.load_roles = [
    {{"name": "bench", "services": ["bench"], "scopes": ["list:users", "read:users", "read:servers"]}}
]
c.JupyterHub.log_level = "INFO"
"""

_OURS = f"""
c.CarmeSpawner.cmd = [{SERVER!r}]
c.CarmeSpawner.images = {{"base": {{"title": "Base", "path": {IMAGE!r}, "mounts": ["bench"]}}}}
c.CarmeSpawner.mounts = {{"bench": {{"source": "{STAND_IN}", "target": "{STAND_IN}", "read_only": True}}}}
c.CarmeSpawner.profiles = [
    {{"name": name, "title": name, "partition": name, "cpus": 1, "memory": "{MEMORY}", "max_time": "{TIME}"}}
    for name in ("{BENCH}", "{WAIT}", "{BIG}")
]
"""

# batchspawner's README: "import batchspawner", a longer http_timeout, the req_ settings.
_BATCHSPAWNER = """
import batchspawner
c.JupyterHub.spawner_class = "batchspawner.SlurmSpawner"
c.Spawner.http_timeout = 120
c.Spawner.cmd = [{server!r}]
c.SlurmSpawner.req_partition = "{partition}"
c.SlurmSpawner.req_memory = "{memory}"
c.SlurmSpawner.req_nprocs = "1"
c.SlurmSpawner.req_runtime = "{time}"
c.SlurmSpawner.batchspawner_singleuser_cmd = "{command} batchspawner-singleuser"
"""

# jupyterhub_moss' README: "import batchspawner, jupyterhub_moss", set_config(c), the partitions.
_MOSS = """
import batchspawner, jupyterhub_moss
jupyterhub_moss.set_config(c)
c.Spawner.http_timeout = 120
c.Spawner.cmd = [{server!r}]
c.MOSlurmSpawner.singularity_cmd = {apptainer!r}
c.MOSlurmSpawner.partitions = {{
    name: {{
        "architecture": "x86_64", "description": name, "simple": True,
        "jupyter_environments": {{"default": {{
            "description": "Base", "path": {image!r}, "modules": "", "add_to_path": False, "prologue": ""}}}},
    }}
    for name in {partitions!r}
}}
"""


def configuration(system: str, partition: str) -> str:
    """Return a hub's own part of its configuration; sessions run in this partition."""
    if system == OURS:
        # configure() sets our authenticator, which comes first so that what all have in common wins.
        return _OURS
    if system == BATCHSPAWNER:
        return _BATCHSPAWNER.format(
            server=SERVER,
            partition=partition,
            memory=MEMORY,
            time=TIME,
            command=" ".join([*CONTAINER, IMAGE]),
        )
    return _MOSS.format(server=SERVER, apptainer=CONTAINER, image=IMAGE, partitions=[BENCH, WAIT, BIG])


def form(system: str, partition: str) -> dict[str, str] | None:
    """Return what a person fills in; None where the page is no form and a visit to it starts the session."""
    if system == OURS:
        return {"profile": partition}
    if system == MOSS:
        return {
            "partition": partition,
            "nprocs": "1",
            "memory": MEMORY,
            "runtime": TIME,
            "environment_id": "default",
        }
    return None


@dataclass(frozen=True)
class Service:
    """The hub's service."""

    pid: int

    def cpu(self) -> float:
        """Return its seconds of processor time, without what it runs (proc(5))."""
        words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, words[11:13])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Return its RSS in MiB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


@dataclass
class Hub:
    """A running hub."""

    system: str
    folder: Path
    process: subprocess.Popen[bytes]
    token: str = field(repr=False)

    @property
    def log(self) -> str:
        return (self.folder / "hub.log").read_text(errors="replace")

    def api(self, path: str) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the hub's own address
            f"{URL}/hub/api{path}", headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
            return json.loads(answer.read())

    def answers(self) -> bool:
        if self.process.poll() is not None:
            raise SystemExit(f"bench: the hub with {self.system} ended. Its log:\n{self.log[-4000:]}")
        address = f"{URL}/hub/health"
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):  # noqa: S310 - as above
            return True
        return False

    def ready(self) -> int:
        """Say how many sessions the hub takes for running and has looked at."""
        users = self.api("/users?state=active&limit=1000")
        return sum(server["ready"] for user in users for server in user["servers"].values())

    def cpu(self) -> tuple[float, float]:
        """Return the seconds of processor time of the hub itself, and of the commands it ran (proc(5))."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        own, children = (sum(map(int, words[first : first + 2])) for first in (11, 13))
        tick = os.sysconf("SC_CLK_TCK")
        return own / tick, children / tick

    def service(self) -> Service | None:
        """Return the hub's service; None while it does not answer."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            with contextlib.suppress(OSError):
                if b"carme_hub.service" in Path(f"/proc/{child}/cmdline").read_bytes():
                    address = f"{URL}/services/carme/about"
                    with urllib.request.urlopen(address, timeout=5):  # noqa: S310 - as above
                        return Service(int(child))
        return None

    def memory(self) -> tuple[float, float]:
        """Return RSS and PSS in MiB (proc(5), smaps_rollup)."""
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()[1:]
        found = {line.split()[0]: int(line.split()[1]) / 1024 for line in lines}
        return found["Rss:"], found["Pss:"]


@contextlib.contextmanager
def hub(  # noqa: PLR0917 - the last ones are named
    system: str,
    folder: Path,
    extra: Mapping[str, str],
    partition: str = BENCH,
    wait: Sequence[str] = (),
    more: str = "",
) -> Iterator[Hub]:
    """
    Run a hub on what the folder holds; it is killed at the end, and its jobs live on.

    Parameters
    ----------
    extra
        "proxy": configurable-http-proxy's command; "peers": the Python that has batchspawner and
        jupyterhub_moss.
    more
        Lines at the end of the configuration; ``{folder}`` is the hub's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(16)
    first = "import carme_hub\ncarme_hub.configure(c)\n" if system == OURS else ""
    common = _COMMON.format(url=URL, address=HEAD_ADDRESS, folder=folder, token=token)
    (folder / "jupyterhub_config.py").write_text(
        first + common + configuration(system, partition) + more.replace("{folder}", str(folder))
    )
    programs = f"{Path(sys.executable).parent}:{Path(extra['proxy']).parent}"
    variables = environment(PATH=f"{programs}:{environment()['PATH']}")
    python = sys.executable if system == OURS else extra["peers"]
    with (folder / "hub.log").open("ab") as log:
        process = subprocess.Popen(
            [python, "-m", "jupyterhub"],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    running = Hub(system, folder, process, token)
    try:
        until(running.answers, f"the answer of the hub with {system}")
        if wait:
            what = f"{len(wait)} sessions at the hub with {system}"
            until(lambda: running.ready() >= len(wait), what, 300, pause=1)
        yield running
    finally:
        process.kill()
        process.wait()
        _end_proxy(folder)


def _end_proxy(folder: Path) -> None:
    """End the proxy, which has a session of its own and outlives a killed hub."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder / "jupyterhub-proxy.pid").read_text())
        process = Path(f"/proc/{pid}")
        if b"configurable-http-proxy" in (process / "cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
            # Nobody reaps a zombie here but the site's first process.
            until(lambda: not process.exists() or not (process / "cmdline").read_bytes(), "the proxy's end")
    (folder / "jupyterhub-proxy.pid").unlink(missing_ok=True)
