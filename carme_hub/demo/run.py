"""Run one long command of a build: time-out, log file, and an error a person can act on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


class BuildError(RuntimeError):
    """A step of preparing the demo site failed; the message says which, and ends with what it printed."""


def logged(
    words: Sequence[str | Path],
    what: str,
    *,
    log: Path,
    seconds: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    line: Callable[[str], None] | None = None,
) -> None:
    """Run a command, append what it prints to a log, and raise when it fails.

    Parameters
    ----------
    words
        The command as a list of words; no shell.
    what
        What is being done, for the error: "compiling Code-Server".
    log
        The file that gets standard output and standard error.
    seconds
        After this long the command and its children are ended.
    env, cwd
        Environment and folder of the command; this process's own when not given.
    line
        Gets each line as it is printed.

    Raises
    ------
    BuildError
        When the command is not there, fails or takes too long; with the log's last lines.
    """
    log.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        process = subprocess.Popen(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise BuildError(f"{what}: the command {words[0]} is not there.") from error
    watchdog = threading.Timer(seconds, _end, [process])
    watchdog.start()
    try:
        with log.open("a", encoding="utf-8", errors="replace") as out:
            for text in process.stdout or ():
                out.write(text)
                out.flush()
                if line is not None:
                    line(text.rstrip("\n"))
        code = process.wait()
    except BaseException:
        # Ctrl-C reaches only us (the command has a session of its own): take it along.
        _end(process)
        raise
    finally:
        expired = not watchdog.is_alive()
        watchdog.cancel()
    if expired:
        raise BuildError(f"{what} took more than {seconds:.0f} s and was ended. Log: {log}\n{tail(log)}")
    if code:
        raise BuildError(f"{what} failed (exit code {code}). Log: {log}\n{tail(log)}")


def tail(log: Path, lines: int = 25) -> str:
    """Return the last lines of a log, or a word that says there is none."""
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return f"(no log at {log})"


def as_command(make: Callable[[Callable[[str], None]], str]) -> int:
    """Be a command: what `make` returns goes to standard output, its progress to standard error.

    Returns
    -------
    int
        The exit code: 0, or 1 with the error's sentence.
    """

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - progress for a person

    try:
        print(make(say))  # noqa: T201 - the result
    except BuildError as error:
        say(str(error))
        return 1
    return 0


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
