"""What the waiting page and JupyterHub's progress API say about a start. Pure functions.

The bar shows steps that are known to be done. Within a step it moves by time only where there is a number
to go by: Slurm's expected start, or how long the step usually takes here; ``eta_by`` says which, so that the
page can say it, too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict

from carme_hub.spawner.answers import Phase
from carme_hub.spawner.reasons import Reason, explain

if TYPE_CHECKING:
    from carme_hub.spawner.watcher import View

# The steps of the page, in their order; `Event.step` is a place in it.
STEPS = ("submit", "queue", "node", "container", "server")
SUBMIT, QUEUE, NODE, CONTAINER, SERVER = range(5)
# How far the bar is when a step begins, in percent, and when the last one ends: below the steps' own names.
_BEGINS = (5, 20, 40, 60, 80, 95)
# Whoever waits for anything else is held up by no other job, whatever the place in the line.
_IN_LINE = frozenset({"", "None", "Priority", "Resources"})
# States in which Slurm has found the nodes and makes them ready (man squeue, JOB STATE CODES).
_PREPARING = frozenset({"CONFIGURING", "POWER_UP_NODE", "EXPEDITING"})
# A job that has its node and does not get on (man squeue, JOB STATE CODES).
PAUSED = {
    "SUSPENDED": Reason(
        "It is suspended: a more urgent job or an administrator has its node for now. It does not answer.",
        "It goes on by itself, with all that is in it. If it stays so, ask the administrators, or stop it.",
    ),
    "STOPPED": Reason(
        "Its programs were stopped by a signal. It keeps its node and does not answer.",
        "It goes on when they get the signal CONT (scancel --signal=CONT JOB). Or stop it.",
    ),
}
# Slurm has put these back into the queue, and holds them there.
HELD = Reason(
    "Slurm has put it back into the queue and holds it there.",
    "It does not start by itself. Cancel it and start again, or ask the administrators.",
    hopeless=True,
)
_HELD = frozenset({"REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
_AGAIN = frozenset({"REQUEUED", "REQUEUE_FED"})


class Event(TypedDict):
    """One event of the progress API. Times are seconds since 1970, None where unknown.

    ``progress`` (percent) and ``message`` are JupyterHub's; the rest is for pages and programs. ``to`` is
    where the bar is when the step is done, which is expected at ``eta``, by ``eta_by`` ("slurm": its
    expected start, "usual": how long it takes here). ``reason`` is Slurm's word, ``text`` and ``advice`` what
    it means. ``now`` is the hub's clock.
    """

    progress: int
    message: str
    step: int
    to: int
    eta: float | None
    eta_by: str
    job: int | None
    slurm_state: str
    reason: str
    text: str
    advice: str
    hopeless: bool
    place: int | None
    expected_start: int | None
    node: str
    submitted: float | None
    now: float


@dataclass(frozen=True)
class Known:
    """What is known of a start beside its job. Times in seconds since 1970.

    Attributes
    ----------
    submitted
        When Slurm took the job.
    begun
        When the job said that its container runs.
    reported
        Whether the server said that it listens.
    container, server
        Seconds that these steps usually take here; None when that is not known.
    """

    submitted: float | None = None
    begun: float | None = None
    reported: bool = False
    container: float | None = None
    server: float | None = None


def event(
    job_id: str,
    view: View | None,
    known: Known | None = None,
    *,
    reported: bool = False,
    now: float | None = None,
) -> Event:
    """Return what is to be said of a start now.

    Parameters
    ----------
    job_id
        Empty before Slurm gave one.
    view
        What the watcher knows.
    known
        What else is known.
    reported
        Short for ``Known(reported=...)``.
    now
        Seconds since 1970; the present without it.
    """
    known = known or Known(reported=reported)
    now = time.time() if now is None else now
    step = step_of(job_id, view, known)
    said: Event = {
        "progress": _BEGINS[step],
        "message": "",
        "step": step,
        "to": _BEGINS[step + 1],
        "eta": None,
        "eta_by": "",
        "job": int(job_id) if job_id else None,
        "slurm_state": view.state if view else "",
        "reason": view.reason if view else "",
        "text": "",
        "advice": "",
        "hopeless": False,
        "place": None,
        "expected_start": None,
        "node": view.node if view and step > QUEUE else "",
        "submitted": known.submitted,
        "now": now,
    }
    if step == QUEUE:
        _waits(said, view, now)
    elif step == SUBMIT:
        said["text"] = "The session is being handed to Slurm."
    else:
        _starts(said, view, known, now)
    said["message"] = _message(said, known)
    return said


def step_of(job_id: str, view: View | None, known: Known) -> int:
    """Return which of `STEPS` a start is at."""
    if not job_id:
        return SUBMIT
    if known.reported or known.begun:
        return SERVER
    if view is None:
        return QUEUE
    if view.phase is Phase.PENDING:
        return NODE if view.state in _PREPARING else QUEUE
    return CONTAINER


def later(before: Event | None, event: Event) -> Event:
    """Return an event whose bar is not behind that of the one before, unless the start fell back a step."""
    if before is None or event["step"] < before["step"]:
        return event
    progress = max(before["progress"], event["progress"])
    return {**event, "progress": progress, "to": max(progress, event["to"])}


def differs(before: Event | None, event: Event) -> bool:
    """Say whether there is news: more than time that went by."""
    passing = {"now", "progress"}
    return before is None or any(before.get(key) != event.get(key) for key in event if key not in passing)


def _waits(said: Event, view: View | None, now: float) -> None:
    reason = HELD if view and view.state in _HELD else explain(view.reason if view else "")
    if view and view.state in _AGAIN:
        reason = replace(reason, text=f"Slurm has put it back into the queue. {reason.text}")
    said["text"], said["advice"], said["hopeless"] = reason.text, reason.advice, reason.hopeless
    if view is None or reason.hopeless:
        return
    said["place"] = view.place if view.reason in _IN_LINE else None
    # Slurm keeps an estimate that has passed until it makes the next one.
    if view.start and view.start > now:
        said["expected_start"] = view.start
        _move(said, said["submitted"], float(view.start), "slurm", now)


def _starts(said: Event, view: View | None, known: Known, now: float) -> None:
    if said["step"] == NODE:
        said["text"] = (
            "Slurm has found its nodes and makes them ready; they may have to be switched on first."
        )
    elif known.reported:
        said["text"], said["progress"] = "The server listens. It opens in a moment.", said["to"]
    elif view is not None and view.state in PAUSED:
        paused = PAUSED[view.state]
        said["text"], said["advice"] = paused.text, paused.advice
    elif view is not None and view.phase in {Phase.ENDING, Phase.ENDED}:
        said["text"] = f"Its job has ended ({view.state})."
    elif said["step"] == CONTAINER:
        said["text"] = "Its node checks the image and the mounts, and starts the container."
        began = float(view.start) if view and view.start else None
        _usually(said, began, known.container, now)
    else:
        said["text"] = "The container runs. The server is starting in it."
        _usually(said, known.begun, known.server, now)


def _usually(said: Event, began: float | None, seconds: float | None, now: float) -> None:
    if began is not None and seconds is not None:
        _move(said, began, began + seconds, "usual", now)


def _move(said: Event, began: float | None, ends: float, by: str, now: float) -> None:
    """Move the bar within its step, up to nine tenths of it."""
    said["eta"], said["eta_by"] = ends, by
    if began is not None and ends > began:
        part = min(max((now - began) / (ends - began), 0.0), 0.9)
        said["progress"] += int(part * (said["to"] - said["progress"]))


def _message(said: Event, known: Known) -> str:
    """Return one line, for programs and logs."""
    job = f"Job {said['job']}"
    if said["step"] == SUBMIT:
        return "Handing the session to Slurm"
    if known.reported:
        return "The server listens"
    if said["step"] == QUEUE:
        place = f" at place {said['place']}" if said["place"] else ""
        line = f"{job} is in the queue{place}: {said['text']}"
        if said["expected_start"]:
            when = time.strftime("%H:%M on %d %b (%Z)", time.localtime(said["expected_start"]))
            line += f" Slurm expects it to start at {when}."
        return line
    where = f" runs on {said['node']}" if said["node"] else ""
    return f"{job}{where}: {said['text']}"
