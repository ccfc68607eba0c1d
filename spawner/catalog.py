"""What a site offers: images, mounts and profiles, checked when the hub starts.

The values come from ``c.CarmeSpawner.images``, ``.mounts`` and ``.profiles``. Every mistake is told with
the name of the setting it is in, all of them at once.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from carme_hub.spawner import units

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Folders of the container that make it what it is: a mount over one of them would break or open it.
_RESERVED = re.compile(r"/|/(bin|dev|etc|lib|lib64|proc|run|sbin|sys|tmp|usr|var|var/tmp)|/(proc|sys|dev)/.*")


class CatalogError(ValueError):
    """The site's description has mistakes; ``str()`` has one line for each, starting with the setting."""


def _plain(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("control characters and line breaks are not allowed")
    return text


def absolute_path(path: str) -> str:
    """Check a path that goes into a mount: absolute, normalised, and nothing Apptainer splits at."""
    _plain(path)
    if not path.startswith("/"):
        raise ValueError("an absolute path is needed")
    if posixpath.normpath(path) != path or path.startswith("//"):
        raise ValueError(
            f'the path has to be written without "." and ".." and doubled or final "/": {path!r}'
        )
    if "," in path or ":" in path or '"' in path or "\\" in path:
        raise ValueError("commas, colons, quotes and backslashes are not allowed in a path")
    return path


def _target(path: str) -> str:
    absolute_path(path)
    if _RESERVED.fullmatch(path):
        raise ValueError(f"the container needs {path} for itself")
    return path


def _relative_path(path: str) -> str:
    _plain(path)
    if not path or path == ".." or path.startswith(("/", "../")) or posixpath.normpath(path) != path:
        raise ValueError('a relative path without "." and ".." is needed')
    return path


def _read(parse: Callable[[str], int]) -> Callable[[object], int]:
    def convert(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValueError("a text is needed")  # noqa: TRY004 - pydantic turns ValueError into its own error
        amount = parse(str(value))
        if amount < 1:
            raise ValueError("has to be more than nothing")
        return amount

    return convert


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Text = Annotated[str, Field(max_length=2000), AfterValidator(_plain)]
# What Slurm calls names (partition, account, ...) and expressions over them (constraint).
Word = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.,:@+/=&|()\[\]*!-]{0,254}$"), AfterValidator(_plain)
]
# A type of Slurm's gres gpu ("a100", a MIG slice "1g.10gb"), or another gres: "gpu", "shard", "shard:a100".
GpuType = Annotated[
    str,
    BeforeValidator(lambda text: text.removeprefix("gpu:") if isinstance(text, str) else text),
    Field(pattern=r"^(shard:)?[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"),
]
Path = Annotated[str, AfterValidator(absolute_path)]
Minutes = Annotated[int, BeforeValidator(_read(units.minutes))]
Mebibytes = Annotated[int, BeforeValidator(_read(units.mebibytes))]
App = Literal["lab", "code-server"]

# "No bound of our own": the loosest values there are. What Slurm says counts then, as far as it is known.
MAX_TIME = 366 * 1440  # minutes
MAX_GPUS = 1024
MAX_NODES = 100_000
MAX_CPUS = 100_000
DEFAULT_TIME = 60  # minutes


class Entry(BaseModel):
    """A part of a site's description: nothing unknown is in it, nothing is converted or changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _tuple(value: object) -> object:
    # Configuration files write lists, ``strict`` wants tuples; a set is sorted so that it has a first.
    if isinstance(value, set | frozenset):
        return tuple(sorted(value))
    return tuple(value) if isinstance(value, list) else value


def _choice(value: object) -> object:
    return (value,) if isinstance(value, str) else () if value is None else _tuple(value)


Names = Annotated[tuple[Name, ...], BeforeValidator(_tuple)]
# One value that is fixed, or several to choose from, the default first. Where that is "", it means none.
Choice = Annotated[tuple[Literal[""] | Word, ...], BeforeValidator(_choice)]
# A group is a name of the directory, which may hold spaces and more.
Groups = Annotated[tuple[Text, ...], BeforeValidator(_tuple)]


class Mount(Entry):
    """A folder of the node that sessions of some images see. Without groups it is everybody's."""

    name: Name
    source: Path
    target: Annotated[str, AfterValidator(_target)]
    read_only: bool = False
    filesystem: Word | None = None
    groups: Groups = ()


class Image(Entry):
    """A container image. Without groups everybody may use it."""

    name: Name
    title: Text
    path: Path
    apps: Annotated[tuple[App, ...], BeforeValidator(_tuple)] = ("lab",)
    groups: Groups = ()
    mounts: Names = ()


class Course(Entry):
    """What a course profile opens: ``notebook`` is a path below the folder ``material``."""

    material: Path
    notebook: Annotated[str, AfterValidator(_relative_path)]


