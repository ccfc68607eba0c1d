"""Sessions on the hub's own machine, without Slurm: the same script and container, as a person's process.

For a site of one machine, or a light session beside a cluster. It speaks the part of `slurm.Slurm` that a
session and the watcher need. A session's time limit is kept by ``timeout(1)``; nothing limits its cores and
its memory, so its profiles should go to few people.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from carme_hub.spawner import answers
from carme_hub.spawner.cluster import Cluster, Node
from carme_hub.spawner.slurm import ENVIRONMENT, Slurm, SlurmUnavailable, SubmitRefused

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from carme_hub.spawner.slurm import Account

# Process numbers are below 2**22 on Linux (man 5 proc, pid_max). With the time of its start, in clock ticks
# since the machine's, a process has a number that no later one has.
_PID_BITS = 22
_TIME = re.compile(r"^#SBATCH --time=([0-9]{1,8})$", re.MULTILINE)
_KILL_AFTER = 20  # seconds from SIGTERM to SIGKILL
_TIMED_OUT = 124  # what timeout(1) ends with


def number_of(pid: int) -> int | None:
    """Return the number of the session whose first process this is; None when there is no such process."""
    try:
        # The command's name, in parentheses, may hold anything; what follows it does not (man 5 proc).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, started = fields[0], int(fields[19])
    return None if state in "ZX" else started << _PID_BITS | pid


def times_of(number: int) -> tuple[int | None, int | None]:
    """Return when a living session began and when its time limit ends, in seconds since 1970."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        words = Path(f"/proc/{pid_of(number)}/cmdline").read_text().split("\0")
        booted = re.search(r"^btime ([0-9]+)$", Path("/proc/stat").read_text(), re.MULTILINE)
        began = int(booted[1]) + (number >> _PID_BITS) // os.sysconf("SC_CLK_TCK") if booted else 0
        return began, began + 60 * int(words[2].removesuffix("m"))
    return None, None


def pid_of(number: int) -> int:
    """Return the process of a session's number; whether it is still that one, `number_of` says."""
    return number & ((1 << _PID_BITS) - 1)


@dataclass
class LocalMachine:
    """The hub's own machine. The numbers of its jobs are made of process number and start time."""

    _processes: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)
    _cancelled: dict[int, float] = field(default_factory=dict)
    _reader: Slurm = field(default_factory=Slurm)

    async def submit(self, script: str, account: Account, env: Mapping[str, str]) -> int:
        """Start a batch script as a person and return its number.

        Raises
        ------
        SubmitRefused
            When this hub may not become another person.
        SlurmUnavailable
            When the process cannot be started.
        """
        if os.geteuid() not in {0, account.uid}:
            raise SubmitRefused("Sessions on this machine need a hub that runs as root.")
        identity: dict[str, object] = {}
        if os.geteuid() == 0:
            identity = {"user": account.uid, "group": account.gid, "extra_groups": account.groups}
        limit = _TIME.search(script)
        words = ["/usr/bin/timeout", f"--kill-after={_KILL_AFTER}", f"{limit[1] if limit else 60}m"]
        variables = {**ENVIRONMENT, "HOME": account.home, "USER": account.name, "LOGNAME": account.name}
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                "/bin/bash",
                "-s",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env={**variables, **env},
                cwd="/",
                start_new_session=True,
                umask=0o022,
                **identity,  # type: ignore[arg-type]
            )
        except OSError as error:
            raise SlurmUnavailable(f"The session cannot be started: {error.strerror}.") from error
        number = number_of(process.pid)
        if number is None or process.stdin is None:
            raise SlurmUnavailable("The session's process ended at once.")
        # The script finds what it would get from Slurm. A brace makes bash read it whole before it begins:
        # what it starts would else read the rest of it as its own standard input.
        begin = f"export SLURM_JOB_ID={number} SLURM_JOB_NODELIST={socket.gethostname()}\n{{\n"
        with contextlib.suppress(ConnectionError):
            process.stdin.write(f"{begin}{script}\nexit\n}}\n".encode())
            await process.stdin.drain()
            process.stdin.close()
        self._processes[number] = process
        return number

    async def cancel(self, job_id: int, account: Account) -> None:
        """End a session's processes: SIGTERM at first, SIGKILL when it is asked for again much later."""
        if number_of(pid_of(job_id)) != job_id:
            self._cancelled.pop(job_id, None)
            return
        first = self._cancelled.setdefault(job_id, time.monotonic())
        how = signal.SIGKILL if time.monotonic() - first > _KILL_AFTER else signal.SIGTERM
        with contextlib.suppress(ProcessLookupError):
            try:
                # Its own session and process group, made by start_new_session.
                os.killpg(pid_of(job_id), how)
            except PermissionError:
                raise SlurmUnavailable(
                    f"Session {job_id} of {account.name} cannot be ended by this hub."
                ) from None

    async def queue(self, job_ids: Collection[int]) -> answers.Picture:
        """Look which of the sessions live; those that do not are not in the answer."""
        taken_at, node = time.monotonic(), socket.gethostname()
        alive = [number for number in job_ids if number_of(pid_of(number)) == number]
        return answers.Picture(
            taken_at,
            {number: answers.QueueEntry(number, "RUNNING", "", node, *times_of(number)) for number in alive},
        )

    async def cluster(self) -> Cluster:
        """Return a cluster of one node, whose cores nobody allocates."""
        name, cpus = socket.gethostname(), os.cpu_count() or 1
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
        node = Node(name, "idle", cpus=cpus, cpus_idle=cpus, memory=memory)
        return Cluster(time.monotonic(), {name: node}, {})

    async def ending(self, job_id: int, owner: int | None = None) -> answers.Ending | None:
        """Say how a session ended; None for one that an earlier hub started."""
        del owner  # a number here names one process for ever
        process = self._processes.pop(job_id, None)
        was_cancelled = self._cancelled.pop(job_id, None) is not None
        if process is None:
            return None
        code = await process.wait()
        if was_cancelled:
            return answers.Ending("CANCELLED")
        if code == _TIMED_OUT:
            return answers.Ending("TIMEOUT")
        return answers.Ending("FAILED" if code else "COMPLETED", exit_code=max(code, 0), signal=max(-code, 0))

    async def log_tail(self, path: str, account: Account) -> str:
        """Return the end of a session's log, read as its owner."""
        return await self._reader.log_tail(path, account)

    async def node_address(self, node: str) -> str:
        """Return the machine's name: proxy and hub reach the session there."""
        return node
