"""``GET /hub/api/carme/session/NAME[/SERVER]``: what a session is made of and what it uses.

Nodes, the batch script as Slurm has it, the end of the log and what the job uses now are read as the owner,
with a time-out each, and remembered for some seconds. The script holds no secret: what a session must keep to
itself reaches it through its environment (`carme_hub.spawner.script`).
"""

from __future__ import annotations

import asyncio
import json
import time
import weakref
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jupyterhub.apihandlers import APIHandler
from jupyterhub.scopes import has_scope
from tornado import web

from carme_hub.spawner import failure, script
from carme_hub.spawner.brief import view_of
from carme_hub.spawner.slurm import SlurmError, account_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from carme_hub.spawner.session import Session
    from carme_hub.spawner.slurm import Account, Slurm
    from carme_hub.spawner.spawner import CarmeSpawner

FRESH = 5.0  # seconds for which an answer counts
LINES = 60  # of the log
NOTHING: dict[str, Any] = {"job": None, "nodes": [], "script": "", "log": "", "use": None}
# A job's script does not change; what it says of a job is asked for once.
_SCRIPTS: weakref.WeakKeyDictionary[Session, tuple[int, str]] = weakref.WeakKeyDictionary()
_ANSWERS: weakref.WeakKeyDictionary[Session, tuple[float, asyncio.Task[dict[str, Any]]]] = (
    weakref.WeakKeyDictionary()
)


async def details(spawner: CarmeSpawner) -> dict[str, Any]:
    """Return the details of a session, those of a moment ago when somebody just asked."""
    child = spawner.child
    if child is None or not child.job_id:
        return dict(NOTHING)
    asked, task = _ANSWERS.get(child, (0.0, None))
    if task is None or (task.done() and time.monotonic() - asked >= FRESH):
        task = asyncio.get_running_loop().create_task(_learn(spawner, child), name="carme-details")
        _ANSWERS[child] = (time.monotonic(), task)
    # Who goes away takes nothing from the others who wait.
    return await asyncio.shield(task)


async def _learn(spawner: CarmeSpawner, child: Session) -> dict[str, Any]:
    number, slurm, view = int(child.job_id), child.backend.slurm, view_of(spawner)
    node = (view.node if view is not None else "") or child.node
    found: dict[str, Any] = NOTHING | {"job": number, "nodes": [node] if node else []}
    try:
        account = await account_of(spawner.user.name)
    except SlurmError:
        return found
    questions: dict[str, Awaitable[Any]] = {"log": _log(child, number, account)}
    if slurm is not None:
        questions["script"] = _script(child, slurm, number, account)
    if slurm is not None and node:
        questions["use"] = _use(slurm, number, account)
        if child.facts.nodes > 1:
            questions["nodes"] = _nodes(slurm, number)
    told = await asyncio.gather(*questions.values(), return_exceptions=True)
    for name, answer in zip(questions, told, strict=True):
        if isinstance(answer, BaseException):
            child.log.warning("The %s of job %s cannot be read: %s", name, number, answer)
        elif answer:
            found[name] = answer
    return found


async def _log(child: Session, number: int, account: Account) -> str:
    tail = await child.runner.log_tail(script.log_path(account.home, number), account)
    return failure.last_lines(tail or child.told.log, LINES)


async def _script(child: Session, slurm: Slurm, number: int, account: Account) -> str:
    known = _SCRIPTS.get(child)
    if known is not None and known[0] == number:
        return known[1]
    text = await slurm.batch_script(number, account)
    if text:
        _SCRIPTS[child] = (number, text)
    return text


async def _use(slurm: Slurm, number: int, account: Account) -> dict[str, Any] | None:
    used = await slurm.use(number, account)
    return asdict(used) if used is not None else None


async def _nodes(slurm: Slurm, number: int) -> list[str]:
    job = await slurm.running(number)
    return sorted(await slurm.host_names(job.nodes), key=_by_number) if job and job.nodes else []


def _by_number(name: str) -> tuple[str, int]:
    digits = name[len(name.rstrip("0123456789")) :]
    return name.rstrip("0123456789"), int(digits or 0)


class DetailsHandler(APIHandler):  # type: ignore[misc]  # JupyterHub has no types
    """Answers with ``{"job", "nodes", "script", "log", "use": {"cpu_seconds", "memory_peak", ...} or null}``.

    For the session's owner, with a token that may also start and stop it, and for whoever may
    ``admin:servers`` of that person. Others of those who may start and stop it do not read in its log.
    """

    async def get(self, user_name: str, server_name: str = "") -> None:
        """Answer."""
        if not self._may_read(user_name, server_name):
            # The same answer, whether there is such a session or not.
            raise web.HTTPError(404 if self.current_user is not None else 403)
        user = self.find_user(user_name)
        spawner: Any = user.spawners.get(server_name) if user is not None else None
        if spawner is None or not spawner.active or not hasattr(spawner, "child"):
            raise web.HTTPError(404, "There is no such session.")
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(await details(spawner)))

    def _may_read(self, user_name: str, server_name: str) -> bool:
        if self.current_user is None or "/" in user_name:
            return False
        own = self.current_user.kind == "user" and self.current_user.name == user_name
        scope = "servers" if own else "admin:servers"
        which = f"{scope}!server={user_name}/{server_name}"
        return bool(has_scope(which, self.parsed_scopes, db=self.db))