class Profile(Entry):
    """A kind of session: where it runs and within which bounds. Times in minutes, memory in MiB a node.

    Attributes
    ----------
    cluster
        Where it runs: a name of ``CarmeSpawner.clusters``, or "local" for the hub's own machine.
    account, qos, reservation, constraint
        What may be chosen, the default first; one value is fixed. Without any, an account or a QOS may be one
        of the person's own in Slurm, a reservation or constraint none.
    cpus, memory
        Default on each node; fixed unless ``max_cpus``, ``max_memory`` open a choice.
    max_running, max_pending
        How many sessions of this profile one person may have at once, and how many of them may be waiting.
    max_extended_time
        Up to which time limit in all its owner may extend a session; None: not at all.
    """

    name: Name
    title: Text
    description: Text = ""
    cluster: Name | None = None
    partition: Word | None = None
    account: Choice = ()
    qos: Choice = ()
    reservation: Choice = ()
    constraint: Choice = ()
    gpu_types: Annotated[tuple[GpuType, ...], BeforeValidator(_tuple)] = ()
    min_gpus_per_node: int = Field(default=0, ge=0, le=MAX_GPUS)
    max_gpus_per_node: int = Field(default=0, ge=0, le=MAX_GPUS)
    default_gpus_per_node: int = Field(default=0, ge=0, le=MAX_GPUS)
    max_nodes: int = Field(default=1, ge=1, le=MAX_NODES)
    cpus: int | None = Field(default=None, ge=1, le=MAX_CPUS)
    max_cpus: int | None = Field(default=None, ge=1, le=MAX_CPUS)
    cpus_per_gpu: int | None = Field(default=None, ge=1, le=MAX_CPUS)
    memory: Mebibytes | None = None
    max_memory: Mebibytes | None = None
    memory_per_gpu: Mebibytes | None = None
    max_time: Minutes = MAX_TIME
    default_time: Minutes
    max_extended_time: Minutes | None = None
    max_running: int | None = Field(default=None, ge=1, le=1_000_000)
    max_pending: int | None = Field(default=None, ge=1, le=1_000_000)
    images: Names = ()
    groups: Groups = ()
    course: Course | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        """Write out what follows from other values: one type, GPUs at least and by default, bounds, time."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if "gpu_type" in data:
            if "gpu_types" in data:
                raise ValueError("gpu_type and gpu_types exclude each other")
            data["gpu_types"] = [data.pop("gpu_type")]
        if data.get("max_nodes") == "partition":
            data["max_nodes"] = MAX_NODES
        if data.get("max_gpus_per_node") == "partition":
            data["max_gpus_per_node"] = MAX_GPUS
        most = data.get("max_gpus_per_node", 0)
        if isinstance(most, int) and most > 0:
            data.setdefault("min_gpus_per_node", 1)
            data.setdefault("default_gpus_per_node", data["min_gpus_per_node"] or 1)
        data.setdefault("default_time", data.get("max_time", DEFAULT_TIME))
        return data

    @model_validator(mode="after")
    def _consistent_bounds(self) -> Self:
        least, usual, most = self.min_gpus_per_node, self.default_gpus_per_node, self.max_gpus_per_node
        if not least <= usual <= most:
            raise ValueError(
                f"GPUs per node: at least {least}, default {usual}, at most {most} is not in order"
            )
        if self.gpu_types and not most:
            raise ValueError("max_gpus_per_node is needed where gpu_type is given")
        if len(set(self.gpu_types)) != len(self.gpu_types):
            raise ValueError("gpu_types names a type twice")
        if self.default_time > self.max_time:
            raise ValueError("default_time is more than max_time")
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
            raise ValueError("cpus and max_cpus exclude cpus_per_gpu")
        if self.memory_per_gpu is not None and (self.memory is not None or self.max_memory is not None):
            raise ValueError("memory and max_memory exclude memory_per_gpu")
        if (self.cpus or 1) > (self.max_cpus or MAX_CPUS):
            raise ValueError("cpus is more than max_cpus")
        if self.max_memory is not None and not (self.memory and self.memory <= self.max_memory):
            raise ValueError("max_memory needs a default, memory, that is not more")
        if not self.min_gpus_per_node and (self.cpus_per_gpu is not None or self.memory_per_gpu is not None):
            raise ValueError(
                "cpus_per_gpu and memory_per_gpu need at least one GPU per node (min_gpus_per_node)"
            )
        return self


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
            ``CarmeSpawner.profiles[1].max_time: a time like "90" (minutes) ... is needed``.
        """
        errors: list[str] = []
        known_images = _named(Image, images, f"{setting}.images", errors)
        known_mounts = _named(Mount, mounts, f"{setting}.mounts", errors)
        offered = _listed(profiles, f"{setting}.profiles", errors)
        for name, image in known_images.items():
            where = f"{setting}.images[{name!r}].mounts"
            errors += [
                f"{where}: there is no mount named {wanted!r}"
                for wanted in image.mounts
                if wanted not in known_mounts
            ]
            targets = [known_mounts[mount].target for mount in image.mounts if mount in known_mounts]
            errors += [f"{where}: two mounts have the target {target}" for target in _doubled(targets)]
        for index, profile in enumerate(offered):
            errors += [
                f"{setting}.profiles[{index}].images: there is no image named {wanted!r}"
                for wanted in profile.images
                if wanted not in known_images
            ]
        errors += [
            f"{setting}.profiles: two profiles have the name {name!r}"
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
        checked = check_entry(model, entry, f"{where}[{name!r}]", errors, name=name)
        if checked is not None:
            found[name] = checked
    return found


def _listed(entries: object, where: str, errors: list[str]) -> list[Profile]:
    if not isinstance(entries, list | tuple):
        errors.append(f"{where}: a list of entries is needed")
        return []
    checked = [
        check_entry(Profile, entry, f"{where}[{index}]", errors) for index, entry in enumerate(entries)
    ]
    return [profile for profile in checked if profile is not None]


def check_entry(
    model: type[_Checked], entry: object, where: str, errors: list[str], **more: object
) -> _Checked | None:
    """Check one entry; of its mistakes, a line for each is added to ``errors``, starting with ``where``."""
    if not isinstance(entry, Mapping):
        errors.append(f"{where}: a dictionary is needed")
        return None
    if more.keys() & entry.keys():
        errors.append(f"{where}.name: the name is the key of the dictionary")
        return None
    try:
        return model.model_validate({**entry, **more})
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_context=False, include_input=False):
            place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
            # pydantic puts this before the text of a ValueError.
            errors.append(f"{where}{place}: {problem['msg'].removeprefix('Value error, ')}")
        return None
