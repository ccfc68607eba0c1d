"""How fresh a picture of Slurm is, for those who look after the site."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

LONGEST = 300  # characters of an error


@dataclass
class Freshness:
    """When something was last read, and what went wrong since.

    Attributes
    ----------
    at
        When it was last read whole, in seconds since 1970; None while it was not.
    took
        How many seconds that took.
    failures
        How many tries have failed since, the first of them at `failing_since`, the last with `error`.
    """

    at: float | None = None
    took: float = 0.0
    failures: int = 0
    failing_since: float | None = None
    error: str = ""

    def succeeded(self, took: float) -> None:
        """Note that it was read, in so many seconds."""
        self.at, self.took = time.time(), took
        self.failures, self.failing_since, self.error = 0, None, ""

    def failed(self, error: str) -> None:
        """Note that it could not be read, and why."""
        self.failures += 1
        self.failing_since = self.failing_since or time.time()
        self.error = error[:LONGEST]

    def model(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "at": self.at,
            "took": round(self.took, 3),
            "failures": self.failures,
            "failing_since": self.failing_since,
            "error": self.error,
        }
