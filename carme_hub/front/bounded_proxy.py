"""The hub's part of the proxy in front: it starts it with our bounds, and guards the hub's own door."""

from __future__ import annotations

import os
from typing import Any

from jupyterhub.proxy import ConfigurableHTTPProxy

from carme_hub.front import hub_door, passes, proxy


class BoundedProxy(ConfigurableHTTPProxy):  # type: ignore[misc]  # JupyterHub ships no types
    """JupyterHub's own proxy. It is made early, whoever lets people in: the moment to put the doors in place.

    With another command than ours (``ConfigurableHTTPProxy.command``), the proxy is the plain one.
    """

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        hub_door.attach(self.app)
        self._key = passes.key_of(self)
        if proxy.is_ours(self.command):
            passes.give_passes(self._key)

    async def start(self) -> None:
        """Start it; its settings are in its environment, since others can read its arguments."""
        os.environ[proxy.ENVIRONMENT] = proxy.settings(self.app, self._key)
        try:
            await super().start()
        finally:
            os.environ.pop(proxy.ENVIRONMENT, None)
