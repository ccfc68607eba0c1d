"""What is made of settings, made once for equal ones: each person's spawner has the same settings anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_MOST = 64  # values; a site's hook may give everybody settings of their own


class Remembered(Generic[T]):
    """A function of settings that is called once for equal ones.

    Parameters
    ----------
    make
        Makes a value that nobody changes. What it raises is not remembered.
    """

    def __init__(self, make: Callable[..., T]) -> None:
        self._make = make
        self._known: dict[str, T] = {}

    def __call__(self, *settings: object) -> T:
        """Return what was made of these settings."""
        # Settings are data: what is written the same is the same, and 1 is not True, a list no tuple.
        key = repr(settings)
        if key not in self._known:
            made = self._make(*settings)
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = made
        return self._known[key]
