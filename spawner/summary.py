"""What a page says of a running session, and the ways into it. A pure function."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carme_hub.spawner.catalog import Catalog


class App(TypedDict):
    """A way into a session: what it is called, and its path below the session's address."""

    title: str
    path: str


class Summary(TypedDict):
    """A session as its owner sees it."""

    title: str
    what: str
    job: str
    apps: list[App]


APPS: Mapping[str, App] = {
    "lab": {"title": "JupyterLab", "path": "lab"},
    "code-server": {"title": "Code-Server", "path": "code-server/"},
}


def summary(session: Mapping[str, str | int], catalog: Catalog, job_id: str, node: str) -> Summary:
    """Describe a session by the options it was started with.

    The site's description may have changed since then: what is no longer in it is called by its plain name.
    """
    profile = catalog.profiles.get(str(session.get("profile", "")))
    image = catalog.images.get(str(session.get("image", "")))
    parts = [image.title if image else str(session.get("image", ""))]
    gpus, nodes = int(session.get("gpus", 0)), int(session.get("nodes", 1))
    if gpus:
        kind = f" {session['gpu_type']}" if "gpu_type" in session else ""
        parts.append(f"{gpus}{kind} GPU{'s' if gpus > 1 else ''}{' a node' if nodes > 1 else ''}")
    if nodes > 1:
        parts.append(f"{nodes} nodes")
    elif node:
        parts.append(node)
    return {
        "title": profile.title if profile else str(session.get("profile", "")),
        "what": ", ".join(parts),
        "job": job_id,
        "apps": [APPS[app] for app in (image.apps if image else ("lab",))],
    }
