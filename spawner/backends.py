"""What sessions run on: the clusters of a site, and the hub's own machine. One of each, shared by all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from carme_hub.spawner import roll
from carme_hub.spawner.catalog import CatalogError, Entry, check_entry
from carme_hub.spawner.local import LocalMachine
from carme_hub.spawner.mistakes import entry as entry_name
from carme_hub.spawner.mistakes import unknown
from carme_hub.spawner.people import People
from carme_hub.spawner.remembered import Remembered
from carme_hub.spawner.slurm import Slurm
from carme_hub.spawner.values import Name, Path  # noqa: TC001 - pydantic reads them
from carme_hub.spawner.watcher import Source, Watcher

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable

    from carme_hub.spawner.catalog import Profile
    from carme_hub.spawner.settings import SessionSettings
    from carme_hub.spawner.slurm import Account
    from carme_hub.spawner.sweep import Sweep

LOCAL = "local"
# The one cluster of a site that names none.
SLURM = "slurm"


class Runner(Source, Protocol):
    """What a session needs of the thing it runs on: `Slurm` or `LocalMachine`."""

    async def submit(self, script: str, account: Account, env: Mapping[str, str]) -> int:
        """Start a batch script as a person and return its number."""

    async def cancel(self, job_id: int, account: Account) -> None:
        """End it as its owner."""

    async def log_tail(self, path: str, account: Account) -> str:
        """Return the end of a session's log, read as its owner."""

    async def node_address(self, node: str) -> str:
        """Return where a node can be reached."""


@dataclass(eq=False)
class Backend:
    """One thing to run sessions on, the one watcher of all sessions there, and what Slurm alone needs.

    Attributes
    ----------
    sweep
        Looks for jobs without a session, from the hub's first spawner on.
    """

    runner: Runner
    watcher: Watcher
    slurm: Slurm | None = None
    people: People | None = None
    sweep: Sweep | None = None


class Cluster(Entry):
    """A Slurm cluster, as far as it differs from what CarmeSpawner's settings say for all."""

    name: Name
    """What profiles call it by."""
    slurm_conf: Path | None = None
    """SLURM_CONF for its commands; without it, `CarmeSpawner.slurm_conf`."""
    slurm_folder: Path | None = None
    """Folder of its commands; without it, `CarmeSpawner.slurm_folder`."""


# By what makes a backend what it is: spawners come and go, the watcher stays.
_BACKENDS: dict[tuple[str, str, float], Backend] = {}


def slurm_backend(folder: str, conf: str, time_out: float, log: logging.Logger) -> Backend:
    """Return the backend of a Slurm cluster, the same one for the same settings."""
    key = (folder, conf, time_out)
    if key not in _BACKENDS:
        slurm = Slurm(*key)
        _BACKENDS[key] = Backend(slurm, Watcher(slurm, log, roll.news), slurm, People(slurm, log))
    return _BACKENDS[key]


def watchers(clusters: Mapping[str, Cluster], folder: str, conf: str) -> dict[str, dict[str, Any]]:
    """Say for JSON what the watcher of each backend sees that is in use, by the cluster's name.

    Parameters
    ----------
    clusters
        As `read_clusters` returns them.
    folder, conf
        What counts for clusters that say nothing of their own (``slurm_folder``, ``slurm_conf``).
    """
    names = {
        (str(entry.slurm_folder or folder), str(entry.slurm_conf or conf)): name
        for name, entry in clusters.items()
    }
    names[LOCAL, ""] = LOCAL
    return {
        names.get(key[:2], key[1] or key[0]): backend.watcher.state() for key, backend in _BACKENDS.items()
    }


def local_backend(log: logging.Logger) -> Backend:
    """Return the backend that is the hub's own machine."""
    key = (LOCAL, "", 0.0)
    if key not in _BACKENDS:
        machine = LocalMachine()
        _BACKENDS[key] = Backend(machine, Watcher(machine, log, roll.news))
    return _BACKENDS[key]


def read_clusters(clusters: Mapping[str, object], setting: str = "CarmeSpawner") -> dict[str, Cluster]:
    """Check ``clusters``; without any there is one, called "slurm".

    Raises
    ------
    CatalogError
        With one line for each mistake, starting with the setting.
    """
    errors: list[str] = []
    known: dict[str, Cluster] = {}
    for name, entry in (clusters or {SLURM: {}}).items():
        where = f"{setting}.clusters, {entry_name('cluster', name)}"
        if name == LOCAL:
            errors.append(f"{where}: this name is the hub's own machine; take another one for the cluster")
        elif (checked := check_entry(Cluster, entry, where, errors, name=name)) is not None:
            known[name] = checked
    if errors:
        raise CatalogError("\n".join(errors))
    return known


# The same for all sessions of a site.
known_clusters = Remembered(read_clusters)


def used_clusters(clusters: Mapping[str, object], profiles: object) -> dict[str, Cluster]:
    """Return the clusters that sessions can be on: none where every profile is on the hub's own machine.

    Parameters
    ----------
    clusters, profiles
        As ``jupyterhub_config.py`` has them. Clusters that it names itself are used, whatever profiles say:
        a running session may be there from before.

    Raises
    ------
    CatalogError
        With one line for each mistake in `clusters`.
    """
    listed = profiles if isinstance(profiles, list | tuple) else ()
    places = {one.get("cluster") for one in listed if isinstance(one, Mapping)}
    return {} if not clusters and places == {LOCAL} else known_clusters(clusters)


def is_known(settings: SessionSettings, cluster: str) -> bool:
    """Say whether a session of a stored state has a cluster here.

    Those that name none, or the one that a site without ``clusters`` has, are on the site's first.
    """
    return cluster in {"", SLURM, LOCAL} or cluster in known_clusters(settings.clusters)


def backend_of(settings: SessionSettings, cluster: str | None, log: logging.Logger) -> Backend:
    """Return what a profile runs on: the site's first cluster when it names none, or none that is known."""
    if cluster == LOCAL:
        return local_backend(log)
    known = known_clusters(settings.clusters)
    entry = known.get(cluster or "") or next(iter(known.values()))
    folder = str(entry.slurm_folder or settings.slurm_folder)
    return slurm_backend(
        folder, str(entry.slurm_conf or settings.slurm_conf), float(settings.slurm_time_out), log
    )


def check_profiles(
    profiles: Iterable[Profile], clusters: Mapping[str, Cluster], setting: str = "CarmeSpawner"
) -> None:
    """Check that each profile runs on something that exists and can do what it offers.

    Raises
    ------
    CatalogError
        With one line for each mistake, starting with the setting.
    """
    errors = []
    for profile in profiles:
        where = f"{setting}.profiles, {entry_name('profile', profile.name)}"
        if profile.cluster not in {None, LOCAL, *clusters}:
            known = {LOCAL, *clusters}
            errors.append(f"{where}, cluster: {unknown(str(profile.cluster), known, 'there is no cluster')}")
        if profile.cluster == LOCAL and (profile.max_gpus_per_node or profile.max_nodes > 1):
            errors.append(
                f"{where}: on the hub's own machine there is one node, and nobody to keep GPUs apart"
            )
        if profile.cluster == LOCAL and profile.max_tasks_per_node > 1:
            errors.append(f"{where}, max_tasks_per_node: on the hub's own machine there is no srun for tasks")
    if errors:
        raise CatalogError("\n".join(errors))
