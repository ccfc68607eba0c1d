"""What a job and the hub tell each other, with that server's own token: steps, port, troubles, end, time.

Importing this module replaces batchspawner's ``POST /hub/api/batchspawner``, which sets any attribute of a
spawner to what a job sends, by ``/hub/api/carme/report``.
"""

from __future__ import annotations

import json
import time
from typing import Any, Protocol, runtime_checkable

import batchspawner.api  # registers its handler when it is imported; after this line it never does again
from jupyterhub import apihandlers
from jupyterhub.apihandlers import APIHandler
from tornado import web

from carme_hub.spawner.timelimit import Limited
from carme_hub.spawner.told import Told

LONGEST_BODY = 40_000
HIGHEST_PORT = 65535
BEGUN, ENDED = "begun", "ended"


class HubError(RuntimeError):
    """The hub must not start like this."""


@runtime_checkable
class Reportable(Protocol):
    """A spawner whose job reports a port."""

    def owns_token(self, token: str) -> bool:
        """Say whether this is the token of the session that is starting."""

    def take_begun(self) -> bool:
        """Take the word that the container runs; False when none is expected (any more)."""

    def take_port(self, port: int) -> bool:
        """Take the report; False when none is expected (any more)."""

    def take_told(self, told: Told) -> bool:
        """Take what the job says of its home, its memory and its log; False when it has no job (any more)."""

    async def take_end(self) -> bool:
        """Count as ended, and return when the route is gone; False when no port was reported before."""


def parse_report(body: bytes) -> int | str | Told:
    """Read a report.

    Returns
    -------
    int, str or Told
        The port; what the job says of itself; `BEGUN` when the container runs, `ENDED` when the server ends.

    Raises
    ------
    ValueError
        When it is anything but ``{"port": 1..65535}``, ``{"begun": true}``, ``{"ended": true}`` or
        ``{"told": {"home": [...], "killed": number, "log": text}}``.
    """
    if len(body) > LONGEST_BODY:
        raise ValueError("The report is too long.")
    report = json.loads(body)
    for word in (BEGUN, ENDED):
        if isinstance(report, dict) and report.keys() == {word} and report[word] is True:
            return word
    if isinstance(report, dict) and report.keys() == {"told"}:
        return Told.read(report["told"])
    if not isinstance(report, dict) or report.keys() != {"port"}:
        raise ValueError("A report is an object with the port, the beginning or the end, and nothing else.")
    port = report["port"]
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= HIGHEST_PORT:
        raise ValueError(f"The port has to be a whole number from 1 to {HIGHEST_PORT}.")
    return port


def time_left(spawner: object) -> dict[str, int | bool | None]:
    """Return what a session is told of its time.

    Returns
    -------
    dict
        ``end``: seconds since 1970, None when it is not known; ``extend``: whether its owner may extend it.
    """
    limit = spawner.time_limit() if isinstance(spawner, Limited) else None
    if limit is None:
        return {"end": None, "extend": False}
    return {"end": limit.end, "extend": bool(limit.amounts(time.time()))}


class ReportHandler(APIHandler):  # type: ignore[misc]  # JupyterHub has no types
    """``/hub/api/carme/report``. The host is not asked for: it is the node Slurm names."""

    async def post(self) -> None:
        """Take what the server whose token this is has to say."""
        spawner = self._spawner()
        try:
            said = parse_report(self.request.body)
        except ValueError as error:
            raise web.HTTPError(400, str(error)) from None
        if isinstance(said, int):
            taken = spawner.take_port(said)
        elif isinstance(said, Told):
            taken = spawner.take_told(said)
        else:
            taken = spawner.take_begun() if said == BEGUN else await spawner.take_end()
        if not taken:
            raise web.HTTPError(409, "No report is expected from this server.")
        if isinstance(said, int):
            self.finish(time_left(spawner))
        else:
            self.set_status(204)

    async def get(self) -> None:
        """Tell the server whose token this is when its time ends."""
        self.finish(time_left(self._spawner()))

    def _spawner(self) -> Reportable:
        # A cookie names a person, not a server; only the Authorization header counts.
        token: str | None = self.get_auth_token()
        owner: Any = self.current_user if token and getattr(self, "_token_authenticated", False) else None
        for spawner in list(getattr(owner, "spawners", {}).values()):
            if token and isinstance(spawner, Reportable) and spawner.owns_token(token):
                return spawner
        raise web.HTTPError(403, "Only a session can report, with its own token.")


def disarm_batchspawner() -> None:
    """Take batchspawner's handler out of the hub's API and put ours in; doing it again changes nothing.

    Raises
    ------
    HubError
        When a route of that name is left, by whatever name its class goes.
    """
    wanted = (r"/api/carme/report", ReportHandler)
    handlers = apihandlers.default_handlers
    handlers[:] = [entry for entry in handlers if entry[1] is not batchspawner.api.BatchSpawnerAPIHandler]
    if any("batchspawner" in str(entry[0]) for entry in handlers):
        raise HubError(
            "The hub's API still has batchspawner's handler: any user could become the hub's user."
        )
    if wanted not in handlers:
        handlers.append(wanted)


disarm_batchspawner()
