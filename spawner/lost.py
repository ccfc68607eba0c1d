"""A session whose cluster the site's configuration does not name any more: it is kept, nothing is guessed.

Another cluster may have a job with the same number, of the same person even: asking there would tell lies,
and cancelling there would end somebody's work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from carme_hub.spawner.backends import Backend
from carme_hub.spawner.session import Session
from carme_hub.spawner.slurm import SlurmUnavailable
from carme_hub.spawner.watcher import Watcher

if TYPE_CHECKING:
    import logging
    from collections.abc import Collection, Mapping

    from carme_hub.spawner.answers import Ending, Picture
    from carme_hub.spawner.cluster import Cluster
    from carme_hub.spawner.slurm import Account


class NoCluster:
    """Answers for a cluster that nobody can ask: `backends.Runner`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _refuse(self) -> NoReturn:
        raise SlurmUnavailable(f"The cluster {self.name!r} is not in CarmeSpawner.clusters.")

    async def submit(self, _script: str, _account: Account, _env: Mapping[str, str]) -> int:
        """Submit nothing."""
        self._refuse()

    async def cancel(self, _job_id: int, _account: Account) -> None:
        """Cancel nothing."""
        self._refuse()

    async def queue(self, _job_ids: Collection[int]) -> Picture:
        """Know nothing of any job, which is no job's end."""
        self._refuse()

    async def cluster(self) -> Cluster:
        """Know nothing of any node."""
        self._refuse()

    async def node_address(self, _node: str) -> str:
        """Know nothing of any node."""
        self._refuse()

    async def ending(self, _job_id: int, _owner: int | None = None) -> Ending | None:
        """Know nothing of any end."""
        return None

    async def log_tail(self, _path: str, _account: Account) -> str:
        """Return no log: it would be said to be of a job that nobody has seen end."""
        return ""


# One for each name, as for clusters that are known: a watcher is shared by all sessions that it is about.
_LOST: dict[str, Backend] = {}


def _lost(name: str, log: logging.Logger) -> Backend:
    if name not in _LOST:
        nobody = NoCluster(name)
        _LOST[name] = Backend(nobody, Watcher(nobody, log))
    return _LOST[name]


class LostSession(Session):
    """A session on such a cluster. Its server may well answer, and then it goes on; it can be removed."""

    @property
    def backend(self) -> Backend:
        """Return what knows nothing."""
        return _lost(self.cluster, self.log)

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the session, and say which setting has to be mended."""
        super().load_state(state)
        self.log.error(
            "The session of %s is job %s on cluster %r, which CarmeSpawner.clusters does not name: nothing "
            "is known of this job, and nothing will cancel it. Name the cluster again, as it was",
            self._log_name,
            self.job_id,
            self.cluster,
        )

    async def poll(self) -> int | None:
        """Take it for alive, until its own server says that it ends."""
        return None if self.job_id and not self._ended.is_set() else 0

    def _abandon(self, _after: float = 0.0) -> None:
        self.log.error(
            "Job %s on cluster %r, the session of %s, goes on unseen until it ends by itself: "
            "CarmeSpawner.clusters does not name this cluster, so nothing was cancelled",
            self.job_id,
            self.cluster,
            self._log_name,
        )

    async def stop(self, now: bool = False) -> None:  # noqa: ARG002 - JupyterHub's
        """Let the hub forget the session; its job is left alone."""
        if self.job_id:
            if self.chronicle is not None:
                self.chronicle.stopping()
            self._abandon()
