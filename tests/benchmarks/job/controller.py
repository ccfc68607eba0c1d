"""What slurmctld has to do: sdiag counts every RPC by its type."""

from __future__ import annotations

import re
import time
from collections import Counter

from carme_hub.demo.services import run

# What the cluster's own programs and this benchmark say to slurmctld; no hub causes these by looking.
OWN = {
    "REQUEST_STATS_INFO",
    "REQUEST_STATS_RESET",
    "REQUEST_PING",
    "REQUEST_COMPLETE_BATCH_SCRIPT",
    "REQUEST_COMPLETE_JOB_ALLOCATION",
    "REQUEST_COMPLETE_PROLOG",
    "REQUEST_STEP_COMPLETE",
    "MESSAGE_EPILOG_COMPLETE",
    "MESSAGE_NODE_REGISTRATION_STATUS",
    "ACCOUNTING_UPDATE_MSG",
    "ACCOUNTING_FIRST_REG",
    "ACCOUNTING_REGISTER_CTLD",
}
_COUNT = re.compile(r"^\s+([A-Z][A-Z0-9_]+)\s*\(\s*\d+\)\s*count:(\d+)", re.MULTILINE)


def parse(said: str) -> Counter[str]:
    """Read the table "by message type" of sdiag; the cluster's own words to itself are left out."""
    by_type = said.partition("statistics by message type")[2].partition("statistics by user")[0]
    return Counter({name: int(count) for name, count in _COUNT.findall(by_type) if name not in OWN})


class Count:
    """Counts RPCs from now on."""

    def __init__(self) -> None:
        run(["sdiag", "-r"])
        self._began = time.monotonic()

    def so_far(self) -> tuple[Counter[str], float]:
        """Return the counts by type, and the seconds since the beginning."""
        return parse(run(["sdiag"])), time.monotonic() - self._began
