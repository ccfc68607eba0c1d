"""A hub of its own on the demo site's real cluster, which tests may kill, with sessions that start at once.

Its database, ports and proxy are its own, so that whatever happens to it, the demo site's hub goes on.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from carme_hub.demo import outside
from carme_hub.demo.layout import Layout, checkout
from carme_hub.site_config import SITE_PATH
from tests.attacks.hub import Hub
from tests.support import CARME, Site, until

HERE = Path(__file__).parent
PLACE = "/srv/fault"  # on the file system that all nodes see
CONTROLLER = "/var/lib/slurm/slurmctld"  # where it writes down what it knows
PARTITION = "fault"  # of the tests alone: closed, what is submitted to it waits; open, it runs
PEOPLE = ["rosa", "ravi", "adam", "ines"]
PORTS = [8110, 8111, 8112]  # in the site's own network, where nothing else has them
CLOSED, OPEN = "DOWN", "UP"

CONFIGURATION = f"""
load_subconfig({SITE_PATH!r})
c.CarmeSpawner.images = {{"base": {{"title": "Base", "path": "/srv/images/base.sif"}}}}
c.CarmeSpawner.profiles = [
    {{"name": "now", "title": "Now", "partition": "cpu", "cpus": 1, "memory": "64M",
      "max_time": 60, "images": ["base"]}},
    {{"name": "later", "title": "Later", "partition": "{PARTITION}", "cpus": 1, "memory": "64M",
      "max_time": 60, "images": ["base"]}},
]
c.CarmeSpawner.apptainer = "{PLACE}/light_apptainer.sh"
c.CarmeSpawner.cmd = ["python3", "{PLACE}/light_session.py"]
c.CarmeSpawner.slurm_time_out = 4
c.CarmeSpawner.slurm_folder = "{PLACE}/bin"
c.JupyterHub.allow_named_servers = True
# Nobody wants to wait for the hub's patience.
from carme_hub.spawner import job, sweep
sweep.FIRST = sweep.INTERVAL = 0.5
job.STOP_PATIENCE = 6.0
"""

# Slurm's commands, which a test can make slow or fail: each looks for a file named after it first.
COMMAND = """\
#!/bin/bash
if [[ -e {place}/fails-{name} ]]; then
  echo "{name}: error: Unable to contact slurm controller" >&2; exit 1
fi
/usr/bin/{name} "$@"; code=$?
# The sweep asks for comments, nobody else does.
if [[ {name} == squeue && "$*" == *%k* ]]; then echo >> {place}/looks; fi
while [[ -e {place}/hangs-{name} ]]; do sleep 0.1; done
exit $code
"""

# What squeue says of one job: number, state, comment.
LINE = "%A|%T|%k"
MARK = re.compile(r"carme:([0-9a-f]+):([^/]+)/(.*)")


@dataclass(frozen=True)
class Job:
    """A job of the hub's, as Slurm shows it."""

    number: str
    state: str
    username: str
    server: str


