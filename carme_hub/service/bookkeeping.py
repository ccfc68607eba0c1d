"""Keeps the history complete: every few minutes, what accounting knows of sessions is written down."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError
from tornado.log import app_log

from carme_hub.authenticator.database import StoreError
from carme_hub.records.reconcile import reconcile
from carme_hub.spawner.backends import backend_of, used_clusters
from carme_hub.spawner.settings import SessionSettings

if TYPE_CHECKING:
    from traitlets.config import Config

    from carme_hub.service.hub_client import HubState
    from carme_hub.service.site import Site
    from carme_hub.spawner.slurm import Slurm

FIRST = 30.0  # seconds from the service's start to the first time
INTERVAL = 300.0


def clusters_of(config: Config) -> dict[str, Slurm]:
    """Return the clusters that ``c.CarmeSpawner`` describes, by their names."""
    given = config.CarmeSpawner
    names = ("clusters", "slurm_folder", "slurm_conf", "slurm_time_out")
    settings = SessionSettings(**{name: given[name] for name in names if name in given})
    found = {
        name: backend_of(settings, name, app_log).slurm
        for name in used_clusters(settings.clusters, given.get("profiles", ()))
    }
    return {name: slurm for name, slurm in found.items() if slurm is not None}


def alive(hub: HubState) -> set[tuple[str, int]] | None:
    """Return cluster and number of all jobs that the hub has sessions for; None while it does not answer."""
    if not hub.at or hub.away_since is not None:
        return None
    return {
        (str(session["cluster"]), int(session["job"]))
        for sessions in hub.sessions.values()
        for session in sessions
        if session["job"]
    }


async def run(site: Site) -> None:
    """Keep the history complete, for ever."""
    clusters = clusters_of(site.config)
    await asyncio.sleep(FIRST)
    while True:
        known = alive(site.hub)
        if known is not None:
            try:
                engine = await asyncio.to_thread(lambda: site.records)
                await reconcile(engine, clusters, known, app_log)
            except (StoreError, SQLAlchemyError) as error:
                app_log.warning("The history is completed later: %s", type(error).__name__)
        await asyncio.sleep(INTERVAL)


background = [run]
