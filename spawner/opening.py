"""Request -> what a session comes up with, as variables: its first page, and its own tabs. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from carme_hub.spawner.request import JobRequest

WORKSPACES = "JUPYTERLAB_WORKSPACES_DIR"


def page(request: JobRequest) -> dict[str, str]:
    """Return where a session begins, when its profile says that."""
    course = request.profile.course
    if course is None:
        return {}
    place = quote(f"courses/{request.profile.name}/{course.notebook}")
    return {"JUPYTERHUB_DEFAULT_URL": f"/lab/tree/{place}"}


def workspaces(request: JobRequest, home: str, name: str) -> dict[str, str]:
    """Return where JupyterLab keeps what is open in a session.

    JupyterLab has one place in the home for all sessions: the second one comes up with the tabs of the first,
    and both write over each other. A course begins anew each time, with its notebook and nothing else, so its
    place is the session's private /tmp. A named session has its own place. The one without a name keeps
    JupyterLab's: what was open is there again, as people expect of it.

    Parameters
    ----------
    request
        Of the session.
    home
        The person's home folder.
    name
        The session's name.
    """
    if request.profile.course is not None:
        return {WORKSPACES: "/tmp/.jupyterlab-workspaces"}  # noqa: S108 - the session's own /tmp
    if name:
        return {WORKSPACES: f"{home}/.jupyter/lab/workspaces-of-sessions/{name}"}
    return {}
