"""The inside of the demo site: runs in namespaces of its own and makes a cluster of them.

Called by `carme demo up` as ``python -m carme_hub.demo.site CHECKOUT SETTINGS-JSON`` inside fresh mount, PID,
network, UTS and IPC namespaces. All that is mounted, started and configured here ends with the PID namespace.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from carme_hub.demo import accounts, apptainer, directory, hub, slurm
from carme_hub.demo.layout import (
    BRIDGE,
    DOMAIN,
    HEAD,
    HEAD_ADDRESS,
    HOMES,
    NODES,
    PORTS,
    Layout,
    write_json,
)
from carme_hub.demo.services import ServiceError, Services, environment, run


@dataclass(frozen=True)
class Settings:
    """What the outside hands to the inside.

    Attributes
    ----------
    apptainer : str
        Folder with Apptainer; empty when the machine has its own.
    images : dict of str to str
        Image name -> SIF file.
    proxy : str
        The configurable-http-proxy command.
    listeners : dict of str to int
        Name of a port (see `layout.PORTS`) -> inherited file descriptor of the listening socket outside.
    addresses : dict of str to int
        Name of a port -> its number outside.
    """

    apptainer: str
    images: dict[str, str]
    proxy: str
    listeners: dict[str, int]
    addresses: dict[str, int]


def say(text: str) -> None:
    """Tell the person outside how far it is: one line on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def mount(*words: str) -> None:
    """Call mount(8)."""
    run(["mount", *words])


def overlay(layout: Layout, target: str, *, keep: bool = False) -> None:
    """Make a system folder private to the site: what is written goes to the state folder.

    Parameters
    ----------
    layout : Layout
        The site.
    target : str
        The folder, for example ``/etc``.
    keep : bool
        Whether what the site wrote there survives a restart.
    """
    name = target.strip("/").replace("/", "-")
    upper, work = layout.state / "overlay" / name, layout.state / "overlay" / f"{name}.work"
    if not keep:
        shutil.rmtree(upper, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)
    for folder in (upper, work):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
    mount("-t", "overlay", "overlay", "-o", f"lowerdir={target},upperdir={upper},workdir={work}", target)


def make_machine(layout: Layout, settings: Settings) -> None:
    """Mount what makes the head node: conventional paths, private to the site."""
    mount("--make-rprivate", "/")
    mount("-t", "proc", "proc", "/proc")
    overlay(layout, "/etc")
    overlay(layout, "/var/log")
    overlay(layout, "/var/lib", keep=True)
    if settings.apptainer:
        for words in apptainer.mounts(Path(settings.apptainer)):
            run(words)
    shutil.rmtree(layout.run, ignore_errors=True)
    layout.run.mkdir(mode=0o755)
    mount("--bind", str(layout.run), "/run")
    (layout.state / "srv").mkdir(exist_ok=True)
    mount("--bind", str(layout.state / "srv"), "/srv")
    for folder in ("images", "home", "datasets", "courses"):
        Path("/srv", folder).mkdir(mode=0o755, exist_ok=True)
    for name, sif in settings.images.items():
        target = Path("/srv/images", f"{name}.sif")
        target.touch()
        mount("--bind", "-o", "ro", sif, str(target))
    mount("--bind", "-o", "ro", str(layout.etc / "demo" / "courses"), "/srv/courses")
    shutil.copytree(layout.etc / "demo" / "datasets", "/srv/datasets", dirs_exist_ok=True)


def make_network() -> None:
    """Give the head node its address and each compute node a network namespace on the same bridge."""
    socket.sethostname(HEAD)
    hosts = ["127.0.0.1 localhost", f"{HEAD_ADDRESS} {HEAD}.{DOMAIN} {HEAD} ldap.{DOMAIN}"]
    hosts += [f"{address} {node}.{DOMAIN} {node}" for node, address in NODES.items()]
    Path("/etc/hosts").write_text("\n".join(hosts) + "\n")
    commands = [
        "link set lo up",
        f"link add {BRIDGE} type bridge",
        f"address add {HEAD_ADDRESS}/24 dev {BRIDGE}",
        f"link set {BRIDGE} up",
    ]
    for node, address in NODES.items():
        commands += [
            f"netns add {node}",
            f"link add {node} type veth peer name eth0 netns {node}",
            f"link set {node} master {BRIDGE} up",
            f"-n {node} address add {address}/24 dev eth0",
            f"-n {node} link set eth0 up",
            f"-n {node} link set lo up",
        ]
    for command in commands:
        run(["ip", *command.split()])


