"""What becomes of sessions when the hub is restarted: each goes on as an ordinary start.

A hub that starts looks at every session of its database, and a session that it still looks at can neither be
stopped nor watched. One that waits in Slurm's queue would keep it looking for days, and one whose server does
not answer for a minute would be ended. So CarmeSpawner keeps its sessions out of that look and takes them up
itself: JupyterHub's pages and API then see a start, with progress and a way to stop it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jupyterhub.spawner import Spawner
from jupyterhub.utils import AnyTimeoutError, make_ssl_context

from carme_hub.spawner import saver
from carme_hub.spawner.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Awaitable

AGAIN = 2.0  # seconds between two attempts to take a session up
ROUTE_INTERVAL = 1.0  # seconds between two attempts to give a session its route


def in_loop() -> bool:
    """Say whether an event loop runs here: none does where a script reads a state, and nothing can begin."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Resuming:
    """Makes of a spawner, put before its class, one whose sessions outlive the hub.

    Notes
    -----
    `jupyterhub.app.JupyterHub.init_spawners` makes all spawners, which calls `load_state`, sets
    ``_check_pending`` on each, and only then, in tasks, looks at their ``server``. A spawner without one is
    left in peace. What `jupyterhub.handlers.base.BaseHandler.spawn_single_user` does for a start is done
    here for a session that is taken up: ``_spawn_pending`` and ``_spawn_future`` are what pages, progress and
    DELETE go by (6.1.1).
    """

    if TYPE_CHECKING:  # what the spawner has
        user: Any
        authenticator: Any
        orm_spawner: Any
        log: Any
        name: str
        http_timeout: int
        poll: Any
        start_polling: Any
        add_poll_callback: Any
        get_state: Any
        _log_name: str
        _check_pending: bool

    _spawn_pending = False
    _spawn_future: asyncio.Future[None] | None = None

    def resumable(self) -> bool:
        """Say whether the state that was loaded has a job."""
        raise NotImplementedError

    async def up_again(self) -> str | None:
        """Wait until the session of before the restart has a server.

        Returns
        -------
        str or None
            Its URL; None when it ended while nobody looked.

        Raises
        ------
        SessionError
            With a sentence, when it ended before its server was up.
        """
        raise NotImplementedError

    async def with_last_words(self, removal: Awaitable[object]) -> None:
        """Have JupyterHub remove a session that ended by itself, and leave a sentence about its end."""
        raise NotImplementedError

    @property
    def server(self) -> Any:
        """Return the session's row, but not to the look of a hub that starts."""
        if self._check_pending and self._spawn_pending:
            return None
        return Spawner.server.fget(self)

    @server.setter
    def server(self, server: Any) -> None:
        Spawner.server.fset(self, server)

    def resume(self) -> None:
        """Take up the session whose state was loaded, if there is one; call it last in `load_state`.

        Outside an event loop nothing begins: the state is there, and the session can be asked for as any.
        """
        if (
            not in_loop()
            or self.orm_spawner is None
            or self.orm_spawner.server is None
            or not self.resumable()
        ):
            return
        self._spawn_pending = True
        self._spawn_future = asyncio.get_running_loop().create_task(self._resume())
        self._spawn_future.add_done_callback(self._resumed)

    def _resumed(self, future: asyncio.Future[None]) -> None:
        # The exception stays: pages say what it says. Asking for it also tells asyncio that it is known.
        failed = not future.cancelled() and future.exception() is not None
        if self._spawn_future is not future:
            return
        if not failed:
            self._spawn_future = None
        self._spawn_pending = False

    async def _resume(self) -> None:
        user, name = self.user, self.name
        while self._check_pending:  # noqa: ASYNC110 - JupyterHub's, and no event
            await asyncio.sleep(0)  # the look of the hub that starts comes next, and passes by
        if user.name in self.authenticator.blocked_users:
            await user.stop(name)
            return
        while True:
            try:
                if await self._answering():
                    await self._go_on()
                    return
                break
            except SessionError as error:
                self.log.warning("The session of %s is not taken up: %s", self._log_name, error)
                with contextlib.suppress(Exception):
                    await user.stop(name)
                raise
            except Exception:
                # Whatever it is, it is not the session's end: its job lives, for all that is known.
                self.log.exception("The session of %s is not taken up yet", self._log_name)
                await asyncio.sleep(AGAIN)
            if self._spawn_future is not asyncio.current_task() or not self.resumable():
                return  # its owner stopped it meanwhile, and may have started another one
        self.log.warning("The session of %s ended while the hub was down", self._log_name)
        await self.with_last_words(user.stop(name))

    async def _answering(self) -> bool:
        """Wait, while its job lives, until the server answers; False when the job ended instead."""
        settings = self.user.settings
        context = make_ssl_context(
            settings.get("internal_ssl_key"),
            settings.get("internal_ssl_cert"),
            cafile=settings.get("internal_ssl_ca"),
        )
        # Where it is, is asked anew each time: a cluster that was away just now knows better afterwards.
        while (url := await self.up_again()) is not None:
            await self._set_address(url)
            with contextlib.suppress(AnyTimeoutError):
                answer = await self.server.wait_up(
                    http=True, timeout=self.http_timeout, ssl_context=context, extra_path="api"
                )
                # JupyterHub names it in the page of a server that does not work.
                self._jupyterhub_version = answer.headers.get("X-JupyterHub-Version")
                return True
            self.log.warning("The server of %s does not answer at %s", self._log_name, url)
        return False

    async def _set_address(self, url: str) -> None:
        """Write down where the server is, as `jupyterhub.user.User.spawn` does."""
        parts = urlsplit(url)

        def write() -> None:
            if self.server is None:
                return
            # Both: JupyterHub's object passes on only what is new to it, and the row may be rolled back.
            for server in (self.server, self.orm_spawner.server):
                server.proto, server.ip, server.port = parts.scheme, parts.hostname, parts.port
            self.orm_spawner.state = self.get_state()

        await saver.save(self.orm_spawner, write, self.log)

    async def _go_on(self) -> None:
        """Give the session its route, and have its end noticed."""
        user, name, proxy = self.user, self.name, self.user.settings["proxy"]
        while True:
            try:
                await proxy.add_user(user, name)
            except Exception as error:  # noqa: BLE001 - the proxy of before may still be there, and refuse
                self.log.warning("The session of %s has no route yet: %s", self._log_name, error)
                await asyncio.sleep(ROUTE_INTERVAL)
            else:
                break

        async def stopped() -> None:
            try:
                await proxy.delete_user(user, name)
            finally:
                await user.stop(name)

        self.add_poll_callback(stopped)
        self.start_polling()
        self.log.info("The session of %s goes on", self._log_name)
