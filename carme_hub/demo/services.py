"""Start the programs of the demo site, wait until each answers, end them in reverse order."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from carme_hub.demo.run import tail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

STOP_TIMEOUT = 10  # seconds a program has to end by itself


class ServiceError(Exception):
    """A program of the site did not come up; the message is for the person who started the site."""


def run(words: Sequence[str], *, timeout: float = 60, stdin: str | None = None, **options: object) -> str:
    """Run a command to its end and return what it printed.

    Raises
    ------
    ServiceError
        When it fails or takes longer than `timeout` seconds.
    """
    try:
        done = subprocess.run(
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **options,  # type: ignore[call-overload]
        )
    except subprocess.TimeoutExpired:
        raise ServiceError(f"`{' '.join(words)}` did not end within {timeout:.0f} s.") from None
    if done.returncode:
        raise ServiceError(
            f"`{' '.join(words)}` failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return str(done.stdout)


def succeeds(words: Sequence[str], *, timeout: float = 10) -> bool:
    """Say whether a command ends well."""
    with contextlib.suppress(ServiceError):
        run(words, timeout=timeout)
        return True
    return False


class Services:
    """The running programs of the site.

    Parameters
    ----------
    logs : Path
        Folder for one log a program, named after it.
    """

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.disposable: set[str] = set()

    def start(self, name: str, words: Sequence[str], *, disposable: bool = False, **options: object) -> None:
        """Start a program that stays in the foreground; its output goes to its log.

        A `disposable` one keeps nothing that would be lost when it is killed at the end.
        """
        if disposable:
            self.disposable.add(name)
        with (self.logs / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **options,  # type: ignore[call-overload]
            )

    def wait(self, name: str, ready: Callable[[], bool], timeout: float = 60) -> None:
        """Wait until `ready` says yes.

        Raises
        ------
        ServiceError
            When the program ends instead, or does not answer within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            code = self.running[name].poll()
            if code is not None:
                what = f"ended with exit code {code}"
            elif time.monotonic() > deadline:
                what = f"did not answer within {timeout:.0f} s"
            else:
                time.sleep(0.05)
                continue
            log = self.logs / f"{name}.log"
            raise ServiceError(f"{name} {what}. The end of {log}:\n{tail(log)}")

    def stop(self) -> None:
        """End all programs, the last started first."""
        for name, process in reversed(self.running.items()):
            process.send_signal(signal.SIGKILL if name in self.disposable else signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running.clear()


def environment(**more: str) -> Mapping[str, str]:
    """Return the environment of the site's programs: a plain one, so that the caller's does not matter."""
    plain = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
    }
    return {**plain, **more}
