"""What Slurm's accounting says of a cluster's people, asked in the background and kept for some minutes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from carme_hub.spawner.slurm import SlurmError

if TYPE_CHECKING:
    import logging

    from carme_hub.spawner.accounting import Accounting, Membership

FRESH = 300.0  # seconds for which an answer counts; then it is asked for again, and counts meanwhile
RETRY = 30.0  # seconds without questions after accounting did not answer
AT_ONCE = 2  # questions; people who come in at nine in the morning must not take squeue's place
_MOST = 20_000  # people to remember


class Source(Protocol):
    """What is asked: `carme_hub.spawner.slurm.Slurm`."""

    async def accounting(self) -> Accounting:
        """Say what the cluster enforces; raise SlurmError when nobody answers."""

    async def membership(self, username: str, cluster: str) -> Membership | None:
        """Return a person's associations; raise SlurmError when nobody answers."""


@dataclass(frozen=True)
class Standing:
    """What is known of a cluster and a person; None when it is not."""

    accounting: Accounting | None = None
    membership: Membership | None = None


class People:
    """The people of one cluster.

    Notes
    -----
    Nobody waits for accounting but the first page of a person, and that for a moment only: an answer that
    has become old counts until there is a new one, and where accounting is silent, Slurm decides by itself.
    """

    def __init__(self, source: Source, log: logging.Logger) -> None:
        self._source = source
        self._log = log
        self._accounting: tuple[float, Accounting] | None = None
        self._members: dict[str, tuple[float, Membership | None]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._silent_until = 0.0
        self._free = asyncio.Semaphore(AT_ONCE)

    def known(self, username: str) -> Standing:
        """Return what is known now; what is missing or old is asked for in the background."""
        now = time.monotonic()
        asked_at, membership = self._members.get(username, (-FRESH, None))
        old = self._accounting is None or now - min(asked_at, self._accounting[0]) >= FRESH
        if old and now >= self._silent_until and username not in self._asking:
            task = asyncio.get_running_loop().create_task(self._ask(username), name="carme-people")
            self._asking[username] = task
            task.add_done_callback(lambda _task: self._asking.pop(username, None))
        return Standing(self._accounting[1] if self._accounting else None, membership)

    async def learn(self, username: str, patience: float) -> Standing:
        """Like `known`, and wait at most ``patience`` seconds when nothing is known of the person yet."""
        standing = self.known(username)
        task = self._asking.get(username)
        if task is None or username in self._members:
            return standing
        await asyncio.wait([task], timeout=patience)
        return self.known(username)

    async def _ask(self, username: str) -> None:
        async with self._free:
            if time.monotonic() < self._silent_until:
                return
            try:
                if self._accounting is None or time.monotonic() - self._accounting[0] >= FRESH:
                    self._accounting = (time.monotonic(), await self._source.accounting())
                accounting = self._accounting[1]
                membership = None
                if "associations" in accounting.enforced:
                    membership = await self._source.membership(username, accounting.cluster)
            except SlurmError as error:
                self._silent_until = time.monotonic() + RETRY
                self._log.warning("Slurm's accounting did not answer; Slurm decides alone: %s", error)
                return
            except Exception:  # noqa: BLE001 - logged with its traceback
                self._silent_until = time.monotonic() + RETRY
                self._log.exception(
                    "The answer of Slurm's accounting was not understood; Slurm decides alone"
                )
                return
        if len(self._members) >= _MOST:
            self._members.clear()
        self._members[username] = (time.monotonic(), membership)
