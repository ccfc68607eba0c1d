"""What the page to start a session shows, one card for each profile. Pure; templates/spawn.html draws it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carme_hub.spawner import plain_form, units
from carme_hub.spawner.request import FIELDS, cores_label
from carme_hub.spawner.values import MAX_TIME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from markupsafe import Markup

    from carme_hub.spawner.catalog import Catalog, Image, Profile
    from carme_hub.spawner.free import Free


# Fields that few people need; the page shows them when they are asked for.
FOLDED = ("tasks", "cpus", "memory", "account", "qos", "reservation", "constraint")

# Time limits that the page offers to click, in minutes, and how many of them.
TIMES = (30, 60, 120, 240, 480, 1440, 2880, 10080)
MOST_TIMES = 6
# With more cards than this, the one that was chosen last stands first.
MANY = 8


@dataclass(frozen=True)
class Problem:
    """What is wrong with a request: the option it is about (empty: none in particular), and a sentence."""

    field: str
    sentence: str


@dataclass(frozen=True)
class Totals:
    """What a session would hold.

    Attributes
    ----------
    gpus
        On each node.
    cpus, memory
        Of all nodes together; memory in MiB, None when it is not known.
    """

    nodes: int
    gpus: int
    cpus: int
    memory: int | None

    @property
    def memory_text(self) -> str:
        """Return the memory for people; empty when it is not known."""
        return units.spoken_memory(self.memory) if self.memory else ""


@dataclass(frozen=True)
class Choice:
    """A field with names to choose from: option, label, and the names; "" is none, or Slurm's default."""

    option: str
    label: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Card:
    """One profile with what its fields are filled in with.

    Attributes
    ----------
    values
        Text by option name: what the person gave a moment ago, or chose last for this profile, whether it is
        allowed or not; else the profile's defaults.
    open
        Whether it is the profile that was asked for, or chosen last.
    free
        What of it is free now; None when that is not known.
    problems
        What is wrong with ``values``, if somebody tried to start them.
    """

    profile: Profile
    images: tuple[Image, ...]
    values: Mapping[str, str]
    open: bool
    free: Free | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def shown_fields(self) -> frozenset[str]:
        """Return the options that the page has a field for."""
        profile = self.profile
        found = {
            "gpus": profile.max_gpus_per_node > 0,
            "gpu_type": len(profile.gpu_types) > 1,
            "nodes": profile.max_nodes > profile.min_nodes,
            "time": profile.max_time > profile.min_time,
            "tasks": profile.max_tasks_per_node > profile.min_tasks_per_node,
            "cpus": bool(profile.max_cpus),
            "memory": bool(profile.max_memory),
        }
        names = {name for name, shown in found.items() if shown} | {choice.option for choice in self.choices}
        return frozenset() if profile.course else frozenset({"image", *names})

    @property
    def cores_label(self) -> str:
        """Return what its number of cores counts."""
        return cores_label(self.profile)

    @property
    def minutes(self) -> int:
        """Return the time limit of `values` in minutes; the profile's own where that is no time."""
        return units.minutes_or_none(self.values["time"]) or self.profile.default_time

    @staticmethod
    def binary(amount: int) -> str:
        """Write MiB for people."""
        return units.spoken_memory(amount)

    def error(self, option: str) -> str:
        """Return the sentence to show at a field; empty when nothing is wrong with it."""
        return next((problem.sentence for problem in self.problems if problem.field == option), "")

    @property
    def free_age(self) -> int:
        """Return the age of `free` in minutes when it is old, else 0."""
        return self.free.age(time.monotonic()) if self.free else 0

    @property
    def times(self) -> list[tuple[int, str]]:
        """Return time limits to click: minutes, and as Slurm writes them."""
        profile = self.profile
        fit = [minutes for minutes in TIMES if profile.min_time <= minutes <= profile.max_time]
        return [(minutes, units.show_minutes(minutes)) for minutes in fit[-MOST_TIMES:]]

    @property
    def totals(self) -> Totals | None:
        """Return what the session of `values` would hold; None when they are no numbers.

        templates/static/spawn.js follows the fields with the same rules.
        """
        profile, values = self.profile, self.values
        try:
            nodes = int(values["nodes"][:9])
            gpus = int(values["gpus"][:9]) if profile.max_gpus_per_node else 0
            tasks = int(values["tasks"][:9])
            cpus = tasks * int(values["cpus"][:9]) if profile.max_cpus else profile.cpus_for(gpus, tasks)
            memory = units.mebibytes(values["memory"]) if profile.max_memory else profile.memory_for(gpus)
        except ValueError:
            return None
        return Totals(nodes, gpus, nodes * cpus, nodes * memory if memory else None)

    @property
    def id(self) -> str:
        """Return what the ids of its fields begin with."""
        return f"profile-{self.profile.name}"

    @property
    def max_time(self) -> str:
        """Return the longest time limit as Slurm writes it; empty when only Slurm knows."""
        return "" if self.profile.max_time >= MAX_TIME else units.show_minutes(self.profile.max_time)

    @property
    def min_time(self) -> str:
        """Return the shortest time limit as Slurm writes it; empty when there is none."""
        return units.show_minutes(self.profile.min_time) if self.profile.min_time > 1 else ""

    @property
    def max_memory(self) -> str:
        """Return the most memory on a node as Slurm writes it; empty when there is no choice."""
        return units.show_mebibytes(self.profile.max_memory) if self.profile.max_memory else ""

    @property
    def choices(self) -> list[Choice]:
        """Return what can be chosen among names that Slurm knows, without what the profile fixes."""
        named = ("account", "qos", "reservation", "constraint")
        found = [Choice(name, FIELDS[name], getattr(self.profile, name)) for name in named]
        return [choice for choice in found if len(choice.names) > 1]

    @property
    def advanced_used(self) -> bool:
        """Say whether one of the folded fields is wrong or holds something else than the default."""
        return any(problem.field in FOLDED for problem in self.problems) or any(
            self.values[name] != value for name, value in _defaults(self.profile).items() if name in FOLDED
        )


