"""CarmeSpawner: holds the steps of a session together and decides nothing itself."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

from jupyterhub.spawner import Spawner
from sqlalchemy.orm import object_session

from carme_hub.spawner import failure, progress, script
from carme_hub.spawner.answers import Ending, Phase
from carme_hub.spawner.offer import OfferingSpawner, SessionError
from carme_hub.spawner.slurm import Account, Slurm, SlurmError, SubmitRefused, account_of
from carme_hub.spawner.summary import summary
from carme_hub.spawner.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from traitlets.config import Config

    from carme_hub.spawner.catalog import Catalog
    from carme_hub.spawner.request import JobRequest
    from carme_hub.spawner.summary import Summary
    from carme_hub.spawner.watcher import View

FIRST_PICTURE = 10.0  # seconds to wait for the first answer about a job of before the hub's restart
LAST_WORDS = 10.0  # seconds to wait for the final state of a job that is ending
STOP_PATIENCE = 60.0  # seconds in which a job has to take its cancellation, and then to end
LINGER = 60.0  # seconds in which a job whose server says that it ends has to end, before it is cancelled

# One of both for each cluster, shared by all spawners of the hub.
_CLUSTERS: dict[tuple[str, str, float], tuple[Slurm, Watcher]] = {}


class JobEnded(Exception):  # noqa: N818 - reads as what it says
    """The job ended before its server was up."""

    def __init__(self, view: View | None) -> None:
        super().__init__(view.state if view else "unknown")
        self.view = view


def check_config(config: Config) -> Catalog:
    """Check ``c.CarmeSpawner.images``, ``.mounts`` and ``.profiles`` of a loaded configuration.

    Raises
    ------
    CatalogError
        With one line for each mistake, starting with the setting.
    traitlets.TraitError
        When a setting has the wrong type altogether.
    """
    return CarmeSpawner(config=config).catalog


class CarmeSpawner(OfferingSpawner):
    """One session is one Slurm job with a container in it."""

    def __init__(self, **traits: Any) -> None:
        self._reset()
        super().__init__(**traits)

    def _reset(self) -> None:
        self._submission: asyncio.Task[int] | None = None
        self._token_digest = ""
        self._session: dict[str, str | int] = {}
        self._node = ""
        self._port = 0
        self._reported = asyncio.Event()
        self._ended = asyncio.Event()
        self._guard: asyncio.Task[None] | None = None

    # --- A start ---

    def _cluster(self) -> tuple[Slurm, Watcher]:
        key = (self.slurm_folder, self.slurm_conf, float(self.slurm_time_out))
        if key not in _CLUSTERS:
            slurm = Slurm(*key)
            _CLUSTERS[key] = (slurm, Watcher(slurm, self.log))
        return _CLUSTERS[key]

    @property
    def slurm(self) -> Slurm:
        """Return the cluster's commands."""
        return self._cluster()[0]

    @property
    def watcher(self) -> Watcher:
        """Return the watcher that all spawners of this cluster share."""
        return self._cluster()[1]

    async def start(self) -> tuple[str, int]:
        """Submit the job and wait, for days if need be, until its server listens.

        Returns
        -------
        tuple of str and int
            Address of the node as Slurm knows it, and the port the job reported.

        Raises
        ------
        SessionError
            With a sentence for the person.
        """
        request = self.parse_options(self.user_options)
        try:
            account = await account_of(self.user.name)
            text = script.render(request, self._plan(account))
            variables = script.environment(self._variables(request, account))
            self._session = request.options()
            self._token_digest = _digest(self.api_token)
            # A start that is given up during sbatch must still learn the job's number, for stop() to end it.
            self._submission = asyncio.ensure_future(self._submit(text, account, variables))
            await asyncio.shield(self._submission)
            return await self._until_listening()
        except SubmitRefused as error:
            raise SessionError(str(error), reason="refused", status_code=400) from error
        except SlurmError as error:
            raise SessionError(str(error), reason="slurm", status_code=503) from error
        except ValueError as error:
            self.log.error("No batch script for %s: %s", self._log_name, error)  # noqa: TRY400 - no traceback
            sentence = f"The session cannot be submitted: {error}. Please tell the administrators."
            raise SessionError(sentence, reason="script", status_code=500) from error
        except JobEnded as error:
            raise await self._death(request, account, error.view) from None
        except TimeoutError:
            sentence = (
                f"The session's job runs on {self._node}, but its server did not listen within "
                f"{self.server_start_timeout} s; the job is ended."
            )
            raise SessionError(
                sentence, reason="timeout", status_code=504, log=await self._log_tail(account)
            ) from None

    def _plan(self, account: Account) -> script.Plan:
        hub = hashlib.sha256(self.hub.api_url.encode()).hexdigest()[:8]
        return script.Plan(
            home=account.home,
            mark=f"carme:{hub}:{quote(self.user.name, safe='')}/{quote(self.name, safe='')}",
            command=(*self.cmd, *self.get_args()),
            reporter=_REPORTER,
            apptainer=self.apptainer,
        )

    def _variables(self, request: JobRequest, account: Account) -> dict[str, str]:
        variables = {name: str(value) for name, value in self.get_env().items()}
        variables |= {"USER": account.name, "LOGNAME": account.name}
        course = request.profile.course
        if course is not None:
            place = quote(f"courses/{request.profile.name}/{course.notebook}")
            variables["JUPYTERHUB_DEFAULT_URL"] = f"/lab/tree/{place}"
        return variables

    def get_env(self) -> dict[str, Any]:
        """Return JupyterHub's own variables and those of the site; nothing of the hub's environment."""
        basic = {"SHELL": "/bin/bash", "LANG": "C.UTF-8", "JUPYTERHUB_DEFAULT_URL": "/lab"}
        variables: dict[str, Any] = basic | Spawner.get_env(self)
        return variables

    async def _submit(self, text: str, account: Account, variables: dict[str, str]) -> int:
        number = await self.slurm.submit(text, account, variables)
        self.job_id = str(number)
        self._save_state()
        self.watcher.watch(number, submitted=True)
        self.log.info("Job %s is %s's session: %s", number, self._log_name, self._session)
        return number

    async def _until_listening(self) -> tuple[str, int]:
        """Wait for the job's node and its report; `server_start_timeout` begins when the job runs."""
        number, watcher = int(self.job_id), self.watcher
        watcher.watch(number)
        with watcher.waiting():
            async with asyncio.timeout(None) as limit:
                while True:
                    view = watcher.view(number)
                    forgotten = self.job_id != str(number)
                    if forgotten or (view is not None and view.phase in {Phase.ENDING, Phase.ENDED}):
                        raise JobEnded(None if forgotten else view)
                    if view is not None and view.phase is Phase.RUNNING and view.node:
                        self._node = view.node
                        if self._port:
                            return await self.slurm.node_address(view.node), self._port
                        if limit.when() is None:
                            limit.reschedule(asyncio.get_running_loop().time() + self.server_start_timeout)
                    await self._news(number, view, self._reported)

    async def _news(self, number: int, view: View | None, event: asyncio.Event) -> None:
        """Wait until the job looks different or reports."""
        awaited = [asyncio.ensure_future(self.watcher.changed(number, view))]
        if not event.is_set():
            awaited.append(asyncio.ensure_future(event.wait()))  # type: ignore[arg-type]
        try:
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in awaited:
                task.cancel()

    async def _death(self, request: JobRequest, account: Account, view: View | None) -> SessionError:
        """Find out why a job died, waiting a moment for its final state and its ending."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                while view is not None and view.ending is None:
                    view = await self.watcher.changed(int(self.job_id), view)
        ending = None if view is None else view.ending or Ending(view.state)
        log = await self._log_tail(account)
        sentence = failure.sentence(ending, request, account.home, log)
        self.log.warning("Job %s of %s: %s", self.job_id, self._log_name, sentence)
        return SessionError(sentence, reason="died", status_code=500, log=log)

    async def _log_tail(self, account: Account) -> str:
        if not self.job_id:
            return ""
        return await self.slurm.log_tail(script.log_path(account.home, int(self.job_id)), account)

    # --- The job's reports (report.ReportHandler) ---

    def owns_token(self, token: str) -> bool:
        """Say whether a token is the one this session was started with."""
        return bool(self._token_digest) and secrets.compare_digest(_digest(token), self._token_digest)

    def take_port(self, port: int) -> bool:
        """Take the port the job reports, once, while it starts."""
        if self._port or not self._token_digest or self._stop_pending:
            return False
        self._port = port
        self._reported.set()
        if self.job_id:
            self._save_state()
            # The job runs: learn its node now, not at the next interval.
            self.watcher.look()
        return True

    async def take_end(self) -> bool:
        """Take the server's word that it ends, and return when JupyterHub has removed its route.

        The word is a person's: the job is seen to its end, whether it is true or not.
        """
        if not self._port or not self.job_id:
            return False
        self._abandon(LINGER)
        self._ended.set()
        if self._guard is not None:
            await asyncio.shield(self._guard)
        return True

    # --- While it runs, and its end ---

    @property
    def session(self) -> Summary:
        """Return what pages say of this session."""
        return summary(self._session, self.catalog, self.job_id, self._node)

    async def poll(self) -> int | None:
        """Say from the watcher's picture whether the job is alive (None) or how it ended."""
        if self._submission is not None and not self._submission.done():
            return None
        if not self.job_id or self._ended.is_set():
            return 0
        self.watcher.watch(int(self.job_id))
        view = self.watcher.view(int(self.job_id))
        if view is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_PICTURE):
                    view = await self.watcher.changed(int(self.job_id), None)
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
        listened = bool(self._port and self._node)
        return listened and (view.phase is not Phase.RUNNING or view.node not in {"", self._node})

    def _abandon(self, after: float = 0.0) -> None:
        """Have the job ended in any case: what JupyterHub forgets would go on unseen else."""
        number, name = int(self.job_id), self.user.name

        async def cancel() -> None:
            await self.slurm.cancel(number, await account_of(name))

        self.watcher.abandon(number, cancel, after)

    def start_polling(self) -> None:
        """Poll as JupyterHub does, and notice the end as soon as the watcher or the job tells it."""
        super().start_polling()
        self._guard = asyncio.ensure_future(self._notice_end(self.job_id))

    async def _notice_end(self, job_id: str) -> None:
        """Have JupyterHub remove the route when the job ends: its port is free for anybody then."""
        while True:
            view = self.watcher.view(int(job_id)) if job_id else None
            if await self.poll() is not None:
                break
            await self._news(int(job_id), view, self._ended)
        if self._spawn_future is not None:
            # JupyterHub says last of all what it wants to be called for.
            await asyncio.wait([self._spawn_future])
        if self.job_id == job_id and not self._stop_pending:
            await self.poll_and_notify()

    async def get_url(self) -> str:
        """Return the server's address; after a hub's restart, wait for a job that is still pending.

        Never raises: the restarting hub would not come up. Without an answer the hub finds nothing there and
        ends the session.
        """
        if self.job_id and not (self._port and self._node):
            try:
                host, port = await self._until_listening()
            except (JobEnded, TimeoutError, SlurmError) as error:
                self.log.warning("Job %s of %s did not come up: %r", self.job_id, self._log_name, error)
            else:
                self._save_state()
                scheme = "https" if self.internal_ssl else "http"
                shown = f"[{host}]" if ":" in host else host
                return f"{scheme}://{shown}:{port}{self.server.base_url}"
        return str(self.server.url)

    async def stop(self, now: bool = False) -> None:
        """End the job as its owner, and wait until Slurm has ended it."""
        if self._submission is not None:
            with contextlib.suppress(SlurmError):
                await asyncio.shield(self._submission)
        if not self.job_id:
            return
        number = int(self.job_id)
        cancelled = await self._cancel(number)
        self.watcher.watch(number)
        if cancelled and not now:
            with contextlib.suppress(TimeoutError), self.watcher.waiting():
                async with asyncio.timeout(STOP_PATIENCE):
                    view = self.watcher.view(number)
                    while view is None or view.phase in {Phase.PENDING, Phase.RUNNING}:
                        view = await self.watcher.changed(number, view)
        view = self.watcher.view(number)
        if view is None or view.phase is not Phase.ENDED:
            # JupyterHub forgets the job now, whatever becomes of it.
            self._abandon()

    async def _cancel(self, number: int) -> bool:
        """Cancel the job, again and again while Slurm does not answer; False when it never did."""
        end, delay = asyncio.get_running_loop().time() + STOP_PATIENCE, 0.5
        while True:
            try:
                await self.slurm.cancel(number, await account_of(self.user.name))
            except SlurmError as error:
                if asyncio.get_running_loop().time() > end:
                    self.log.error("Job %s is cancelled later: %s", number, error)  # noqa: TRY400 - no traceback
                    return False
                self.log.warning("Job %s is not cancelled yet: %s", number, error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, 5.0)
            else:
                return True

    async def progress(self) -> AsyncIterator[dict[str, str | int]]:
        """Say what the start waits for, whenever that changes."""
        said: dict[str, str | int] = {}
        while True:
            view = self.watcher.view(int(self.job_id)) if self.job_id else None
            event = progress.event(self.job_id, view, reported=self._reported.is_set())
            if event != said:
                yield event
                said = event
            if self.job_id:
                await self._news(int(self.job_id), view, self._reported)
            await asyncio.sleep(0.1)

    # --- What survives a restart of the hub ---

    def _save_state(self) -> None:
        """Write the state to the database now: JupyterHub does it only after start() has returned."""
        if self.orm_spawner is not None:
            self.orm_spawner.state = self.get_state()
            session = object_session(self.orm_spawner)
            if session is not None:
                session.commit()

    def get_state(self) -> dict[str, Any]:
        """Return what the next hub needs to find this job again."""
        state: dict[str, Any] = Spawner.get_state(self)
        if self.job_id:
            state |= {"job_id": self.job_id, "token_sha256": self._token_digest, "session": self._session}
            state |= {"node": self._node, "port": self._port}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` gave; nothing is asked of Slurm here."""
        Spawner.load_state(self, state)
        self.job_id = str(state.get("job_id", ""))
        self._token_digest = str(state.get("token_sha256", ""))
        self._session = dict(state.get("session", {}))
        self._node = str(state.get("node", ""))
        self._port = int(state.get("port", 0))
        if self._port:
            self._reported.set()

    def clear_state(self) -> None:
        """Forget the job."""
        if self.job_id:
            self.watcher.forget(int(self.job_id))
        super().clear_state()
        self._reset()

    # --- What batchspawner would do: strings for a shell, attributes as a template. None of it is used. ---

    async def run_command(self, *_args: object, **_more: object) -> NoReturn:
        """Refuse: commands are run by `carme_hub.spawner.slurm` only."""
        raise NotImplementedError("CarmeSpawner runs no shell commands")

    submit_batch_script = query_job_status = cancel_batch_job = _get_batch_script = run_command


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


_REPORTER = Path(script.__file__).with_name("reporter.py").read_text(encoding="utf-8")
