"""What one person asks for, checked against what this person may have. Form, URL and API all end here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carme_hub.spawner import units

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carme_hub.spawner.catalog import Catalog, Image, Mount, Profile

FIELDS = {
    "profile": "Profile",
    "image": "Image",
    "gpus": "GPUs per node",
    "gpu_type": "GPU type",
    "nodes": "Nodes",
    "tasks": "Tasks per node",
    "cpus": "Cores per node",
    "memory": "Memory per node",
    "time": "Time limit",
    "account": "Account",
    "qos": "QOS",
    "reservation": "Reservation",
    "constraint": "Constraint",
}
# Fields of the page that are not part of the request: the forgery token that JupyterHub itself has checked.
_NOT_OURS = frozenset({"_xsrf"})
# Stands in a field's name between profile and option, where one form has the fields of several profiles.
OF_PROFILE = "/"
_LONGEST = 200
_SHOWN = 40
# What a person may write where Slurm, not the site, knows the names: one name, no list and no expression.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,62}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
# Minutes and seconds to Slurm, hours and minutes to most people.
_AMBIGUOUS = re.compile(r"[0-9]+:[0-9]+", re.ASCII)


class RequestError(ValueError):
    """Something asked for is not on offer.

    Attributes
    ----------
    field
        Name of the option, for example ``gpus``; empty when the whole request is meant.
    sentence
        For the person: which field, what was asked, what is allowed.
    short
        The same without the field's name, to stand at the field.
    """

    def __init__(self, field: str, sentence: str, name: str = "") -> None:
        label = f"{name or FIELDS[field]} ({field}): " if field in FIELDS else ""
        super().__init__(label + sentence)
        self.field = field
        self.sentence = label + sentence
        self.short = sentence


@dataclass(frozen=True)
class Person:
    """Who asks: name at the hub and hub groups."""

    username: str
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True)
class JobRequest:
    """One session, as it is going to be submitted: values of the catalogue and checked numbers.

    Attributes
    ----------
    gpus, tasks, cpus
        For each node; the tasks share its cores equally.
    memory
        MiB on each node; None leaves it to Slurm's default.
    time
        Minutes.
    mounts
        What the container shows besides the home folder.
    gpu_type
        What the person chose, of the profile's ``gpu_types``.
    gres
        Slurm's name for it, without the number: "gpu", "gpu:a100", "gpu:1g.10gb", "shard"; None without GPUs.
    account, qos, reservation, constraint
        Fixed by the profile or chosen; None leaves it to Slurm.
    """

    profile: Profile
    image: Image
    mounts: tuple[Mount, ...]
    gpus: int
    gpu_type: str | None
    nodes: int
    time: int
    cpus: int
    memory: int | None
    gres: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    reservation: str | None = None
    constraint: str | None = None
    tasks: int = 1

    @property
    def cpus_per_task(self) -> int:
        """Return the cores of each task."""
        return self.cpus // self.tasks

    @classmethod
    def parse(cls, options: object, catalog: Catalog, person: Person) -> JobRequest:
        """Check what came from a form, a URL or the API.

        Parameters
        ----------
        options
            Hostile: has to be a mapping from the names in `FIELDS` to text or whole numbers.
        catalog
            Everything the site offers; only what the person's groups may see counts.
        person
            Who asks.

        Raises
        ------
        RequestError
            With a sentence that names the field, what was asked and what is allowed.
        """
        return cls.of(options, catalog.visible_to(person.groups))

    @classmethod
    def of(cls, options: object, offered: Catalog) -> JobRequest:
        """Do what `parse` does, with a catalogue in which is only what the person may see already.

        Raises
        ------
        RequestError
            As `parse`.
        """
        values = _strict(options)
        profile = _profile(values, offered)
        name = _choice("image", values, profile.images, profile.images[0])
        image = offered.images[name]
        bounds = (profile.min_gpus_per_node, profile.default_gpus_per_node, profile.max_gpus_per_node)
        gpus = _number("gpus", values, bounds, profile)
        gpu_type = _gpu_type(values, profile, gpus)
        tasks = _tasks(values, profile, gpus)
        return cls(
            profile=profile,
            image=image,
            mounts=offered.mounts_of(image),
            gpus=gpus,
            gpu_type=gpu_type,
            nodes=_number(
                "nodes", values, (profile.min_nodes, profile.default_nodes, profile.max_nodes), profile
            ),
            time=_time(values, profile),
            tasks=tasks,
            cpus=_cpus(values, profile, gpus, tasks),
            memory=_memory(values, profile, gpus),
            gres=gres(gpu_type) if gpus else None,
            partition=profile.partition,
            account=_slurm_name("account", values, profile.account, profile),
            qos=_slurm_name("qos", values, profile.qos, profile),
            reservation=_slurm_name("reservation", values, profile.reservation or ("",), profile),
            constraint=_slurm_name("constraint", values, profile.constraint or ("",), profile),
        )

    def options(self) -> dict[str, str | int]:
        """Return options that parse to this request again: what is stored as the person's last choice.

        What the profile fixes is left out, so that the site may change it.
        """
        profile = self.profile
        chosen: dict[str, str | int | None] = {
            "profile": profile.name,
            "image": self.image.name,
            "gpus": self.gpus,
            "gpu_type": self.gpu_type,
            "nodes": self.nodes,
            "tasks": self.tasks if profile.max_tasks_per_node > 1 else None,
            "cpus": self.cpus_per_task if profile.max_cpus else None,
            "memory": units.show_mebibytes(self.memory) if profile.max_memory and self.memory else None,
            "time": self.time,
            "account": self.account if len(profile.account) != 1 else None,
            "qos": self.qos if len(profile.qos) != 1 else None,
            "reservation": self.reservation if len(profile.reservation) > 1 else None,
            "constraint": self.constraint if len(profile.constraint) > 1 else None,
        }
        return {name: value for name, value in chosen.items() if value is not None}


def mistakes(options: object, offered: Catalog) -> list[RequestError]:
    """Return everything that is wrong with a request, each field once.

    What depends on a wrong field is looked at with that field's default.
    """
    left = dict(options) if isinstance(options, Mapping) else options
    found: list[RequestError] = []
    while True:
        try:
            JobRequest.of(left, offered)
        except RequestError as error:
            found.append(error)
            if not isinstance(left, dict) or error.field not in left or error.field == "profile":
                return found
            del left[error.field]
        else:
            return found


def cores_label(profile: Profile) -> str:
    """Return what the option `cpus` is called where one of the profile's sessions is asked for."""
    return "Cores per task" if profile.max_tasks_per_node > 1 else FIELDS["cpus"]


