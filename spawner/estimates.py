"""What Slurm said of a request a moment ago: one memory for the page that asks ahead, and for the click."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carme_hub.spawner.estimate import Estimate
    from carme_hub.spawner.request import JobRequest

FRESH = 15.0  # seconds for which an answer counts
_MOST = 1000  # answers to remember


class Estimates:
    """Answers of the last seconds, each for one person and one request.

    Only that Slurm takes a request is remembered: what it refuses, it may take a moment later.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], tuple[float, Estimate]] = OrderedDict()

    def known(self, username: str, request: JobRequest) -> Estimate | None:
        """Return the answer to the same question of the last `FRESH` seconds; None without one."""
        found = self._known.get(_question(username, request))
        return found[1] if found is not None and time.monotonic() - found[0] < FRESH else None

    def keep(self, username: str, request: JobRequest, answer: Estimate) -> None:
        """Remember an answer."""
        question = _question(username, request)
        self._known[question] = (time.monotonic(), answer)
        self._known.move_to_end(question)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)


def _question(username: str, request: JobRequest) -> tuple[str, str]:
    # With what the profile fixes: somebody's profile may have changed since.
    fixed = (request.partition, request.account, request.qos, request.reservation, request.constraint)
    asked = {**request.options(), "": [*fixed, request.cpus, request.memory, request.gres]}
    return username, json.dumps(asked, sort_keys=True)


# All sessions of the hub ask here.
ESTIMATES = Estimates()
