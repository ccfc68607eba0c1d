"""The part of a session that says how far its start is."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from carme_hub.spawner import progress
from carme_hub.spawner.job import JobSession
from carme_hub.spawner.usual import Usual

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# How long the steps take on each cluster with each image, for all of the hub's sessions.
USUAL = Usual()
_PAUSE = 0.1  # seconds between two events at least


class WaitingSession(JobSession):
    """Tells pages and programs what its start waits for."""

    def waiting(self) -> progress.Event:
        """Return what there is to say of the start now."""
        view = self.view
        known = progress.Known(
            submitted=self.submitted,
            begun=self.begun,
            reported=self._reported.is_set(),
            container=USUAL.seconds((*self._kind(), "container")),
            server=USUAL.seconds((*self._kind(), "server")),
        )
        return progress.event(self.job_id, view, known)

    async def progress(self) -> AsyncIterator[progress.Event]:
        """Say what the start waits for, whenever that changes."""
        said: progress.Event | None = None
        while True:
            view = self.view
            event = progress.later(said, self.waiting())
            if progress.differs(said, event):
                yield event
                said = event
            if self.job_id:
                await self._news(self.ref, view, self._begins, self._reported)
            await asyncio.sleep(_PAUSE)

    def take_port(self, port: int) -> bool:
        """Take the port the job reports, once, and remember how long the steps before it took."""
        taken: bool = super().take_port(port)
        if taken and self.begun is not None and self.job_id:
            view = self.view
            USUAL.took((*self._kind(), "server"), time.time() - self.begun)
            if view is not None and view.node and view.start:
                USUAL.took((*self._kind(), "container"), self.begun - view.start)
        return taken

    def _kind(self) -> tuple[Any, ...]:
        """Return what sessions have in common that take about as long to start."""
        return self.cluster, self.options.get("image", "")
