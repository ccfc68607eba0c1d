"""The Slurm of the demo site: munge, MariaDB, slurmdbd, slurmctld and the compute nodes."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from carme_hub.demo.layout import GPUS_PER_NODE, NODES, Layout
from carme_hub.demo.services import ServiceError, Services, environment, run, succeeds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carme_hub.demo.accounts import Account

CONF = Path("/etc/slurm/slurm.conf")
CGROUPS = Path("/sys/fs/cgroup")
REMOVE_TIMEOUT = 10  # seconds
# What Slurm constrains or counts with; each is a hierarchy of its own in version 1 of control groups.
CONTROLLERS = {"cpu", "cpuacct", "cpuset", "devices", "freezer", "memory"}

# How much people may have at once, by account and QOS: Slurm's own limits, so that what it refuses is real.
QOS = {"short": ["Priority=100", "MaxWall=02:00:00", "MaxTRESPerUser=gres/gpu=4", "Flags=DenyOnLimit"]}
QOS_OF = {"short": "research"}
ACCOUNTS = {
    "research": ["Description=Research", "Organization=example", "GrpTRES=gres/gpu=12"],
    "teaching": ["Description=Teaching", "Organization=example", "GrpTRES=cpu=8", "MaxWall=04:00:00"],
}


def _owned(folder: Path, user: str, mode: int = 0o755) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    account = pwd.getpwnam(user)
    os.chown(folder, account.pw_uid, account.pw_gid)
    folder.chmod(mode)
    return folder


def _write_conf(layout: Layout) -> None:
    shutil.copytree(layout.etc / "demo" / "slurm", CONF.parent, dirs_exist_ok=True)
    dbd = CONF.parent / "slurmdbd.conf"
    slurm = pwd.getpwnam("slurm")
    os.chown(dbd, slurm.pw_uid, slurm.pw_gid)
    dbd.chmod(0o600)  # slurmdbd refuses to read it otherwise
    key = layout.state / "munge.key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
    inside = _owned(Path("/etc/munge"), "munge", 0o700) / "munge.key"
    inside.touch(mode=0o600)
    inside.write_bytes(key.read_bytes())
    shutil.chown(inside, "munge", "munge")


def start_head(layout: Layout, services: Services) -> None:
    """Start what the head node runs, each part when the one it needs answers."""
    _write_conf(layout)
    _owned(Path("/run/munge"), "munge")
    _owned(Path("/var/log/munge"), "munge", 0o700)
    _owned(Path("/var/lib/munge"), "munge", 0o711)
    services.start("munged", _as("munge", "munged", "--foreground"), env=environment())
    services.wait("munged", lambda: succeeds(["munge", "--no-input"]))
    _start_database(services)
    _owned(Path("/var/log/slurm"), "slurm")
    _owned(Path("/var/lib/slurm/slurmctld"), "slurm")
    services.start("slurmdbd", ["slurmdbd", "-D"], env=environment())
    services.wait("slurmdbd", lambda: succeeds(["sacctmgr", "-n", "show", "cluster"]))
    if not run(["sacctmgr", "-n", "-P", "show", "cluster", "carme"]).strip():
        run(["sacctmgr", "-i", "add", "cluster", "carme"])
    services.start("slurmctld", ["slurmctld", "-D"], env=environment())
    services.wait("slurmctld", lambda: succeeds(["scontrol", "ping"]))


def _as(user: str, *words: str) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--", *words]


def _start_database(services: Services) -> None:
    data = _owned(Path("/var/lib/mysql"), "mysql", 0o700)
    _owned(Path("/run/mysqld"), "mysql")
    if not (data / "mysql").is_dir():
        run(["mariadb-install-db", "--user=mysql", f"--datadir={data}", "--skip-test-db"], timeout=120)
    services.start(
        "mariadbd",
        [
            "mariadbd",
            "--no-defaults",
            "--user=mysql",
            f"--datadir={data}",
            "--socket=/run/mysqld/mysqld.sock",
            "--pid-file=/run/mysqld/mysqld.pid",
            "--skip-networking",  # slurmdbd is on the same machine
            "--innodb-buffer-pool-size=64M",
            "--innodb-lock-wait-timeout=900",  # what slurmdbd asks for
        ],
        env=environment(),
    )
    services.wait("mariadbd", lambda: succeeds(["mariadb", "-e", "select 1"]))
    # slurmdbd runs as the user "slurm" and is known to the database by that, without a password.
    run(
        ["mariadb"],
        stdin="create user if not exists slurm@localhost identified via unix_socket;"
        "grant all on slurm_acct_db.* to slurm@localhost;",
    )


def make_cgroups(layout: Layout, node: str) -> list[Path]:
    """Make a node's folder in every control group hierarchy that Slurm uses.

    Raises
    ------
    ServiceError
        When the machine does not offer version 1 of control groups.
    """
    hierarchies = [
        folder
        for folder in sorted(CGROUPS.iterdir())
        if not folder.is_symlink() and CONTROLLERS & set(folder.name.split(","))
    ]
    if not hierarchies:
        raise ServiceError(
            "The demo cluster needs version 1 of control groups (memory, devices, freezer, ... below "
            f"{CGROUPS}), and this machine has version 2 only. "
            "Boot it with systemd.unified_cgroup_hierarchy=0."
        )
    folders = []
    for hierarchy in hierarchies:
        parent = hierarchy / layout.cgroup
        for folder in (parent, parent / node):
            folder.mkdir(exist_ok=True)
            if hierarchy.name == "cpuset":
                for what in ("cpuset.cpus", "cpuset.mems"):
                    (folder / what).write_text((folder.parent / what).read_text())
        folders.append(parent / node)
    return folders


def start_nodes(layout: Layout, services: Services) -> None:
    """Start the compute nodes, each in network, mount, PID, UTS, IPC and cgroup namespaces of its own."""
    # A copy: from inside a node, the checkout may be out of sight.
    script = shutil.copy(Path(__file__).with_name("node.sh"), "/run/node.sh")
    for node in NODES:
        folders = make_cgroups(layout, node)
        services.start(
            node,
            [
                "nsenter",
                f"--net=/run/netns/{node}",
                "unshare",
                *("--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"),
                *(
                    "tini",
                    "--",
                    "bash",
                    script,
                    node,
                    str(GPUS_PER_NODE),
                    str(layout.state),
                    *map(str, folders),
                ),
            ],
            disposable=True,
            env=environment(),
            preexec_fn=_joining(folders),
        )


def _joining(folders: Sequence[Path]) -> object:
    """Return what a child does before it becomes a node: join the node's control groups."""

    def join() -> None:
        for folder in folders:
            (folder / "cgroup.procs").write_text("0")

    return join


