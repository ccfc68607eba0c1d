"""The sign by which the proxy in front knows a browser that somebody signed in with.

It opens nothing: whoever shows it is let through to the session they asked for, which asks the hub who they
are. Whoever does not gets the answer of the hub, whether there is such a session or not.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Any

from jupyterhub.handlers.base import BaseHandler

from carme_hub.front.bounds import DAY, FRONT

COOKIE = "carme-pass"
PURPOSE = b"carme: passes of the proxy in front"


def key_of(proxy: Any) -> bytes:
    """Return what passes are signed with: the hub's secret, or what a proxy that it does not start knows."""
    secret = proxy.app.cookie_secret if proxy.should_start else proxy.auth_token.encode()
    return hmac.digest(secret, PURPOSE, "sha256")


def new_pass(key: bytes, now: float) -> str:
    """Return a pass: EXPIRY.SIGNATURE, with seconds since 1970."""
    expiry = str(int(now) + FRONT.pass_seconds)
    return f"{expiry}.{hmac.new(key, expiry.encode(), hashlib.sha256).hexdigest()}"


def is_fresh(given: str, key: bytes, now: float) -> bool:
    """Say whether a pass holds for a day or longer; before that, a new one is given."""
    expiry, _, signature = given.partition(".")
    if not (expiry.isascii() and expiry.isdigit() and signature.isascii()) or int(expiry[:12]) < now + DAY:
        return False
    return hmac.compare_digest(hmac.new(key, expiry.encode(), hashlib.sha256).hexdigest(), signature)


def give_passes(key: bytes) -> None:
    """Let every answer to somebody who is signed in bring a pass, when their browser has none that holds."""
    ask, login, leave = (
        BaseHandler.get_current_user_cookie,
        BaseHandler.set_login_cookie,
        BaseHandler.clear_login_cookie,
    )

    def get_current_user_cookie(handler: Any) -> Any:
        user = ask(handler)
        if user is not None and not is_fresh(handler.get_cookie(COOKIE, ""), key, time.time()):
            _give(handler, key)
        return user

    def set_login_cookie(handler: Any, user: Any) -> None:
        login(handler, user)
        _give(handler, key)

    def clear_login_cookie(handler: Any, name: str | None = None) -> None:
        leave(handler, name)
        handler.clear_cookie(COOKIE, path=handler.base_url, **_domain(handler))

    BaseHandler.get_current_user_cookie = get_current_user_cookie
    BaseHandler.set_login_cookie = set_login_cookie
    BaseHandler.clear_login_cookie = clear_login_cookie


def _domain(handler: Any) -> dict[str, str]:
    return {"domain": handler.domain} if handler.subdomain_host else {}


def _give(handler: Any, key: bytes) -> None:
    value = new_pass(key, time.time())
    more = {"path": handler.base_url, "expires_days": FRONT.pass_seconds / DAY, **_domain(handler)}
    handler._set_cookie(COOKIE, value, encrypted=False, **more)  # noqa: SLF001  JupyterHub's own way
