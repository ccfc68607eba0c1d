"""The only module that runs Slurm's commands, and the one door through which something happens as a person.

Reads Slurm 22.05 to 26.05: no ``--json``, whose layout changes with every release, but explicit formats with
one table of fields for asking and for parsing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeVar

from carme_hub.spawner import accounting, answers, estimate, sweep, timelimit, usage
from carme_hub.spawner.cluster import NODES_FORMAT, parse_nodes, parse_partitions, with_rules

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

    from carme_hub.spawner.accounting import Accounting, Membership
    from carme_hub.spawner.cluster import Cluster, Rules
    from carme_hub.spawner.estimate import Estimate, Refusal

T = TypeVar("T")

_TAIL = 4000  # bytes of a log
_FILE = re.compile(r"regular (empty )?file/(?P<owner>[0-9]+)/(?P<size>[0-9]+)\n")
_JOB_ID = re.compile(r"([0-9]{1,10})(;[^;\s]*)?")
# What sbatch and squeue say when the controller, not the request, is the problem.
_UNAVAILABLE = re.compile(
    r"unable to contact slurm controller|socket timed out|connection (refused|reset)|zero bytes|standby mode"
    r"|munge|authentication|communication|slurmctld .*not respond|resource temporarily unavailable"
    r"|unable to establish controller machine",
    re.IGNORECASE,
)
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
_SECONDS = {"SLURM_TIME_FORMAT": "%s"}
_NODE_ADDRESS_SECONDS = 300.0
_RULES_SECONDS = 600.0
STARTING = 3.0  # seconds in which the hub's machine has to start a command
# How many commands run at once: Slurm's controller has more to do than to answer one hub. The pictures of
# queue and nodes, which all sessions live by, wait for nobody's command; a home that hangs stops only those
# who read in homes.
_COMMANDS, _PICTURES, _HOMES, _LISTS = 8, 2, 4, 1
_LARGE = 50_000  # characters: what takes longer than some milliseconds to read does not hold up the hub
_PARSERS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="carme-parse")
# Not asyncio's own threads: a name service that hangs must not stop whatever else uses those.
_LOOKUPS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="carme-account")


class SlurmError(Exception):
    """Something Slurm could not or would not do; ``str()`` is a sentence for the person."""


class SlurmUnavailable(SlurmError):  # noqa: N818 - reads as what it says
    """Slurm did not answer: nothing is known, trying again later may help."""


class SubmitRefused(SlurmError):  # noqa: N818 - reads as what it says
    """Slurm answered, and does not take the job."""


class AccountError(SlurmError):
    """The person has no usable account on this machine."""


@dataclass(frozen=True)
class Account:
    """A person's account on this machine, as the name service knows it."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


@dataclass(frozen=True)
class Completed:
    """How a command ended."""

    code: int
    out: str
    err: str


async def account_of(username: str, time_out: float = 10.0) -> Account:
    """Look a person up in the name service, in a thread: it may ask a directory server.

    Raises
    ------
    AccountError
        With a sentence, when there is no such account, it is root, or the service is silent.
    """
    try:
        async with asyncio.timeout(time_out):
            return await asyncio.get_running_loop().run_in_executor(_LOOKUPS, _account, username)
    except KeyError:
        raise AccountError(
            f"There is no account {username!r} on this cluster; ask its administrators."
        ) from None
    except TimeoutError:
        raise AccountError(
            f"The account {username!r} could not be looked up within {time_out:.0f} s; please try again."
        ) from None


def _account(username: str) -> Account:
    entry = pwd.getpwnam(username)
    if entry.pw_uid == 0:
        raise AccountError("Sessions cannot be started for the account root.")
    groups = tuple(os.getgrouplist(username, entry.pw_gid))
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)


async def _read(parse: Callable[..., T], text: str, *more: object) -> T:
    """Read an answer, in a thread when it is large."""
    if len(text) < _LARGE:
        return parse(text, *more)
    return await asyncio.get_running_loop().run_in_executor(_PARSERS, parse, text, *more)


