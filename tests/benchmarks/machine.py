"""The machine a benchmark runs on: what it is, and who else uses it. Linux only."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from carme_hub.demo import ldap

TOP = Path(__file__).parents[2]


@dataclass(frozen=True)
class Use:
    """Processor time since the start, in ticks: all there was, what was idle, what we and ours used."""

    all: int
    idle: int
    ours: int

    @classmethod
    def now(cls) -> Use:
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return cls(sum(ticks), ticks[3] + ticks[4], _family(os.getpid()))

    def others_since(self, before: Use) -> float:
        """Say which share of the processors neither was idle nor was ours, from 0 to 1."""
        busy = (self.all - before.all) - (self.idle - before.idle)
        return max(busy - (self.ours - before.ours), 0) / max(self.all - before.all, 1)


def _family(pid: int) -> int:
    """Add up the processor time of a process and of everything it started that still runs."""
    parents, used = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        parents[int(path.parent.name)] = int(words[1])
        used[int(path.parent.name)] = int(words[11]) + int(words[12])
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(used.get(member, 0) for member in family)


def others(seconds: float = 1.0) -> float:
    """Measure which share of the processors others use now."""
    before = Use.now()
    time.sleep(seconds)
    return Use.now().others_since(before)


def busy() -> float:
    """Return the seconds in which a processor was not idle, added up over all of them since the start."""
    now = Use.now()
    return (now.all - now.idle) / os.sysconf("SC_CLK_TCK")


def said(*words: str) -> str:
    """Run a command for the version it prints."""
    done = subprocess.run(words, cwd=TOP, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def slapd() -> str:
    """Name slapd's version."""
    version = re.search(r"slapd (\d[\d.]*)", said(ldap.SLAPD, "-VV"))
    return f"slapd {version[1] if version else '(unknown)'}"


def description(packages: Sequence[str], *programs: str) -> str:
    """Name the machine and what was measured with: Python packages, and programs with their versions."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    commit = said("git", "describe", "--always", "--dirty")
    return (
        f"{os.cpu_count()} processors ({cpu[1] if cpu else platform.machine()}), {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, {', '.join([*versions, *programs])}, "
        f"carme-hub {importlib.metadata.version('carme-hub')} ({commit})"
    )
