"""Mistakes that a configuration shows by itself, each in one line; nothing outside this machine is asked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyterhub.app import JupyterHub
from traitlets import TraitError

from carme_hub.authenticator.authenticator import CarmeAuthenticator
from carme_hub.checks import addresses, files, names, source
from carme_hub.service import registration
from carme_hub.spawner.description import described, limited
from carme_hub.spawner.spawner import CarmeSpawner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from traitlets.config import Config

    from carme_hub.spawner.catalog import Catalog

_SETTING = re.compile(r"^([A-Z]\w+\.\w+) ")  # a sentence about a setting; others have a colon there
CONFIGURE = (
    "carme_hub.configure(c): it is missing, so that this is a JupyterHub without carme-hub. "
    "Write it below `c = get_config()`, before all settings"
)
NO_PROFILES = "CarmeSpawner.profiles: there is no profile, so nobody can start a session. Describe one"
NO_IMAGES = "CarmeSpawner.images: there is no image, so nobody can start a session. Describe one"
NO_GROUPS = (
    "CarmeAuthenticator.group_search_base: it is not set, so that nobody has groups, but {} name some. "
    "Say where the directory has its groups"
)
TEMPLATES = (
    "JupyterHub.template_paths: it leaves out carme-hub's own pages. Write "
    "`c.JupyterHub.template_paths = [YOURS, *c.JupyterHub.template_paths]` after carme_hub.configure(c)"
)


@dataclass(frozen=True)
class Found:
    """What came of reading a configuration.

    Attributes
    ----------
    lines
        One for each mistake: what it is about, a colon, what is wrong and what to do.
    catalog
        What the site offers; None where it cannot be read.
    """

    lines: tuple[str, ...] = ()
    catalog: Catalog | None = None


@dataclass
class _Reading:
    lines: list[str] = field(default_factory=list)
    catalog: Catalog | None = None

    def take(self, lines: Iterable[str]) -> None:
        told = (_SETTING.sub(r"\1: it ", line.rstrip(".")) for line in lines)
        self.lines += [line for line in told if line not in self.lines]

    def described(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (ValueError, TraitError) as error:
            self.take(str(error).splitlines())
            return None


def find(config: Config, path: str = "") -> Found:
    """Return the mistakes of a configuration.

    Parameters
    ----------
    config
        As it was read.
    path
        The file it was read from: its text shows what the values do not.
    """
    reading = _Reading()
    ours = names.chosen(config)
    if ours.spawner is None and ours.authenticator is None:
        reading.take([CONFIGURE])
    settings = names.check(config, ours)
    reading.take(settings.lines)
    if ours.spawner is not None or config.get("CarmeSpawner"):
        _offer(reading, config, settings)
    if ours.authenticator is not None or config.get("CarmeAuthenticator"):
        _gate(reading, config, settings.wrong)
    reading.take(addresses.lines(config))
    reading.take(files.hub_lines(config))
    _pages(reading, config, ours)
    if path:
        reading.take(source.lines(Path(path), config))
    return Found(tuple(reading.lines), reading.catalog)


def _given(config: Config, name: str, default: Any) -> Any:
    """Return a setting of the spawner, whichever of its classes it is set at."""
    for section in ("CarmeSpawner", "Spawner"):
        if name in config.get(section, {}):
            return names.value_of(CarmeSpawner, name, config[section][name])
    return default


def _offer(reading: _Reading, config: Config, settings: names.Settings) -> None:
    wrong = settings.wrong
    given = {
        name: _given(config, name, empty)
        for name, empty in (("images", {}), ("mounts", {}), ("profiles", []), ("clusters", {}))
    }
    if not wrong.intersection(f"CarmeSpawner.{name}" for name in given):
        if not given["profiles"] and "profiles" not in settings.meant:
            reading.take([NO_PROFILES])
        if not given["images"] and "images" not in settings.meant:
            reading.take([NO_IMAGES])
        reading.catalog = reading.described(lambda: described(*given.values()))
    if not wrong & {"CarmeSpawner.limits", "CarmeSpawner.group_limits"}:
        reading.described(lambda: limited(_given(config, "limits", {}), _given(config, "group_limits", {})))


def _gate(reading: _Reading, config: Config, wrong: frozenset[str]) -> None:
    try:
        gate = CarmeAuthenticator(config=config)
    except (ValueError, TraitError) as error:
        # With a value that does not fit, it cannot be made, and the value was told.
        known = {name.partition(".")[2] for name in wrong}
        reading.take([] if any(name in str(error) for name in known) else str(error).splitlines())
        return
    try:
        reading.described(gate.directory_settings)
        reading.take(files.gate_lines(gate))
        reading.take(addresses.gate_lines(gate))
        if reading.catalog is not None and gate.server_address and not gate.group_search_base:
            named = sorted(group_users(reading.catalog, gate))
            reading.take([NO_GROUPS.format(", ".join(named))] if named else [])
    finally:
        gate.close()


def group_users(catalog: Catalog, gate: Any) -> dict[str, tuple[str, ...]]:
    """Return what is for some groups only, and these groups' names."""
    parts = (("profile", catalog.profiles), ("image", catalog.images), ("mount", catalog.mounts))
    found = {
        f'{kind} "{one.name}"': one.groups
        for kind, entries in parts
        for one in entries.values()
        if one.groups
    }
    for name in ("admin_groups", "allowed_groups"):
        if getattr(gate, name):
            found[f"CarmeAuthenticator.{name}"] = tuple(sorted(getattr(gate, name)))
    return found


def _pages(reading: _Reading, config: Config, ours: names.Chosen) -> None:
    hub = config.JupyterHub
    scopes = names.value_of(JupyterHub, "custom_scopes", hub.get("custom_scopes", {}))
    if registration.LOGINS_SCOPE in scopes:
        # carme_hub.configure(c) was called: what it set may have been overwritten.
        reading.take(registration.problems(config))
        paths = hub.get("template_paths", [])
        own = str(Path(__file__).parents[1] / "templates")
        if ours.spawner is not None and isinstance(paths, list) and own not in map(str, paths):
            reading.take([TEMPLATES])
