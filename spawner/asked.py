"""What a session was asked for, as pages show it. A pure function."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carme_hub.spawner import units
from carme_hub.spawner.request import harmless
from carme_hub.spawner.timelimit import spoken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from carme_hub.spawner.catalog import Catalog

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
    tasks = _number(given.get("tasks"), profile.default_tasks_per_node if profile else 1)
    if tasks > 1:
        shown["tasks"] = str(tasks)
    each = str(profile.cpus_for(gpus, tasks) // tasks) if profile and tasks else ""
    shown["cpus"] = given.get("cpus", "") or each
    given_memory = units.spoken_memory(profile.memory_for(gpus) or 0) if profile else ""
    shown["memory"] = _said(given.get("memory", ""), units.mebibytes, units.spoken_memory) or given_memory
    shown["time"] = _said(given.get("time", ""), units.minutes, spoken)
    shown |= {name: given.get(name, "") for name in ("account", "qos", "reservation", "constraint")}
    title = profile.title if profile else given.get("profile", "")
    return Asked(title, {name: value for name, value in shown.items() if value}, given)


def _number(text: str | None, default: int = 0) -> int:
    return int(text) if text and _WHOLE.fullmatch(text) else default


def _said(text: str, read: Callable[[str], int], say: Callable[[int], str]) -> str:
    """Say an amount in words, whether it is stored as a number or as somebody wrote it."""
    try:
        return say(read(text)) if text else ""
    except ValueError:
        return text
