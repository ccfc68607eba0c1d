"""``/hub/carme/session?name=NAME``: the way from a name in a form to the page that starts that session.

The session itself is one of JupyterHub's named servers; JupyterHub checks the name and the number of servers
again where it makes one.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from jupyterhub.handlers.base import BaseHandler
from jupyterhub.slugs import is_valid_safe_slug
from tornado import web

WRONG = (
    "A session's name has at most 30 characters: lower case letters, digits and single hyphens, "
    "with a letter at first and no hyphen at the end."
)


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
        if name and not is_valid_safe_slug(name) and name not in user.orm_spawners:
            self.set_status(400)
            self.finish(await self.render_template("wrong_name.html", sentence=WRONG, asked=name[:60]))
            return
        self.redirect(
            f"{self.hub.base_url}spawn/{user.escaped_name}" + (f"/{quote(name, safe='')}" if name else "")
        )
