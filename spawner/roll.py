"""Which sessions the hub has, and the news that one of them looks different now."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from carme_hub.spawner.spawner import CarmeSpawner

# Those of the whole hub, from their start (or the hub's) to their end.
_HERE: dict[int, CarmeSpawner] = {}
_LISTENERS: list[Callable[[], None]] = []


def enter(spawner: CarmeSpawner) -> None:
    """Add a session that begins; adding it again changes nothing."""
    _HERE[id(spawner)] = spawner
    news()


def leave(spawner: CarmeSpawner) -> None:
    """Remove a session that has ended."""
    if _HERE.pop(id(spawner), None) is not None:
        news()


def call() -> list[CarmeSpawner]:
    """Return all that are there."""
    return list(_HERE.values())


def on_news(callback: Callable[[], None]) -> None:
    """Have a function called whenever a session may look different; it must not wait, and not fail."""
    _LISTENERS.append(callback)


def news() -> None:
    """Say that a session may look different now."""
    for callback in _LISTENERS:
        callback()
