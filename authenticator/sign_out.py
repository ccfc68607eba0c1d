"""Signing out, which ends a login wherever its cookies are, and the cookie that makes this possible.

JupyterHub's cookie says who somebody is, and nothing of when they signed in: a copy outlives the sign-out.
Here it names the session, too, whose id is in a cookie of its own, and counts as long as that one has not
ended.
"""

import uuid
from typing import Any
from urllib.parse import urlsplit

from jupyterhub import orm
from jupyterhub.handlers.base import SESSION_COOKIE_NAME, BaseHandler
from jupyterhub.handlers.login import LogoutHandler

from carme_hub.authenticator.logins import LONGEST_DAYS, end_login
from carme_hub.authenticator.pages import GatePage

SEPARATOR = ":"


def set_user_cookie(handler: Any, user: Any, server: Any) -> None:
    """Log a browser in: who somebody is, and in which session."""
    session_id = handler.get_session_cookie() or handler.set_session_cookie()
    value = f"{user.cookie_id}{SEPARATOR}{session_id}"
    handler._set_cookie(server.cookie_name, value, encrypted=True, path=server.base_url)  # noqa: SLF001


def user_for_cookie(handler: Any, cookie_name: str, cookie_value: Any = None) -> Any:
    """Return whom a cookie logs in: nobody in another session than its own, or in one that has ended."""
    value = handler.get_secure_cookie(cookie_name, cookie_value, max_age_days=handler.cookie_max_age_days)
    if value is None:
        return None
    cookie_id, _, session_id = value.decode("utf-8", "replace").partition(SEPARATOR)
    if not session_id or session_id != handler.get_session_cookie():
        return None
    if handler.authenticator.store.ended.has(session_id):
        return None
    found = handler.db.query(orm.User).filter(orm.User.cookie_id == cookie_id).first()
    user = handler._user_from_orm(found)  # noqa: SLF001
    if user is not None and handler._record_activity(user):  # noqa: SLF001
        handler.db.commit()
    return user


def set_session_cookie(handler: Any) -> str:
    """Name the session; the cookie lives as long as that of the login, which is worth nothing without it."""
    if not hasattr(handler, "_session_id"):
        handler._session_id = uuid.uuid4().hex  # noqa: SLF001 - JupyterHub's own
    where = {"domain": handler.domain} if handler.subdomain_host else {}
    handler._set_cookie(  # noqa: SLF001
        SESSION_COOKIE_NAME,
        handler._session_id,  # noqa: SLF001
        encrypted=False,
        path=handler.base_url,
        expires_days=handler.cookie_max_age_days or LONGEST_DAYS,
        **where,
    )
    return str(handler._session_id)  # noqa: SLF001


def install() -> None:
    """Have all of the hub's pages and its API go by these cookies; doing it again changes nothing."""
    BaseHandler._set_user_cookie = set_user_cookie  # noqa: SLF001 - where JupyterHub makes and reads them
    BaseHandler._user_for_cookie = user_for_cookie  # noqa: SLF001
    BaseHandler.set_session_cookie = set_session_cookie


def wanted(headers: Any, host: str) -> bool:
    """
    Say whether a GET is somebody's own click on "Sign out", as far as headers tell.

    Parameters
    ----------
    headers
        Of the request. What other pages embed, fetch or link to is not; where a browser is too old to say
        which page it comes from (Fetch Metadata), its ``Referer`` has to be none of another site.
    host
        What the request calls the hub.
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return (
            site in {"same-origin", "none"}
            and headers.get("Sec-Fetch-Mode") == "navigate"
            and headers.get("Sec-Fetch-Dest") == "document"
        )
    referer = headers.get("Referer", "")
    return not referer or urlsplit(referer).netloc == host


class SignOut(GatePage, LogoutHandler):  # type: ignore[misc] # JupyterHub ships no types
    """``/hub/logout``: a link of our own pages signs out, one on another site asks first."""

    async def get(self) -> None:
        """Sign out, or ask."""
        if self.current_user is not None and not wanted(self.request.headers, self.request.host):
            await self.show("sign_out.html")
            return
        await LogoutHandler.get(self)

    async def post(self) -> None:
        """Sign out: the form that `get` shows."""
        await LogoutHandler.get(self)

    async def default_handle_logout(self) -> None:
        """End the login before its cookies are taken away."""
        if self.current_user is not None:
            await end_login(self, self.current_user, self.get_session_cookie() or "")
        await super().default_handle_logout()


handlers: list[tuple[str, Any]] = [(r"/logout", SignOut)]