def gres(gpu_type: str | None) -> str:
    """Return Slurm's name of the gres for a GPU type of the catalogue."""
    if gpu_type is None:
        return "gpu"
    own = gpu_type in {"gpu", "shard"} or gpu_type.startswith("shard:")
    return gpu_type if own else f"gpu:{gpu_type}"


def from_form(form: Mapping[str, Sequence[object]]) -> dict[str, object]:
    """Unwrap what a form or a query sends: lists of one text. An empty field counts as not filled in.

    Of fields that say which profile they belong to (``gpu/nodes``), those of the chosen one are taken.
    Anything else is left as it is, for `JobRequest.parse` to refuse.
    """
    unwrapped: dict[str, object] = {}
    chosen = f"{(form.get('profile') or [''])[0]}{OF_PROFILE}"
    for name, values in form.items():
        value: object = values[0] if isinstance(values, list) and len(values) == 1 else values
        if OF_PROFILE in name:
            if not name.startswith(chosen):
                continue
            name = name.removeprefix(chosen)  # noqa: PLW2901 - the option's own
        if name not in _NOT_OURS and value != "":
            unwrapped[name] = value
    return unwrapped


def harmless(options: object) -> dict[str, str]:
    """Return the options that can be shown in a form again, as text, whether they are allowed or not."""
    if not isinstance(options, Mapping):
        return {}
    return {
        name: str(value)
        for name, value in options.items()
        if name in FIELDS
        and isinstance(value, str | int)
        and not isinstance(value, bool)
        and len(str(value)) <= _LONGEST
    }


def _strict(options: object) -> dict[str, str | int]:
    if not isinstance(options, Mapping):
        raise RequestError("", "The options of a session have to be an object with names and values.")
    values: dict[str, str | int] = {}
    for name, value in options.items():
        if not isinstance(name, str) or name not in FIELDS:
            allowed = ", ".join(FIELDS)
            raise RequestError("", f"There is no option named {_show(name)}; allowed are {allowed}.")
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise RequestError(name, "a text or a whole number is needed.")
        if isinstance(value, str) and len(value) > _LONGEST:
            raise RequestError(name, f"at most {_LONGEST} characters are allowed.")
        values[name] = value
    return values


def _show(value: object) -> str:
    """Repeat a value in a sentence: short, on one line, without control characters."""
    if isinstance(value, int):
        # Python refuses to write out very long integers.
        return str(value) if abs(value) < 10**_SHOWN else "a number with too many digits"
    text = repr(value) if isinstance(value, str) else f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _profile(values: Mapping[str, str | int], offered: Catalog) -> Profile:
    names = tuple(offered.profiles)
    if not names:
        raise RequestError("profile", "this site has no profile that you may use; ask its administrators.")
    if "profile" not in values and len(names) > 1:
        raise RequestError("profile", f"please choose one of {', '.join(names)}.")
    return offered.profiles[_choice("profile", values, names, names[0])]


def _choice(field: str, values: Mapping[str, str | int], allowed: Sequence[str], default: str) -> str:
    value = values.get(field, default)
    if value not in allowed:
        raise RequestError(field, f"{_show(value)} asked, but you can have {' or '.join(allowed)}.")
    return str(value)


