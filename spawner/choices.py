"""A person's last choice for each profile, kept in the hub's database with the person.

JupyterHub keeps the last options of each server; this is by profile, for all of a person's servers. It is in
the column ``state`` of the table of people, which JupyterHub has and does not use since there are several
servers for a person. What is stored here is shown in the form and checked again like anything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carme_hub.spawner.request import harmless

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEY = "carme_choices"
_MOST = 100  # profiles to remember for one person


def of(user: Any) -> dict[str, dict[str, str]]:
    """Return the last options for each profile, by its name; the profile of the last start is the last."""
    state = user.orm_user.state
    stored = state.get(_KEY) if isinstance(state, dict) else None
    if not isinstance(stored, dict):
        return {}
    return {str(name): harmless(options) for name, options in stored.items()}


def keep(user: Any, options: Mapping[str, str | int]) -> None:
    """Remember the options of a start (`JobRequest.options`); the caller's next commit stores them."""
    profile = str(options["profile"])
    kept = {name: choice for name, choice in of(user).items() if name != profile}
    kept = dict(list(kept.items())[-_MOST + 1 :])
    kept[profile] = {name: str(value) for name, value in options.items()}
    # A new dictionary: the database's column notices no change inside the old one.
    user.orm_user.state = {**(user.orm_user.state or {}), _KEY: kept}
