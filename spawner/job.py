"""The part of a session that knows its job: what the job reports, whether it lives, how it is ended."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import secrets
import time
from typing import TYPE_CHECKING, Any

from batchspawner import SlurmSpawner
from jupyterhub.orm import APIToken
from jupyterhub.spawner import Spawner
from sqlalchemy.orm import object_session
from traitlets import Instance, Unicode

from carme_hub.spawner import choices, memorywatch, roll, saver
from carme_hub.spawner.answers import Phase
from carme_hub.spawner.chronicle import Chronicle
from carme_hub.spawner.events import Facts
from carme_hub.spawner.request import JobRequest
from carme_hub.spawner.settings import SessionSettings
from carme_hub.spawner.slurm import SlurmError, account_of
from carme_hub.spawner.told import Told
from carme_hub.spawner.watcher import JobRef

if TYPE_CHECKING:
    from collections.abc import Callable

    from carme_hub.spawner.backends import Backend, Runner
    from carme_hub.spawner.watcher import View, Watcher

FIRST_PICTURE = 10.0  # seconds to wait for the first answer about a job of before the hub's restart
STOP_PATIENCE = 60.0  # seconds in which a job has to take its cancellation, and then to end
NOTE = "Server at "  # how JupyterHub begins the note of a session's token (jupyterhub.user)
LINGER = 60.0  # seconds in which a job whose server says that it ends has to end, before it is cancelled


def digest(token: str) -> str:
    """Return what is kept of a token: enough to know it again, too little to use it."""
    return hashlib.sha256(token.encode()).hexdigest()


class JobSession(SessionSettings, SlurmSpawner):  # type: ignore[misc]  # batchspawner has no types
    """What a session has to know of its job once there is one.

    Attributes
    ----------
    cluster
        What it runs on: a name in ``clusters``, or "local".
    request
        What was asked for; set before `start`.
    """

    cluster = Unicode(help="What the session runs on.")
    request = Instance(JobRequest, allow_none=True, help="What was asked for.")
    # What the hub keeps of the session: the frame's, which a subclass may add to.
    kept: Callable[[], dict[str, Any]] | None = None

    def __init__(self, **traits: object) -> None:
        self._reset()
        super().__init__(**traits)

    def _reset(self) -> None:
        self._submission: asyncio.Task[int] | None = None
        self._saving: asyncio.Future[None] | None = None
        self._token_digest = ""
        self._token_id = 0
        self.options: dict[str, str | int] = {}
        self.facts = Facts()
        self.chronicle: Chronicle | None = None
        self.node = ""
        self._port = 0
        # The person's number when the job was submitted; None for a job of an older hub.
        self.owner: int | None = None
        # Seconds since 1970: when Slurm took the job, and when the job said that its container runs.
        self.submitted: float | None = None
        self.begun: float | None = None
        self.told = Told()
        self._begins = asyncio.Event()
        self._reported = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def backend(self) -> Backend:
        """Return what the session runs on, shared by all its sessions."""
        raise NotImplementedError

    @property
    def runner(self) -> Runner:
        """Return the backend's commands."""
        return self.backend.runner

    @property
    def watcher(self) -> Watcher:
        """Return the watcher that all sessions of this backend share."""
        return self.backend.watcher

    @property
    def ref(self) -> JobRef:
        """Return which job is the session's; number 0, which none has, when there is none."""
        return JobRef(int(self.job_id or 0), self.owner)

    @property
    def view(self) -> View | None:
        """Return what the watcher knows of the session's job now."""
        return self.watcher.view(self.ref)

    def begin_chronicle(self, number: int) -> Chronicle:
        """Begin to tell what becomes of a job."""
        about = {
            "user": self.user.name,
            "server": self.name,
            "display_name": str(getattr(self.orm_spawner, "display_name", "") or ""),
            "cluster": self.cluster,
            "job": number,
            "options": dict(self.options),
        }
        self.chronicle = Chronicle(about, self.facts)
        return self.chronicle

    async def _news(self, ref: JobRef, view: View | None, *events: asyncio.Event) -> None:
        """Wait until the job looks different or reports."""
        awaited = [asyncio.ensure_future(self.watcher.changed(ref, view))]
        # Those that have happened are no news.
        awaited += [asyncio.ensure_future(event.wait()) for event in events if not event.is_set()]  # type: ignore[arg-type]
        try:
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in awaited:
                task.cancel()

    # --- The job's reports (report.ReportHandler) ---

    @property
    def reported(self) -> bool:
        """Say whether the server has told its port."""
        return bool(self._port)

    def owns_token(self, token: str) -> bool:
        """Say whether a token is the one this session was started with."""
        return bool(self._token_digest) and secrets.compare_digest(digest(token), self._token_digest)

    def take_begun(self) -> bool:
        """Take the job's word that its container runs, once, while it starts."""
        if self.begun or self._port or not self._token_digest:
            return False
        self.begun = time.time()
        self._begins.set()
        roll.news()
        return True

    def take_port(self, port: int) -> bool:
        """Take the port the job reports, once, while it starts."""
        if self._port or not self._token_digest:
            return False
        self._port = port
        self._reported.set()
        roll.news()
        if self.job_id:
            self._saving = self._save()
            # The job runs: learn its node now, not at the next interval.
            self.watcher.look()
        return True

    def take_told(self, told: Told) -> bool:
        """Take what the job says of its home, its memory and its log; the whole of it each time.

        The word is a person's, too: it is about that person's session only, and is told once.
        """
        if not self._token_digest or not self.job_id:
            return False
        before, self.told = self.told, told
        if (before.home, before.killed) != (told.home, told.killed):
            self._tell_of_memory()
            self._saving = self._save()
            roll.news()
        return True

    def _tell_of_memory(self) -> None:
        if self.told.killed and self.chronicle is not None:
            self.chronicle.out_of_memory(memorywatch.sentence(self.memory_of_a_node))

    @property
    def memory_of_a_node(self) -> int:
        """Return what the job may use on each of its nodes, in MiB; 0 where Slurm's default counts."""
        return self.facts.memory // max(self.facts.nodes, 1)

    @property
    def troubles(self) -> list[str]:
        """Return what the owner of a running session has to know of it, in sentences."""
        return self.told.sentences(self.memory_of_a_node)

    def take_end(self) -> bool:
        """Take the server's word that it ends.

        The word is a person's: the job is seen to its end, whether it is true or not.
        """
        if not self._port or not self.job_id:
            return False
        self._abandon(LINGER)
        self._ended.set()
        return True

    # --- While it runs, and its end ---

    async def poll(self) -> int | None:
        """Say from the watcher's picture whether the job is alive (None) or how it ended."""
        if self._submission is not None and not self._submission.done():
            return None
        if not self.job_id or self._ended.is_set():
            return 0
        self.watcher.watch(self.ref)
        view = self.view
        if view is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_PICTURE):
                    view = await self.watcher.changed(self.ref, None)
        if view is None:
            return None
        if view.phase is not Phase.ENDED:
            if not self._left(view):
                return None
            self._abandon()
        return view.ending.exit_code if view.ending else 0

    def _left(self, view: View) -> bool:
        """Say whether the job is no longer where its server listened.

        It is ending, or it waits to start again, or did so on another node. All of these end the session,
        and none of them the job: Slurm may start it again after COMPLETING.
        """
        listened = bool(self._port and self.node)
        return listened and (view.phase is not Phase.RUNNING or view.node not in {"", self.node})

    def _abandon(self, after: float = 0.0) -> None:
        """Have the job ended in any case: what JupyterHub forgets would go on unseen else."""
        ref, name = self.ref, self.user.name

        async def cancel() -> None:
            await self.runner.cancel(ref.number, await account_of(name))

        self.watcher.abandon(ref, cancel, after)

    async def until_ended(self) -> None:
        """Wait until the job ends, or says so."""
        ref = self.ref
        while True:
            view = self.watcher.view(ref)
            if await self.poll() is not None:
                return
            await self._news(ref, view, self._ended)

    async def stop(self, now: bool = False) -> None:
        """End the job as its owner, and wait until Slurm has ended it."""
        if self._submission is not None:
            with contextlib.suppress(SlurmError):
                await asyncio.shield(self._submission)
        if not self.job_id:
            return
        if self.chronicle is not None:
            self.chronicle.stopping()
        ref = self.ref
        cancelled = await self._cancel(ref.number)
        self.watcher.watch(ref)
        if cancelled and not now:
            with contextlib.suppress(TimeoutError), self.watcher.waiting():
                async with asyncio.timeout(STOP_PATIENCE):
                    view = self.watcher.view(ref)
                    while view is None or view.phase in {Phase.PENDING, Phase.RUNNING}:
                        view = await self.watcher.changed(ref, view)
        view = self.watcher.view(ref)
        if view is None or view.phase is not Phase.ENDED:
            # JupyterHub forgets the job now, whatever becomes of it.
            self._abandon()

    async def _cancel(self, number: int) -> bool:
        """Cancel the job, again and again while Slurm does not answer; False when it never did."""
        end, delay = asyncio.get_running_loop().time() + STOP_PATIENCE, 0.5
        while True:
            try:
                await self.runner.cancel(number, await account_of(self.user.name))
            except SlurmError as error:
                if asyncio.get_running_loop().time() > end:
                    self.log.error("Job %s is cancelled later: %s", number, error)  # noqa: TRY400 - no traceback
                    return False
                self.log.warning("Job %s is not cancelled yet: %s", number, error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, 5.0)
            else:
                return True

    # --- What survives a restart of the hub ---

    def _save(self) -> asyncio.Future[None]:
        """Write the state to the database now: JupyterHub does it only after start() has returned."""
        return saver.save(self.orm_spawner, functools.partial(self._write, self.job_id), self.log)

    def _write(self, job_id: str) -> None:
        if self.job_id != job_id:
            return
        session = object_session(self.orm_spawner)
        if session is not None and self.api_token and not self._token_id:
            # Whoever ends a person's API tokens spares this one, also after a restart of the hub.
            token = APIToken.find(session, self.api_token)
            self._token_id = token.id if token is not None else 0
        self.orm_spawner.state = self.kept() if self.kept is not None else self.get_state()

    def revoke_token(self) -> None:
        """Take the token back of a session that outlived a hub; the caller commits.

        JupyterHub looks for it by its text, which the next hub does not know. A database may give the number
        of a token that is gone to the next one, so more than the number has to fit.
        """
        row = self.orm_spawner
        session = object_session(row) if row is not None else None
        if session is None or self.api_token or not self._token_id:
            return
        token = session.get(APIToken, self._token_id)
        if token is not None and token.user_id == row.user_id and (token.note or "").startswith(NOTE):
            session.delete(token)

    def get_state(self) -> dict[str, Any]:
        """Return what the next hub needs to find this job again."""
        state: dict[str, Any] = Spawner.get_state(self) | choices.carried(self.orm_spawner)
        if self.job_id:
            state |= {"cluster": self.cluster, "job_id": self.job_id, "token_sha256": self._token_digest}
            state |= {"session": self.options, "submitted": self.submitted, "facts": self.facts.kept()}
            state["owner"] = self.owner
            state |= {"node": self.node, "port": self._port, "api_token_id": self._token_id}
            state["told"] = self.told.kept()
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` gave; nothing is asked of Slurm here."""
        Spawner.load_state(self, state)
        self.job_id = str(state.get("job_id", ""))
        self._token_digest = str(state.get("token_sha256", ""))
        self._token_id = int(state.get("api_token_id", 0))
        self.options = dict(state.get("session", {}))
        self.node = str(state.get("node", ""))
        self._port = int(state.get("port", 0))
        self.submitted = state.get("submitted")
        self.owner = state.get("owner")
        self.facts = Facts.read(state.get("facts"), self.options, self.submitted or time.time())
        self.told = Told.stored(state.get("told"))
        if self._port:
            self._reported.set()
        if self.job_id:
            self.begin_chronicle(int(self.job_id)).submitted()
            self._tell_of_memory()

    def clear_state(self) -> None:
        """Forget the job."""
        if self.job_id:
            if self.chronicle is not None:
                self.chronicle.ended(self.view)
            self.watcher.forget(self.ref)
        super().clear_state()
        self._reset()
