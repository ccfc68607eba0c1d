"""What a site offers: images, mounts and profiles, checked when the hub starts.

The values come from ``c.CarmeSpawner.images``, ``.mounts`` and ``.profiles``. Every mistake is told with
the name of the setting it is in, all of them at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from carme_hub.spawner.mistakes import entry as entry_name
from carme_hub.spawner.mistakes import lines, unknown
from carme_hub.spawner.values import (
    DEFAULT_TIME,
    MAX_CPUS,
    MAX_GPUS,
    MAX_NODES,
    MAX_TIME,
    Apps,
    Choice,
    GpuTypes,
    Groups,
    Mebibytes,
    Minutes,
    Name,
    Names,
    Path,
    RelativePath,
    Target,
    Text,
    Word,
)


class CatalogError(ValueError):
    """The site's description has mistakes; ``str()`` has one line for each, starting with the setting."""


class Entry(BaseModel):
    """A part of a site's description: nothing unknown is in it, nothing is converted or changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class Mount(Entry):
    """A folder of the node that sessions of some images see. Without groups it is everybody's."""

    name: Name
    """What images call it by."""
    source: Path
    """Folder or file of the compute nodes."""
    target: Target
    """Where sessions see it; not over a folder that makes the container what it is, such as `/usr`."""
    read_only: bool = False
    """Whether sessions can only read it."""
    filesystem: Word | None = None
    """Type that has to be mounted there (`nfs4`, `beegfs`, ...), else the session does not start."""
    groups: Groups = ()
    """Whose sessions see it; without any, all sessions of images that name it."""


class Image(Entry):
    """A container image. Without groups everybody may use it."""

    name: Name
    """What profiles call it by."""
    title: Text
    """What the page shows."""
    path: Path
    """The image on the compute nodes: a `.sif` file or a folder."""
    apps: Apps = ("lab",)
    """What can be opened in it: `lab` (JupyterLab), `code-server`."""
    groups: Groups = ()
    """Who may use it; without any, everybody."""
    mounts: Names = ()
    """Which of `CarmeSpawner.mounts` its sessions see."""


class Course(Entry):
    """What a course profile opens: ``notebook`` is a path below the folder ``material``."""

    material: Path
    """Folder of the compute nodes; what is missing in `~/courses/NAME` is copied from it at each start."""
    notebook: RelativePath
    """What is opened: a path below `material`."""


