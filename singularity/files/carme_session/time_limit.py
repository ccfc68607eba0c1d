"""Tells JupyterLab when the session's time limit ends, and whether to warn of it.

carme-hub's program around the server (`carme_hub.spawner.timekeeper`) writes that to a file in the session's
private /tmp. Without the file there is nothing to tell.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from .told import read_own

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "/tmp/.carme-time-limit.json"  # noqa: S108 - as in carme_hub.spawner.timekeeper
WANTED = "/tmp/.carme-time-wanted"  # noqa: S108 - as above
SELDOM, OFTEN = 600, 5  # seconds between two questions of a page, at most and at least


def read(path: str = FILE, now: float | None = None) -> dict[str, Any]:
    """Return what a page has to know; empty when nothing is known.

    Returns
    -------
    dict
        ``end``: seconds since 1970; ``warned``: seconds before the end of the warning that was given last,
        None before the first one; ``extend``: whether the owner may extend the session; ``home``: address of
        the page where; ``again``: seconds until it makes sense to ask again.
    """
    now = time.time() if now is None else now
    answer: dict[str, Any] = {"end": None, "warned": None, "extend": False, "home": home(), "again": SELDOM}
    try:
        told = read_own(path)
        for name in ("end", "warned"):
            answer[name] = None if told[name] is None else float(told[name])
        answer["extend"] = told["extend"] is True
        # One second later the file says what it has to say then.
        answer["again"] = min(max(float(told["next"]) - now + 1, OFTEN), SELDOM)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return answer


def home(environ: Mapping[str, str] = os.environ) -> str:
    """Return the address of the hub's home page, as a browser of this session sees it."""
    hub = environ.get("JUPYTERHUB_PUBLIC_HUB_URL")
    if not hub:
        hub = environ.get("JUPYTERHUB_HOST", "") + url_path_join(
            environ.get("JUPYTERHUB_BASE_URL", "/"), "hub/"
        )
    return str(url_path_join(hub, "home"))


def want(path: str = WANTED) -> None:
    """Have the program around the server ask the hub anew: somebody may be extending the session."""
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


class TimeLimitHandler(APIHandler):  # type: ignore[misc]
    """``GET carme/time-limit``."""

    @web.authenticated
    def get(self) -> None:
        """Tell it to the session's own page."""
        self.set_header("Cache-Control", "no-store")
        if self.get_query_argument("anew", ""):
            want()
        self.finish(json.dumps(read()))


def setup(serverapp: Any) -> None:
    """Answer at ``carme/time-limit``."""
    base = serverapp.web_app.settings["base_url"]
    serverapp.web_app.add_handlers(".*$", [(url_path_join(base, "carme", "time-limit"), TimeLimitHandler)])
