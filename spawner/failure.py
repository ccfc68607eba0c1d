"""How a job ended -> a sentence for its owner. Pure functions."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from carme_hub.spawner import course, node, script, units
from carme_hub.spawner.answers import UNKNOWN
from carme_hub.spawner.reporter import EXIT_NOT_REPORTED
from carme_hub.spawner.timelimit import spoken

if TYPE_CHECKING:
    from carme_hub.spawner.answers import Ending
    from carme_hub.spawner.request import JobRequest

LINES = 15
_FATAL = re.compile(r"^FATAL:\s*(.+)$", re.MULTILINE)
_MOUNT = re.compile(r"^carme: (the mount .+)$", re.MULTILINE)
# What jupyter_server says when its "shutdown_no_activity_timeout" is over, and when it is asked to end.
_IDLE = re.compile(r"No (?:kernels|activity) for ([0-9]{1,9}) seconds; shutting down")
_SHUT_DOWN = re.compile(r"Shutting down on /api/shutdown request")
# What a terminal or a reader would act on: escapes, control characters, directions of text.
_ESCAPES = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\u200e\u200f]"
)
_OPENING = "The session ended before its server was up: "
_RAN = "The session has ended: "


def sentence(
    ending: Ending | None, request: JobRequest | None, home: str, log: str = "", *, ran: bool = False
) -> str:
    """Say why a session died.

    Parameters
    ----------
    ending
        What Slurm knows; None when it knows nothing.
    request
        What was asked for, for names, and for limits where Slurm does not say how they were at the end; None
        where the site does not offer it any more.
    home
        The person's home folder.
    log
        The end of the session's log; searched for what Apptainer says.
    ran
        Whether its server had been up.
    """
    return (_RAN if ran else _OPENING) + _cause(ending, request, home, plain(log))


def _cause(ending: Ending | None, request: JobRequest | None, home: str, log: str) -> str:
    if ending is None or ending.state == UNKNOWN:
        return "Slurm does not know its job any more."
    by_state = {
        "OUT_OF_MEMORY": _out_of_memory(ending.memory or (request.memory if request else None)),
        "TIMEOUT": _timeout(ending.limit or (request.time if request else None)),
        "DEADLINE": "its deadline was over.",
        "NODE_FAIL": "its compute node failed. Starting it again usually helps.",
        "BOOT_FAIL": "its compute node could not be started. Starting it again usually helps.",
        "PREEMPTED": "a job with a higher priority took its place. Start it again when there is room.",
        "CANCELLED": "its job was cancelled.",
        "REVOKED": "its job was moved to another cluster.",
    }
    if ending.state in by_state:
        return by_state[ending.state]
    if ending.state == "COMPLETED" and not ending.exit_code:
        return _by_itself(log)
    by_code = _by_exit_code(ending, request, home, log) if request is not None else None
    return by_code or _by_log(log) or _plain(ending)


def _timeout(limit: int | None) -> str:
    return f"its time limit{f' of {spoken(limit)}' if limit else ''} was over."


def _by_itself(log: str) -> str:
    """Say why a server ended that nobody outside asked to, by what jupyter_server writes then."""
    idle = _IDLE.findall(log)
    if idle:
        return f"it was not used for {spoken(max(int(idle[-1]) // 60, 1))}, and its own settings end it then."
    if _SHUT_DOWN.search(log):
        return "it was shut down from inside, by “Shut Down” in its menu or by a program."
    return "its server stopped by itself."


def _out_of_memory(memory: int | None) -> str:
    limit = f" of {units.spoken_memory(memory)} on each node" if memory else ""
    return f"it used more memory than its limit{limit}. Ask for more, or load less at the start."


def _by_exit_code(ending: Ending, request: JobRequest, home: str, log: str) -> str | None:
    material = request.profile.course.material if request.profile.course else ""
    sentences = {
        script.EXIT_LOG: f"your home folder {home} is missing on its node, or is not yours.",
        course.EXIT_MATERIAL: f"the course material {material} cannot be read. Please tell your instructor.",
        course.EXIT_COPY: f"the course material could not be copied to {home}/courses; is there room left?",
        script.EXIT_HOME_FULL: f"your home folder {home} is full; remove files there.",
        node.EXIT_MOUNT: _missing_mount(request, log),
        node.EXIT_SCRATCH: "its node has no room for temporary files. Please tell the administrators.",
        node.EXIT_IMAGE: f"the image {request.image.path} cannot be read. Please tell the administrators.",
        node.EXIT_APPTAINER: "its node has no Apptainer. Please tell the administrators.",
        EXIT_NOT_REPORTED: "its server could not be started or could not reach the hub.",
    }
    return None if ending.signal else sentences.get(ending.exit_code)


def _missing_mount(request: JobRequest, log: str) -> str:
    """Say what the node said of a mount; without the log, which mounts it can have been."""
    found = _MOUNT.findall(log)
    named = ", ".join(
        f"{mount.name} ({mount.source} on {mount.filesystem})" for mount in request.mounts if mount.filesystem
    )
    said = found[-1].strip()[:500] if found else f"a mount is missing on its node, one of {named}"
    return f"{said}. Please tell the administrators."


def _by_log(log: str) -> str | None:
    """Return what Apptainer said last, if it did."""
    found = _FATAL.findall(log)
    return f"the container could not be started ({found[-1].strip()[:300]})." if found else None


def _plain(ending: Ending) -> str:
    if ending.signal:
        return f"it was ended by signal {ending.signal}."
    why = f" ({ending.reason})" if ending.reason and ending.reason != "NonZeroExitCode" else ""
    return f"its server stopped with exit code {ending.exit_code}{why}."


def plain(log: str) -> str:
    """Return a log as plain text: a session writes what it likes, and pages and the hub's log show it."""
    return _ESCAPES.sub("", log)


def last_lines(log: str, lines: int = LINES) -> str:
    """Return the last lines of a log as plain text, without what a terminal would act on."""
    return "\n".join(plain(log).rstrip().splitlines()[-lines:])


def as_html(text: str, log: str = "") -> str:
    """Return a sentence and, folded away, the end of the log for a page; both escaped."""
    tail = last_lines(log)
    if not tail:
        return html.escape(text)
    lines = f'<pre class="text-start text-wrap small mt-2" tabindex="0">{html.escape(tail)}</pre>'
    summary = "<summary>Last lines of the session's log</summary>"
    return f'{html.escape(text)}<details class="mt-3">{summary}{lines}</details>'
