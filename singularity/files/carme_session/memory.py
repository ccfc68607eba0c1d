"""Bounds what JupyterHub's part of the server remembers of people it does not know.

Each visit without a login is remembered for ten minutes with its address (so that the login can lead back
there), and each token that was tried for five. Both without a bound on number or length.
"""

from __future__ import annotations

from typing import Any

VISITS = 8192
TOKENS = 1024
LONGEST_ADDRESS = 2048  # characters; a longer one is not led back to
LONGEST_KEY = 512  # of a token that was tried: the sender's session id is part of it


def bounded(memory: Any, most: int) -> Any:
    """Return an empty memory of the same kind, which forgets the oldest entry for one too many.

    Parameters
    ----------
    memory
        One of JupyterHub's expiring dictionaries: ``values`` is a dict in the order of arrival.
    most
        The number of entries.
    """

    class Bounded(type(memory)):  # type: ignore[misc]
        def __setitem__(self, key: str, value: Any) -> None:
            if len(key) > LONGEST_KEY:
                return
            if isinstance(value, dict) and len(value.get("next_url") or "") > LONGEST_ADDRESS:
                value = {**value, "next_url": None}
            super().__setitem__(key, value)
            while len(self.values) > most:
                del self[next(iter(self.values))]

    return Bounded(max_age=memory.max_age)


def setup(serverapp: Any) -> None:
    """Bound the memories of a server that stands behind a hub."""
    if hub := getattr(serverapp.identity_provider, "hub_auth", None):
        hub.cache = bounded(hub.cache, TOKENS)
        hub._oauth_states = bounded(hub._oauth_states, VISITS)  # noqa: SLF001 - it has no other name
