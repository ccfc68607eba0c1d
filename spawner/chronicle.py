"""Tells what becomes of a session, each thing once, from its submission to its end."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from carme_hub.spawner import events
from carme_hub.spawner.answers import PHASES, UNKNOWN, Ending, Phase
from carme_hub.spawner.events import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carme_hub.spawner.events import Facts
    from carme_hub.spawner.watcher import View

EVER = float("inf")
STOPPED = "CANCELLED"  # what Slurm calls a job that was ended by scancel


class LastWords(NamedTuple):
    """How a session ended that nobody stopped: what is known, and the sentence for its owner or ""."""

    ending: Ending | None
    sentence: str


_TELLING: set[asyncio.Task[None]] = set()


class Chronicle:
    """What is told of one job.

    Parameters
    ----------
    about
        What all its events say: user, server, display_name, cluster, job, options.
    facts
        The job as it was submitted.

    Attributes
    ----------
    stopped
        Set when somebody asks for the end.
    died
        Set when the session ended before its server was up.
    last_words
        Set when the session ended by itself.
    """

    def __init__(self, about: Mapping[str, Any], facts: Facts) -> None:
        self._about = about
        self._facts = facts
        self._told: set[Kind] = set()
        self._started: int | None = None
        self._node = ""
        self._by = ""
        self._memory = ""
        self.stopped = False
        self.died: LastWords | None = None
        self.last_words: asyncio.Future[LastWords] | None = None

    def _tell(self, kind: Kind, **more: Any) -> None:
        if kind in self._told:
            return
        self._told.add(kind)
        self.warn(kind, **more)

    def warn(self, kind: Kind = Kind.ENDS_SOON, **more: Any) -> None:
        """Tell something that may be told again."""
        values = {"at": int(time.time()), "started": self._started, "node": self._node}
        events.publish(Event(kind=kind, facts=self._facts, **self._about, **(values | more)))

    def submitted(self) -> None:
        """Tell that Slurm has taken the job."""
        self._tell(Kind.SUBMITTED, at=self._facts.submitted)

    def running(self, view: View) -> None:
        """Tell that the job runs."""
        if Kind.RUNNING not in self._told:
            self._started = view.start or int(time.time())
            self._node = view.node
            self._tell(Kind.RUNNING)

    def ready(self, view: View | None = None) -> None:
        """Tell that the server listens."""
        if view is not None and view.phase is Phase.RUNNING:
            self.running(view)
        self._tell(Kind.READY)

    def out_of_memory(self, sentence: str) -> None:
        """Tell that a program of it was killed because memory ran out; its end tells of it, too."""
        self._memory = sentence
        self._tell(Kind.OUT_OF_MEMORY, sentence=sentence)

    def stopping(self) -> None:
        """Remember that somebody asks for the end, and who."""
        self.stopped = True
        self._by = events.ACTING.get()

    def ended(self, view: View | None) -> None:
        """Tell how it ended, as soon as that is known.

        Parameters
        ----------
        view
            What is known of the job now.
        """
        if view is not None and self._started is None:
            self._started = _start_of(view)
        if self.died is not None:
            self._end(view, self.died)
        elif self.last_words is not None and not self.stopped:
            task = asyncio.ensure_future(self._when_known(view, self.last_words))
            _TELLING.add(task)
            task.add_done_callback(_TELLING.discard)
        else:
            self._end(view, LastWords(None, ""))

    async def _when_known(self, view: View | None, last_words: asyncio.Future[LastWords]) -> None:
        try:
            words = await last_words
        except Exception:  # noqa: BLE001 - whoever waits for the sentence tells of it
            words = LastWords(None, "")
        self._end(view, words)

    def _end(self, view: View | None, words: LastWords) -> None:
        ending = words.ending or (view.ending if view is not None else None)
        state = ending.state if ending is not None else view.state if view is not None else ""
        if PHASES.get(state) is not Phase.ENDED:
            state = STOPPED if self.stopped else UNKNOWN
        now = int(time.time())
        known = view is not None and view.phase is Phase.ENDED and view.end is not None and view.end <= now
        self._tell(
            Kind.ENDED,
            at=view.end if known and view is not None else now,
            state=state,
            exit_code=ending.exit_code if ending is not None else None,
            sentence=" ".join(
                filter(None, [words.sentence, "" if state == "OUT_OF_MEMORY" else self._memory])
            ),
            limit=ending.limit if ending is not None else None,
            was_ready=Kind.READY in self._told,
            stopped=self.stopped and self.died is None,
            by=self._by,
        )


def _start_of(view: View) -> int | None:
    """Return when a job started that may have ended; None for one that never ran."""
    # Slurm shows a start of one that was cancelled in the queue, too: its end.
    never = view.phase is Phase.PENDING or (view.start or 0) >= (view.end or EVER)
    return None if never else view.start
