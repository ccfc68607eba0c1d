"""What a session was asked for, as pages show it. A pure function."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carme_hub.spawner import units
from carme_hub.spawner.request import harmless
from carme_hub.spawner.timelimit import spoken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carme_hub.spawner.catalog import Catalog, Profile

_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True)
class Asked:
    """What was asked for.

    Attributes
    ----------
    title
        The profile's; its plain name when the site does not describe it any more.
    shown
        Option -> what it is in words; only what says something about this session.
    options
        Option -> text, to ask for the same again.
    """

    title: str
    shown: Mapping[str, str]
    options: Mapping[str, str]


def asked(options: object, catalog: Catalog) -> Asked:
    """Describe options as they are stored.

    Parameters
    ----------
    options
        Of any origin; what no form could hold is left out.
    catalog
        The site's description, which may have changed since then.
    """
    given = harmless(options)
    profile = catalog.profiles.get(given.get("profile", ""))
    name = given.get("image") or (profile.images[0] if profile and profile.images else "")
    image = catalog.images.get(name)
    gpus, nodes = _number(given.get("gpus")), _number(given.get("nodes"), 1)
    shown = {"image": image.title if image else name}
    if gpus:
        shown["gpus"] = f"{gpus} {given.get('gpu_type', '')}".strip()
    if nodes > 1:
        shown["nodes"] = str(nodes)
    shown["cpus"] = given.get("cpus", "") or _cpus(profile, gpus)
    shown["memory"] = _memory(given.get("memory", ""), profile, gpus)
    shown["time"] = _time(given.get("time", ""))
    shown |= {name: given.get(name, "") for name in ("account", "qos", "reservation", "constraint")}
    title = profile.title if profile else given.get("profile", "")
    return Asked(title, {name: value for name, value in shown.items() if value}, given)


def _number(text: str | None, default: int = 0) -> int:
    return int(text) if text and _WHOLE.fullmatch(text) else default


def _cpus(profile: Profile | None, gpus: int) -> str:
    if profile is None:
        return ""
    return str(profile.cpus_per_gpu * gpus if profile.cpus_per_gpu else profile.cpus or 1)


def _memory(text: str, profile: Profile | None, gpus: int) -> str:
    """Say in words what was asked for, or what the profile gives."""
    try:
        amount = units.mebibytes(text) if text else 0
    except ValueError:
        return text
    if not amount and profile:
        amount = profile.memory_per_gpu * gpus if profile.memory_per_gpu else profile.memory or 0
    return units.spoken_memory(amount)


def _time(text: str) -> str:
    """Say a time limit in words, whether it is stored as minutes or as somebody wrote it."""
    try:
        return spoken(units.minutes(text)) if text else ""
    except ValueError:
        return text
