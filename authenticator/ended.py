"""Which logins ended before their cookies did: asked at each request, kept over restarts of the hub."""

import hashlib
import time

import sqlalchemy as sa

from carme_hub.authenticator.database import write
from carme_hub.authenticator.tables import ended_login


def _digest(session_id: str) -> str:
    return hashlib.sha256(session_id.encode("utf-8", "replace")).hexdigest()


class EndedLogins:
    """
    The ids of sessions whose login has ended.

    Parameters
    ----------
    engine
        The gate's database; what it knows is read now.

    Notes
    -----
    One hub has one process, which ends its people's logins itself: what it remembers is all there is.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        with engine.connect() as connection:
            rows = connection.execute(sa.select(ended_login).where(ended_login.c.until > time.time()))
            self._until = {str(row.session_hash): int(row.until) for row in rows}

    def has(self, session_id: str) -> bool:
        """Say whether a session's login has ended. It waits for nothing."""
        return _digest(session_id) in self._until

    def add(self, session_id: str, seconds: float) -> None:
        """
        End a session's login now, for as long as this process lives. It waits for nothing.

        Parameters
        ----------
        session_id
            The cookie ``jupyterhub-session-id``.
        seconds
            In which its cookies expire by themselves.
        """
        now = int(time.time())
        self._until = {digest: until for digest, until in self._until.items() if until > now}
        self._until[_digest(session_id)] = now + int(seconds)

    def keep(self, session_id: str) -> None:
        """Write down an end that was added, for the processes to come; forget what has expired."""
        digest = _digest(session_id)
        with write(self._engine) as connection:
            connection.execute(
                ended_login.delete().where(
                    sa.or_(ended_login.c.until <= time.time(), ended_login.c.session_hash == digest)
                )
            )
            connection.execute(ended_login.insert().values(session_hash=digest, until=self._until[digest]))
