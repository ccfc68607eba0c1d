"""Tells JupyterLab what is wrong with home or memory of the session.

carme-hub's program around the server (`carme_hub.spawner.lookout`) writes that to a file. Without the file
there is nothing to tell.
"""

from __future__ import annotations

import json
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from .told import read_own

FILE = "/tmp/.carme-notes.json"  # noqa: S108 - as in carme_hub.spawner.homecare
MOST, LONGEST = 20, 500


def read(path: str = FILE) -> list[dict[str, str]]:
    """Return what a page has to say, each with an ``id`` and a ``text``; empty when all is well."""
    try:
        told = read_own(path)
        return [{"id": str(one["id"])[:LONGEST], "text": str(one["text"])[:LONGEST]} for one in told[:MOST]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


class NotesHandler(APIHandler):  # type: ignore[misc]
    """``GET carme/notes``."""

    @web.authenticated
    def get(self) -> None:
        """Tell it to the session's own page."""
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps({"notes": read()}))


def setup(serverapp: Any) -> None:
    """Answer at ``carme/notes``."""
    base = serverapp.web_app.settings["base_url"]
    serverapp.web_app.add_handlers(".*$", [(url_path_join(base, "carme", "notes"), NotesHandler)])
