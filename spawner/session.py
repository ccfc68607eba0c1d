"""One session, from its request to its address: holds the steps together and decides nothing itself."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from carme_hub.spawner import failure, opening, program, script, sweep
from carme_hub.spawner.answers import PHASES, Ending, Phase
from carme_hub.spawner.backends import LOCAL, backend_of
from carme_hub.spawner.chronicle import LastWords
from carme_hub.spawner.errors import HubFault, SessionError
from carme_hub.spawner.events import Facts
from carme_hub.spawner.job import LINGER, digest
from carme_hub.spawner.slurm import AccountError, SlurmError, SubmitRefused, account_of
from carme_hub.spawner.waiting import WaitingSession

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from carme_hub.spawner.backends import Backend
    from carme_hub.spawner.request import JobRequest
    from carme_hub.spawner.slurm import Account
    from carme_hub.spawner.watcher import JobRef, View

AGAIN = 2.0  # seconds between two questions to a controller that does not answer
# Seconds in which a single-user server may still believe in a login that has ended. It would keep what the
# hub said for five minutes, and a copy of somebody's cookies would open the session for as long.
LOGIN_SECONDS = 10
LAST_WORDS = 10.0  # seconds to wait for the final state of a job that is ending


class JobEnded(Exception):  # noqa: N818 - reads as what it says
    """The job ended before its server was up."""

    def __init__(self, view: View | None) -> None:
        super().__init__(view.state if view else "unknown")
        self.view = view


class Session(WaitingSession):
    """One session is one job with a container in it.

    Attributes
    ----------
    parse_again
        Makes the request out of `options` in a hub that was restarted since it was made.
    command, variables
        What its server is started with, as `CarmeSpawner` says them; set before `start`.
    """

    parse_again: Callable[[], JobRequest] | None = None
    command: Sequence[str] = ()
    variables: Mapping[str, Any] = MappingProxyType({})

    def _asked_for(self) -> JobRequest | None:
        """Return the request; None when the hub was restarted and does not offer it any more."""
        if self.request is None and self.parse_again is not None:
            with contextlib.suppress(SessionError):
                self.request = self.parse_again()
        request: JobRequest | None = self.request
        return request

    async def start(self) -> tuple[str, int]:
        """Submit the job and wait, for days if need be, until its server listens.

        Returns
        -------
        tuple of str and int
            Address of the node as Slurm knows it, and the port the job reported.

        Raises
        ------
        SessionError, HubFault
            With a sentence for the person.
        """
        request: JobRequest = self.request
        try:
            account = await account_of(self.user.name)
            text = script.render(request, self._plan(account))
            variables = script.environment(self._variables(request, account))
            self.options = request.options()
            self._token_digest = digest(self.api_token)
            # A start that is given up during sbatch must still learn the job's number, for stop() to end it.
            self._submission = asyncio.ensure_future(self._submit(text, account, variables))
            await asyncio.shield(self._submission)
            return await self._until_up()
        except SubmitRefused as error:
            raise SessionError(str(error), reason="refused", status_code=400) from error
        except AccountError as error:
            raise SessionError(str(error), reason="account", status_code=503) from error
        except SlurmError as error:
            raise HubFault(str(error), reason="slurm", status_code=503) from error
        except ValueError as error:
            self.log.error("No batch script for %s: %s", self._log_name, error)  # noqa: TRY400 - no traceback
            sentence = f"The session cannot be submitted: {error}. Please tell the administrators."
            raise SessionError(sentence, reason="script", status_code=500) from error

    async def _until_up(self) -> tuple[str, int]:
        """Wait until the job's server listens.

        Raises
        ------
        SessionError
            When the job or the patience with it ended before.
        """
        try:
            return await self._until_listening()
        except JobEnded as error:
            raise await self._death(error.view) from None
        except TimeoutError:
            sentence = (
                f"The session's job runs on {self.node}, but its server did not listen within "
                f"{self.server_start_timeout} s; the job is ended."
            )
            _, log = await self._left_behind(int(self.job_id or 0))
            self._died(LastWords(None, sentence))
            raise SessionError(sentence, reason="timeout", status_code=504, log=log) from None

    def mark(self, account: Account) -> str:
        """Return the comment of this session's job."""
        settings = getattr(self.user, "settings", None) or {}
        return sweep.mark(sweep.hub_id(settings.get("cookie_secret") or b""), account.name, self.name)

    def _plan(self, account: Account) -> script.Plan:
        return script.Plan(
            home=account.home,
            mark=self.mark(account),
            command=self._words(),
            reporter=program.source(),
            apptainer=self.apptainer,
        )

    def _words(self) -> tuple[str, ...]:
        """Return the server's command; what the site itself says of this setting, comes later and counts."""
        for place, word in enumerate(self.command, 1):
            if (
                word.rpartition("/")[2] == "jupyterhub-singleuser"
            ):  # another command may know no such argument
                limit = f"--HubAuth.cache_max_age={LOGIN_SECONDS}"
                return (*self.command[:place], limit, *self.command[place:])
        return tuple(self.command)

    def _variables(self, request: JobRequest, account: Account) -> dict[str, str]:
        variables = {name: str(value) for name, value in self.variables.items()}
        variables |= {"USER": account.name, "LOGNAME": account.name}
        own = opening.workspaces(request, account.home, self.name)
        return own | variables | opening.page(request)

    async def _submit(self, text: str, account: Account, variables: dict[str, str]) -> int:
        with sweep.submitting(self.mark(account)):
            number = await self.runner.submit(text, account, variables)
            self.job_id, self.owner, self.submitted = str(number), account.uid, time.time()
            self.facts = Facts.of(self.request, self.submitted)
            self.begin_chronicle(number).submitted()
            await self._save()
        self.watcher.watch(self.ref, submitted=True)
        self.log.info("Job %s is %s's session: %s", number, self._log_name, self.options)
        return number

    async def _until_listening(self) -> tuple[str, int]:
        """Wait for the job's node and its report; `server_start_timeout` begins when the job runs."""
        ref, watcher = self.ref, self.watcher
        watcher.watch(ref)
        with watcher.waiting():
            async with asyncio.timeout(None) as limit:
                while True:
                    view = watcher.view(ref)
                    forgotten = self.ref != ref
                    if forgotten or (view is not None and view.phase in {Phase.ENDING, Phase.ENDED}):
                        raise JobEnded(None if forgotten else view)
                    if view is not None and view.phase is Phase.RUNNING and view.node:
                        self.node = view.node
                        if self.chronicle is not None:
                            self.chronicle.running(view)
                        if self._port:
                            limit.reschedule(None)  # it listens; what is left to learn is where its node is
                            with contextlib.suppress(SlurmError):
                                address = await self.runner.node_address(view.node)
                                self._ready(view)
                                return address, self._port
                            await asyncio.sleep(AGAIN)
                            continue
                        if limit.when() is None:
                            limit.reschedule(asyncio.get_running_loop().time() + self.server_start_timeout)
                    await self._news(ref, view, self._reported)

    async def _death(self, view: View | None) -> SessionError:
        """Find out why a job died, waiting a moment for its final state and its ending."""
        ref = self.ref  # who stops the session meanwhile has it forgotten
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                while view is not None and view.ending is None:
                    view = await self.watcher.changed(ref, view)
        ending = None if view is None else view.ending or Ending(view.state)
        home, log = await self._left_behind(ref.number)
        sentence = failure.sentence(ending, self._asked_for(), home, log)
        self.log.warning("Job %s of %s: %s", ref.number, self._log_name, sentence)
        self._died(LastWords(ending, sentence))
        return SessionError(sentence, reason="died", status_code=500, log=log)

    def _died(self, words: LastWords) -> None:
        if self.chronicle is not None:
            self.chronicle.died = words

    def _ready(self, view: View | None) -> None:
        if self.chronicle is not None:
            self.chronicle.ready(view)

    def last_words(self, ref: JobRef) -> asyncio.Future[LastWords]:
        """Say how the job of a session ended that was up.

        The watcher keeps the job from now on, whenever the session is cleared.
        """
        kept = contextlib.ExitStack()
        kept.enter_context(self.watcher.kept(ref))
        # A job that goes on after its server said the end is cancelled then: that is no news for anybody.
        patience = LINGER if self._ended.is_set() else None
        words = asyncio.ensure_future(self._last_words(ref, kept, patience))
        if self.chronicle is not None:
            self.chronicle.last_words = words
        return words

    async def _last_words(self, ref: JobRef, kept: contextlib.ExitStack, patience: float | None) -> LastWords:
        view = None
        with kept, contextlib.suppress(TimeoutError), self.watcher.waiting():
            async with asyncio.timeout(patience):
                view = self.watcher.view(ref)
                while view is None or view.ending is None:
                    view = await self.watcher.changed(ref, view)
                    if view is None:
                        return LastWords(None, "")
        ending = view.ending if view is not None else None
        if ending is None or PHASES.get(ending.state) is not Phase.ENDED:
            return LastWords(None, "")
        home, log = await self._left_behind(ref.number)
        return LastWords(ending, failure.sentence(ending, self._asked_for(), home, log, ran=True))

    async def _left_behind(self, number: int) -> tuple[str, str]:
        """Return the owner's home and the end of a job's log, as far as they can be had."""
        home, log, told = "~", "", self.told.log
        with contextlib.suppress(SlurmError):
            account = await account_of(self.user.name)
            home = account.home
            if number:
                log = await self.runner.log_tail(script.log_path(home, number), account)
        # Where it could not be written to the home, the job has told its end.
        return home, log or told

    async def up_again(self) -> str | None:
        """Wait until the session of before the hub's restart has a server, for days if need be.

        Returns
        -------
        str or None
            Its URL; None when it ended while no hub was there.

        Raises
        ------
        SessionError
            With a sentence, when it ended before its server was up.
        """
        if self._port and self.node:
            if await self.poll() is not None:
                return None
            host, port = await self._known_address(), self._port
            self._ready(self.view)
        else:
            host, port = await self._until_up()
        scheme = "https" if self.internal_ssl else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    async def _known_address(self) -> str:
        """Return the node's address; when Slurm does not answer, what it said before the restart."""
        try:
            return await self.runner.node_address(self.node)
        except SlurmError:
            if not self.server.ip:
                raise
            return str(self.server.ip)

    # --- What batchspawner would do: strings for a shell, attributes as a template. None of it is used. ---

    async def run_command(self, *_args: object, **_more: object) -> NoReturn:
        """Refuse: commands are run by `carme_hub.spawner.slurm` only."""
        raise NotImplementedError("A session runs no shell commands")

    submit_batch_script = query_job_status = cancel_batch_job = _get_batch_script = run_command


class SlurmSession(Session):
    """A session in a Slurm job."""

    @cached_property
    def backend(self) -> Backend:
        """Return the session's cluster."""
        return backend_of(self, self.cluster, self.log)


class LocalSession(Session):
    """A session on the hub's own machine, without Slurm."""

    @cached_property
    def backend(self) -> Backend:
        """Return the hub's own machine."""
        return backend_of(self, LOCAL, self.log)


def session_class(cluster: str) -> type[Session]:
    """Return what runs sessions on a cluster, or on the hub's own machine ("local")."""
    return LocalSession if cluster == LOCAL else SlurmSession
