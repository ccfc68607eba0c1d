"""The benchmark's own cluster, made of the demo site's parts: namespaces, accounting, slurmctld, slurmd.

It differs from the demo: the three nodes claim more processors, 2,000 more nodes are switched off (CLOUD),
there are 700 accounts in files instead of a directory, and its state is in `.demo/bench`. The hubs run
beside it, started and ended by what is measured.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from carme_hub.demo import outside, slurm
from carme_hub.demo import site as demo
from carme_hub.demo.layout import HOMES, NODES, Layout
from carme_hub.demo.services import Services, environment, run, succeeds

HERE = Path(__file__).parent
TOP = HERE.parents[2]
STAND_IN = Path("/srv/bench")  # what images show of it, too
IDLE_PORT = 9999  # on each node one stand-in answers for all its idle sessions
IDLE, BENCH, WAIT, BIG = "idle", "bench", "wait", "big"  # partitions
CLOUD_NODES = 2000
# Idle sessions belong to the first accounts, everything that is started to the last ones.
IDLE_PEOPLE = [f"u{number:03}" for number in range(1, 501)]
PEOPLE = [f"u{number:03}" for number in range(501, 701)]
FIRST_UID = 30000

_NODE = "CPUs=8 RealMemory=16000"
_MORE = f"""
# What follows is the benchmark's.
PrivateData=cloud
SuspendProgram=/bin/true
ResumeProgram=/bin/true
SuspendTime=INFINITE
MaxJobCount=20000
NodeName=c[0001-{CLOUD_NODES}] CPUs=64 RealMemory=512000 Gres=gpu:a100:4 State=CLOUD
PartitionName={IDLE} Nodes=node[1-3] MaxTime=1-00:00:00 State=UP
PartitionName={BENCH} Nodes=node[1-3] MaxTime=1-00:00:00 State=UP
PartitionName={WAIT} Nodes=node[1-3] MaxTime=1-00:00:00 State=DOWN
PartitionName={BIG} Nodes=c[0001-{CLOUD_NODES}] MaxTime=1-00:00:00 State=UP
"""


@dataclass(frozen=True)
class BenchLayout(Layout):
    """The folders of the benchmark's cluster, beside those of the demo site."""

    @property
    def state(self) -> Path:
        return self.checkout / ".demo" / "bench"

    @property
    def etc(self) -> Path:
        return self.state / "etc"

    @property
    def cgroup(self) -> str:
        return f"{super().cgroup}-bench"


def until(condition: Callable[[], object], what: str, patience: float = 120, pause: float = 0.02) -> None:
    """
    Wait until something is true.

    Raises
    ------
    TimeoutError
        With what was waited for.
    """
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not happen within {patience:.0f} s")
        time.sleep(pause)


def prepare(layout: BenchLayout) -> None:
    """Begin with nothing, and with a configuration of the demo cluster that has room for 500 sessions."""
    for path in layout.state.iterdir():
        if path.name == outside.LOCK:  # held by us: another benchmark would find none if it were made anew
            continue
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    layout.logs.mkdir(parents=True)
    shutil.copytree(TOP / "etc", layout.etc, symlinks=True)
    conf = layout.etc / "demo" / "slurm" / "slurm.conf"
    text = conf.read_text()
    if text.count(_NODE) != len(NODES):
        raise SystemExit(f"bench: {conf} does not say {_NODE!r} for each node any more; tell site.py.")
    conf.write_text(text.replace(_NODE, "CPUs=256 RealMemory=512000") + _MORE)


def join_cgroup(layout: BenchLayout) -> Path:
    """Have the kernel count the processor time of all that is started here; return where it says so."""
    folder = next(path for path in slurm.CGROUPS.glob("*cpuacct*") if not path.is_symlink()) / layout.cgroup
    folder.mkdir(exist_ok=True)
    (folder / "cgroup.procs").write_text(str(os.getpid()))
    return folder / "cpuacct.usage"


