"""What the page to start a session shows, one card for each profile. Pure; templates/spawn.html draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from carme_hub.spawner import units
from carme_hub.spawner.request import FIELDS
from carme_hub.spawner.values import MAX_TIME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carme_hub.spawner.catalog import Catalog, Image, Profile


# Fields that few people need; the page shows them when they are asked for.
FOLDED = ("cpus", "memory", "account", "qos", "reservation", "constraint")


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
        Whether it is the profile that was asked for.
    """

    profile: Profile
    images: tuple[Image, ...]
    values: Mapping[str, str]
    open: bool

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
        """Say whether one of the folded fields holds something else than the profile's default."""
        return any(
            self.values[name] != value for name, value in _defaults(self.profile).items() if name in FOLDED
        )

    @property
    def resources(self) -> list[str]:
        """Return cores and memory in words."""
        profile, words = self.profile, []
        if profile.max_cpus:
            words.append(f"up to {profile.max_cpus} {_cores(profile.max_cpus)}")
        elif profile.cpus_per_gpu:
            words.append(f"{profile.cpus_per_gpu} {_cores(profile.cpus_per_gpu)} per GPU")
        else:
            words.append(f"{profile.cpus or 1} {_cores(profile.cpus or 1)}")
        if profile.memory_per_gpu:
            words.append(f"{units.show_mebibytes(profile.memory_per_gpu)} memory per GPU")
        elif profile.max_memory:
            words.append(f"up to {self.max_memory} memory")
        elif profile.memory:
            words.append(f"{units.show_mebibytes(profile.memory)} memory")
        if profile.min_nodes == profile.max_nodes > 1:
            words.append(f"{profile.max_nodes} nodes")
        return words


@dataclass(frozen=True)
class SpawnForm:
    """The whole page's fields; JupyterHub hands this object to its template as it is.

    Attributes
    ----------
    session
        Name of the server it starts; empty for the default one.
    """

    courses: tuple[Card, ...]
    profiles: tuple[Card, ...]
    session: str = ""

    @classmethod
    def build(
        cls,
        offered: Catalog,
        given: Mapping[str, str],
        last: Mapping[str, Mapping[str, str]] | None = None,
        session: str = "",
    ) -> SpawnForm:
        """Make the cards.

        Parameters
        ----------
        offered
            What this person may use.
        given
            Options to show again, by name; may be anything a person could send.
        last
            The person's last choice for each profile.
        session
            Name of the server it starts.
        """
        asked = given.get("profile", "")
        cards = [
            _card(
                profile, offered, given if name == asked else (last or {}).get(name, {}), opened=name == asked
            )
            for name, profile in offered.profiles.items()
        ]
        return cls(
            courses=tuple(card for card in cards if card.profile.course),
            profiles=tuple(card for card in cards if not card.profile.course),
            session=session,
        )


def _cores(number: int) -> str:
    return "core" if number == 1 else "cores"


def _defaults(profile: Profile) -> dict[str, str]:
    names = {name: getattr(profile, name) for name in ("account", "qos", "reservation", "constraint")}
    return {
        "image": profile.images[0],
        "gpus": str(profile.default_gpus_per_node),
        "gpu_type": profile.gpu_types[0] if profile.gpu_types else "",
        "nodes": str(profile.default_nodes),
        "cpus": str(profile.cpus or 1),
        "memory": units.show_mebibytes(profile.memory) if profile.memory else "",
        "time": units.show_minutes(profile.default_time),
        **{name: allowed[0] if allowed else "" for name, allowed in names.items()},
    }


def _card(profile: Profile, offered: Catalog, given: Mapping[str, str], *, opened: bool) -> Card:
    values = _defaults(profile)
    values |= {name: value for name, value in given.items() if name in values}
    if values["time"].isascii() and values["time"].isdigit():
        # Stored as minutes, shown as people and Slurm write it.
        values["time"] = units.show_minutes(int(values["time"][:9]))
    return Card(profile, tuple(offered.images[name] for name in profile.images), values, opened)