def _whole(field: str, value: str | int) -> int:
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            raise RequestError(field, f"{_show(value)} asked, but a whole number is needed.")
        value = int(value)
    return value


def _number(
    field: str,
    values: Mapping[str, str | int],
    bounds: tuple[int, int, int],
    profile: Profile,
    name: str = "",
) -> int:
    least, default, most = bounds
    number = _whole(field, values.get(field, default))
    if not least <= number <= most:
        allowed = f"{least} to {most}" if least < most else f"only {most}"
        raise RequestError(field, f"{_show(number)} asked, {allowed} allowed in “{profile.title}”.", name)
    return number


def _gpu_type(values: Mapping[str, str | int], profile: Profile, gpus: int) -> str | None:
    if not profile.gpu_types:
        if "gpu_type" in values:
            raise RequestError(
                "gpu_type",
                f"{_show(values['gpu_type'])} asked, but “{profile.title}” has no choice of types.",
            )
        return None
    chosen = _choice("gpu_type", values, profile.gpu_types, profile.gpu_types[0])
    return chosen if gpus else None


def _tasks(values: Mapping[str, str | int], profile: Profile, gpus: int) -> int:
    bounds = (profile.min_tasks_per_node, profile.default_tasks_per_node, profile.max_tasks_per_node)
    tasks = _number("tasks", values, bounds, profile)
    cores = profile.cpus_for(gpus, tasks)
    if cores % tasks:
        words = "1 core that comes" if cores == 1 else f"{cores} cores that come"
        sentence = f"{tasks} asked, but the {words} with {gpus} GPU{'s' * (gpus != 1)} per node"
        raise RequestError("tasks", f"{sentence} cannot be shared equally by so many.")
    return tasks


def _cpus(values: Mapping[str, str | int], profile: Profile, gpus: int, tasks: int) -> int:
    """Return the cores on a node: those of each task, times tasks."""
    default = profile.cpus_for(gpus, tasks) // tasks
    most = profile.max_cpus or default
    bounds = (1 if profile.max_cpus else default, default, most)
    return tasks * _number("cpus", values, bounds, profile, cores_label(profile))


def _memory(values: Mapping[str, str | int], profile: Profile, gpus: int) -> int | None:
    default = profile.memory_for(gpus)
    if "memory" not in values:
        return default
    value, least, most = values["memory"], 1 if profile.max_memory else default, profile.max_memory or default
    if least is None or most is None:
        sentence = f"{_show(value)} asked, but Slurm's default is all there is in “{profile.title}”."
        raise RequestError("memory", sentence)
    allowed = (
        f"{'at most' if least < most else 'only'} {units.show_mebibytes(most)} allowed in “{profile.title}”"
    )
    try:
        asked = units.mebibytes(value) if isinstance(value, str) else value
    except ValueError as error:
        raise RequestError("memory", f"{_show(value)} asked, but {error}; {allowed}.") from None
    if not least <= asked <= most:
        shown = units.show_mebibytes(asked) if 0 <= asked < 10**9 else _show(asked)
        raise RequestError("memory", f"{shown} asked, {allowed}.")
    return asked


def _slurm_name(
    field: str, values: Mapping[str, str | int], allowed: tuple[str, ...], profile: Profile
) -> str | None:
    """Take one of the names the profile allows; where it has none, any that is a name: Slurm knows which."""
    if allowed:
        shown = [name or "none" for name in allowed]
        value = values.get(field, allowed[0])
        if value not in allowed:
            sentence = f"{_show(value)} asked, but “{profile.title}” has {' or '.join(shown)}."
            raise RequestError(field, sentence)
        return str(value) or None
    value = values.get(field, "")
    if value == "":
        return None
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise RequestError(field, f"{_show(value)} asked, but a name as Slurm has it is needed.")
    return value


def _time(values: Mapping[str, str | int], profile: Profile) -> int:
    value = values.get("time", profile.default_time)
    least, most = (units.show_minutes(minutes) for minutes in (profile.min_time, profile.max_time))
    words = f"at most {most}" if profile.min_time == 1 else f"{least} to {most}"
    allowed = f"{f'only {most}' if least == most else words} allowed in “{profile.title}”"
    if isinstance(value, str) and _AMBIGUOUS.fullmatch(value):
        sentence = f"{_show(value)} asked, but is that hours? Write 1:30:00 for hours or 90 for minutes"
        raise RequestError("time", f"{sentence}; {allowed}.")
    try:
        asked = units.minutes(value) if isinstance(value, str) else value
    except ValueError as error:
        raise RequestError("time", f"{_show(value)} asked, but {error}; {allowed}.") from None
    if not profile.min_time <= asked <= profile.max_time:
        shown = units.show_minutes(asked) if 0 <= asked < 10**9 else _show(asked)
        raise RequestError("time", f"{shown} asked, {allowed}.")
    return asked
