"""What a job says of itself while it runs: its home, memory, log. Checked here: the words are a person's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from carme_hub.spawner import homecare, memorywatch

LONGEST_LOG = 6000  # characters
MOST_KILLED = 1_000_000


@dataclass(frozen=True)
class Told:
    """The whole of what a job says, each time.

    Attributes
    ----------
    home
        What is wrong with the owner's home: words of `carme_hub.spawner.homecare`.
    killed
        How many of its programs were killed because memory ran out.
    log
        The end of its log, where that could not be written to the home.
    """

    home: tuple[str, ...] = ()
    killed: int = 0
    log: str = ""

    @classmethod
    def read(cls, said: object) -> Told:
        """Read what a job has sent.

        Raises
        ------
        ValueError
            When it is anything but ``{"home": [...], "killed": number, "log": text}``.
        """
        if not isinstance(said, dict) or said.keys() != {"home", "killed", "log"}:
            raise ValueError("What a session tells is its home, the killed programs and its log.")
        home, killed, log = said["home"], said["killed"], said["log"]
        known = isinstance(home, list) and all(isinstance(word, str) for word in home)
        if not known or len(home) > len(homecare.WORDS) or not homecare.WORDS.issuperset(home):
            raise ValueError("What is wrong with a home is told in a list of known words.")
        if isinstance(killed, bool) or not isinstance(killed, int) or not 0 <= killed <= MOST_KILLED:
            raise ValueError(f"The killed programs are a whole number from 0 to {MOST_KILLED}.")
        if not isinstance(log, str):
            raise ValueError("A log is a text.")  # noqa: TRY004 - one kind of error for all that is sent
        return cls(tuple(dict.fromkeys(home)), killed, log[-LONGEST_LOG:])

    @classmethod
    def stored(cls, kept: object) -> Told:
        """Read what `kept` gave; nothing is known where there is something else."""
        try:
            return cls.read(kept)
        except ValueError:
            return cls()

    def kept(self) -> dict[str, Any]:
        """Return this for a session's state; the log is told again."""
        return {"home": list(self.home), "killed": self.killed, "log": ""}

    def sentences(self, memory: int) -> list[str]:
        """Return what the owner has to know.

        Parameters
        ----------
        memory
            What the job may use on each node, in MiB; 0 where that is not known.
        """
        said = [homecare.sentence(word) for word in self.home]
        return [*said, memorywatch.sentence(memory)] if self.killed else said
