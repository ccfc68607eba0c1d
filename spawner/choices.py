"""A person's last choice for each profile, kept in the hub's database.

JupyterHub keeps the last options of each server; this is by profile, for all of a person's servers. It is a
part of the state of the person's default server, which has a row from the first look at the start page on and
keeps it. What is stored here is shown in the form and checked again like anything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carme_hub.spawner.request import harmless

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEY = "choices"
_MOST = 100  # profiles to remember for one person


def carried(orm_spawner: Any) -> dict[str, Any]:
    """Return the part of a server's stored state that its sessions come and go without."""
    state = getattr(orm_spawner, "state", None)
    return {_KEY: state[_KEY]} if isinstance(state, dict) and _KEY in state else {}


def of(user: Any) -> dict[str, dict[str, str]]:
    """Return the last options for each profile, by its name; the profile of the last start is the last."""
    stored = carried(user.spawner.orm_spawner).get(_KEY)
    if not isinstance(stored, dict):
        return {}
    return {str(name): harmless(options) for name, options in stored.items()}


def keep(user: Any, options: Mapping[str, str | int]) -> None:
    """Remember the options of a start (`JobRequest.options`); the caller's next commit stores them."""
    row = user.spawner.orm_spawner
    if row is None:
        return
    profile = str(options["profile"])
    kept = {name: choice for name, choice in of(user).items() if name != profile}
    kept = dict(list(kept.items())[-_MOST + 1 :])
    kept[profile] = {name: str(value) for name, value in options.items()}
    # A new dictionary: the database's column notices no change inside the old one.
    row.state = {**(row.state or {}), _KEY: kept}
