"""What the page to start a session shows, one card for each profile. Pure; templates/spawn.html draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from carme_hub.spawner import units

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carme_hub.spawner.catalog import Catalog, Image, Profile


@dataclass(frozen=True)
class Card:
    """One profile with what its fields are filled in with.

    Attributes
    ----------
    values
        Text by option name; what the person gave last, allowed or not, else the profile's defaults.
    open
        Whether it is the profile that was asked for.
    """

    profile: Profile
    images: tuple[Image, ...]
    values: Mapping[str, str]
    open: bool

    @property
    def max_time(self) -> str:
        """Return the longest time limit as Slurm writes it."""
        return units.show_minutes(self.profile.max_time)

    @property
    def resources(self) -> list[str]:
        """Return cores and memory in words."""
        profile, words = self.profile, []
        if profile.cpus_per_gpu:
            words.append(f"{profile.cpus_per_gpu} {_cores(profile.cpus_per_gpu)} per GPU")
        else:
            words.append(f"{profile.cpus or 1} {_cores(profile.cpus or 1)}")
        if profile.memory_per_gpu:
            words.append(f"{units.show_mebibytes(profile.memory_per_gpu)} memory per GPU")
        elif profile.memory:
            words.append(f"{units.show_mebibytes(profile.memory)} memory")
        return words


@dataclass(frozen=True)
class SpawnForm:
    """The whole page's fields; JupyterHub hands this object to its template as it is."""

    courses: tuple[Card, ...]
    profiles: tuple[Card, ...]

    @classmethod
    def build(cls, offered: Catalog, given: Mapping[str, str]) -> SpawnForm:
        """Make the cards.

        Parameters
        ----------
        offered
            What this person may use.
        given
            Options to show again, by name; may be anything a person could send.
        """
        asked = given.get("profile", "")
        cards = [
            _card(profile, offered, given, opened=name == asked) for name, profile in offered.profiles.items()
        ]
        return cls(
            courses=tuple(card for card in cards if card.profile.course),
            profiles=tuple(card for card in cards if not card.profile.course),
        )


def _cores(number: int) -> str:
    return "core" if number == 1 else "cores"


def _card(profile: Profile, offered: Catalog, given: Mapping[str, str], *, opened: bool) -> Card:
    values = {
        "image": profile.images[0],
        "gpus": str(profile.default_gpus_per_node),
        "gpu_type": profile.gpu_types[0] if profile.gpu_types else "",
        "nodes": "1",
        "time": units.show_minutes(profile.default_time),
    }
    if opened:
        values |= {name: value for name, value in given.items() if name in values}
        if values["time"].isascii() and values["time"].isdigit():
            # Stored as minutes, shown as people and Slurm write it.
            values["time"] = units.show_minutes(int(values["time"][:9]))
    return Card(profile, tuple(offered.images[name] for name in profile.images), values, opened)
