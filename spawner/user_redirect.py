"""``/hub/user-redirect/PATH``: the way to a place in whoever's session follows the link."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from jupyterhub import handlers
from jupyterhub.handlers.base import UserRedirectHandler
from jupyterhub.utils import maybe_future, url_escape_path, url_path_join
from tornado import web

AT = "/user-redirect/"


def target(session: str, requested: str, query: str) -> str:
    """Return the place in a session.

    Parameters
    ----------
    session
        The session's address, which ends with a slash.
    requested
        The path that was asked for, as it was sent: ``/hub/user-redirect/lab/tree/100%25.ipynb``. JupyterHub
        takes what it decodes to, which is another place where a name has a ``%``, a ``#`` or a ``?`` in it.
    query
        The arguments, as they were sent.

    Returns
    -------
    str
        An address that begins with the session's, so that no path leads to another site.
    """
    path = requested.partition(AT)[2].lstrip("/\\")
    return f"{session}{path}?{query}" if query else f"{session}{path}"


class RedirectHandler(UserRedirectHandler):  # type: ignore[misc]  # JupyterHub has no types
    """JupyterHub's, but for how the path is read."""

    @web.authenticated
    async def get(self, path: str) -> None:
        """Lead by way of the start page, which leads on at once where the session runs."""
        hook: Any = self.app.user_redirect_hook
        url = hook and await maybe_future(hook(path, self.request, self.current_user, self.base_url))
        if url is None or not hook:
            user, server = self.current_user, self.app.default_server_name
            parts = [user.escaped_name, *([url_escape_path(server)] if server else [])]
            session = url_path_join(user.url, *parts[1:], "/")
            after = urlencode({"next": target(session, self.request.path, self.request.query)})
            url = f"{url_path_join(self.hub.base_url, 'spawn', *parts)}?{after}"
        self.redirect(url)


def install() -> None:
    """Put the handler into the hub; doing it again changes nothing."""
    known = handlers.default_handlers
    known[:] = [(e[0], RedirectHandler if e[1] is UserRedirectHandler else e[1], *e[2:]) for e in known]
