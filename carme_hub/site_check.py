"""The site check: everything a site stands on, looked at at once, each thing with its time-out.

`carme check --site` runs it as a command, the page "Site" of the service on a click. Nothing is changed: the
only trace are small jobs, one in each partition, which look at a node (`carme_hub.checks.node`).
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from traitlets import TraitError

from carme_hub.checks.values import ORDER, Check, Probe, State, counted, take_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from traitlets.config import Config

    from carme_hub.spawner.catalog import Profile
    from carme_hub.spawner.slurm import Account

__all__ = ["Check", "State", "check_site", "command", "register", "worst"]

CONFIGURATION = "Configuration"
ELSEWHERE = ("CarmeAuthenticator.secret_key_file: The key file", "JupyterHub.ssl_cert: ")


async def check_site(config: Config, person: str = "", path: str = "") -> list[Check]:
    """Look at everything.

    Parameters
    ----------
    config
        The site's configuration.
    person
        Whose jobs look at nodes; without one, no node is looked at.
    path
        The file the configuration was read from, whose text is looked at, too.

    Returns
    -------
    list of Check
        In the order of the site's parts. Whatever cannot be looked at is a check, too.
    """
    # Here, because they bring JupyterHub: other commands need not wait for that.
    from carme_hub.authenticator.authenticator import CarmeAuthenticator  # noqa: PLC0415
    from carme_hub.checks import cluster, gate, here, hub, mistakes, node  # noqa: PLC0415
    from carme_hub.spawner.backends import LOCAL, used_clusters  # noqa: PLC0415
    from carme_hub.spawner.slurm import Slurm  # noqa: PLC0415
    from carme_hub.spawner.spawner import CarmeSpawner  # noqa: PLC0415

    read = await asyncio.to_thread(mistakes.find, config, path)
    # What has a look of its own is told there.
    wrong = as_checks(line for line in read.lines if not line.startswith(ELSEWHERE))
    try:
        spawner = CarmeSpawner(config=config)
        catalog, clusters = spawner.catalog, used_clusters(spawner.clusters, spawner.profiles)
        authenticator = CarmeAuthenticator(config=config)
    except (ValueError, TraitError):
        return wrong
    account, found = await _account(person)
    found = [*wrong, *found]
    looks: list[Probe] = []
    slurms: list[Slurm] = []
    for name, entry in clusters.items():
        slurm = Slurm(
            str(entry.slurm_folder or spawner.slurm_folder),
            str(entry.slurm_conf or spawner.slurm_conf),
            float(spawner.slurm_time_out),
        )
        profiles = _of_cluster(catalog.profiles.values(), name, first=not slurms)
        slurms.append(slurm)
        looks += cluster.probes(name, slurm, profiles, several=len(clusters) > 1)
        looks += node.probes(slurm, spawner.apptainer, node.places(catalog, profiles), account)
    local = [profile for profile in catalog.profiles.values() if profile.cluster == LOCAL]
    looks += [here.probe(catalog, local)] if local else []
    looks += gate.probes(authenticator, mistakes.group_users(catalog, authenticator))
    looks += hub.probes(config, slurms[0] if slurms else None, account)
    try:
        return [*found, *await take_all(looks)]
    finally:
        authenticator.close()


def _of_cluster(profiles: Any, name: str, *, first: bool) -> list[Profile]:
    """Return the profiles that run on a cluster; those that name none are on the first."""
    return [one for one in profiles if one.cluster == name or (first and one.cluster is None)]


async def _account(person: str) -> tuple[Account | None, list[Check]]:
    from carme_hub.spawner.slurm import AccountError, account_of  # noqa: PLC0415

    if not person:
        return None, []
    try:
        return await account_of(person), []
    except AccountError as error:
        return None, [Check("Account", State.FAILED, str(error), part="Nodes")]


def as_checks(lines: Iterable[str]) -> list[Check]:
    """Return mistakes of a configuration as checks."""
    parts = (line.partition(": ") for line in lines)
    return [Check(where, State.FAILED, sentence, part=CONFIGURATION) for where, _, sentence in parts]


def worst(checks: Sequence[Check]) -> State:
    """Return the worst state of some checks; skipped ones are no worse than those that are in order."""
    states = {check.state for check in checks}
    return next((state for state in (State.FAILED, State.WARNING) if state in states), State.OK)


# ---- the command


def register(commands: Any) -> Any:
    """Add ``check`` to the `carme` command, and return its parser."""
    parser = commands.add_parser(
        "check",
        help="say what is wrong with the site's configuration, or (--site) with the site",
        description="Read the site's configuration and say what is wrong with it; with --site, look at "
        "everything the site stands on. Exit codes: 0 in order, 1 something does not work, 3 warnings only.",
    )
    parser.add_argument(
        "--site",
        action="store_true",
        help="look at Slurm, nodes, directory, databases, certificates, versions",
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--as",
        dest="person",
        metavar="NAME",
        default=_caller(),
        help="whose small jobs look at the nodes (default: whoever calls this, behind sudo too)",
    )
    return parser


def _caller() -> str:
    """Name who runs this, as far as jobs can be theirs: empty for root."""
    name = os.environ.get("SUDO_USER", "")
    if not name and os.getuid() != 0:
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = ""
    return "" if name == "root" else name


def configuration(config: Config, path: str, *, as_json: bool) -> int:
    """Say what is wrong with a configuration, without asking anything outside this machine."""
    from carme_hub.checks import mistakes  # noqa: PLC0415  it brings JupyterHub with it

    found = mistakes.find(config, path)
    if as_json:
        checks = as_checks(found.lines)
        sys.stdout.write(json.dumps([check.model() for check in checks], indent=2) + "\n")
    elif found.lines:
        told = "".join(f"{printable(line)}\n" for line in found.lines)
        sys.stderr.write(f"{told}{counted(len(found.lines), 'mistake')} in {path}\n")
    elif found.catalog is not None:
        numbers = (
            counted(len(entries), what)
            for entries, what in (
                (found.catalog.images, "image"),
                (found.catalog.mounts, "mount"),
                (found.catalog.profiles, "profile"),
            )
        )
        sys.stdout.write(f"OK: {', '.join(numbers)}\n")
    else:
        sys.stdout.write("OK\n")
    return 1 if found.lines else 0


def command(config: Config, person: str, *, as_json: bool, path: str = "") -> int:
    """Look at the site, print what was found; return the exit code."""
    checks = asyncio.run(check_site(config, person, path))
    if as_json:
        sys.stdout.write(json.dumps([check.model() for check in checks], indent=2) + "\n")
    else:
        sys.stdout.write(as_text(checks))
    return {State.FAILED: 1, State.WARNING: 3}.get(worst(checks), 0)


def as_text(checks: Sequence[Check]) -> str:
    """Write checks for a terminal: what is not in order first, within the parts of the site."""
    lines = []
    width = max((len(check.name) for check in checks), default=0)
    for part in dict.fromkeys(check.part for check in checks):
        lines += ["", part]
        mine = [check for check in checks if check.part == part]
        for check in sorted(mine, key=lambda check: ORDER.index(check.state)):
            lines.append(f"  {check.state:<8} {check.name:<{width}}  {printable(check.sentence)}")
    numbers = Counter(check.state for check in checks)
    told = ", ".join(f"{numbers[state]} {state}" for state in ORDER if numbers[state])
    return "\n".join([*lines[1:], "", f"{counted(len(checks), 'check')}: {told}", ""])


def printable(text: str) -> str:
    """Return a text without what would speak to a terminal; what a node's reason holds is anybody's."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
