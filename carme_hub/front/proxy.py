"""How the proxy in front is run: JupyterHub's own, with our bounds loaded first.

Nothing of JupyterHub is imported here: the `carme` command runs this, too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carme_hub.front.bounds import FRONT

if TYPE_CHECKING:
    from jupyterhub.app import JupyterHub

SCRIPT = Path(__file__).with_name("front.mjs")
ENVIRONMENT = "CARME_FRONT"
PLAIN = "configurable-http-proxy"
CLASS = "carme_hub.front.bounded_proxy.BoundedProxy"


def command() -> list[str]:
    """Return the words that start it: ``configurable-http-proxy`` is looked for on PATH."""
    return ["env", f"NODE_OPTIONS=--import={SCRIPT.as_uri()}", PLAIN]


def is_ours(words: list[str]) -> bool:
    """Say whether a command loads our bounds."""
    return any(SCRIPT.as_uri() in word for word in words)


def settings(app: JupyterHub, key: bytes) -> str:
    """Return what the proxy is told: JSON for its environment, since others could read its arguments."""
    told: dict[str, Any] = {
        "bounds": FRONT.plain(),
        "key": key.hex(),
        "trusted": list(app.trusted_downstream_ips),
        "who": f"{app.hub.base_url}api/user",
    }
    return json.dumps(told)
