"""What is attacked: the plain packages that carme-hub builds on, and carme-hub. Both take the same orders.

`vulnerable` says what an attack on the target is expected to come to. An attack that fails on the plain
package proves nothing, so its success there is asserted as well.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, Self

import requests

from carme_hub.site_config import SITE_PATH
from tests.attacks.hub import STAND_IN, START_PLAIN, Hub, free_ports
from tests.support import CARME, Person, Site, until

HOOK = "~/.jupyter/jupyter_server_config.py"

# Prints the processes of a person that run on this machine itself: not those of compute nodes, which live in
# other network namespaces.
PROCESSES = """
import contextlib, os, pwd, sys
uid, network = pwd.getpwnam(sys.argv[1]).pw_uid, os.readlink("/proc/self/ns/net")
for pid in filter(str.isdigit, os.listdir("/proc")):
    with contextlib.suppress(OSError):
        if os.stat(f"/proc/{pid}").st_uid == uid and os.readlink(f"/proc/{pid}/ns/net") == network:
            print(open(f"/proc/{pid}/cmdline").read().replace(chr(0), " "))
"""


class Target(Protocol):
    """A hub, and a person who is up to no good."""

    vulnerable: bool
    attacker: Person

    def hold(self) -> str:
        """Start the attacker's session, stop it short of its report, and return its job's token."""

    def release(self) -> None:
        """Let the held session go on."""

    def clean(self) -> None:
        """End the attacker's session and remove what `hold` left."""

    def scripts(self) -> list[str]:
        """Return the batch scripts of the attacker's jobs."""

    def run(self, *words: str) -> str:
        """Run a command on the hub's machine as root and return what it prints."""

    def enter(self) -> list[str]:
        """Return the words that run a command on the hub's machine."""

    def forbidden(self) -> str:
        """Return the path of a file that is not there and that only the hub's user can make."""

    def poison(self, path: str) -> dict[str, str]:
        """Return attributes of a spawner that make the hub write its user's name there, if it takes them."""

    def log(self) -> str:
        """Return what the hub logged."""


class Upstream:
    """JupyterHub with `batchspawner.SlurmSpawner` as it comes.

    The commands of Slurm are stand-ins: the holes are in the hub, before and after it calls Slurm, and real
    ones would only make the same script and the same token travel further.
    """

    vulnerable = True
    username = "nobody"  # any account that is not the hub's

    def __init__(self, folder: Path, spawner: str = "batchspawner.SlurmSpawner") -> None:
        self.slurm = folder / "slurm"
        self.slurm.mkdir()
        shutil.chown(self.slurm, self.username)
        # The checkout may be root's alone, and these run as the attacker.
        commands = shutil.copytree(STAND_IN, folder / "commands")
        commands.chmod(0o755)
        private = folder / "hub"
        private.mkdir(mode=0o700)
        settings = {
            "JupyterHub.spawner_class": spawner,
            # The default is "sudo -E -u {username}"; this does the same on machines without sudo.
            "SlurmSpawner.exec_prefix": "setpriv --reuid={username} --clear-groups",
            "SlurmSpawner.batch_submit_cmd": f"sh {commands}/sbatch.sh {self.slurm}",
            "SlurmSpawner.batch_query_cmd": f"sh {commands}/squeue.sh {self.slurm} {{job_id}}",
            "SlurmSpawner.batch_cancel_cmd": f"sh {commands}/scancel.sh {self.slurm} {{job_id}}",
            "SlurmSpawner.startup_poll_interval": 0.1,
            # What would be the server; only wrapspawner gets so far.
            "Spawner.cmd": ["sh", "-c", "exec sleep 600"],
            "ProfilesSpawner.profiles": [("A batch job", "batch", "batchspawner.SlurmSpawner", {})],
        }
        lines = ["import batchspawner", *(f"c.{name} = {value!r}" for name, value in settings.items())]
        self.hub = Hub(
            private, "\n".join(lines), people=[self.username], ports=free_ports(3), program=START_PLAIN
        )

    @classmethod
    @contextlib.contextmanager
    def running(cls, *spawner: str) -> Iterator[Self]:
        """Start one in a folder of its own, and end it."""
        # pytest's own folders are closed to everybody but root, and the stand-ins run as somebody else.
        with tempfile.TemporaryDirectory(prefix="carme-attacks-") as name:
            Path(name).chmod(0o711)
            upstream = cls(Path(name), *spawner)
            with upstream.hub:
                upstream.attacker = upstream.hub.person(cls.username)
                yield upstream

    def hold(self) -> str:
        asked = self.attacker.ask()
        assert asked.status_code == requests.codes.accepted, asked.text
        (kept,) = until(lambda: list(self.slurm.glob("*.environment")), "the job")
        variables = dict(line.split("=", 1) for line in kept.read_text().splitlines() if "=" in line)
        return variables["JUPYTERHUB_API_TOKEN"]

    def release(self) -> None:
        pass  # its job is a stand-in: it never reports

    def clean(self) -> None:
        self.attacker.end_session()
        for kept in self.slurm.iterdir():
            kept.unlink()

    def scripts(self) -> list[str]:
        return [file.read_text() for file in self.slurm.glob("*.script")]

    def run(self, *words: str) -> str:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout

    def enter(self) -> list[str]:
        return []

    def forbidden(self) -> str:
        return str(self.hub.folder / f"taken-{secrets.token_hex(4)}")

    def poison(self, path: str) -> dict[str, str]:
        return {"exec_prefix": f"id -un > {path};"}

    def log(self) -> str:
        return self.hub.log()


