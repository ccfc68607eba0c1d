"""What a request is told when something came between: a sentence in place of JupyterHub's 500."""

from __future__ import annotations

import asyncio
import contextlib
import html
import inspect
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from jupyterhub import apihandlers, handlers
from jupyterhub.apihandlers.users import UserServerAPIHandler
from jupyterhub.handlers.pages import SpawnHandler
from sqlalchemy.exc import SQLAlchemyError
from tornado import web

from carme_hub.spawner import events, routes
from carme_hub.spawner.errors import SessionError
from carme_hub.spawner.named import remove

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

STOPPED = "The session was stopped before it was up. It can be started again."
BUSY = "The session is just being started or stopped. Please try again in a minute."
RUNS = "This session runs already."
STARTS = "This session is being started already."
NO_DATABASE = "The hub's database does not answer at the moment. Please try again in a minute."


# What JupyterHub's errors say then (6.1.1).
_BETWEEN = (" pending ", "cannot be deleted", "no such spawner")


class Told(web.HTTPError):
    """An answer with a sentence for API and pages, and with a link for pages.

    Parameters
    ----------
    link, text
        An address at the hub, and what is written on it.
    """

    def __init__(self, status: int, sentence: str, link: str = "", text: str = "") -> None:
        super().__init__(status, sentence)
        self.jupyterhub_message = sentence
        if link:
            where, words = html.escape(link), html.escape(text)
            self.jupyterhub_html_message = (
                f'{html.escape(sentence)} <a class="alert-link" href="{where}">{words}</a>'
            )


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


@contextlib.asynccontextmanager
async def leaving_nothing(handler: Any, owner: str, name: str) -> AsyncIterator[None]:
    """Remove the row that a request makes for a named session whose start is refused, now or later.

    A start that was taken and failed keeps its row: the row has the page that says why.
    """
    user = handler.find_user(owner)
    fresh = user is not None and name and name not in user.orm_spawners
    refused = False
    try:
        yield
    except web.HTTPError as error:
        refused = error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
        raise
    finally:
        spawner = user.spawners.get(name) if fresh and name in user.orm_spawners else None
        if spawner is not None:
            _drop_refused(user, spawner, refused=refused)
        await routes.settle_for(handler, owner)


def _drop_refused(user: Any, spawner: Any, *, refused: bool) -> None:
    start = spawner._spawn_future  # noqa: SLF001 - JupyterHub's, also of a start that has failed

    def look() -> None:
        error = spawner._failed  # noqa: SLF001 - as above
        told = refused or (isinstance(error, SessionError) and error.status_code == HTTPStatus.BAD_REQUEST)
        if told and not spawner.active and user.spawners.get(spawner.name) is spawner:
            remove(user, spawner.name)

    if start is None or start.done():
        look()
    else:
        loop = asyncio.get_running_loop()
        start.add_done_callback(lambda _future: loop.call_soon(look))


class ServerHandler(UserServerAPIHandler):  # type: ignore[misc]  # JupyterHub has no types
    """``/hub/api/users/NAME/server`` and ``.../servers/SERVER``."""

    async def put(self, *names: str, **more: str) -> None:
        """Make a named session that is not started."""
        with sentences(self):
            await super().put(*names, **more)
            await routes.settle_for(self, (*names, *more.values())[0])

    async def post(self, *names: str, **more: str) -> None:
        """Start a session. A start that is refused leaves no name behind that was not there before."""
        owner, server = (*names, *more.values(), "")[:2]
        # Looking for what is to be left asks the database, too.
        with sentences(self):
            async with leaving_nothing(self, owner, server):
                with sentences(self):
                    await super().post(*names, **more)

    async def patch(self, *names: str, **more: str) -> None:
        """Change a session's name, or what it is called."""
        with sentences(self):
            await super().patch(*names, **more)
            await routes.settle_for(self, (*names, *more.values())[0])

    async def delete(self, *names: str, **more: str) -> None:
        """Stop a session; its owner is told when somebody else did."""
        owner = (*names, *more.values())[0]
        with sentences(self):
            with acting(self.current_user, owner):
                await super().delete(*names, **more)
            await routes.settle_for(self, owner)


class StartHandler(SpawnHandler):  # type: ignore[misc]  # JupyterHub has no types
    """``/hub/spawn``."""

    async def get(self, *names: str, **more: str) -> None:
        """Show the form, or start from a link."""
        with sentences(self):
            await _done(super().get(*names, **more))

    async def post(self, *names: str, **more: str) -> None:
        """Start a session from the form."""
        caller = self.current_user.name if self.current_user is not None else ""
        given = [part or "" for part in (*names, *more.values())] or [caller]
        with sentences(self):
            async with leaving_nothing(self, given[0], (*given, "")[1]):
                with sentences(self):
                    self._refuse_twice(given[0], (*given, "")[1])
                    await _done(super().post(*names, **more))

    def _refuse_twice(self, owner: str, server: str) -> None:
        """Lead somebody who presses Start in an old tab to what was started meanwhile."""
        user: Any = self.find_user(owner)
        if user is None or not self.has_scope(f"servers!server={owner}/{server}"):
            return
        spawner = user.spawners[server] if server in user.orm_spawners else None
        if spawner is not None and spawner.ready:
            raise Told(409, RUNS, user.server_url(server), "Open it")
        if spawner is not None and spawner.pending == "spawn":
            raise Told(409, STARTS, self._get_pending_url(user, server), "View progress")

    def render_template(self, name: str, sync: bool = False, **given: Any) -> Any:
        """Draw the form, which posts to this address.

        JupyterHub adds the proof against forgery to the address: it would stand in the browser's bar and its
        history on all pages to come, and once more for each refusal. Our forms have it in a field, and the
        address without it as ``form_url``; JupyterHub's own page needs it where it is.
        """
        if "url" in given:
            address = urlsplit(self.request.uri)
            rest = [pair for pair in parse_qsl(address.query, keep_blank_values=True) if pair[0] != "_xsrf"]
            given["form_url"] = address._replace(query=urlencode(rest)).geturl()
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
