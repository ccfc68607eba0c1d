"""Whether the site takes new sessions now. What runs or waits already goes on, and admins may start some.

Who says so is not known here: the site's database, as a rule (`carme_hub.records.attach`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyterhub.scopes import get_scopes_for

from carme_hub.spawner.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Asked = Callable[[], Awaitable[str]]

_ASKED: list[Asked] = []


def ask(asked: Asked) -> None:
    """Have something asked before each start.

    Parameters
    ----------
    asked
        Returns the sentence for those who want a session, and nothing while the site takes new ones. It must
        not raise, and not take long.
    """
    _ASKED.append(asked)


async def sentence(user: Any) -> str:
    """Return why somebody cannot have a new session now; empty when they can.

    Parameters
    ----------
    user
        JupyterHub's user whose session it would be. Admins are let in, and whoever may ``admin:servers`` of
        everybody.
    """
    for asked in _ASKED:
        if (said := await asked()) and not _looks_after(user):
            return said
    return ""


async def check(user: Any) -> None:
    """Refuse a start while the site takes no new sessions.

    Raises
    ------
    SessionError
        With status 503 and the admin's sentence.
    """
    if said := await sentence(user):
        raise SessionError(said, reason="closed", status_code=503)


def _looks_after(user: Any) -> bool:
    return bool(user.admin) or "admin:servers" in get_scopes_for(user)
