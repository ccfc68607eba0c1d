"""All addresses that the spawner adds to the hub's own, in one place: who knocks where.

Each handler says itself who may come in and what may be sent.
"""

from __future__ import annotations

from typing import Any

from jupyterhub import apihandlers, handlers

from carme_hub.spawner import report
from carme_hub.spawner.board import BoardHandler
from carme_hub.spawner.details import DetailsHandler
from carme_hub.spawner.estimate_page import EstimateHandler
from carme_hub.spawner.limit_pages import ExtendHandler, LimitHandler
from carme_hub.spawner.named import NamedSessionHandler

# Below /hub. JupyterHub hands over what stands in parentheses, decoded.
PAGES: list[tuple[str, Any]] = [
    (r"/carme/session", NamedSessionHandler),
    (r"/carme/time-limit/([^/]+)", ExtendHandler),
    (r"/carme/time-limit/([^/]+)/([^/]+)", ExtendHandler),
]
API: list[tuple[str, Any]] = [
    (r"/api/carme/estimate(?:/([^/]+)(?:/([^/]+))?)?", EstimateHandler),
    (r"/api/carme/time-limit/([^/]+)", LimitHandler),
    (r"/api/carme/time-limit/([^/]+)/([^/]+)", LimitHandler),
    (r"/api/carme/sessions", BoardHandler),
    (r"/api/carme/session/([^/]+)", DetailsHandler),
    (r"/api/carme/session/([^/]+)/([^/]+)", DetailsHandler),
]


def open_all() -> None:
    """Add all addresses to the hub, and take away batchspawner's; doing it again changes nothing."""
    report.disarm_batchspawner()
    for known, wanted in ((handlers.default_handlers, PAGES), (apihandlers.default_handlers, API)):
        known.extend(entry for entry in wanted if entry not in known)
