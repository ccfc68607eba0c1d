"""What a running job uses, and what accounting says of one that has ended. Parsers only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carme_hub.spawner.accounting import parse_tres

if TYPE_CHECKING:
    from collections.abc import Collection

SEPARATOR = "\x1f"
# Columns of sstat; those of Slurm's own numbers.
USE = ("JobID", "NTasks", "AveCPU", "MaxRSS", "TRESUsageInTot")
# Columns of sacct. None is a text of the job's owner.
RECORD = (
    "JobIDRaw",
    "State",
    "ExitCode",
    "Submit",
    "Start",
    "End",
    "AllocTRES",
    "TotalCPU",
    "MaxRSS",
)
_CPU_TIME = re.compile(r"(?:([0-9]{1,6})-)?(?:([0-9]{1,6}):)?([0-9]{1,6}):([0-9]{1,3}(?:\.[0-9]{1,6})?)")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([KMGT]?)")
_MIB = {"": 1 / (1 << 20), "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024}
_STEP = re.compile(r"([0-9]{1,10})(?:\.(.+))?")


@dataclass(frozen=True)
class Use:
    """What the steps of a running job have used up to now.

    Attributes
    ----------
    cpu_seconds
        Processor time of all tasks.
    memory_peak
        MiB: the most that one task of a step had at a time, added up over the steps.
    gpu_utilisation
        Percent, added up over the GPUs; None where Slurm does not measure it.
    """

    cpu_seconds: float
    memory_peak: int
    gpu_utilisation: int | None = None


@dataclass(frozen=True)
class Record:
    """What accounting says of a job.

    Attributes
    ----------
    submitted, started, ended
        Seconds since 1970; None when Slurm does not say.
    exit_code
        What the batch script ended with.
    tres
        What was allocated, by Slurm's names, memory in MiB: {"cpu": 8, "mem": 2048, "gres/gpu": 2, ...}.
    cpu_seconds, max_memory
        Used processor time, and the most memory of one task of a step (MiB); None when it is not known.
    """

    job: int
    state: str
    exit_code: int
    submitted: int | None
    started: int | None
    ended: int | None
    tres: dict[str, int]
    cpu_seconds: float | None
    max_memory: int | None


def cpu_seconds(text: str) -> float | None:
    """Read ``[DD-[HH:]]MM:SS[.MS]``, as sacct and sstat show processor time; None for anything else."""
    match = _CPU_TIME.fullmatch(text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = match.groups(default="0")
    return 86400 * int(days) + 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def mebibytes(text: str) -> int | None:
    """Read an amount such as ``2048K``, as sacct and sstat show it, rounded up; None for anything else."""
    match = _SIZE.fullmatch(text.strip())
    return None if match is None else int(-(-float(match[1]) * _MIB[match[2]] // 1))


def parse_use(text: str) -> Use | None:
    """Read sstat's answer; None when it holds no step."""
    total, peak, gpus, found = 0.0, 0, None, False
    for line in text.splitlines():
        words = line.split("|")
        if len(words) != len(USE) or _STEP.fullmatch(words[0]) is None:
            continue
        _, tasks, average, resident, tres = words
        seconds = cpu_seconds(average)
        if seconds is None:
            continue
        found = True
        total += seconds * (int(tasks) if tasks.isdecimal() else 1)
        peak += mebibytes(resident) or 0
        used = parse_tres(tres).get("gres/gpuutil")
        gpus = gpus if used is None else (gpus or 0) + used
    return Use(total, peak, gpus) if found else None


def parse_records(text: str, wanted: Collection[int]) -> dict[int, Record]:
    """Read sacct's answer about jobs and their steps, by number; other lines are left out."""
    found: dict[int, Record] = {}
    peaks: dict[int, int] = {}
    for line in text.splitlines():
        words = dict(zip(RECORD, line.split(SEPARATOR), strict=False))
        if len(words) != len(RECORD) or line.count(SEPARATOR) != len(RECORD) - 1:
            continue
        step = _STEP.fullmatch(words["JobIDRaw"])
        if step is None or int(step[1]) not in wanted:
            continue
        number = int(step[1])
        if (peak := mebibytes(words["MaxRSS"])) is not None:
            peaks[number] = max(peaks.get(number, 0), peak)
        if step[2] is None:
            code = words["ExitCode"].partition(":")[0]
            found[number] = Record(
                job=number,
                state=words["State"].partition(" ")[0],  # sacct says "CANCELLED by 1000"
                exit_code=int(code) if code.isdecimal() else 0,
                submitted=_moment(words["Submit"]),
                started=_moment(words["Start"]),
                ended=_moment(words["End"]),
                tres=parse_tres(words["AllocTRES"]),
                cpu_seconds=cpu_seconds(words["TotalCPU"]),
                max_memory=None,
            )
    return {
        number: Record(**(vars(record) | {"max_memory": peaks.get(number)}))
        for number, record in found.items()
    }


def _moment(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() else None
