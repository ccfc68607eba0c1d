"""The names and values of all settings: there is such a class and such a setting, and the value fits."""

from __future__ import annotations

import copy
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jupyterhub.app
import traitlets
from jupyterhub.app import JupyterHub
from ldapauthenticator import LDAPAuthenticator
from traitlets import TraitError
from traitlets.config import Config, Configurable, LazyConfigValue

from carme_hub.authenticator.authenticator import CarmeAuthenticator
from carme_hub.gate import SiteAuthenticator
from carme_hub.spawner.mistakes import nearest, shown, unknown
from carme_hub.spawner.spawner import CarmeSpawner

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Chosen", "Settings", "check", "chosen", "value_of"]

_QUIET = logging.getLogger("carme-check")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False
_OURS = {"carme": (CarmeSpawner, CarmeAuthenticator)}
_EXPECTED = re.compile(r"expected (?P<wanted>.*), not (?P<given>.*)\.$", re.DOTALL)
_BOUND = re.compile(r"should not be (less|greater|more) than (\S+),")
# What a kind of setting takes, in words; the first that fits.
_KINDS: tuple[tuple[type, str], ...] = (
    (traitlets.Bool, "True or False"),
    (traitlets.Integer, "a whole number"),
    (traitlets.Float, "a number"),
    (traitlets.List, "a list"),
    (traitlets.Dict, "a dictionary"),
    (traitlets.Set, "a set of names"),
    (traitlets.Unicode, "a text in quotes"),
)


@dataclass(frozen=True)
class Chosen:
    """The site's classes, as far as they are carme-hub's; None where the hub has others."""

    spawner: type[CarmeSpawner] | None
    authenticator: type[CarmeAuthenticator] | None


@dataclass(frozen=True)
class Settings:
    """Mistakes in settings, which settings they are in ("CarmeSpawner.profiles"), and which were meant."""

    lines: tuple[str, ...]
    wrong: frozenset[str]
    meant: frozenset[str] = frozenset()


def chosen(config: Config) -> Chosen:
    """Read which spawner and authenticator a configuration has."""
    spawner = _class(config.JupyterHub.get("spawner_class"), 0)
    authenticator = _class(config.JupyterHub.get("authenticator_class"), 1)
    return Chosen(
        spawner if isinstance(spawner, type) and issubclass(spawner, CarmeSpawner) else None,
        authenticator
        if isinstance(authenticator, type) and issubclass(authenticator, CarmeAuthenticator)
        else None,
    )


def _class(given: Any, which: int) -> Any:
    if isinstance(given, str):
        if given in _OURS:
            return _OURS[given][which]
        return {"carme_hub.gate.SiteAuthenticator": SiteAuthenticator}.get(given) or _imported(given)
    return given


def _imported(name: str) -> Any:
    try:
        return traitlets.utils.importstring.import_item(name)
    except Exception:  # noqa: BLE001 - whatever a module does when it is imported
        return None


def _known() -> dict[str, type[Configurable]]:
    """Return every class that can be configured, by name: all that are loaded, those of the site included."""
    found: dict[str, type[Configurable]] = {}
    waiting: list[type[Configurable]] = [Configurable]
    while waiting:
        one = waiting.pop()
        for kind in one.__subclasses__():
            if kind.__name__ not in found or issubclass(kind, CarmeSpawner | CarmeAuthenticator):
                found[kind.__name__] = kind
            waiting.append(kind)
    return found


def check(config: Config, ours: Chosen) -> Settings:
    """Look at each setting of a configuration."""
    lines, wrong, meant = [], set(), set()
    for where, line in _mistakes(config, ours):
        lines.append(line)
        wrong.add(where)
        section, _, name = where.partition(".")
        # A setting that was meant is not missing as well.
        meant |= {name, nearest(name, CarmeSpawner.class_trait_names())} if name else _keys(config[section])
    return Settings(tuple(lines), frozenset(wrong), frozenset(meant))


