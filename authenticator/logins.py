"""The hub's own records of who is in: ending them. Runs on the hub's loop, which owns its database."""

from typing import Any

from jupyterhub.orm import APIToken
from jupyterhub.utils import new_token


def end_logins(user: Any) -> None:
    """
    End a person's logins in browsers and API tokens, those of other services included.

    A running session keeps the token that it talks to the hub with, so that the work in it goes on and its
    owner finds it again; after a restart of the hub, the one that the spawner's state calls ``api_token_id``.

    Parameters
    ----------
    user
        JupyterHub's `User`.
    """
    running = [spawner for spawner in user.spawners.values() if spawner.active]
    found = [APIToken.find(user.db, one.api_token) for one in running if one.api_token]
    kept = {token.id for token in found if token is not None}
    kept |= {(one.orm_spawner.state or {}).get("api_token_id") for one in running}
    user.orm_user.cookie_id = new_token()
    for code in list(user.orm_user.oauth_codes):  # which could still be made tokens
        user.db.delete(code)
    for token in list(user.orm_user.api_tokens):
        if token.id not in kept:
            user.db.delete(token)
    user.db.commit()
