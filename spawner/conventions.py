"""JupyterHub's conventions: what of its spawner a site may set and override, and what is refused.

JupyterHub asks the frame (`CarmeSpawner`) for everything, and so does a session: what a site sets or
overrides there counts. What has no effect here must not be accepted in silence.
"""

from __future__ import annotations

from typing import Any

from batchspawner import SlurmSpawner
from jupyterhub.spawner import LocalProcessSpawner, Spawner
from traitlets import TraitError, validate
from wrapspawner import WrapSpawner

from carme_hub.spawner import timekeeper
from carme_hub.spawner.settings import SessionSettings

_IN_PROFILES = "Slurm limits a session to what its profile says: set {} in CarmeSpawner.profiles"

# Settings that are inherited and would do nothing, with what does it.
REFUSED = {
    "mem_limit": _IN_PROFILES.format("memory or memory_per_gpu"),
    "mem_guarantee": _IN_PROFILES.format("memory or memory_per_gpu"),
    "cpu_limit": _IN_PROFILES.format("cpus or cpus_per_gpu"),
    "cpu_guarantee": _IN_PROFILES.format("cpus or cpus_per_gpu"),
    "port": "several sessions share a node, and each takes a free port by itself",
    "child_class": "CarmeSpawner makes the sessions itself",
    "child_config": "CarmeSpawner makes the sessions itself; set what it shall hand on at CarmeSpawner",
}

# Methods that nobody calls, with what to override or set in their place.
NEVER_CALLED = {
    "get_url": "a session's address comes from Slurm and the job",
    "wait_for_death": "a session's end comes from Slurm; override stop or poll",
}
_OF_OTHERS = "it belongs to {}, which CarmeSpawner is not; override get_env, get_args, start or stop"


def _public(kind: type) -> set[str]:
    """Return the names that a class has for others: methods, properties, settings."""
    return {name for name in dir(kind) if not name.startswith("_")}


def never_called() -> dict[str, str]:
    """Return what a subclass of CarmeSpawner can define without any effect, and why."""
    found = dict(NEVER_CALLED)
    ours = _public(Spawner) | _public(SessionSettings) | _public(Conventions)
    for kind in (LocalProcessSpawner, SlurmSpawner, WrapSpawner):
        for name in _public(kind) - ours:
            found.setdefault(name, _OF_OTHERS.format(kind.__name__))
    return found


class Conventions(WrapSpawner):  # type: ignore[misc]  # wrapspawner has no types
    """The part of CarmeSpawner that keeps JupyterHub's conventions.

    Raises
    ------
    TypeError
        When a subclass, wherever it is defined, overrides what is never called.
    """

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if cls.__module__.startswith("carme_hub."):
            return
        mistakes = [
            f"{cls.__name__}.{name} has no effect: {why}."
            for name, why in never_called().items()
            if name in vars(cls)
        ]
        if mistakes:
            raise TypeError("\n".join(mistakes))

    @validate(*REFUSED)  # type: ignore[untyped-decorator]
    def _without_effect(self, proposal: Any) -> Any:
        name, value = proposal.trait.name, proposal.value
        internal = name == "child_class" and value.__module__.startswith("carme_hub.")
        if value in (None, 0, {}) or internal:
            return value
        raise TraitError(f"CarmeSpawner.{name} has no effect: {REFUSED[name]}.")

    def get_env(self) -> dict[str, Any]:
        """Return JupyterHub's own variables and those of the site; nothing of the hub's environment."""
        basic = {"SHELL": "/bin/bash", "LANG": "C.UTF-8", "JUPYTERHUB_DEFAULT_URL": "/lab"}
        basic[timekeeper.LEVELS] = ",".join(f"{60 * minutes:g}" for minutes in self.warn_before)
        variables: dict[str, Any] = basic | super().get_env()
        return self.user_env(variables)

    def user_env(self, env: dict[str, Any]) -> dict[str, Any]:
        """Return the variables with those of the person; for subclasses, as in LocalProcessSpawner."""
        return env
