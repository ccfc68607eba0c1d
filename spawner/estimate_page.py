"""``POST /hub/api/carme/estimate``: when would a session start, or why not. Nothing is submitted.

The body holds options as for a start; ``/hub/api/carme/estimate/NAME`` asks for somebody else. The question
is about one more session, that of ``.../NAME/SERVER`` about a session in the place of that one. Who may start
sessions for a person may ask. The controller is asked for one of a person's questions at a time, and for few
in all; the same question has the same answer for some seconds (`carme_hub.spawner.estimates`), and a start
within them does not ask again.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from jupyterhub.apihandlers import APIHandler
from jupyterhub.scopes import needs_scope
from tornado import web

from carme_hub.spawner.errors import SessionError
from carme_hub.spawner.offer import OfferingSpawner
from carme_hub.spawner.slurm import SlurmError

if TYPE_CHECKING:
    from carme_hub.spawner.estimate import Estimate
    from carme_hub.spawner.request import JobRequest

PAUSE = 0.5  # seconds between two questions of one person to the controller
AT_ONCE = 2  # questions of all people
LONGEST_BODY = 4000  # bytes
_MOST = 1000  # people to remember

_BUSY: set[str] = set()
_LAST: dict[str, float] = {}
_FREE = asyncio.Semaphore(AT_ONCE)


def asked(request: JobRequest) -> dict[str, str | int]:
    """Return a request as the service's forecast takes it; memory (MiB), cores and gres are of each node."""
    return {
        "cluster": request.profile.cluster or "",
        "partition": request.partition or "",
        "nodes": request.nodes,
        "cpus": request.cpus,
        "memory": request.memory or 0,
        "gres": f"{request.gres}:{request.gpus}" if request.gres and request.gpus else "",
        "minutes": request.time,
    }


class EstimateHandler(APIHandler):  # type: ignore[misc]  # JupyterHub has no types
    """Answers with ``{"start": seconds since 1970 or null, "nodes", "partition", "sentence", "asked"}``.

    ``asked`` is the request in the words of the service's ``api/start``, whose forecast a page can show where
    Slurm has none.

    What is not on offer, exceeds a limit or would be refused by Slurm is a 400 with ``field``, ``sentence``
    and ``short`` (the sentence without the field's name), and ``mistakes``, which has ``field`` and
    ``short`` of everything that is wrong; 429 means that another question of the same person
    is still open.
    """

    @web.authenticated
    async def post(self, user_name: str | None = None, server_name: str | None = None) -> None:
        """Take options, and answer."""
        if self.current_user is None:
            raise web.HTTPError(403)
        await self._post(user_name=user_name or self.current_user.name, server_name=server_name or "")

    @needs_scope("start:servers")  # type: ignore[untyped-decorator]
    async def _post(self, user_name: str, server_name: str) -> None:
        user: Any = self.find_user(user_name)
        if user is None:
            raise web.HTTPError(404)
        if len(self.request.body) > LONGEST_BODY:
            raise web.HTTPError(400, "The body is too long.")
        # A server that is not there holds nothing: the default one stands for it.
        known = bool(server_name) and server_name in user.spawners
        spawner = user.spawners[server_name] if known else user.spawner
        if not isinstance(spawner, OfferingSpawner):
            raise web.HTTPError(404)
        try:
            await spawner.learn()
            request = spawner.parse_options(self.get_json_body() or {})
            spawner.admit(request, new=not known)
            answer = await self._ask(spawner, request)
        except SessionError as error:
            self.set_status(400)
            answer = {
                "field": error.field,
                "sentence": error.jupyterhub_message,
                "short": error.short,
                "mistakes": [{"field": field, "short": short} for field, short in error.mistakes],
            }
        except SlurmError as error:
            self.set_status(503)
            answer = {"field": "", "sentence": str(error), "short": str(error)}
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(answer))

    async def _ask(self, spawner: OfferingSpawner, request: JobRequest) -> dict[str, object]:
        estimate = spawner.known_estimate(request)
        if estimate is None:
            estimate = await self._estimate(spawner, request)
        return {
            "start": estimate.start,
            "nodes": estimate.nodes,
            "partition": estimate.partition,
            "sentence": estimate.sentence,
            "asked": asked(request),
        }

    async def _estimate(self, spawner: OfferingSpawner, request: JobRequest) -> Estimate:
        name = spawner.user.name
        if name in _BUSY or time.monotonic() - _LAST.get(name, -PAUSE) < PAUSE:
            self.set_header("Retry-After", "1")
            raise web.HTTPError(429, "Another estimate for this person was asked for a moment ago.")
        _BUSY.add(name)
        try:
            async with _FREE:
                return await spawner.estimate(request)
        finally:
            _BUSY.discard(name)
            _LAST[name] = time.monotonic()
            if len(_LAST) > _MOST:
                _LAST.clear()
