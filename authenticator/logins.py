"""The hub's own records of who is in: ending them. Runs on the hub's loop, which owns its database."""

from typing import Any

from jupyterhub.orm import APIToken
from jupyterhub.utils import new_token

from carme_hub.authenticator.answers import GateUnavailableError

DAY = 86400  # seconds
LONGEST_DAYS = 31  # in which tornado takes a signed cookie where nothing else is configured


async def end_login(handler: Any, user: Any, session_id: str) -> None:
    """
    End one login wherever its cookies are, with all that it has opened, or is about to, elsewhere.

    Where the gate's database cannot keep that, all logins of the person end: one that was signed out of must
    not come back with the next start of the hub.

    Parameters
    ----------
    handler
        Of the request.
    user
        JupyterHub's `User`, whose login it is.
    session_id
        The login's cookie ``jupyterhub-session-id``.
    """
    ended = handler.authenticator.store.ended
    ended.add(session_id, DAY * (handler.cookie_max_age_days or LONGEST_DAYS))
    for one in [*user.orm_user.oauth_codes, *user.orm_user.api_tokens]:
        if session_id and one.session_id == session_id:
            user.db.delete(one)
    user.db.commit()
    try:
        await handler.authenticator.in_thread(lambda: ended.keep(session_id))
    except GateUnavailableError as error:
        handler.log.warning("That %s signed out is not kept (%s): all of their logins end", user.name, error)
        user.orm_user.cookie_id = new_token()
        user.db.commit()


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
