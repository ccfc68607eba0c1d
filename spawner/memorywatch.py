"""Runs inside the job, beside the server: notices programs that were killed because memory ran out.

When a session's control group is full, Linux kills one of its programs, usually the largest: a notebook's
kernel. Nobody is told of that but the group's own files. Standard library only: it reaches the container as
a text within the reporter's (`carme_hub.spawner.program`). The hub has the sentence from here.

Sources: Linux, Documentation/admin-guide/cgroup-v2.rst ("memory.events") and cgroup-v1/memory.rst ("OOM
Control").
"""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = "/sys/fs/cgroup"
_DEEP = 4  # levels below a job's group: step, "user", task
_MOST = 400  # groups of one job that are looked at
_MIB = 1 << 20
_KILLED = re.compile(r"^oom_kill ([0-9]+)$", re.MULTILINE)
_JOB = re.compile(r"^(.*/job_[0-9]+)(?:/|$)")


def sentence(limit: int) -> str:
    """Return what a person is told.

    Parameters
    ----------
    limit
        The session's memory on a node in MiB; 0 when it is not known.
    """
    if not limit:
        spoken = ""
    elif limit % 1024 == 0:
        spoken = f" ({limit // 1024} GiB)"
    else:
        spoken = f" ({limit} MiB)"
    return (
        f"A program in this session was stopped: the session ran out of memory{spoken}. "
        "Load less at once, or start a session with more memory."
    )


def job_groups(cgroups: str, root: str = ROOT) -> list[Path]:
    """Return the folders of the job's control groups that count memory; of version 2 or 1, or both.

    Parameters
    ----------
    cgroups
        The text of ``/proc/self/cgroup``.
    root
        Where control groups are mounted.
    """
    found = []
    for line in cgroups.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        job = _JOB.match(path)
        if job is None or ".." in path.split("/"):
            continue
        if not controllers:
            found.append(Path(root + job[1]))
        elif "memory" in controllers.split(","):
            found.append(Path(f"{root}/memory{job[1]}"))
    return [folder for folder in found if folder.is_dir()]


def counts(job: Path) -> dict[str, int]:
    """Return how often a program was killed, by the file that says so.

    Version 2 counts in a group what happens below it, version 1 does not.
    """
    events = _count(job / "memory.events")
    if events is not None:
        return {str(job): events}
    found = {}
    for number, (folder, below, _) in enumerate(os.walk(job)):
        if len(Path(folder).relative_to(job).parts) >= _DEEP or number >= _MOST:
            below.clear()
        if (told := _count(Path(folder, "memory.oom_control"))) is not None:
            found[folder] = told
    return found


def _count(path: Path) -> int | None:
    try:
        told = _KILLED.search(path.read_text(encoding="ascii", errors="replace"))
    except OSError:
        return None
    return int(told[1]) if told else None


class MemoryWatch:
    """Counts the programs of a job that were killed for want of memory.

    Parameters
    ----------
    groups
        As `job_groups` returns them.
    """

    def __init__(self, groups: list[Path]) -> None:
        self._groups = groups
        self._seen: dict[str, int] = {}
        self.killed = 0

    def look(self) -> int:
        """Return how many it has been so far. A group that goes takes nothing back."""
        for job in self._groups:
            for name, told in counts(job).items():
                self.killed += max(told - self._seen.get(name, 0), 0)
                self._seen[name] = told
        return self.killed


def limit_of(groups: list[Path], otherwise: str = "") -> int:
    """Return the memory limit of a job on this node in MiB; 0 when there is none.

    Parameters
    ----------
    otherwise
        What Slurm says in ``SLURM_MEM_PER_NODE``, in MiB.
    """
    if otherwise.isascii() and otherwise.isdigit() and int(otherwise):
        return int(otherwise)
    for job in groups:
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                told = (job / name).read_text(encoding="ascii").strip()
            except (OSError, ValueError):
                continue
            if told.isdigit() and int(told) < 1 << 60:
                return int(told) // _MIB
    return 0