class Profile(Entry):
    """A kind of session: where it runs and within which bounds.

    Times are kept in minutes, memory in MiB on each node.
    """

    name: Name
    """Name in links and stored choices: it should stay when the title changes."""
    title: Text
    """What the page shows."""
    description: Text = ""
    """A sentence below it."""
    cluster: Name | None = None
    """Where it runs: one of `CarmeSpawner.clusters`, or `local`, the hub's own machine."""
    partition: Word | None = None
    """Slurm's partition; without one, the cluster's default partition."""
    account: Choice = ()
    """Fixed, or a choice whose first is the default; without any, one of the person's own."""
    qos: Choice = ()
    """Fixed, or a choice whose first is the default; without any, one of the person's own."""
    reservation: Choice = ()
    """Fixed, or a choice whose first is the default (`""`: none)."""
    constraint: Choice = ()
    """Features of nodes: fixed, or a choice whose first is the default (`""`: none)."""
    gpu_types: GpuTypes = ()
    """Types of GPU to choose from, slices (`1g.10gb`) and `shard` too; `gpu_type` gives a single one."""
    min_gpus_per_node: int = Field(default=0, ge=0, le=MAX_GPUS)
    """The least that can be asked for; 1 by default where `max_gpus_per_node` is set."""
    max_gpus_per_node: int = Field(default=0, ge=0, le=MAX_GPUS)
    """The most; `"partition"` for what the partition's nodes have."""
    default_gpus_per_node: int = Field(default=0, ge=0, le=MAX_GPUS)
    """What the form begins with; by default the least, and 1 at least."""
    min_nodes: int = Field(default=1, ge=1, le=MAX_NODES)
    """The least that can be asked for; the same as `max_nodes` fixes the number."""
    max_nodes: int = Field(default=1, ge=1, le=MAX_NODES)
    """The most; `"partition"` for what the partition allows."""
    default_nodes: int = Field(default=1, ge=1, le=MAX_NODES)
    """What the form begins with; by default the least."""
    min_tasks_per_node: int = Field(default=1, ge=1, le=MAX_CPUS)
    """The fewest tasks (Slurm's `--ntasks-per-node`) that can be asked for."""
    max_tasks_per_node: int = Field(default=1, ge=1, le=MAX_CPUS)
    """More than 1 opens a choice of tasks, for MPI: `srun` and `mpirun` start one process for each."""
    default_tasks_per_node: int = Field(default=1, ge=1, le=MAX_CPUS)
    """What the form begins with; by default the fewest."""
    cpus: int | None = Field(default=None, ge=1, le=MAX_CPUS)
    """Cores for each task (on each node, where no tasks are offered); 1 where nothing is said of cores."""
    max_cpus: int | None = Field(default=None, ge=1, le=MAX_CPUS)
    """Opens a choice of cores for each task, up to this."""
    cpus_per_gpu: int | None = Field(default=None, ge=1, le=MAX_CPUS)
    """Cores for each GPU, in place of `cpus`; tasks share them equally."""
    memory: Mebibytes | None = None
    """Memory on each node; without any, what Slurm gives."""
    max_memory: Mebibytes | None = None
    """Opens a choice of memory, up to this; `memory` is the default."""
    memory_per_gpu: Mebibytes | None = None
    """Memory for each GPU, in place of `memory`."""
    min_time: Minutes = 1
    """The shortest time limit; the same as `max_time` fixes it. Who may have less in all gets less."""
    max_time: Minutes = MAX_TIME
    """The longest time limit; without one, the partition's."""
    default_time: Minutes
    """What the form begins with; by default `max_time`, or an hour without that."""
    max_extended_time: Minutes | None = None
    """Up to which limit in all a running session may be extended by its owner; without it, not at all."""
    max_running: int | None = Field(default=None, ge=1, le=1_000_000)
    """Sessions of this profile that one person may have at once, those included that wait."""
    max_pending: int | None = Field(default=None, ge=1, le=1_000_000)
    """How many of them may wait for their job to start."""
    images: Names = ()
    """Images to choose from, the first is the default; without any, all that the person may use."""
    groups: Groups = ()
    """Who is offered it; without any, everybody."""
    course: Course | None = None
    """Makes it a course, which starts with one click."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        """Write out what follows from other values: one type, GPUs at least and by default, bounds, time."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if "gpu_type" in data:
            if "gpu_types" in data:
                raise ValueError("gpu_type and gpu_types exclude each other; remove one")
            data["gpu_types"] = [data.pop("gpu_type")]
        if data.get("max_nodes") == "partition":
            data["max_nodes"] = MAX_NODES
        if data.get("max_gpus_per_node") == "partition":
            data["max_gpus_per_node"] = MAX_GPUS
        most = data.get("max_gpus_per_node", 0)
        if isinstance(most, int) and most > 0:
            data.setdefault("min_gpus_per_node", 1)
            data.setdefault("default_gpus_per_node", data["min_gpus_per_node"] or 1)
        data.setdefault("default_nodes", data.get("min_nodes", 1))
        data.setdefault("default_tasks_per_node", data.get("min_tasks_per_node", 1))
        data.setdefault("default_time", data.get("max_time", DEFAULT_TIME))
        return data

    @model_validator(mode="after")
    def _consistent_bounds(self) -> Self:
        least, usual, most = self.min_gpus_per_node, self.default_gpus_per_node, self.max_gpus_per_node
        _in_order("gpus_per_node", least, usual, most)
        if self.gpu_types and not most:
            raise ValueError("max_gpus_per_node is needed where gpu_type is given")
        if len(set(self.gpu_types)) != len(self.gpu_types):
            raise ValueError("gpu_types names a type twice")
        _in_order("nodes", self.min_nodes, self.default_nodes, self.max_nodes)
        tasks = self.min_tasks_per_node, self.default_tasks_per_node, self.max_tasks_per_node
        _in_order("tasks_per_node", *tasks)
        if self.default_time > self.max_time:
            raise ValueError("default_time is more than max_time; lower it")
        if self.min_time > self.default_time:
            raise ValueError("min_time is more than default_time; lower it")
        if self.max_extended_time is not None and self.max_extended_time < self.default_time:
            raise ValueError("max_extended_time is less than default_time")
        return self

    @model_validator(mode="after")
    def _consistent_resources(self) -> Self:
        for what in ("account", "qos", "reservation", "constraint"):
            values = getattr(self, what)
            if "" in values[1:] or len(set(values)) != len(values):
                raise ValueError(f'{what} names a value twice, or "" (none) not at first')
        if self.cpus_per_gpu is not None and (self.cpus is not None or self.max_cpus is not None):
            raise ValueError("cpus and max_cpus exclude cpus_per_gpu; remove one")
        if self.memory_per_gpu is not None and (self.memory is not None or self.max_memory is not None):
            raise ValueError("memory and max_memory exclude memory_per_gpu; remove one")
        if (self.cpus or 1) > (self.max_cpus or MAX_CPUS):
            raise ValueError("cpus is more than max_cpus; lower it")
        if self.max_memory is not None and not (self.memory and self.memory <= self.max_memory):
            raise ValueError("max_memory needs a default, memory, that is not more")
        if not self.min_gpus_per_node and (self.cpus_per_gpu is not None or self.memory_per_gpu is not None):
            raise ValueError(
                "cpus_per_gpu and memory_per_gpu need at least one GPU per node (min_gpus_per_node)"
            )
        if (self.cpus_per_gpu or 0) * self.default_gpus_per_node % self.default_tasks_per_node:
            raise ValueError("default_tasks_per_node cannot share the cores of default_gpus_per_node equally")
        return self

    def cpus_for(self, gpus: int, tasks: int) -> int:
        """Return the cores a node gives to a session with so many GPUs and tasks, where nobody chose them."""
        return self.cpus_per_gpu * gpus if self.cpus_per_gpu else (self.cpus or 1) * tasks

    def memory_for(self, gpus: int) -> int | None:
        """Return the mebibytes a node gives to such a session; None for what Slurm gives."""
        return self.memory_per_gpu * gpus if self.memory_per_gpu else self.memory


