"""Which directory servers failed lately, so that the others are asked first. No I/O."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from carme_hub.authenticator.servers import Server

FIRST_PAUSE = 30.0  # seconds in which a server that failed is tried last; doubles with each failure after it
LONGEST_PAUSE = 300.0


@dataclass(frozen=True)
class ServerHealth:
    """
    How a server is doing, for people.

    Times are seconds since 1970; a server that answered when it was last asked has 0 failures, failing since
    0, and no reason.
    """

    server: str
    failing_since: float
    failures: int
    reason: str


@dataclass
class _Failing:
    since: float
    failures: int
    reason: str
    pause: float
    until: float  # `time.monotonic`: tried last until then
    probed: bool = False  # the pause is over, and somebody is finding out


class Health:
    """
    The memory of failures. Threads may share it.

    Parameters
    ----------
    servers
        All there are, in the order they are to be asked in.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = list(servers)
        self._failing: dict[Server, _Failing] = {}
        self._lock = threading.Lock()

    def order(self) -> list[Server]:
        """List the servers as configured, but last those that failed lately."""
        now = time.monotonic()
        with self._lock:
            resting = {server for server, failing in self._failing.items() if failing.until > now}
            ordered = sorted(self._servers, key=lambda server: server in resting)
            first = self._failing.get(ordered[0])
            if first is not None and ordered[0] not in resting:
                # Whoever asked now finds out; nobody else waits for it meanwhile.
                first.probed = True
                first.until = now + first.pause
        return ordered

    def failed(self, server: Server, reason: str) -> None:
        """Remember a failure; only one after a pause makes the next pause longer, however many fail in it."""
        now = time.monotonic()
        with self._lock:
            failing = self._failing.get(server)
            if failing is None:
                self._failing[server] = _Failing(time.time(), 1, reason, FIRST_PAUSE, now + FIRST_PAUSE)
                return
            failing.failures += 1
            failing.reason = reason
            if failing.probed or now >= failing.until:
                failing.probed = False
                failing.pause = min(failing.pause * 2, LONGEST_PAUSE)
                failing.until = now + failing.pause

    def answered(self, server: Server) -> None:
        """Forget the failures of a server that gave an answer."""
        with self._lock:
            self._failing.pop(server, None)

    def states(self) -> list[ServerHealth]:
        """Describe all servers, in the configured order."""
        with self._lock:
            return [
                ServerHealth(str(server), failing.since, failing.failures, failing.reason)
                if (failing := self._failing.get(server))
                else ServerHealth(str(server), 0.0, 0, "")
                for server in self._servers
            ]
