"""How long a part of a start usually takes here: remembered from the last ones. No I/O."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

LAST = 20  # starts that count
LEAST = 3  # starts without which nothing is said
_MOST = 200  # kinds of starts to remember


class Usual:
    """Remembers durations by what they are of."""

    def __init__(self) -> None:
        self._known: dict[Hashable, deque[float]] = {}

    def took(self, what: Hashable, seconds: float) -> None:
        """Remember how long something took."""
        if what not in self._known and len(self._known) >= _MOST:
            self._known.clear()
        self._known.setdefault(what, deque(maxlen=LAST)).append(max(seconds, 0.0))

    def seconds(self, what: Hashable) -> float | None:
        """Return how long it usually takes; None while that is not known."""
        known = self._known.get(what, ())
        return median(known) if len(known) >= LEAST else None
