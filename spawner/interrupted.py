"""What a request is told when something came between: a sentence in place of JupyterHub's 500."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from jupyterhub import apihandlers, handlers
from jupyterhub.apihandlers.users import UserServerAPIHandler
from jupyterhub.handlers.pages import SpawnHandler
from sqlalchemy.exc import SQLAlchemyError
from tornado import web

from carme_hub.spawner import events

if TYPE_CHECKING:
    from collections.abc import Iterator

STOPPED = "The session was stopped before it was up. It can be started again."
BUSY = "The session is just being started or stopped. Please try again in a minute."
NO_DATABASE = "The hub's database does not answer at the moment. Please try again in a minute."


# What JupyterHub's errors say then (6.1.1).
_BETWEEN = (" pending ", "cannot be deleted", "no such spawner")


class Told(web.HTTPError):
    """An answer with a sentence for API and pages."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(status, sentence)
        self.jupyterhub_message = sentence


@contextlib.contextmanager
def sentences(handler: Any) -> Iterator[None]:
    """Turn what JupyterHub lets out as it is into answers.

    - ``DELETE`` cancels the start that a ``POST`` waits for.
    - ``spawn_single_user`` and ``stop_single_user`` raise RuntimeError while something else is pending, and
      so does the removal of a server that somebody starts meanwhile; its start finds no server then.
    - The database may be locked, or away. What the request wanted to write is given up, the rest goes on.
    """
    try:
        yield
    except asyncio.CancelledError:
        raise Told(409, STOPPED) from None
    except SQLAlchemyError as error:
        handler.log.warning("%s %s: %s", handler.request.method, handler.request.path, error)
        handler.db.rollback()
        raise Told(503, NO_DATABASE) from None
    except (RuntimeError, KeyError) as error:
        if not any(words in str(error) for words in _BETWEEN):
            raise
        raise Told(409, BUSY) from None


@contextlib.contextmanager
def acting(caller: Any, owner: str) -> Iterator[None]:
    """Let what is done be told as done by the caller, if that is not the session's owner."""
    own = caller is None or (caller.kind == "user" and caller.name == owner)
    before = events.ACTING.set("" if own else str(caller.name))
    try:
        yield
    finally:
        events.ACTING.reset(before)


class ServerHandler(UserServerAPIHandler):  # type: ignore[misc]  # JupyterHub has no types
    """``/hub/api/users/NAME/server`` and ``.../servers/SERVER``."""

    async def post(self, *names: str, **more: str) -> None:
        """Start a session."""
        with sentences(self):
            await super().post(*names, **more)

    async def delete(self, *names: str, **more: str) -> None:
        """Stop a session; its owner is told when somebody else did."""
        with sentences(self), acting(self.current_user, (*names, *more.values())[0]):
            await super().delete(*names, **more)


class StartHandler(SpawnHandler):  # type: ignore[misc]  # JupyterHub has no types
    """``/hub/spawn``."""

    async def get(self, *names: str, **more: str) -> None:
        """Show the form, or start from a link."""
        with sentences(self):
            await _done(super().get(*names, **more))

    async def post(self, *names: str, **more: str) -> None:
        """Start a session from the form."""
        with sentences(self):
            await _done(super().post(*names, **more))

    def render_template(self, name: str, sync: bool = False, **given: Any) -> Any:
        """Draw the form, which posts to this address.

        JupyterHub adds the proof against forgery to the address: it would stand in the browser's bar and its
        history on all pages to come, and once more for each refusal. Our forms have it in a field.
        """
        if "url" in given:
            address = urlsplit(self.request.uri)
            rest = [pair for pair in parse_qsl(address.query, keep_blank_values=True) if pair[0] != "_xsrf"]
            given["url"] = address._replace(query=urlencode(rest)).geturl()
        return super().render_template(name, sync, **given)


async def _done(answer: object) -> None:
    """Wait for what a handler of JupyterHub's gives: nothing when ``web.authenticated`` sent the login."""
    if inspect.isawaitable(answer):
        await answer


def install() -> None:
    """Put the handlers of this module in the place of JupyterHub's; doing it again changes nothing."""
    ours = {UserServerAPIHandler: ServerHandler, SpawnHandler: StartHandler}
    for entries in (apihandlers.default_handlers, handlers.default_handlers):
        entries[:] = [(entry[0], ours.get(entry[1], entry[1]), *entry[2:]) for entry in entries]