def _in_order(what: str, least: int, usual: int, most: int) -> None:
    if least > most:
        raise ValueError(f"min_{what} is {least}, but max_{what} is {most}")
    if not least <= usual <= most:
        raise ValueError(f"default_{what} is {usual}, but has to be from {least} to {most}")


_Checked = TypeVar("_Checked", bound=Entry)


@dataclass(frozen=True)
class Catalog:
    """All that is offered, to everybody or (after `visible_to`) to one person.

    Attributes
    ----------
    images, mounts, profiles
        By name; profiles in the order of the configuration.
    """

    images: Mapping[str, Image]
    mounts: Mapping[str, Mount]
    profiles: Mapping[str, Profile]

    @classmethod
    def load(cls, images: object, mounts: object, profiles: object, setting: str = "CarmeSpawner") -> Catalog:
        """Check a site's description.

        Parameters
        ----------
        images, mounts
            Dictionaries of dictionaries, as in ``jupyterhub_config.py``.
        profiles
            A list of dictionaries.
        setting
            Where they stand, for the errors.

        Raises
        ------
        CatalogError
            With one line for each mistake, for example
            ``CarmeSpawner.profiles, profile "gpu", max_time: a time like "90" (minutes) ... is needed``.
        """
        errors: list[str] = []
        known_images = _named(Image, images, f"{setting}.images", errors)
        known_mounts = _named(Mount, mounts, f"{setting}.mounts", errors)
        offered = _listed(profiles, f"{setting}.profiles", errors)
        # One mistake, one line: what is there and wrong is not missing as well.
        all_images = set(images) if isinstance(images, Mapping) else set()
        all_mounts = set(mounts) if isinstance(mounts, Mapping) else set()
        for name, image in known_images.items():
            where = f"{setting}.images, {entry_name('image', name)}, mounts"
            errors += [
                f"{where}: {unknown(wanted, all_mounts, 'there is no mount')}"
                for wanted in image.mounts
                if wanted not in all_mounts
            ]
            targets = [known_mounts[mount].target for mount in image.mounts if mount in known_mounts]
            errors += [f"{where}: two mounts have the target {target}" for target in _doubled(targets)]
        for profile in offered:
            errors += [
                f"{setting}.profiles, {entry_name('profile', profile.name)}, images: "
                f"{unknown(wanted, all_images, 'there is no image')}"
                for wanted in profile.images
                if wanted not in all_images
            ]
        errors += [
            f'{setting}.profiles: two profiles have the name "{name}"; give one of them another'
            for name in _doubled(profile.name for profile in offered)
        ]
        if errors:
            raise CatalogError("\n".join(errors))
        # Without a list of its own a profile offers every image.
        filled = (
            profile if profile.images else profile.model_copy(update={"images": tuple(known_images)})
            for profile in offered
        )
        return cls(known_images, known_mounts, {profile.name: profile for profile in filled})

    def visible_to(self, groups: Collection[str]) -> Catalog:
        """Return what a member of these groups may use; a profile without any image left is not offered."""
        images = {name: image for name, image in self.images.items() if _open_to(image.groups, groups)}
        mounts = {name: mount for name, mount in self.mounts.items() if _open_to(mount.groups, groups)}
        profiles = {}
        for name, profile in self.profiles.items():
            left = tuple(image for image in profile.images if image in images)
            if left and _open_to(profile.groups, groups):
                profiles[name] = profile.model_copy(update={"images": left})
        return replace(self, images=images, mounts=mounts, profiles=profiles)

    def mounts_of(self, image: Image) -> tuple[Mount, ...]:
        """Return the mounts an image's entry names, in its order; those of other groups are left out."""
        return tuple(self.mounts[name] for name in image.mounts if name in self.mounts)


