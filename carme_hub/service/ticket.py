"""The one secret that hub and service share, and the proof that a request comes from a page of theirs."""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

COOKIES, REQUESTS = (
    b"carme cookies",
    b"carme requests",
)  # what keys are made for; none can be told from another


def hub_secret(config: Any) -> bytes:
    """Return the hub's cookie secret, as the hub itself finds it.

    Parameters
    ----------
    config : traitlets.config.Config
        The site's.

    Raises
    ------
    OSError
        There is no file with it, or it cannot be read.
    ValueError
        It is no hexadecimal number.
    """
    given = config.JupyterHub.get("cookie_secret", b"") or os.environ.get("JPY_COOKIE_SECRET", "")
    if isinstance(given, bytes) and given:
        return given
    if not given:
        path = Path(config.JupyterHub.get("cookie_secret_file", "jupyterhub_cookie_secret"))
        given = path.expanduser().read_text(encoding="ascii").strip()
    return bytes.fromhex(str(given))


def key(secret: bytes, purpose: bytes) -> bytes:
    """Derive a key from the hub's cookie secret."""
    return hmac.digest(secret, purpose, hashlib.sha256)


def ticket(secret: bytes, session_id: str, name: str) -> str:
    """Return what pages of hub and service prove themselves with to the service, in place of an XSRF cookie.

    The hub's own XSRF token counts at the hub alone. This one both can make, so that a page of either can ask
    the service. It tells nothing, lets nobody in, and counts for one person in one login: somebody else's,
    slipped into the cookies with their session's id, has the wrong name in it.

    Parameters
    ----------
    secret
        The hub's cookie secret.
    session_id
        Of the person's login: the cookie ``jupyterhub-session-id``, which no script reads.
    name
        The person's.
    """
    proof = hmac.digest(key(secret, REQUESTS), f"{session_id}\0{name}".encode(), hashlib.sha256)
    return urlsafe_b64encode(proof).decode().rstrip("=")


def fits(given: str, secret: bytes, session_id: str, name: str) -> bool:
    """Say whether somebody's ticket is the right one. Without a login there is none."""
    if not (given and session_id and name):
        return False
    return hmac.compare_digest(given.encode(), ticket(secret, session_id, name).encode())