@dataclass(frozen=True)
class SpawnForm:
    """The whole page's fields; JupyterHub hands this object to its template as it is.

    Attributes
    ----------
    session
        Name of the server it starts; empty for the default one.
    problems
        What was wrong with the request that comes back.
    from_link
        Whether a link has filled it in.
    estimates
        Whether the hub can be asked when a session would start.
    closed
        Whether nothing can be started now, and the page has no fields.
    """

    courses: tuple[Card, ...]
    profiles: tuple[Card, ...]
    session: str = ""
    problems: tuple[Problem, ...] = ()
    from_link: bool = False
    estimates: bool = False
    closed: bool = False

    def __html__(self) -> Markup:
        """Return the fields for JupyterHub's own page, which writes what it is handed into its form."""
        return plain_form.render(self)

    @property
    def many(self) -> bool:
        """Say whether there is so much to choose from that people will want to search."""
        return len(self.courses) + len(self.profiles) > MANY

    def place_of(self, problem: Problem) -> str:
        """Return the id of the field that a problem is at; empty when it has none on the page."""
        cards = (card for card in (*self.courses, *self.profiles) if card.open)
        return next(
            (f"{card.id}-{problem.field}" for card in cards if problem.field in card.shown_fields), ""
        )

    @staticmethod
    def name_of(problem: Problem) -> str:
        """Return the name of the field that a problem is at; empty for none in particular."""
        return FIELDS.get(problem.field, "")

    @classmethod
    def build(
        cls,
        offered: Catalog,
        given: Mapping[str, str],
        last: Mapping[str, Mapping[str, str]] | None = None,
        session: str = "",
        *,
        free: Callable[[Profile], Free | None] = lambda _profile: None,
        problems: tuple[Problem, ...] = (),
        from_link: bool = False,
        estimates: bool = False,
    ) -> SpawnForm:
        """Make the cards.

        Parameters
        ----------
        offered
            What this person may use.
        given
            Options to show again, by name; may be anything a person could send.
        last
            The person's last choice for each profile, the newest last.
        session
            Name of the server it starts.
        free
            Says what of a profile is free now.
        problems
            What is wrong with ``given``.
        from_link
            Whether ``given`` is of a link.
        estimates
            Whether the hub can be asked when a session would start.
        """
        last = last or {}
        asked = given.get("profile") or next(reversed(list(last)), "")

        def chosen(profile: Profile) -> Mapping[str, str]:
            if profile.course:
                return {}  # its one button sends nothing but its name
            return given if profile.name == given.get("profile") else last.get(profile.name, {})

        cards = [
            Card(
                profile,
                tuple(offered.images[image] for image in profile.images),
                _values(profile, chosen(profile)),
                open=name == asked,
                free=free(profile),
                problems=problems if name == asked else (),
            )
            for name, profile in offered.profiles.items()
        ]
        if len(cards) > MANY:
            cards.sort(key=lambda card: not card.open)
        return cls(
            courses=tuple(card for card in cards if card.profile.course),
            profiles=tuple(card for card in cards if not card.profile.course),
            session=session,
            problems=problems,
            from_link=from_link,
            estimates=estimates,
        )


def _defaults(profile: Profile) -> dict[str, str]:
    names = {name: getattr(profile, name) for name in ("account", "qos", "reservation", "constraint")}
    return {
        "image": profile.images[0],
        "gpus": str(profile.default_gpus_per_node),
        "gpu_type": profile.gpu_types[0] if profile.gpu_types else "",
        "nodes": str(profile.default_nodes),
        "tasks": str(profile.default_tasks_per_node),
        "cpus": str(profile.cpus or 1),
        "memory": units.show_mebibytes(profile.memory) if profile.memory else "",
        "time": units.show_minutes(profile.default_time),
        **{name: allowed[0] if allowed else "" for name, allowed in names.items()},
    }


def _values(profile: Profile, given: Mapping[str, str]) -> dict[str, str]:
    values = _defaults(profile)
    values |= {name: value for name, value in given.items() if name in values}
    if values["time"].isascii() and values["time"].isdigit():
        # Stored as minutes, shown as people and Slurm write it.
        values["time"] = units.show_minutes(int(values["time"][:9]))
    return values
