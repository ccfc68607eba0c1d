"""``GET /hub/api/carme/watchers``: what the hub's watchers see and how fresh it is. Runs in the hub."""

from __future__ import annotations

import json
from typing import Any

from jupyterhub.apihandlers import APIHandler
from jupyterhub.scopes import Scope, needs_scope
from tornado import web

from carme_hub.spawner.backends import known_clusters, watchers
from carme_hub.spawner.spawner import CarmeSpawner


class Watchers(APIHandler):  # type: ignore[misc]  # JupyterHub ships no types
    """For those who may read everybody's servers: how many jobs are watched, how old the pictures are."""

    @needs_scope("read:servers")  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        """Answer ``{"watchers": {CLUSTER: state}}``; see `carme_hub.spawner.watcher.Watcher.state`."""
        if self.parsed_scopes.get("read:servers") != Scope.ALL:
            raise web.HTTPError(403, "Watchers are for those who may see all sessions.")
        settings = CarmeSpawner(config=self.config)
        clusters = known_clusters(settings.clusters)
        found = watchers(clusters, str(settings.slurm_folder), str(settings.slurm_conf))
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"watchers": found}))


handlers: list[tuple[Any, ...]] = [(r"/api/carme/watchers", Watchers)]