# The attacker's own settings of the server: code that runs in the job before the server listens, so before
# the job reports. It tells the token, and goes on when it is told to.
SETTINGS = """
import os
with open(os.path.expanduser("~/attack/token"), "w") as channel:
    channel.write(os.environ["JUPYTERHUB_API_TOKEN"])
with open(os.path.expanduser("~/attack/go")) as channel:
    channel.read()
"""


class Ours:
    """The demo site."""

    vulnerable = False
    username = "ravi"
    home = f"/srv/home/{username}"

    def __init__(self, site: Site, attacker: Person) -> None:
        self.site, self.attacker = site, attacker
        self.asking: list[threading.Thread] = []
        self.settled = True  # a run that was broken off may have left something

    def hold(self) -> str:
        self._settle()
        # The hub lets whoever asks wait a while for a start that does not get on.
        self.asking.append(threading.Thread(target=self.attacker.ask, kwargs={"profile": "cpu"}))
        self.asking[-1].start()
        return self._token()

    def _settle(self) -> None:
        self.settled = True
        self._as_attacker("mkdir -p ~/.jupyter ~/attack; mkfifo ~/attack/token ~/attack/go")
        self._as_attacker(f'printf %s "$0" > {HOOK}', SETTINGS)

    def _unsettle(self) -> None:
        if self.settled:
            self._as_attacker(f"rm -rf ~/attack {HOOK}")
        self.settled = False

    def _token(self) -> str:
        return self._as_attacker("cat ~/attack/token")

    def _as_attacker(self, command: str, *words: str) -> str:
        return self.site.run("sh", "-c", command, *words, user=self.username)

    def release(self) -> None:
        self._as_attacker(": > ~/attack/go")

    def clean(self) -> None:
        self.attacker.end_session()
        while self.asking:
            self.asking.pop().join()
        self._unsettle()

    def scripts(self) -> list[str]:
        jobs = self.site.jobs(self.username)
        return [self.site.run("scontrol", "write", "batch_script", job, "-") for job in jobs]

    def run(self, *words: str) -> str:
        return self.site.run(*words)

    def enter(self) -> list[str]:
        return [CARME, "demo", "exec", "--"]

    def forbidden(self) -> str:
        return f"/var/lib/carme-hub/taken-{secrets.token_hex(4)}"

    def poison(self, path: str) -> dict[str, str]:
        # No shell takes a prefix here; the way in would be the folder of Slurm's commands.
        command = f"#!/bin/sh\nid -un > {path}\n"
        self._as_attacker('printf %s "$0" > ~/attack/squeue; chmod +x ~/attack/squeue', command)
        return {"exec_prefix": f"id -un > {path};", "slurm_folder": f"{self.home}/attack"}

    def log(self) -> str:
        raise NotImplementedError("the demo site's hub says less than a hub can; see Loud")


class Loud(Ours):
    """A second hub of ours on the demo site's cluster, with the site's configuration; it logs everything."""

    def __init__(self, site: Site, folder: Path) -> None:
        super().__init__(site, Person(site, self.username, requests.Session()))
        self.hub = Hub(
            folder,
            f"load_subconfig({SITE_PATH!r})",
            people=[self.username],
            ports=[8100, 8101, 8102],  # in the site's own network, where nothing else has them
            enter=tuple(self.enter()),
        )

    def hold(self) -> str:
        self._settle()
        asked = self.hub.call("POST", f"/users/{self.username}/server", {"profile": "cpu"})
        assert asked in (requests.codes.created, requests.codes.accepted), self.log()
        return self._token()

    def clean(self) -> None:
        self.hub.call("DELETE", f"/users/{self.username}/server")
        until(lambda: not self.site.jobs(self.username), "the end of the session")
        self._unsettle()

    def log(self) -> str:
        return self.hub.log()