class FaultHub(Hub):
    """The hub that things happen to."""

    def __init__(self, site: Site, folder: Path, more: str = "") -> None:
        self.site = site
        enter = tuple(outside.enter_words(Layout(checkout())))
        super().__init__(folder, CONFIGURATION + more, people=PEOPLE, ports=PORTS, enter=enter)

    def _lines(self) -> str:
        settings = {
            "JupyterHub.cleanup_servers": False,
            "JupyterHub.pid_file": str(self.folder / "hub.pid"),
        }
        lines = "\n".join(f"c.{name} = {value!r}" for name, value in settings.items())
        return f"{super()._lines()}\n{lines}"

    def kill(self) -> None:
        """End it as a crash would, with SIGKILL; its proxy goes on."""
        assert self.process is not None
        self.site.run("kill", "-9", (self.folder / "hub.pid").read_text().strip())
        self.process.wait(30)

    def restart(self) -> None:
        """Kill it and start it again with all its files."""
        self.kill()
        self.__enter__()

    def ask(self, method: str, path: str, body: object = None, patience: int = 60) -> tuple[int, str]:
        """Call the hub's API as its administrator's script would.

        Returns
        -------
        tuple of int and str
            The answer's status and text; 0 when there was none.
        """
        words = [
            "curl",
            "--silent",
            "--write-out",
            "\n%{http_code}",
            "--max-time",
            str(patience),
            "--no-buffer",
        ]
        words += ["--request", method, "--header", "@-"]
        if body is not None:
            words += ["--data", json.dumps(body)]
        done = subprocess.run(
            [*self.enter, *words, f"{self.hub_url}{path}"],
            input=f"Authorization: token {self.token}\nContent-Type: application/json\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=patience + 30,
        )
        text, _, code = done.stdout.rpartition("\n")
        return int(code or 0), text

    def server_path(self, username: str, name: str) -> str:
        """Return the API's path of a session."""
        return f"/hub/api/users/{username}/" + (f"servers/{name}" if name else "server")

    def start(self, username: str, name: str = "", **options: Any) -> tuple[int, str]:
        """Ask for a session."""
        return self.ask("POST", self.server_path(username, name), options or {"profile": "now"})

    def stop(self, username: str, name: str = "") -> tuple[int, str]:
        """Ask for a session's end."""
        return self.ask("DELETE", self.server_path(username, name))

    def servers(self, username: str) -> dict[str, dict[str, Any]]:
        """Return the hub's picture of a person's sessions, with those that have stopped."""
        code, text = self.ask("GET", f"/hub/api/users/{username}?include_stopped_servers")
        assert code == 200, (code, text)
        known: dict[str, dict[str, Any]] = json.loads(text)["servers"]
        return known

    def server(self, username: str, name: str = "") -> dict[str, Any]:
        """Return the hub's picture of one session; empty when it knows none."""
        return self.servers(username).get(name, {})

    def ready(self, username: str, name: str = "") -> bool:
        """Say whether the hub calls the session ready."""
        return bool(self.server(username, name).get("ready"))

    def until_ready(self, username: str, name: str = "") -> None:
        """Wait until a session is ready."""

        def ready() -> bool:
            server = self.server(username, name)
            assert server.get("ready") or server.get("pending"), (server, self.events(username, name))
            return bool(server["ready"])

        until(ready, f"{username}/{name} to be ready")

    def until_gone(self, username: str, name: str = "") -> None:
        """Wait until the hub knows nothing of a session any more."""

        def gone() -> bool:
            server = self.server(username, name)
            return not server.get("ready") and not server.get("pending")

        until(gone, f"{username}/{name} to be gone")

    def events(self, username: str, name: str = "", patience: int = 3) -> list[dict[str, Any]]:
        """Return what the waiting page of a session hears within some seconds."""
        _, text = self.ask("GET", f"{self.server_path(username, name)}/progress", patience=patience)
        return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]

    def until_event(self, words: str, username: str, name: str = "") -> dict[str, Any]:
        """Wait until the waiting page says something."""

        def said() -> dict[str, Any] | None:
            heard = [event for event in self.events(username, name) if words in event.get("message", "")]
            return heard[-1] if heard else None

        event = until(said, f"the waiting page to say {words!r}")
        assert event is not None
        return event

    def answers(self, username: str, name: str = "") -> str:
        """Ask a session through the proxy; returns its job's number, empty when it cannot be reached."""
        code, text = self.ask("GET", f"/user/{username}/{name}/api".replace("//", "/"), patience=5)
        return text if code == 200 else ""

    def until_reachable(self, username: str, name: str = "") -> str:
        """Wait until a session answers through the proxy."""
        return until(lambda: self.answers(username, name), f"{username}/{name} to answer")

    @property
    def mark(self) -> str:
        """Return what this hub's jobs are known by: the second part of their comment."""
        found = {job[1] for job in self._marked() if job[1] is not None}
        assert len(found) == 1, found
        return str(found.pop())

    def _marked(self) -> list[tuple[str, Any, str, str, str]]:
        return [
            (number, match[1], state, match[2], match[3])
            for number, state, comment in (
                # A comment may hold line ends, and tests write such ones.
                [*line.split("|", 2), "", ""][:3]
                for line in self.site.run("squeue", "-h", "-a", "-o", LINE).splitlines()
            )
            if (match := MARK.fullmatch(comment)) and match[2] in PEOPLE
        ]

    def looks(self) -> int:
        """Return how often the sweep has read the queue."""
        return len(self.site.run("cat", f"{PLACE}/looks", check=False).splitlines())

    def live_jobs(self) -> list[Job]:
        """Return the jobs of sessions that have not ended; only this hub's people have any."""
        return [
            Job(number, state, username, server)
            for number, _, state, username, server in self._marked()
            if state not in {"COMPLETING", "COMPLETED", "CANCELLED", "FAILED", "PREEMPTED"}
        ]

    def rows(self) -> dict[tuple[str, str], str]:
        """Return the sessions in the hub's database and the numbers of their jobs, read behind its back."""
        query = (
            "select u.name, s.name, s.state from spawners s join users u on u.id = s.user_id "
            "where s.server_id is not null"
        )
        program = (
            "import json, sqlite3;"
            f"d = sqlite3.connect('file:{self.folder}/hub.sqlite?mode=ro', uri=True, timeout=30);"
            f"print(json.dumps(d.execute({query!r}).fetchall()))"
        )
        found = json.loads(self.site.run("/usr/bin/python3", "-c", program))
        return {(user, server): job_id(json.loads(state or "{}")) for user, server, state in found}

    def until_rows_are_jobs(self) -> None:
        """Wait until there is no job without a row, and no row without a job."""

        def same() -> bool:
            jobs = {(job.username, job.server): job.number for job in self.live_jobs()}
            return len(jobs) == len(self.live_jobs()) and jobs == self.rows()

        try:
            until(same, "jobs and rows to agree", 90)
        except AssertionError as error:
            raise AssertionError(
                f"jobs {self.live_jobs()}\nrows {self.rows()}\n{self.log()[-6000:]}"
            ) from error

    def clear(self) -> None:
        """End all sessions, by whatever it takes, and wait until nothing is left of them."""
        for username in PEOPLE:
            for name, server in self.servers(username).items():
                if server.get("ready") or server.get("pending"):
                    self.stop(username, name)

        def empty() -> bool:
            if not self.live_jobs() and not self.rows():
                return True
            for username, name in self.rows():
                self.stop(username, name)
            return False

        until(empty, "the end of all sessions")

    def say(self) -> str:
        """Return the end of its log, for a test that fails."""
        return self.log()[-5000:]


