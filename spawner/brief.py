"""A session as the dashboard shows it: one dictionary of plain values (see `carme_hub.spawner.board`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carme_hub.spawner.answers import Phase
from carme_hub.spawner.events import Facts
from carme_hub.spawner.progress import PAUSED
from carme_hub.spawner.summary import summary

if TYPE_CHECKING:
    from carme_hub.spawner.spawner import CarmeSpawner
    from carme_hub.spawner.watcher import View

STARTING, PENDING, RUNNING, STOPPING = "starting", "pending", "running", "stopping"
SUSPENDED = "suspended"  # it has a server, which does not answer for now
UP = 100  # percent
LONGEST_NAME = 255  # characters; who wrote it into the database may have looked at nothing


@dataclass(frozen=True)
class Who:
    """What the hub's database says of a session, which stays as it is for as long as the session does.

    Attributes
    ----------
    user, server, display_name
        Its owner, its name (empty for the default one) and what its owner calls it.
    url
        Where it is, from the site's root.
    """

    user: str
    server: str
    display_name: str
    url: str

    @classmethod
    def of(cls, spawner: CarmeSpawner) -> Who:
        """Ask the database."""
        name = str(spawner.name)
        url = str(spawner.user.server_url(name))
        return cls(str(spawner.user.name), name, str(spawner.display_name or "")[:LONGEST_NAME], url)


def view_of(spawner: CarmeSpawner) -> View | None:
    """Return what is known of a session's job."""
    child = spawner.child
    return child.view if child is not None else None


def state_of(spawner: CarmeSpawner, view: View | None) -> str:
    """Return what the session does: one of the five words."""
    # JupyterHub's own flags: `ready` asks the database after each commit, for each session.
    starts, stops, server = spawner._spawn_pending, spawner._stop_pending, spawner._server  # noqa: SLF001
    if stops or (view is not None and view.phase in {Phase.ENDING, Phase.ENDED}):
        return STOPPING
    if server is not None and not starts and spawner.child is not None and spawner.child.reported:
        return SUSPENDED if view is not None and view.state in PAUSED else RUNNING
    child = spawner.child
    if child is None or not child.job_id or (view is not None and view.phase is Phase.RUNNING):
        return STARTING
    return STARTING if child.reported else PENDING


def brief(spawner: CarmeSpawner, now: float, who: Who | None = None) -> dict[str, Any]:
    """Describe a session for its owner and for those who look after it.

    Parameters
    ----------
    spawner
        A session that starts, runs or stops.
    now
        Seconds since 1970.
    who
        Whose it is, if that is known already: the database is not asked then.

    Returns
    -------
    dict
        Values of JSON; times in seconds since 1970, ``limit`` in minutes, ``memory`` in MiB. Cores, memory
        and GPUs are those of all nodes together. What is not known is None or empty.
    """
    child, view = spawner.child, view_of(spawner)
    if child is None:
        return {}
    who = who or Who.of(spawner)
    request = child.request
    facts = child.facts if child.facts.submitted or request is None else Facts.of(request, 0)
    options = child.options or (request.options() if request is not None else {})
    state = state_of(spawner, view)
    runs = view is not None and view.phase is Phase.RUNNING
    limit = spawner.time_limit() if runs else None
    said = child.waiting()
    starts = state in {STARTING, PENDING}
    paused = PAUSED[view.state] if state == SUSPENDED and view is not None else None
    words = summary(options, spawner.catalog, child.job_id, child.node)
    image = spawner.catalog.images.get(facts.image)
    return {
        "user": who.user,
        "name": who.server,
        "display_name": who.display_name,
        "cluster": child.cluster,
        "job": int(child.job_id) if child.job_id else None,
        "profile": facts.profile,
        "title": words["title"],
        "image": facts.image,
        "image_title": image.title if image is not None else facts.image,
        "what": words["what"],
        "options": options,
        "state": state,
        "slurm_state": view.state if view is not None else "",
        "reason": said["reason"] if state == PENDING else "",
        "place": said["place"] if state == PENDING else None,
        "expected_start": said["expected_start"] if state == PENDING else None,
        "start": view.start if runs and view is not None else None,
        "end": view.end if runs and view is not None else None,
        "limit": limit.minutes if limit is not None else facts.limit,
        "warn_before": [60 * minutes for minutes in spawner.warn_before],
        "extend": [{"limit": one.limit, "title": one.title} for one in limit.amounts(now)] if limit else [],
        "node": (view.node if view is not None else "") or child.node,
        "nodes": facts.nodes,
        "cpus": facts.cpus,
        "memory": facts.memory,
        "gpus": facts.gpus,
        "gpu_type": facts.gpu_type,
        "progress": UP if state in {RUNNING, SUSPENDED} else said["progress"],
        "message": said["message"] if starts else "",
        "troubles": child.troubles if state == RUNNING else [],
        "reason_text": paused.text if paused else said["text"] if starts else "",
        "advice": paused.advice if paused else said["advice"] if starts else "",
        "apps": [{"title": app["title"], "url": f"{who.url}{app['path']}"} for app in words["apps"]],
        "url": who.url,
        "submitted": facts.submitted or None,
    }
