"""Runs inside the job, beside the server: tells hub, pages and terminals what is wrong with home or memory.

Standard library only: it reaches the container as a text within the reporter's (`carme_hub.spawner.program`),
together with `homecare` and `memorywatch`, which know what is wrong. What it tells the hub is the whole of it
each time, and only when it has changed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL = 3.0  # seconds between two looks at the memory's counters
SELDOM = 30.0  # seconds between two looks at a home that could not be written, and at a log outside of it
LOG = "CARME_LOG"  # names the log in the container, where it could not be written to the home
LONGEST_LOG = 6000  # bytes of it that are told
NOTHING: dict[str, Any] = {"home": [], "killed": 0, "log": ""}


class Lookout:
    """What is known of the session, and who was told.

    Parameters
    ----------
    environ
        The session's environment; `prepare` changes it.
    send
        Tells the hub; OSError means that it did not hear.
    homecare, memorywatch
        The modules' names.
    tell
        Says something to the session's terminals.
    """

    def __init__(
        self,
        environ: dict[str, str],
        send: Callable[[dict[str, Any]], object],
        homecare: dict[str, Any],
        memorywatch: dict[str, Any],
        tell: Callable[[str], None],
    ) -> None:
        self._environ, self._send, self._tell = environ, send, tell
        self._homecare, self._memory = homecare, memorywatch
        self._words: tuple[str, ...] = ()
        self._killed = 0
        self._told: dict[str, Any] = {}
        self._turn = threading.Lock()
        groups = memorywatch["job_groups"](_read("/proc/self/cgroup"))
        self._limit: int = memorywatch["limit_of"](groups, environ.get("SLURM_MEM_PER_NODE", ""))
        self._watch = memorywatch["MemoryWatch"](groups)

    def prepare(self) -> None:
        """Look at the home, and lead the server away from what cannot be written there."""
        home = self._environ.get("HOME", "")
        if home:
            found = self._homecare["look"](Path(home), self._environ)
            self._words = found.words
            self._environ.update(found.variables)
        # What was killed before the server began is none of its business.
        self._watch.look()
        self._watch.killed = 0
        self._show()

    def _show(self) -> None:
        sentences = {word: self._homecare["sentence"](word) for word in self._words}
        if self._killed:
            sentences[f"memory-{self._killed}"] = self._memory["sentence"](self._limit)
        self._homecare["show"](sentences)

    def look(self, *, home: bool) -> None:
        """Look once, and tell what is new."""
        killed = self._watch.look()
        if killed > self._killed:
            self._killed = killed
            self._tell(self._memory["sentence"](self._limit))
            self._show()
        if home and self._words:
            self._look_again()
        self.report(log=home)

    def _look_again(self) -> None:
        """See whether the home can be written again; what was moved stays where it is till the end."""
        still = set(self._homecare["look"](Path(self._environ["HOME"]), self._environ).words)
        words = tuple(word for word in self._words if word in still)
        if words != self._words:
            self._words = words
            self._show()

    def report(self, *, log: bool) -> None:
        """Tell the hub, if there is anything that it does not know.

        Parameters
        ----------
        log
            Whether the log is looked at, too, where the hub cannot find it by itself.
        """
        with self._turn:
            news: dict[str, Any] = {"home": list(self._words), "killed": self._killed, "log": ""}
            if LOG in self._environ:
                said = self._homecare["tail"](self._environ[LOG], LONGEST_LOG) if log else None
                news["log"] = self._told.get("log", "") if said is None else said
            if news == (self._told or NOTHING):
                return
            self._send({"told": news})
            self._told = news

    def run(self) -> None:
        """Go on for as long as the session lives."""
        last = time.monotonic()
        home = True
        while True:
            # A hub that does not answer is asked again.
            with contextlib.suppress(OSError):
                self.look(home=home)
            time.sleep(INTERVAL)
            home = time.monotonic() - last >= SELDOM
            if home:
                last = time.monotonic()


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - fewer imports
            return file.read()
    except OSError:
        return ""