def _open_to(allowed: tuple[str, ...], groups: Collection[str]) -> bool:
    return not allowed or any(group in groups for group in allowed)


def _doubled(values: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return sorted({value for value in values if value in seen or seen.add(value)})  # type: ignore[func-returns-value]


def _named(model: type[_Checked], entries: object, where: str, errors: list[str]) -> dict[str, _Checked]:
    if not isinstance(entries, Mapping):
        errors.append(f"{where}: a dictionary of names and entries is needed")
        return {}
    found = {}
    for name, entry in entries.items():
        kind = model.__name__.lower()
        checked = check_entry(model, entry, f"{where}, {entry_name(kind, name)}", errors, name=name)
        if checked is not None:
            found[name] = checked
    return found


def _listed(entries: object, where: str, errors: list[str]) -> list[Profile]:
    if not isinstance(entries, list | tuple):
        errors.append(f"{where}: a list of entries is needed")
        return []
    checked = [
        check_entry(Profile, entry, f"{where}, {entry_name('profile', _name_of(entry), index)}", errors)
        for index, entry in enumerate(entries)
    ]
    return [profile for profile in checked if profile is not None]


def _name_of(entry: object) -> object:
    return entry.get("name") if isinstance(entry, Mapping) else None


def check_entry(
    model: type[_Checked], entry: object, where: str, errors: list[str], **more: object
) -> _Checked | None:
    """Check one entry; of its mistakes, a line for each is added to ``errors``, starting with ``where``."""
    if not isinstance(entry, Mapping):
        errors.append(f"{where}: a dictionary is needed")
        return None
    if more.keys() & entry.keys():
        errors.append(f"{where}, name: the name is the key of the dictionary; remove it here")
        return None
    try:
        return model.model_validate({**entry, **more})
    except ValidationError as error:
        errors += lines(error, model, where, entry)
        return None