def make_people() -> None:
    """Enter the accounts into the site's private /etc; only those who start something have a home."""
    names = [*IDLE_PEOPLE, *PEOPLE]
    entries = {
        "passwd": "{name}:x:{uid}:{uid}:{name}:/srv/home/{name}:/bin/bash\n",
        "group": "{name}:x:{uid}:\n",
        "shadow": "{name}:*:19000:0:99999:7:::\n",
    }
    for file, entry in entries.items():
        with Path("/etc", file).open("a") as lines:
            lines.writelines(entry.format(name=name, uid=FIRST_UID + i) for i, name in enumerate(names))
    for i, name in enumerate(PEOPLE, len(IDLE_PEOPLE)):
        home = HOMES / name
        home.mkdir(mode=0o700)
        os.chown(home, FIRST_UID + i, FIRST_UID + i)


def make_associations() -> None:
    run(["sacctmgr", "-i", "add", "account", "bench", "Description=bench", "Organization=example"])
    names = ",".join([*IDLE_PEOPLE, *PEOPLE])
    run(["sacctmgr", "-i", "add", "user", names, "Account=bench"], timeout=120)


def lay_out_stand_ins() -> None:
    """Put what sessions run where all nodes and the images see it: the server, and batchspawner's wrapper."""
    shutil.copytree(HERE / "stand_in", STAND_IN / "bin")
    packages = Path(sysconfig.get_path("purelib"))
    shutil.copytree(packages / "batchspawner", STAND_IN / "site" / "batchspawner")
    for path in [STAND_IN, *STAND_IN.rglob("*")]:
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))


def bring_up(layout: BenchLayout, settings: demo.Settings, services: Services) -> None:
    """Make the machine, its network, its people and its Slurm."""
    demo.make_machine(layout, settings)
    demo.make_network()
    apptainer = Path("/usr/local/bin/apptainer")
    if not apptainer.exists():  # the machine has its own, somewhere else
        apptainer.symlink_to(shutil.which("apptainer") or "/usr/bin/apptainer")
    make_people()
    lay_out_stand_ins()
    slurm.start_head(layout, services)
    make_associations()
    slurm.start_nodes(layout, services)
    slurm.wait_for_nodes(services)
    for node, address in NODES.items():
        services.start(
            f"idle-server-{node}",
            ["nsenter", f"--net=/run/netns/{node}", str(STAND_IN / "bin" / "server")],
            env=environment(JUPYTERHUB_SERVICE_URL=f"http://{address}:{IDLE_PORT}/"),
        )


def queue(*words: str) -> list[list[str]]:
    """Ask squeue; words of each line."""
    return [line.split() for line in run(["squeue", "--noheader", *words]).splitlines()]


def cancel(*partitions: str) -> None:
    """End all jobs of some partitions, and wait until they are gone."""
    where = f"--partition={','.join(partitions)}"
    run(["scancel", where])
    until(lambda: not queue(where), f"the end of the jobs in {', '.join(partitions)}")


def as_person(name: str) -> dict[str, object]:
    """Return what `subprocess` needs to run something as one of them."""
    uid = FIRST_UID + [*IDLE_PEOPLE, *PEOPLE].index(name)
    variables = environment(HOME=f"{HOMES}/{name}", USER=name, LOGNAME=name)
    return {"user": uid, "group": uid, "extra_groups": [], "env": variables, "cwd": "/"}


def submit_idle(names: Sequence[str]) -> None:
    """Submit a job that only sleeps for each person; not as root with --uid, which would be another RPC."""
    script = "#!/bin/sh\nexec sleep infinity\n"
    words = ["sbatch", f"--partition={IDLE}", "--mem=64M", "--output=/dev/null", "--job-name=idle"]
    for name in names:
        run(words, stdin=script, **as_person(name))


def idle_jobs() -> dict[str, tuple[str, str]]:
    """Return the running idle jobs: person -> number and node."""
    lines = queue(f"--partition={IDLE}", "--states=running", "--format=%u %A %N")
    return {user: (number, node) for user, number, node in lines}


def slurm_answers() -> bool:
    return succeeds(["scontrol", "ping"])
