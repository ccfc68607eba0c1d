"""What the waiting page says about a start. Pure functions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from carme_hub.spawner.answers import Phase

if TYPE_CHECKING:
    from carme_hub.spawner.watcher import View

# Slurm's reason -> what it means for the person (man squeue, JOB REASON CODES). Others are shown as they are.
_REASONS = {
    "Resources": "waiting for free nodes",
    "Priority": "other jobs are before it",
    "Dependency": "waiting for another job",
    "BeginTime": "its begin time is not reached",
    "JobHeldAdmin": "held by an administrator",
    "JobHeldUser": "held by you",
    "Licenses": "waiting for a licence",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition is inactive",
    "ReqNodeNotAvail": "the nodes are not available",
    "Reservation": "waiting for its reservation",
}


def event(job_id: str, view: View | None, *, reported: bool) -> dict[str, str | int]:
    """Return JupyterHub's progress event (``progress`` in percent, ``message`` as plain text).

    Parameters
    ----------
    job_id
        Empty before Slurm gave one.
    view
        What the watcher knows.
    reported
        Whether the server said that it listens.
    """
    if not job_id:
        return {"progress": 5, "message": "Handing the session to Slurm"}
    if reported:
        return {"progress": 90, "message": "The server listens"}
    if view is None or view.phase is Phase.PENDING:
        return {"progress": 20, "message": f"Job {job_id} is in the queue{_place(view)}{_why(view)}"}
    if view.phase is Phase.RUNNING:
        return {"progress": 60, "message": f"Job {job_id} runs on {view.node}: the server is starting"}
    return {"progress": 60, "message": f"Job {job_id} has ended ({view.state})"}


def _place(view: View | None) -> str:
    return f" at place {view.place}" if view is not None and view.place else ""


def _why(view: View | None) -> str:
    if view is None or not view.reason:
        return ""
    # Slurm adds details after a comma: "ReqNodeNotAvail, UnavailableNodes:node1".
    reason = _REASONS.get(view.reason.partition(",")[0], view.reason)
    expected = (
        time.strftime(", expected to start at %H:%M on %d %b", time.localtime(view.start))
        if view.start
        else ""
    )
    return f": {reason}{expected}"
