"""How large, how long and how many: what hub, service and the proxy in front of them take from whom.

The one place of these figures; docs/bounds.md is their table. A **stranger** is whoever has neither a valid
login cookie nor a valid token; everybody else is **in**. Sizes are bytes, times seconds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

KIB, MIB = 1 << 10, 1 << 20
DAY = 86400


@dataclass(frozen=True)
class Bounds:
    """What one server takes.

    Attributes
    ----------
    header : int
        Bytes of a request's line and headers.
    body : int
        Bytes of a body, from somebody who is in.
    patience : float
        Seconds until all of such a body has to be here.
    stranger_body, stranger_patience
        The same for strangers.
    strangers_together : int
        Bytes of all bodies that are held at once for people not known to be in. When there are more, the
        largest of a stranger goes: a login form is never among them.
    idle : float
        Seconds in which a request's headers have to be here, on a connection that is no proxy's.
    connections : int
        Of one address that is no proxy's.
    """

    header: int = 32 * KIB
    body: int = MIB
    patience: float = 60.0
    stranger_body: int = 64 * KIB
    stranger_patience: float = 10.0
    strangers_together: int = 8 * MIB
    idle: float = 30.0
    connections: int = 512


SERVER = Bounds()  # the hub, and its service


@dataclass(frozen=True)
class FrontBounds:
    """What the proxy in front takes. Bodies of people who are in pass through it as they are, however large.

    Attributes
    ----------
    header : int
        Bytes of a request's line and headers.
    header_seconds : float
        In which these have to be here.
    idle_seconds : float
        How long a connection without a request stays open.
    stranger_body, stranger_seconds
        Of a stranger's request: bytes of its body, and seconds until it is here.
    stranger_bodies : int
        Of strangers, on their way at once. When there are more, the one that has come furthest goes.
    stranger_connections : int
        Of one address, that never showed they are somebody's who is in. When there are more, the one that has
        been quiet the longest goes. Hundreds of people may sit behind one address.
    strangers_connections : int
        The same for all addresses together.
    ask_seconds : float
        How long the hub may take to say whose a token is.
    pass_seconds : int
        How long a browser's sign holds that somebody signed in with it. It opens nothing.
    """

    header: int = 16 * KIB
    header_seconds: float = 15.0
    idle_seconds: float = 60.0
    stranger_body: int = 64 * KIB
    stranger_seconds: float = 10.0
    stranger_bodies: int = 256
    stranger_connections: int = 1024
    strangers_connections: int = 4096
    ask_seconds: float = 10.0
    pass_seconds: int = 7 * DAY

    def plain(self) -> dict[str, float]:
        """Return them as values of JSON, for the proxy."""
        return asdict(self)


FRONT = FrontBounds()