def wait_for_nodes(services: Services) -> None:
    """Wait until all nodes are there for jobs."""
    for node in NODES:
        services.wait(node, lambda node=node: _state(node) in {"idle", "mixed", "allocated"})  # type: ignore[misc]


def _state(node: str) -> str:
    try:
        return run(["sinfo", "-h", "-N", "-n", node, "-p", "gpu", "-o", "%T"], timeout=10).strip()
    except ServiceError:
        return ""


def make_associations(people: list[Account]) -> None:
    """Enter QOS, accounts and people into Slurm's accounting; what is there already stays."""
    known = run(["sacctmgr", "-n", "-P", "show", "association", "format=Account,User"]).split()
    for name, settings in ACCOUNTS.items():
        if f"{name}|" not in known:
            run(["sacctmgr", "-i", "add", "account", name, *settings])
    known_qos = run(["sacctmgr", "-n", "-P", "show", "qos", "format=Name"]).split()
    for name, settings in QOS.items():
        if name not in known_qos:
            run(["sacctmgr", "-i", "add", "qos", name, *settings])
            run(["sacctmgr", "-i", "modify", "account", QOS_OF[name], "set", f"qos+={name}"])
    for person in people:
        if f"{person.account}|{person.username}" not in known:
            run(["sacctmgr", "-i", "add", "user", person.username, f"Account={person.account}"])


def write_outside_conf(layout: Layout, ports: dict[str, int]) -> None:
    """Write a ``slurm.conf`` with which Slurm's commands work outside the site (all but srun and salloc)."""
    outside = {
        "SlurmctldHost": "head(127.0.0.1)",
        "SlurmctldPort": str(ports["slurmctld"]),
        "AccountingStorageHost": "127.0.0.1",
        "AccountingStoragePort": str(ports["slurmdbd"]),
        "AuthInfo": f"socket={layout.run / 'munge' / 'munge.socket.2'}",
    }
    lines = [
        line
        for line in (layout.etc / "demo" / "slurm" / "slurm.conf").read_text().splitlines()
        if line.partition("=")[0] not in outside
    ]
    lines += [f"{name}={value}" for name, value in outside.items()]
    layout.outside_slurm_conf.parent.mkdir(exist_ok=True)
    layout.outside_slurm_conf.write_text("\n".join(lines) + "\n")


def remove_cgroups(layout: Layout) -> None:
    """Remove the site's control groups; called outside, after the site's last process has ended."""
    for hierarchy in CGROUPS.glob("*"):
        top = hierarchy / layout.cgroup
        if top.is_dir():
            for folder, _folders, _files in os.walk(top, topdown=False):
                _remove_cgroup(Path(folder))


def _remove_cgroup(folder: Path) -> None:
    """Remove one control group; its last process may have ended a moment ago (EBUSY until it is reaped)."""
    deadline = time.monotonic() + REMOVE_TIMEOUT
    while True:
        try:
            return folder.rmdir()
        except FileNotFoundError:
            return None
        except OSError as error:
            if time.monotonic() > deadline:
                raise SystemExit(
                    f"carme demo: the control group {folder} cannot be removed: {error}."
                ) from None
        time.sleep(0.1)
