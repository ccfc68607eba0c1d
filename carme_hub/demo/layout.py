"""Where the demo site keeps what: folders in the checkout, addresses inside the site, ports outside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

DOMAIN = "example.org"
HEAD = "head"
HEAD_ADDRESS = "10.74.0.1"
BRIDGE = "carme0"
NODES = {"node1": "10.74.0.11", "node2": "10.74.0.12", "node3": "10.74.0.13"}
GPUS_PER_NODE = 4

HOMES = Path("/srv/home")


@dataclass(frozen=True)
class Port:
    """A port of the site that the machine outside can reach, on 127.0.0.1 only.

    Attributes
    ----------
    name : str
        What answers there.
    inside : int
        The port on the head node.
    wanted : int
        The port on 127.0.0.1 that is taken when it is free; else the system picks one.
    """

    name: str
    inside: int
    wanted: int


PORTS = (
    Port("hub", 8000, 8000),
    Port("ldap", 636, 8636),
    Port("slurmctld", 6817, 8617),
    Port("slurmdbd", 6819, 8619),
)


@dataclass(frozen=True)
class Layout:
    """The folders of one demo site. Everything it writes is below ``state``.

    Attributes
    ----------
    checkout : Path
        The clone of the repository that the site belongs to.
    """

    checkout: Path

    @property
    def state(self) -> Path:
        """The one folder that holds all state; git ignores it."""
        return self.checkout / ".demo"

    @property
    def run(self) -> Path:
        """``/run`` of the site: sockets, so its path has to be short."""
        return self.state / "run"

    @property
    def logs(self) -> Path:
        """One log a service."""
        return self.state / "log"

    @property
    def accounts(self) -> Path:
        """People with their passwords and secrets, readable by root only."""
        return self.state / "accounts.json"

    @property
    def status(self) -> Path:
        """What the running site says of itself; missing while it is not ready."""
        return self.state / "status.json"

    @property
    def process(self) -> Path:
        """Which process holds the site: its id and start time."""
        return self.state / "process.json"

    @property
    def outside_slurm_conf(self) -> Path:
        """A ``slurm.conf`` for Slurm's commands outside the site."""
        return self.state / "outside" / "slurm.conf"

    @property
    def etc(self) -> Path:
        """The repository's ``etc/``."""
        return self.checkout / "etc"

    @property
    def cgroup(self) -> str:
        """Name of the control group that holds the site's nodes; one a checkout."""
        return f"carme-{self.checkout.stat().st_ino:x}"


def checkout() -> Path:
    """Return the clone that this code runs from.

    Raises
    ------
    SystemExit
        When the package was installed without a checkout: the demo site needs one.
    """
    folder = Path(__file__).resolve().parents[2]
    if not (folder / "Makefile").is_file():
        raise SystemExit(
            "carme demo: the demo site runs from a clone of the repository, and this package was installed "
            "without one. Clone the repository and type `make demo` there."
        )
    return folder


def write_json(path: Path, value: object, mode: int = 0o600) -> None:
    """Write `value` to `path` at once or not at all, readable as `mode` says."""
    new = path.with_suffix(".new")
    new.touch(mode=mode)
    new.write_text(json.dumps(value, indent=2) + "\n")
    new.chmod(mode)
    new.replace(path)