@dataclass(frozen=True)
class Slurm:
    """One cluster, seen from the hub's machine.

    Attributes
    ----------
    folder
        Where sbatch, squeue and the others are.
    conf
        ``SLURM_CONF`` for the commands; empty for Slurm's default.
    time_out
        Seconds for one command, with the time it waits for its turn.
    """

    folder: str = "/usr/bin"
    conf: str = ""
    time_out: float = 20.0
    _addresses: dict[str, tuple[float, str]] = field(default_factory=dict, compare=False, repr=False)
    _rules: dict[str, tuple[float, Mapping[str, Rules]]] = field(
        default_factory=dict, compare=False, repr=False
    )
    _commands: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(_COMMANDS), compare=False, repr=False
    )
    _pictures: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(_PICTURES), compare=False, repr=False
    )
    _homes: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(_HOMES), compare=False, repr=False
    )
    _lists: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(_LISTS), compare=False, repr=False
    )

    async def run(
        self,
        words: Sequence[str],
        *,
        account: Account | None = None,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        slots: asyncio.Semaphore | None = None,
    ) -> Completed:
        """Run a command, as the hub or as a person.

        A hub that is root becomes the person in the child; one that is not uses a sudo rule for exactly
        these commands, which also says what sudo keeps of the environment. The child's environment is what
        is given here and nothing of the hub's.

        Raises
        ------
        SlurmUnavailable
            When the command does not exist, gets no turn, or does not end in time (it is killed then).
        """
        variables = ENVIRONMENT | ({"SLURM_CONF": self.conf} if self.conf else {}) | dict(env or {})
        identity: dict[str, object] = {}
        sudo: list[str] = []
        if account is not None:
            variables |= {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}
            if os.geteuid() == 0:
                identity = {"user": account.uid, "group": account.gid, "extra_groups": account.groups}
            elif os.geteuid() != account.uid:
                sudo = ["/usr/bin/sudo", "-n", "-u", account.name, "--"]
        program, until = PurePath(words[0]).name, asyncio.get_running_loop().time() + self.time_out
        async with self._turn(slots or self._commands, program, until):
            return await self._run([*sudo, *words], until, program, stdin, variables, identity)

    @contextlib.asynccontextmanager
    async def _turn(self, slots: asyncio.Semaphore, program: str, until: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(until):
                await slots.acquire()
        except TimeoutError:
            raise SlurmUnavailable(
                f"{program} could not be asked within {self.time_out:.0f} s: others did not answer."
            ) from None
        try:
            yield
        finally:
            slots.release()

    async def _run(  # noqa: PLR0917 - one caller
        self,
        words: Sequence[str],
        until: float,
        program: str,
        stdin: str,
        variables: Mapping[str, str],
        identity: Mapping[str, object],
    ) -> Completed:
        try:
            # asyncio waits for ever for a command that is cancelled while it is started (Python 3.11): the
            # hub would not end.
            async with asyncio.timeout(STARTING):
                process = await asyncio.create_subprocess_exec(
                    *words,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=variables,
                    cwd="/",
                    start_new_session=True,
                    umask=0o022,  # Slurm hands it on to the job; the hub's own may be anything
                    **identity,  # type: ignore[arg-type]
                )
        except TimeoutError:
            raise SlurmUnavailable(f"The hub could not start {program} within {STARTING:.0f} s.") from None
        except OSError as error:
            raise SlurmUnavailable(f"The hub cannot run {program}: {error.strerror}.") from error
        try:
            async with asyncio.timeout_at(until):
                out, err = await process.communicate(stdin.encode())
        except TimeoutError:
            raise SlurmUnavailable(f"{program} did not answer within {self.time_out:.0f} s.") from None
        finally:
            await _end(process)
        return Completed(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))

    async def submit(self, script: str, account: Account, env: Mapping[str, str]) -> int:
        """Submit a batch script as a person and return the job's number.

        Raises
        ------
        SubmitRefused
            With Slurm's words, when it does not take the job.
        SlurmUnavailable
            When the controller does not answer.
        """
        done = await self.run([f"{self.folder}/sbatch", "--parsable"], account=account, stdin=script, env=env)
        words = answers.one_line(done.err)
        if done.code:
            if _UNAVAILABLE.search(done.err):
                raise SlurmUnavailable(
                    f"Slurm does not answer at the moment ({words}). Please try again later."
                )
            raise SubmitRefused(f"Slurm did not accept the session: {words}")
        # Warnings of plugins may stand before the line with the number.
        match = _JOB_ID.fullmatch(done.out.strip().rpartition("\n")[2].strip())
        if match is None:
            raise SlurmUnavailable("sbatch gave no job number; please tell the administrators.")
        return int(match[1])

    async def cancel(self, job_id: int, account: Account) -> None:
        """End a job as its owner. A job that has ended already is no error.

        Raises
        ------
        SlurmUnavailable
            When Slurm did not take the order.
        """
        done = await self.run([f"{self.folder}/scancel", str(job_id)], account=account)
        if done.code and not re.search(
            r"invalid job id|already completed|completing", done.err, re.IGNORECASE
        ):
            raise SlurmUnavailable(f"Job {job_id} could not be cancelled: {answers.one_line(done.err)}")

    async def queue(self, job_ids: Collection[int]) -> answers.Picture:
        """Ask for the state of jobs, all with one squeue.

        Raises
        ------
        SlurmUnavailable
            When there is no complete answer: nothing may be concluded about any job then.

        Notes
        -----
        squeue fetches all jobs of the cluster and picks from them by itself as soon as it is asked for more
        than one number (sdiag counts the same two requests either way). So the numbers stay here: no command
        line grows with the sessions, no unknown number spoils the answer, and the others' jobs tell a pending
        one's place. ``--all``, because a job in a hidden partition would look gone; ``--local``, because the
        clusters of a federation have their own jobs.
        """
        taken_at = time.monotonic()
        ask = ["--all", "--local", "--noheader", "--states=all"]
        form = answers.SEPARATOR.join(answers.QUEUE.values())
        words = [f"{self.folder}/squeue", *ask, f"--format={form}"]
        done = await self.run(words, env=_SECONDS, slots=self._pictures)
        if done.code:
            raise SlurmUnavailable(f"squeue: {answers.one_line(done.err)}")
        return answers.Picture(taken_at, *await _read(answers.parse_queue, done.out, frozenset(job_ids)))

    async def jobs(self, wanted: str, parse: Callable[[str], T]) -> T:
        """Ask with one squeue for all jobs of the cluster that have not ended; return what is read of them.

        Parameters
        ----------
        wanted
            What to ask for with ``--Format``.
        parse
            Reads the answer, in a thread when that is large.

        Raises
        ------
        SlurmUnavailable
            When there is no complete answer.

        Notes
        -----
        It waits for no session's squeue, and none waits for it. Without SLURM_BITSTR_LEN the tasks of an
        array are cut after 64 characters.
        """
        ask = ["--all", "--local", "--noheader", f"--Format={wanted}"]
        env = _SECONDS | {"SLURM_BITSTR_LEN": "0"}
        done = await self.run([f"{self.folder}/squeue", *ask], env=env, slots=self._lists)
        if done.code:
            raise SlurmUnavailable(f"squeue: {answers.one_line(done.err)}")
        return await _read(parse, done.out)

    async def cluster(self) -> Cluster:
        """Ask for all nodes and partitions with one sinfo, and seldom for who may use the partitions.

        Raises
        ------
        SlurmUnavailable
            When there is no complete answer.

        Notes
        -----
        sinfo sorts its lines out in time that grows with the square of their number: 1 to 2 s for 2,000 nodes
        in 3 partitions (22.05 and 26.05), on the hub's machine and not at the controller.

        sinfo does not say which accounts and QOS a partition takes; ``scontrol show partition`` does. That
        changes when an admin changes it, so it is asked for every ten minutes only.
        """
        taken_at = time.monotonic()
        ask = ["--all", "--local", "--Node", "--noheader", "--noconvert"]
        words = [f"{self.folder}/sinfo", *ask, f"--Format={NODES_FORMAT}"]
        done = await self.run(words, slots=self._pictures)
        if done.code:
            raise SlurmUnavailable(f"sinfo: {answers.one_line(done.err)}")
        picture = await _read(parse_nodes, done.out, taken_at)
        asked_at, rules = self._rules.get("", (-_RULES_SECONDS, {}))
        if taken_at - asked_at >= _RULES_SECONDS or not picture.partitions.keys() <= rules.keys():
            shown = await self.run([f"{self.folder}/scontrol", "--all", "--oneliner", "show", "partition"])
            if shown.code:
                raise SlurmUnavailable(f"scontrol show partition: {answers.one_line(shown.err)}")
            rules = await _read(parse_partitions, shown.out)
            self._rules[""] = (taken_at, rules)
        return with_rules(picture, rules)

    async def ending(self, job_id: int, owner: int | None = None) -> answers.Ending | None:
        """Ask once how a job of its owner ended: the controller while it remembers, then accounting.

        The controller is asked first because accounting may be seconds behind. Returns None when neither
        knows; never raises, because this only makes a sentence better.
        """
        with contextlib.suppress(SlurmError):
            shown = await self.run([f"{self.folder}/scontrol", "--oneliner", "show", "job", str(job_id)])
            found = answers.parse_job(shown.out, owner) if shown.code == 0 else None
            if found is not None:
                return found
        with contextlib.suppress(SlurmError):
            words = [
                "--noheader",
                "--parsable2",
                f"--delimiter={answers.SEPARATOR}",
                f"--format={','.join(answers.ACCOUNTING)}",
                *([] if owner is None else [f"--user={owner}"]),
            ]
            told = await self.run([f"{self.folder}/sacct", f"--jobs={job_id}", *words])
            return answers.parse_accounting(told.out, job_id) if told.code == 0 else None
        return None

    async def log_tail(self, path: str, account: Account) -> str:
        """Return the end of a session's log, read as its owner; empty when there is none.

        What stands at that place is the owner's to choose, and is read on the hub's machine: a link there is
        not followed, what is no plain file of the owner's is not read, and nothing that could be waited for.
        """
        with contextlib.suppress(SlurmError):
            words = ["/usr/bin/stat", "--format=%F/%u/%s", "--", path]
            kind = _FILE.fullmatch((await self.run(words, account=account, slots=self._homes)).out)
            if kind is not None and int(kind["owner"]) == account.uid:
                begin = max(int(kind["size"]) - _TAIL, 0)
                words = ["/usr/bin/dd", f"if={path}", "iflag=nofollow", "iflag=nonblock", "iflag=skip_bytes"]
                words += [f"skip={begin}", f"bs={_TAIL}", "count=1", "status=none"]
                said = (await self.run(words, account=account, slots=self._homes)).out
                # The first line may have lost its beginning.
                return said.partition("\n")[2] if begin else said
        return ""

    async def node_address(self, node: str) -> str:
        """Return the address of a node as Slurm knows it (NodeAddr); its name when Slurm knows none.

        Raises
        ------
        SlurmUnavailable
            When Slurm does not answer.
        """
        known = self._addresses.get(node)
        if known is not None and time.monotonic() - known[0] < _NODE_ADDRESS_SECONDS:
            return known[1]
        if not answers.NODE.fullmatch(node):
            raise SlurmUnavailable(f"{node!r} is no name of a node.")
        done = await self.run([f"{self.folder}/scontrol", "--oneliner", "show", "node", node])
        # scontrol says this on its standard output.
        if done.code and not re.search(r"^Node \S+ not found$", done.out, re.MULTILINE):
            raise SlurmUnavailable(f"scontrol show node: {answers.one_line(done.err)}")
        match = re.search(r"\sNodeAddr=(\S+)", done.out) if done.code == 0 else None
        if match is None:
            return node
        self._addresses[node] = (time.monotonic(), match[1])
        return match[1]

    async def test(self, script: str, account: Account) -> Estimate | Refusal:
        """Ask when a batch script's job would start as a person's, without submitting it.

        Raises
        ------
        SlurmUnavailable
            When the controller does not answer.
        """
        done = await self.run(
            [f"{self.folder}/sbatch", "--test-only"], account=account, stdin=script, env=_SECONDS
        )
        if done.code and _UNAVAILABLE.search(done.err):
            raise _silent(done)
        return estimate.read(done.err, done.code)

    async def accounting(self) -> Accounting:
        """Ask what accounting enforces in this cluster, and for all QOS.

        Raises
        ------
        SlurmUnavailable
            When controller or accounting do not answer.
        """
        config = await self._said(f"{self.folder}/scontrol", "show", "config")
        name, enforced = accounting.parse_config(config)
        qualities = (
            await self._sacctmgr("qos", f"format={','.join(accounting.QOS)}") if "qos" in enforced else ""
        )
        return accounting.Accounting(name, enforced, accounting.parse_qos(qualities))

    async def membership(self, username: str, cluster: str) -> Membership | None:
        """Ask for a person's accounts and QOS; None when accounting knows none.

        Raises
        ------
        SlurmUnavailable
            When accounting does not answer.
        """
        if not accounting.USERNAME.fullmatch(username):
            return None
        form = f"format={','.join(accounting.PERSON)}"
        said = await self._sacctmgr("user", "withassoc", "where", f"name={username}", form)
        return accounting.parse_person(said, cluster)

    async def _sacctmgr(self, *what: str) -> str:
        return await self._said(f"{self.folder}/sacctmgr", "--noheader", "--parsable2", "show", *what)

    async def _said(self, *words: str) -> str:
        done = await self.run(words)
        if done.code:
            raise SlurmUnavailable(f"{PurePath(words[0]).name}: {answers.one_line(done.err)}")
        return done.out

    async def running(self, job_id: int) -> timelimit.Job | None:
        """Ask for what an extension of a job depends on; None when Slurm does not know the job.

        Raises
        ------
        SlurmUnavailable
            When there is no answer.
        """
        form = timelimit.SEPARATOR.join(timelimit.JOB.values())
        words = [f"{self.folder}/squeue", "--noheader", f"--format={form}", f"--jobs={job_id}"]
        done = await self.run(words, env=_SECONDS)
        if done.code and "Invalid job id specified" not in done.err:
            raise _silent(done)
        return timelimit.parse_running(done.out)

    async def partition_bounds(self, partition: str) -> tuple[int | None, str]:
        """Return the longest time of a partition (minutes; None for no limit), and its own QOS' name or "".

        Raises
        ------
        SlurmUnavailable
            When there is no answer.
        ValueError
            When the answer cannot be read.
        """
        shown = await self._show("partition", partition)
        rules = parse_partitions(shown).get(partition)
        return timelimit.parse_partition_limit(shown), rules.own_qos if rules else ""

    async def reservations(self) -> list[timelimit.Reservation]:
        """Return all reservations of nodes.

        Raises
        ------
        SlurmUnavailable
            When there is no answer.
        """
        return timelimit.parse_reservations(await self._show("reservation"))

    async def host_names(self, nodes: str) -> frozenset[str]:
        """Write out a list of nodes such as ``node[1-3]``.

        Raises
        ------
        SlurmUnavailable
            When Slurm cannot read it.
        """
        return frozenset((await self._show("hostnames", nodes)).split())

    async def _show(self, *words: str) -> str:
        done = await self.run([f"{self.folder}/scontrol", "--oneliner", "show", *words], env=_SECONDS)
        if done.code:
            raise _silent(done)
        return done.out

    async def set_time_limit(self, job_id: int, minutes: int) -> None:
        """Change a job's time limit, as the hub: only Slurm's operators may make it longer.

        Raises
        ------
        SlurmUnavailable
            When the controller does not answer.
        SlurmError
            With Slurm's words, when it does not do it.
        """
        words = [f"{self.folder}/scontrol", "update", f"JobId={job_id}", f"TimeLimit={minutes}"]
        done = await self.run(words)
        if done.code == 0:
            return
        if re.search(r"permission denied|invalid user id", done.err, re.IGNORECASE):
            raise SlurmError(
                "This hub may not extend sessions: its account is no operator of Slurm. "
                "Please tell the administrators."
            )
        if _UNAVAILABLE.search(done.err):
            raise _silent(done)
        raise SlurmError(f"Slurm did not extend the session: {answers.one_line(done.err)}.")

    async def batch_script(self, job_id: int, account: Account) -> str:
        """Return the batch script of a job as Slurm has it, asked for as its owner; or nothing."""
        with contextlib.suppress(SlurmError):
            words = [f"{self.folder}/scontrol", "write", "batch_script", str(job_id), "-"]
            done = await self.run(words, account=account)
            return done.out if done.code == 0 else ""
        return ""

    async def use(self, job_id: int, account: Account) -> usage.Use | None:
        """Ask the nodes of a running job what it uses, as its owner; None without an answer."""
        with contextlib.suppress(SlurmError):
            words = [f"{self.folder}/sstat", f"--jobs={job_id}", "--allsteps", "--noheader", "--parsable2"]
            # A node that does not answer is waited for, but nobody's session waits behind it.
            done = await self.run(
                [*words, f"--format={','.join(usage.USE)}"], account=account, slots=self._homes
            )
            return usage.parse_use(done.out)
        return None

    async def records(self, job_ids: Collection[int]) -> dict[int, usage.Record]:
        """Ask accounting for jobs, all with one sacct; those that it does not know are left out.

        Raises
        ------
        SlurmUnavailable
            When it does not answer.
        """
        words = [f"{self.folder}/sacct", "--noheader", "--parsable2", f"--delimiter={usage.SEPARATOR}"]
        words += [f"--jobs={','.join(map(str, sorted(job_ids)))}", f"--format={','.join(usage.RECORD)}"]
        done = await self.run(words, env=_SECONDS, slots=self._homes)
        if done.code:
            raise _silent(done)
        return await _read(usage.parse_records, done.out, frozenset(job_ids))

    async def marked(self, hub: str, job_id: int | None = None) -> list[sweep.MarkedJob]:
        """Ask for all jobs that a hub has marked and that have not ended, whoever owns them; or for one job.

        A comment may hold line ends, and what follows one can look like any other job's line. Of the answer
        about one job, the first line is what Slurm says of it.

        Raises
        ------
        SlurmUnavailable
            When there is no answer.
        """
        fields = answers.SEPARATOR.join(sweep.FIELDS.values())
        words = [f"{self.folder}/squeue", "--noheader", "--all", "--local", f"--format={fields}"]
        if job_id is None:
            return await _read(sweep.parse, await self._said(*words), hub)
        done = await self.run([*words, f"--jobs={job_id}"])
        if done.code and "Invalid job id specified" not in done.err:
            raise SlurmUnavailable(f"squeue: {answers.one_line(done.err)}")
        return sweep.parse(done.out.partition("\n")[0], hub)


def _silent(done: Completed) -> SlurmUnavailable:
    return SlurmUnavailable(f"Slurm does not answer at the moment ({answers.one_line(done.err)}).")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a command that still runs, with all it started. sudo's child belongs to somebody else."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError, TimeoutError):
            os.killpg(process.pid, signal.SIGKILL)
            async with asyncio.timeout(1):
                await process.wait()