def _keys(settings: object) -> set[str]:
    return set(settings) if isinstance(settings, Config) else set()


def _mistakes(config: Config, ours: Chosen) -> Iterator[tuple[str, str]]:
    known = _known()
    usual = {"JupyterHub", "CarmeSpawner", "CarmeAuthenticator", "ConfigurableHTTPProxy", "Spawner"}
    usual |= {kind.__name__ for kind in (ours.spawner, ours.authenticator) if kind is not None}
    for section, settings in config.items():
        if not isinstance(settings, Config):
            meant = unknown(section, usual, "there is no class").partition("; known")[0]
            yield section, f"c.{section}: {meant}"
        elif settings and section not in known:
            yield section, f"c.{section}: {unknown(section, usual, 'there is no class')}"
        elif settings:
            target = _target(known[section], ours)
            if target is None:
                yield (
                    section,
                    f"c.{section}: no part of this hub is of this class; its settings have no effect",
                )
                continue
            yield from _of_section(section, settings, known[section], target)


def _target(kind: type[Configurable], ours: Chosen) -> type[Configurable] | None:
    """Return the class that reads a section: a section of a parent counts for its children."""
    for mine, family in ((ours.spawner, "Spawner"), (ours.authenticator, "Authenticator")):
        if mine is None or family not in {one.__name__ for one in kind.__mro__}:
            continue
        return mine if issubclass(mine, kind) else None
    return kind


def _of_section(
    section: str, settings: Config, kind: type[Configurable], target: type[Configurable]
) -> Iterator[tuple[str, str]]:
    traits = target.class_traits(config=True)
    own = set(kind.class_trait_names(config=True))
    instance = None
    for name, value in settings.items():
        full = f"{target.__name__ if target is not kind else section}.{name}"
        if name not in own:
            yield (
                full,
                f"c.{section}: {unknown(name, own | _ours(target), 'unknown name').partition('; known')[0]}",
            )
            continue
        instance = instance or _instance(target)
        if instance is None or isinstance(value, LazyConfigValue):
            continue
        try:
            traits[name]._validate(instance, copy.deepcopy(value))  # noqa: SLF001 - with its own checks
        except TraitError as error:
            yield full, _told(section, name, traits[name], value, str(error))
        except Exception:  # noqa: BLE001, S112 - a check of somebody else's class that needs a hub
            continue


def _ours(target: type[Configurable]) -> set[str]:
    return set(target.class_trait_names(config=True))


def _instance(kind: type[Configurable]) -> Configurable | None:
    try:
        made = kind(config=Config())
        made.log = _QUIET  # a class may say what it makes of a value
    except Exception:  # noqa: BLE001 - it cannot be made outside of a hub: its values are not looked at
        return None
    else:
        return made


def _told(section: str, name: str, trait: Any, value: Any, said: str) -> str:
    if said.startswith(("CarmeSpawner.", "CarmeAuthenticator.")):
        return said  # our own sentence
    expected, bound = _EXPECTED.search(said), _BOUND.search(said)
    if bound is not None:
        least = "least" if bound[1] == "less" else "most"
        return f"{section}.{name}: at {least} {bound[2]} is needed, not {value}"
    if expected is None:
        return f"{section}.{name}: {said.rstrip('.')}"
    if isinstance(trait, traitlets.Enum):
        return f"{section}.{name}: {unknown(str(value), map(str, trait.values), 'unknown value')}"
    wanted = next((words for kind, words in _KINDS if isinstance(trait, kind)), expected["wanted"])
    return f"{section}.{name}: {wanted} is needed, not {shown(value)}"


def value_of(kind: type[Configurable], name: str, value: Any) -> Any:
    """Return a setting's value, with what a file adds to the default (``c.X.y.append``)."""
    if isinstance(value, LazyConfigValue):
        return value.get_value(kind.class_traits()[name].default())
    return value


_ = (jupyterhub.app, JupyterHub, LDAPAuthenticator)  # imported so that their classes are known
