"""``/hub/carme/session?name=NAME``: the way from a name in a form to the page that starts that session.

The session itself is one of JupyterHub's named servers; JupyterHub checks the name and the number of servers
again where it makes one.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from jupyterhub.handlers.base import BaseHandler
from jupyterhub.slugs import is_valid_safe_slug
from sqlalchemy.orm import object_session
from tornado import web

from carme_hub.spawner import reserved

WRONG = (
    "A session's name has at most 30 characters: lower case letters, digits and single hyphens, "
    "with a letter at first and no hyphen at the end."
)


def drop_unused(user: Any, name: str) -> None:
    """Remove the row of a named server that was only looked at.

    JupyterHub makes one for whoever opens the server's form, and none of the form's further steps needs it: a
    start makes it anew. Without this, each name that was ever tried would stay, and count among those that a
    person may have.
    """
    spawner: Any = user.spawners.get(name) if name else None
    row: Any = getattr(spawner, "orm_spawner", None)
    session = object_session(row) if row is not None else None
    if session is None or spawner.in_use:
        return
    # Nothing that a start leaves behind: neither a time, nor options, nor a state, nor a name to be shown.
    if row.server or row.started or row.user_options or row.state or row.display_name not in {"", None, name}:
        return
    remove(user, name)


def remove(user: Any, name: str) -> None:
    """Remove the row of a named server, and what the hub has of it."""
    row: Any = user.spawners.pop(name).orm_spawner
    session = object_session(row)
    if session is not None:
        session.delete(row)
        session.commit()


class NamedSessionHandler(BaseHandler):  # type: ignore[misc]  # JupyterHub has no types
    """Sends the person to the start page of the session of that name; without one, of the default session."""

    @web.authenticated
    async def get(self) -> None:
        """Check the name. Nothing is started or kept here, so a link from elsewhere does nothing."""
        user: Any = self.current_user
        name = self.get_query_argument("name", "").strip()
        if not self.allow_named_servers:
            raise web.HTTPError(404)
        # Servers of before JupyterHub 6 may have other names.
        wrong = WRONG if name and not is_valid_safe_slug(name) and name not in user.orm_spawners else ""
        if sentence := wrong or reserved.problem(name):
            self.set_status(400)
            self.finish(await self.render_template("wrong_name.html", sentence=sentence, asked=name[:60]))
            return
        self.redirect(
            f"{self.hub.base_url}spawn/{user.escaped_name}" + (f"/{quote(name, safe='')}" if name else "")
        )
