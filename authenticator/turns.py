"""Taking turns: only so many at once for the same key. For the hub's loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass
class _Queue:
    free: asyncio.Semaphore
    people: int = 0  # in their turn, or waiting for it


class Turns:
    """
    Turns by key.

    Parameters
    ----------
    most
        How many may be in their turn at once for one key; further ones wait in line.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it for as long as the block lasts."""
        queue = self._queues.setdefault(key, _Queue(asyncio.Semaphore(self._most)))
        queue.people += 1
        try:
            async with queue.free:
                yield
        finally:
            queue.people -= 1
            if not queue.people:
                del self._queues[key]

    def __len__(self) -> int:
        """Return for how many keys somebody is there: nothing is kept of the others."""
        return len(self._queues)