def job_id(state: dict[str, Any]) -> str:
    """Return the job's number in a row's state, wherever a wrapped spawner keeps it."""
    inner = state.get("child_state") or {}
    return str(state.get("job_id") or inner.get("job_id") or "")


def partition(site: Site, state: str) -> None:
    """Open or close the tests' own partition."""
    site.run("scontrol", "update", f"partition={PARTITION}", f"state={state}")


def until_written_down(site: Site) -> str:
    """Wait until slurmctld has written down its jobs, the number it gives next, and the tests' partition.

    What it has not written when it is killed, it forgets, and it writes some seconds after a change.

    Returns
    -------
    str
        The number of a held job, the last one it has written; to be cancelled.
    """
    name = f"written-{uuid4().hex}"
    words = ["--parsable", "--hold", "--partition", PARTITION, "--job-name", name, "--wrap", "true"]
    number = site.run("sbatch", *words, user="rosa").strip()
    for file, word in {"part_state": PARTITION, "job_state": name}.items():
        found = ("grep", "-ac", word, f"{CONTROLLER}/{file}")
        # Between two versions of the file there is none for a moment.
        until(
            lambda found=found: int(site.run(*found, check=False) or 0), f"{word} in the controller's {file}"
        )
    return number


@contextmanager
def trouble(site: Site, what: str) -> Iterator[None]:
    """Let a command fail or hang (after it has done its work) while the block runs: "hangs-sbatch"."""
    site.run("touch", f"{PLACE}/{what}")
    try:
        yield
    finally:
        site.run("rm", f"{PLACE}/{what}")


@contextmanager
def stopped(site: Site, program: str, node: str | None = None, by: str = "-x") -> Iterator[None]:
    """Let a program of the site do nothing (SIGSTOP) while the block runs; `by` is how pkill(1) finds it."""
    site.run("pkill", "-STOP", by, program, node=node)
    try:
        yield
    finally:
        site.run("pkill", "-CONT", by, program, node=node)


def prepare(site: Site) -> None:
    """Put what stands in for Apptainer and JupyterLab where the nodes see it, and make the partition."""
    site.run("mkdir", "-p", PLACE)
    for name in ("light_session.py", "light_apptainer.sh"):
        words = ["tee", f"{PLACE}/{name}"]
        subprocess.run(
            [CARME, "demo", "exec", "--", *words],
            input=(HERE / name).read_text(),
            text=True,
            stdout=subprocess.DEVNULL,
            check=True,
            env=os.environ,
            timeout=60,
        )
    site.run("mkdir", "-p", f"{PLACE}/bin")
    for name in ("sinfo", "scontrol", "sacct", "sacctmgr", "srun", "sstat"):
        site.run("ln", "-sf", f"/usr/bin/{name}", f"{PLACE}/bin/{name}")
    for name in ("squeue", "sbatch", "scancel"):
        text = COMMAND.format(place=PLACE, name=name)
        # What an earlier run left may be a link to Slurm's own.
        site.run("rm", "-f", f"{PLACE}/bin/{name}")
        site.run("sh", "-c", f'printf %s "$0" > {PLACE}/bin/{name}; chmod a+x {PLACE}/bin/{name}', text)
    site.run("chmod", "-R", "a+rX", PLACE)
    site.run("chmod", "a+x", f"{PLACE}/light_apptainer.sh")
    with suppress(AssertionError):
        site.run("scontrol", "create", f"partition={PARTITION}", "nodes=node[1-3]", f"state={CLOSED}")
    partition(site, CLOSED)


def clean_up(site: Site) -> None:
    """Take away what `prepare` made, and every job of a session that a broken test left."""
    found = site.run("squeue", "-h", "-a", "-o", LINE).splitlines()
    left = [line.split("|")[0] for line in found if MARK.fullmatch(line.split("|", 2)[2])]
    if left:
        site.run("scancel", *left, check=False)
    site.run("scancel", "--partition", PARTITION, check=False)
    until(lambda: not site.run("squeue", "-h", "-p", PARTITION).strip(), "the partition to be empty")
    site.run("scontrol", "delete", f"partition={PARTITION}", check=False)
    site.run("rm", "-rf", PLACE)
