"""The demo site comes and goes without a trace on the machine that hosts it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, until

KINDS = ("mnt", "pid", "net", "uts", "ipc", "cgroup", "user")


@pytest.fixture
def copy(tmp_path_factory) -> Path:
    """A second checkout, so that its site can come and go beside the one the other tests use."""
    target = tmp_path_factory.mktemp("c")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    return target


def carme(checkout: Path, *words: str) -> str:
    """Run `carme demo` of a checkout, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "carme_hub", "demo", *words],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def machine() -> dict[str, object]:
    """Return what a site could leave behind or change on the machine."""
    files = [
        Path("/etc") / name for name in ("nsswitch.conf", "passwd", "group", "subuid", "subgid", "hosts")
    ]
    files += [
        file for folder in ("/etc/slurm", "/etc/munge", "/etc/ldap") for file in Path(folder).rglob("*")
    ]
    return {
        "mounts": sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "links": sorted(link.name for link in Path("/sys/class/net").iterdir()),
        "network namespaces": subprocess.run(
            ["ip", "netns"], capture_output=True, text=True, check=True
        ).stdout,
        "files": {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()},
        "homes": sorted(home.name for home in Path("/home").iterdir()),
        "loop devices": sorted(Path("/sys/block").glob("loop*/loop")),
    }


def namespaces(process: Path) -> set[str]:
    """Return the namespaces that a process is in; none when it has ended."""
    found = set()
    for kind in KINDS:
        with contextlib.suppress(OSError):
            found.add(str((process / "ns" / kind).readlink()))
    return found


def in_any_of(wanted: set[str]) -> dict[int, str]:
    """Return the processes that are in one of the namespaces, with their names."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if namespaces(process) & wanted:
                found[int(process.name)] = (process / "comm").read_text().strip()
    return found


def offspring(pid: int) -> set[int]:
    """Return a process and all that came from it."""
    found = {pid}
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found |= offspring(int(child))
    return found


def test_stop_leaves_nothing_behind(copy):
    before = machine()
    carme(copy, "up")
    try:
        carme(
            *(copy, "exec", "--user", "rosa", "--", "sbatch", "--chdir=/srv/home/rosa", "-A", "research"),
            *("-p", "gpu", "-N", "2", "--gres=gpu:a100:1", "--wrap", "srun sleep 1000"),
        )
        until(lambda: "R" in carme(copy, "exec", "--", "squeue", "-h", "-o", "%t"), "the job's start")
        holder = int((copy / ".demo" / "process.json").read_text().split('"pid":')[1].split(",")[0])
        own = namespaces(Path("/proc/self"))
        family = offspring(holder)
        theirs = set().union(*(namespaces(Path(f"/proc/{pid}")) for pid in family)) - own
        assert len([n for n in theirs if n.startswith("net:")]) == 4  # the head node and three compute nodes
        assert {"slurmctld", "slurmd", "slapd", "mariadbd", "jupyterhub"} <= set(in_any_of(theirs).values())
        assert list(Path("/sys/fs/cgroup").glob(f"*/carme-{copy.stat().st_ino:x}"))
    finally:
        carme(copy, "stop")
    assert not in_any_of(theirs)
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
    assert machine() == before
    assert not list(Path("/sys/fs/cgroup").glob(f"*/carme-{copy.stat().st_ino:x}"))
    assert not (copy / ".demo" / "status.json").exists()


def test_status_says_what_others_build_on(site):
    assert site.hub_url.startswith("http://127.0.0.1:")
    assert len(site.accounts) == 6
    for account in site.accounts.values():
        assert {"username", "password", "totp_secret", "groups"} <= set(account)


def test_slurms_commands_work_from_outside(site):
    """`slurm_conf` of the status is of use on the machine that hosts the site."""
    done = subprocess.run(
        ["sinfo", "-h", "-o", "%P %D"],
        env={**os.environ, "SLURM_CONF": site.slurm_conf},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert sorted(done.stdout.split("\n")[:-1]) == ["cpu* 3", "gpu 3", "teaching 2"]


def test_the_people_are_accounts_inside_and_unknown_outside(site):
    for node in (None, "node1", "node3"):
        assert "Rosa Lindqvist" in site.run("getent", "passwd", "rosa", node=node)
    assert subprocess.run(["getent", "passwd", "rosa"], check=False).returncode == 2
