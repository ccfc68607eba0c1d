"""CarmeSpawner: what JupyterHub sees. It takes a request, and hands it to a session of the right kind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from jupyterhub.spawner import Spawner
from wrapspawner import WrapSpawner

from carme_hub.spawner import (
    card,
    choices,
    closed,
    doors,
    interrupted,
    progress,
    reserved,
    roll,
    routes,
    rows,
    start_pages,
    sweep,
    user_redirect,
    warner,
)
from carme_hub.spawner.answers import Phase
from carme_hub.spawner.backends import backend_of, is_known, known_clusters, used_clusters
from carme_hub.spawner.errors import SessionError
from carme_hub.spawner.extend import extend
from carme_hub.spawner.limits import Held
from carme_hub.spawner.lost import LostSession
from carme_hub.spawner.offer import OfferingSpawner
from carme_hub.spawner.resume import Resuming, in_loop
from carme_hub.spawner.session import session_class
from carme_hub.spawner.slurm import Slurm
from carme_hub.spawner.summary import summary
from carme_hub.spawner.timelimit import NotExtended, limit_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from traitlets.config import Config

    from carme_hub.spawner.catalog import Catalog
    from carme_hub.spawner.chronicle import LastWords
    from carme_hub.spawner.session import Session
    from carme_hub.spawner.summary import Summary
    from carme_hub.spawner.timelimit import TimeLimit
    from carme_hub.spawner.told import Told


doors.open_all()
interrupted.install()
start_pages.install()
reserved.install()
routes.install()
user_redirect.install()

PAUSES = 10.0  # seconds between two looks at whether a session is suspended, if nothing else tells
NEWS = 5.0  # seconds to wait until Slurm shows a limit that it took

# Traits that each makes for itself; JupyterHub warns of whoever reads "db".
_OWN = {"parent", "log", "config", "db"}


def check_config(config: Config) -> Catalog:
    """Check ``images``, ``mounts``, ``profiles``, ``clusters`` and limits of ``c.CarmeSpawner``.

    Raises
    ------
    CatalogError
        With one line for each mistake, starting with the setting.
    traitlets.TraitError
        When a setting has the wrong type altogether.
    """
    spawner = CarmeSpawner(config=config)
    spawner.limit_rules  # noqa: B018 - reading it checks it
    return spawner.catalog


class CarmeSpawner(Resuming, OfferingSpawner):
    """Checks what is asked for, and wraps the session that does it.

    The frame is wrapspawner's. Which class the child has, and what a restarted hub
    makes it from, is decided here: neither a person nor a stored state names a class or a setting.
    """

    def __init__(self, **traits: Any) -> None:
        self._guard: asyncio.Task[None] | None = None
        self._teller: asyncio.Task[None] | None = None
        self._pauses: asyncio.Task[None] | None = None
        self._begun = asyncio.Event()
        self._extending = asyncio.Lock()
        super().__init__(**traits)

    @property
    def child(self) -> Session | None:
        """Return the session, from its start to its end."""
        child: Session | None = self.child_spawner
        return child

    def construct_child(self) -> Session:
        """Make the session, with the values of all settings that both have.

        wrapspawner would link the settings, and never cuts the links: every start would leave its session
        behind for as long as the hub runs. It also forgets to say which of a person's servers the child is.
        """
        child: Session = self.child_class(parent=self.parent, log=self.log, config=self.config)
        for name in set(self.trait_names()) & set(child.trait_names()) - _OWN:
            if not name.startswith("_"):
                setattr(child, name, getattr(self, name))
        child._server = self._server  # noqa: SLF001 - no trait, and JupyterHub's for as long as the database has it
        self.child_spawner = child
        return child

    def _new_session(self, cluster: str) -> Session:
        self.child_class = session_class(cluster) if is_known(self, cluster) else LostSession
        child = self.construct_child()
        child.cluster, child.kept = cluster, self.get_state
        roll.enter(self)
        return child

    async def start(self) -> tuple[str, int]:
        """Check the request and have the session started.

        Raises
        ------
        SessionError
            With a sentence for the person.
        """
        if sentence := reserved.problem(self.name):  # one of before this was asked
            raise SessionError(sentence, reason="name", status_code=400)
        await closed.check(self.user)
        await self.learn()
        request = self.parse_options(self.user_options)
        # From here to the child, which `held` counts, nothing is awaited.
        self.admit(request)
        child = self._new_session(request.profile.cluster or next(iter(known_clusters(self.clusters))))
        child.request = request
        child.command, child.variables = (*self.cmd, *self.get_args()), self.get_env()
        choices.keep(self.user, request.options())
        self._begun.set()
        return await child.start()

    def held(self) -> Held | None:
        """Return what the session holds of its owner's limits, from start to end; None without one."""
        child = self.child
        if child is None:
            return None
        # What its job has, also when the hub was restarted and the profile offers something else now.
        options = child.options or (child.request.options() if child.request is not None else {})
        view = child.view
        # After a restart of the hub, a session that has a port has been running.
        pending = not child.reported if view is None else view.phase is Phase.PENDING
        return Held.by(options, pending=pending)

    async def stop(self, now: bool = False) -> None:
        """End the session, whatever it is doing."""
        if self.child is not None:
            await self.child.stop(now)
            await self._until_writable()

    async def poll(self) -> int | None:
        """Say whether the session is alive (None) or how it ended."""
        status = 0 if self.child is None else await self.child.poll()
        if status is not None and self._stop_pending:
            await self._until_writable()
        return status

    async def _until_writable(self) -> None:
        """Wait until the database takes the end of the session, and with it the end of its token."""
        child = self.child
        if self.orm_spawner is not None:
            await rows.until_writable(
                self.orm_spawner, self.log, lambda: child.revoke_token() if child is not None else None
            )

    # --- After a restart of the hub (resume.Resuming) ---

    def resumable(self) -> bool:
        """Say whether the state that was loaded has a job."""
        return self.child is not None

    async def up_again(self) -> str | None:
        """Wait until the session of before the restart has a server; None when it has ended."""
        child = self.child
        if child is None:
            return None
        child.parse_again = partial(self.parse_options, child.options)  # as they are now: its end clears them
        return await child.up_again()

    def waiting(self) -> progress.Event:
        """Return what there is to say of the start now."""
        return self.child.waiting() if self.child is not None else progress.event("", None)

    async def progress(self) -> AsyncIterator[progress.Event]:
        """Say what the start waits for, whenever that changes."""
        if self.child is None:
            yield progress.event("", None)
            await self._begun.wait()
        if self.child is not None:
            async for event in self.child.progress():
                yield event

    def start_polling(self) -> None:
        """Poll as JupyterHub does, and notice the end as soon as the watcher or the job tells it."""
        super().start_polling()
        if self._spawn_future is not None:
            self._spawn_future.add_done_callback(lambda _future: roll.news())
        if self.child is not None:
            warner.begin(self.child)
            self._guard = asyncio.ensure_future(self._notice_end(self.child))
            self._pauses = asyncio.ensure_future(self._notice_pauses(self.child))

    def stop_polling(self) -> None:
        """Stop as JupyterHub does, at the begin of each end; who looks at the sessions sees it."""
        super().stop_polling()
        if self._pauses is not None:
            self._pauses.cancel()
        roll.news()

    async def _notice_end(self, child: Session) -> None:
        """Have JupyterHub remove the route when the job ends: its port is free for anybody then."""
        await child.until_ended()
        if self._spawn_future is not None:
            # JupyterHub says last of all what it wants to be called for.
            await asyncio.wait([self._spawn_future])
        if self.child is child and not self._stop_pending:
            await self.with_last_words(self.poll_and_notify())

    @property
    def paused(self) -> bool:
        """Say whether Slurm has suspended the session: its server does not answer then."""
        view = self.child.view if self.child is not None else None
        return view is not None and view.state in progress.PAUSED

    async def _notice_pauses(self, child: Session) -> None:
        """Lead to the hub's page while the session is suspended, and back to it afterwards."""
        led, ref = False, child.ref
        while self.child is child and child.ref == ref and not self._stop_pending:
            view = child.view
            if self.ready and self.paused is not led:
                try:
                    await self.user.settings["proxy"].add_user(self.user, self.name)
                    led = self.paused
                    roll.news()
                except Exception as error:  # noqa: BLE001 - the proxy may be away; it is asked again
                    self.log.warning("The route of %s is not changed yet: %s", self._log_name, error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSES):
                    if await child.watcher.changed(ref, view) is None:  # it is not watched at the moment
                        await asyncio.sleep(PAUSES)

    async def with_last_words(self, removal: Awaitable[object]) -> None:
        """Have JupyterHub remove a session that ended by itself, and leave a sentence about its end."""
        # As long as there is this, JupyterHub keeps the spawner, and pages look into it for a failure.
        told = self._spawn_future = asyncio.get_running_loop().create_future()
        child = self.child
        number = int(child.job_id or 0) if child is not None else 0
        words = child.last_words(child.ref) if child is not None and number else None
        try:
            await removal
        finally:
            self._teller = asyncio.ensure_future(self._tell_end(number, words, told))

    async def _tell_end(
        self, number: int, words: asyncio.Future[LastWords] | None, told: asyncio.Future[None]
    ) -> None:
        """Leave a sentence about the end of a session that nobody stopped, until the next one is started."""
        sentence = (await words).sentence if words is not None else ""
        if self._spawn_future is not told:
            return
        if sentence:
            self.log.warning("Job %s of %s: %s", number, self._log_name, sentence)
            told.set_exception(SessionError(sentence, reason="ended", status_code=500))
            told.exception()  # asyncio would say else that nobody asked for it
            return
        self._spawn_future = None
        if self.user.spawners.get(self.name) is self:
            self.user.spawners.pop(self.name)

    @property
    def last_words(self) -> str:
        """Return the sentence about the end of the last session, when it ended by itself; else nothing."""
        error = self._failed
        return str(getattr(error, "jupyterhub_message", "")) if error else ""

    # --- The job's reports (report.ReportHandler) ---

    def owns_token(self, token: str) -> bool:
        """Say whether a token is the one the session was started with."""
        return self.child is not None and self.child.owns_token(token)

    def take_begun(self) -> bool:
        """Take the job's word that its container runs, while it starts."""
        return self.child is not None and not self._stop_pending and self.child.take_begun()

    def take_port(self, port: int) -> bool:
        """Take the port the job reports, once, while it starts."""
        return self.child is not None and not self._stop_pending and self.child.take_port(port)

    def take_told(self, told: Told) -> bool:
        """Take what the job says of its home, its memory and its log."""
        return self.child is not None and self.child.take_told(told)

    async def take_end(self) -> bool:
        """Take the server's word that it ends, and return when JupyterHub has removed its route."""
        if self.child is None or not self.child.take_end():
            return False
        if self._guard is not None:
            await asyncio.shield(self._guard)
        return True

    # --- Its time limit (timelimit.Limited) ---

    def time_limit(self) -> TimeLimit | None:
        """Return when the session ends; None when it does not run or nothing is known yet."""
        child = self.child
        if child is None or not child.job_id:
            return None
        offered = self.catalog.visible_to(self.person.groups).profiles
        profile = offered.get(str(child.options.get("profile", "")))
        most = profile.max_extended_time if profile and isinstance(child.runner, Slurm) else None
        own = self.limit_rules.of(self.person.groups).max_time
        if most is not None and own is not None:
            most = min(most, own)
        return limit_of(child.view, most, self.warn_before)

    async def extend(self, minutes: int) -> TimeLimit | None:
        """Make the session last so many minutes from its start, and return its new limit.

        Raises
        ------
        NotExtended
            With a sentence, when it stays as it is.
        """
        child, limit = self.child, self.time_limit()
        if child is None or limit is None or not isinstance(child.runner, Slurm):
            raise NotExtended("This session cannot be extended: it does not run, or not in Slurm.")
        async with self._extending:
            ref, before = child.ref, child.view
            if await extend(child.runner, ref.number, self.user.name, minutes, limit.most):
                # Pages are right at once.
                child.watcher.look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(NEWS):
                        await child.watcher.changed(ref, before)
        return self.time_limit()

    # --- Pages and state ---

    @property
    def session(self) -> Summary:
        """Return what pages say of the session."""
        child = self.child
        if child is None:
            return summary({}, self.catalog, "", "")
        return summary(child.options, self.catalog, child.job_id, child.node)

    def card(self) -> dict[str, Any]:
        """Return what the home page shows of the session; see `carme_hub.spawner.card.card`."""
        return card.card(self, time.time())

    def get_state(self) -> dict[str, Any]:
        """Return what the next hub needs to find the job again: the session's own state."""
        if self.child is not None:
            return self.child.get_state()
        state: dict[str, Any] = Spawner.get_state(self)
        return state | choices.carried(self.orm_spawner)

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` gave; nothing is asked of Slurm here."""
        Spawner.load_state(self, state)
        # A hub that was killed between the two ends of a stop leaves a job's state without a server.
        given_up = self.orm_spawner is not None and self.orm_spawner.server is None
        if state.get("job_id") and not given_up:
            self._new_session(str(state.get("cluster", ""))).load_state(state)
        self._sweep()
        self.resume()

    def _sweep(self) -> None:
        """Have jobs without a session looked for, on each cluster; the first spawner of the hub begins it."""
        settings = getattr(self.user, "settings", None) or {}
        if settings.get("cookie_secret") and self.orm_spawner is not None and in_loop():
            hub = sweep.hub_id(settings["cookie_secret"])
            for name in used_clusters(self.clusters, self.profiles):
                rows.begin_sweep(backend_of(self, name, self.log), hub, self.orm_spawner, self.log)

    async def delete_forever(self) -> None:
        """Let the proxy forget the session, too, when its owner removes it."""
        await routes.forget(self.user.settings["proxy"], self.proxy_spec)

    def clear_state(self) -> None:
        """Forget the session."""
        roll.leave(self)
        WrapSpawner.clear_state(self)
        self._begun.clear()