def make_homes(people: list[accounts.Account]) -> None:
    """Give each person a home of their own on the file system that all nodes share."""
    for person in people:
        home = HOMES / person.username
        if not home.exists():
            home.mkdir(mode=0o700)
            os.chown(home, person.uid, person.uid)


def wait_for_names(people: list[accounts.Account]) -> bool:
    """Say whether the machine knows the directory's people by name."""
    try:
        return pwd.getpwnam(people[-1].username).pw_uid == people[-1].uid
    except KeyError:
        return False


def bring_up(layout: Layout, settings: Settings, services: Services) -> None:
    """Start everything in the order in which it needs each other, and say so."""
    people = accounts.load(layout.etc / "demo" / "people.toml", layout.accounts)
    make_homes(people)
    say("directory: slapd with TLS, nslcd")
    directory.start(services, people, accounts.groups(layout.etc / "demo" / "people.toml"))
    services.wait("nslcd", lambda: wait_for_names(people))
    say("hub: JupyterHub with configurable-http-proxy")
    hub.start(layout, services, people, settings.proxy)
    say("cluster: munge, MariaDB, slurmdbd, slurmctld")
    slurm.start_head(layout, services)
    say(f"cluster: {len(NODES)} compute nodes")
    slurm.start_nodes(layout, services)
    slurm.make_associations(people)
    services.start(
        "forward",
        [
            sys.executable,
            "-m",
            "carme_hub.demo.forward",
            HEAD_ADDRESS,
            *(f"{settings.listeners[port.name]}:{port.inside}" for port in PORTS),
        ],
        pass_fds=tuple(settings.listeners.values()),
        cwd=layout.checkout,
        env=environment(),
    )
    slurm.wait_for_nodes(services)
    services.wait("hub", hub.ready)
    slurm.write_outside_conf(layout, settings.addresses)
    shutil.copy("/etc/jupyterhub/ca.pem", layout.state / "outside" / "ca.pem")
    write_json(
        layout.status,
        {
            "ready": True,
            "hub_url": f"{hub.SCHEME}://127.0.0.1:{settings.addresses['hub']}",
            "slurm_conf": str(layout.outside_slurm_conf),
            "ldap_url": f"ldaps://127.0.0.1:{settings.addresses['ldap']}",
            "ldap_ca": str(layout.state / "outside" / "ca.pem"),
            "accounts": [asdict(person) for person in people],
        },
    )


def watch(services: Services) -> None:
    """Stay until told to stop; a program that ends is said once in the log and not hidden."""
    told: set[str] = set()
    while True:
        time.sleep(1)
        for name, process in services.running.items():
            if name not in told and process.poll() is not None:
                told.add(name)
                say(f"{name} ended with exit code {process.returncode}; see its log")


def main() -> None:
    """Make the machine, start everything, say "ready", stay until the end is asked for."""
    layout = Layout(Path(sys.argv[1]))
    settings = Settings(**json.loads(sys.argv[2]))
    services = Services(layout.logs)

    def end(_number: int, _frame: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    try:
        make_machine(layout, settings)
        make_network()
        bring_up(layout, settings, services)
        say("ready")
        log = os.open(layout.logs / "site.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        watch(services)
    except (ServiceError, OSError, subprocess.SubprocessError) as error:
        say(f"failed: {error}")
        raise SystemExit(1) from error
    finally:
        layout.status.unlink(missing_ok=True)
        services.stop()


if __name__ == "__main__":
    main()
