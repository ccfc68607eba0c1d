"""Whether the site takes new sessions now. What runs or waits already goes on, and admins may start some.

Who says so is not known here: the site's database, as a rule (`carme_hub.records.attach`).
"""

from __future__ import annotations

from typing import Any, Protocol

from jupyterhub.scopes import get_scopes_for

from carme_hub.spawner.errors import SessionError


class Asked(Protocol):
    """Who knows whether the site takes new sessions. Its methods must not raise, and not take long."""

    async def sentence(self) -> str:
        """Return the sentence for those who want a session now; empty while they can have one."""

    def notice(self) -> str | None:
        """Return what all pages say at once, without a look: None while the site takes new sessions.

        It may be empty, where nobody has said more than that.
        """


_ASKED: list[Asked] = []


def ask(asked: Asked) -> None:
    """Have somebody asked before each start, and for each page."""
    _ASKED.append(asked)


def notice(_user: object = None) -> str | None:
    """Return what all pages say now (``maintenance`` in them); None while the site takes new sessions.

    The hub calls it for each page (``JupyterHub.template_vars``), with whoever reads it.
    """
    found = (asked.notice() for asked in _ASKED)
    return next((said for said in found if said is not None), None)


async def sentence(user: Any) -> str:
    """Return why somebody cannot have a new session now; empty when they can.

    Parameters
    ----------
    user
        JupyterHub's user whose session it would be. Admins are let in, and whoever may ``admin:servers`` of
        everybody.
    """
    for asked in _ASKED:
        if (said := await asked.sentence()) and not _looks_after(user):
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
