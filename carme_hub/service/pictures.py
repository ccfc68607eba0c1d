"""What pages show of the clusters: one reader for each, which asks Slurm often only while somebody looks.

However many pages are open, each cluster is asked for its nodes, its jobs and its reservations once in 15 s,
or once in 5 min when nobody looks, so that the chart of the last day has no holes. A controller that is slow
is asked at most a fifth of the time, one that does not answer less and less often; the last picture stays,
with its time, also across restarts of the service. No page ever asks Slurm.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from carme_hub.service import queue, shapes
from carme_hub.service.forecast import Closed, Forecast, Request
from carme_hub.spawner.backends import used_clusters
from carme_hub.spawner.overview import LOOKING, SELDOM, pause
from carme_hub.spawner.settings import SessionSettings
from carme_hub.spawner.slurm import Slurm, SlurmError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from traitlets.config import Config

    from carme_hub.service.queue import Job
    from carme_hub.spawner.cluster import Cluster

P = ParamSpec("P")
T = TypeVar("T")

# One thread: a forecast is made, and asked, by one at a time, and takes one of the machine's cores at most.
_FORECASTS = ThreadPoolExecutor(max_workers=1, thread_name_prefix="carme-forecast")
_PATIENCE = 10.0  # seconds for the database
OLD = 3600  # seconds after which a forecast says nothing any more
_GLANCE = 1.0  # seconds between two looks at whether somebody looks


class Memory(Protocol):
    """Where pictures and samples are kept; its methods wait for a database and are called in threads."""

    def load(self, cluster: str) -> dict[str, Any] | None:
        """Return the last picture of a cluster; None when there is none."""

    def keep(self, picture: Mapping[str, Any]) -> None:
        """Keep a picture, and its numbers for the chart."""

    def past(self, cluster: str, since: float) -> dict[str, Any]:
        """Return the chart of the time since then; see `carme_hub.service.shapes.past_chart`."""


@dataclass(frozen=True)
class View:
    """What one reading gave.

    Attributes
    ----------
    picture
        For pages, with all nodes; ``at`` says when it was taken.
    chart
        The next day; None for a picture of an earlier process.
    """

    picture: Mapping[str, Any]
    chart: Mapping[str, Any] | None = None
    forecast: Forecast | None = None


def look(name: str, at: int, cluster: Cluster, jobs: Sequence[Job], closed: Sequence[Closed]) -> View:
    """Make everything that pages show of a cluster. Takes up to a second for a large one."""
    resources = shapes.resources_of(cluster, jobs, at)
    forecast = Forecast(cluster, jobs, at, closed)
    picture = shapes.picture_of(name, at, cluster, jobs, resources)
    return View(picture, shapes.forecast_chart(forecast, resources), forecast)


class Reader:
    """Reads one cluster.

    Attributes
    ----------
    view
        The last picture; None before the first.
    silent_since
        When Slurm stopped answering, in seconds since 1970; None while it answers.
    """

    def __init__(self, name: str, slurm: Slurm, log: logging.Logger) -> None:
        self.name = name
        self._slurm = slurm
        self._log = log
        self.view: View | None = None
        self.silent_since: float | None = None

    async def read(self) -> bool:
        """Take a picture; return whether there is a new one."""
        mark = secrets.token_hex(16)
        at = int(time.time())
        try:
            # Both at once, so that they say the same; both to their end, so that nothing is left running.
            nodes, listed = await asyncio.gather(
                self._slurm.cluster(),
                self._slurm.jobs(queue.wanted(mark), partial(queue.parse, mark=mark)),
                return_exceptions=True,
            )
            cluster, (jobs, whole) = _answer(nodes), _answer(listed)
            closed = await self._closed()
            if not whole:
                self._log.info("Not all of squeue's answer about %s was its own", self.name)
            loop = asyncio.get_running_loop()
            self.view = await loop.run_in_executor(_FORECASTS, look, self.name, at, cluster, jobs, closed)
        except SlurmError as error:
            if self.silent_since is None:
                self._log.warning("The cluster %s cannot be read: %s", self.name, error)
            self.silent_since = self.silent_since or time.time()
            return False
        except Exception:  # noqa: BLE001 - logged with its traceback
            self._log.exception("The picture of the cluster %s was not understood", self.name)
            self.silent_since = self.silent_since or time.time()
            return False
        if self.silent_since is not None:
            self._log.warning("The cluster %s can be read again", self.name)
        self.silent_since = None
        return True

    async def start_of(self, request: Request) -> int | None:
        """Return when a request would start at the latest; None when nobody can say."""
        forecast = self.view.forecast if self.view else None
        if forecast is None or time.time() - forecast.now > OLD:
            return None
        return await asyncio.get_running_loop().run_in_executor(_FORECASTS, forecast.start_of, request)

    async def _closed(self) -> list[Closed]:
        with contextlib.suppress(SlurmError):
            return [
                Closed(frozenset(queue.names(one.nodes)), one.start, one.end)
                for one in await self._slurm.reservations()
            ]
        return []


def _answer(given: T | BaseException) -> T:
    if isinstance(given, BaseException):
        raise given
    return given


async def _asked(function: Callable[P, T], *values: P.args, **more: P.kwargs) -> T:
    """Ask the database, for so long: the pictures of now need none."""
    async with asyncio.timeout(_PATIENCE):
        return await asyncio.to_thread(function, *values, **more)


class Pictures:
    """All clusters of a site.

    Parameters
    ----------
    readers
        One for each cluster, in the site's order.
    memory
        Where pictures and samples are kept.
    publish
        Is told the newest of all clusters, a value for JSON, whenever there is something new.
    somebody
        Says whether somebody looks, beside those who ask here.
    """

    def __init__(
        self,
        readers: Sequence[Reader],
        memory: Memory,
        publish: Callable[[dict[str, Any]], object] = lambda _: None,
        somebody: Callable[[], bool] = lambda: False,
        log: logging.Logger | None = None,
    ) -> None:
        self._readers = {reader.name: reader for reader in readers}
        self._memory = memory
        self._publish = publish
        self._somebody = somebody
        self._log = log or logging.getLogger(__name__)
        self._asked_at = -LOOKING
        self._kept_at: dict[str, float] = {}
        self._charts: dict[str, tuple[int, dict[str, Any]]] = {}
        self._drawing = asyncio.Lock()

    @property
    def names(self) -> list[str]:
        """Return the names of the clusters; the first is the site's default."""
        return list(self._readers)

    def reader(self, name: str) -> Reader | None:
        """Return the reader of a cluster, of the site's first one for ""; None when it is not known."""
        return self._readers.get(name or next(iter(self._readers), ""))

    def looked(self) -> None:
        """Say that somebody looks."""
        self._asked_at = time.monotonic()

    def now(self) -> dict[str, Any]:
        """Return the newest of all clusters, as pages are told it."""
        clusters = []
        for reader in self._readers.values():
            if reader.view is not None:
                silent = reader.silent_since
                clusters.append(
                    shapes.shortened(reader.view.picture)
                    | {"silent_since": None if silent is None else int(silent)}
                )
        return {"at": min((one["at"] for one in clusters), default=None), "clusters": clusters}

    async def chart(self, name: str) -> dict[str, Any] | None:
        """Return the last and the next day of a cluster; None when it is not known.

        Made once for each picture, however many ask.
        """
        reader = self.reader(name)
        if reader is None:
            return None
        async with self._drawing:
            at = reader.view.picture["at"] if reader.view else 0
            known = self._charts.get(reader.name)
            if known is None or known[0] != at or time.time() - at > SELDOM:
                past: dict[str, Any] = shapes.past_chart([])
                with self._whatever("The chart of %s cannot be read", reader.name):
                    past = await _asked(self._memory.past, reader.name, time.time() - shapes.HORIZON)
                chart = reader.view.chart if reader.view else None
                fresh = chart is not None and time.time() - at < OLD
                known = at, {"cluster": reader.name, "past": past, "forecast": chart if fresh else None}
                self._charts[reader.name] = known
            return known[1]

    async def run(self) -> None:
        """Read all clusters, for ever."""
        for reader in self._readers.values():
            with self._whatever("The last picture of %s cannot be read", reader.name):
                stored = await _asked(self._memory.load, reader.name)
                if stored is not None and reader.view is None:
                    reader.view = View(stored)
        self._tell()
        async with asyncio.TaskGroup() as group:
            for reader in self._readers.values():
                group.create_task(self._follow(reader))

    async def _follow(self, reader: Reader) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            failures = 0 if await reader.read() else failures + 1
            self._tell()
            if not failures:
                await self._keep(reader)
            least = pause(failures, time.monotonic() - began)
            await asyncio.sleep(least)
            waited = least
            while waited < SELDOM and not self._looks():
                await asyncio.sleep(_GLANCE)
                waited += _GLANCE

    def _looks(self) -> bool:
        return self._somebody() or time.monotonic() - self._asked_at < LOOKING

    def _tell(self) -> None:
        self._publish(self.now())

    async def _keep(self, reader: Reader) -> None:
        """Keep what was read, not more often than every five minutes."""
        view = reader.view
        if view is not None and time.monotonic() - self._kept_at.get(reader.name, -SELDOM) >= SELDOM:
            self._kept_at[reader.name] = time.monotonic()
            with self._whatever("The picture of %s cannot be kept", reader.name):
                await _asked(self._memory.keep, view.picture)

    @contextlib.contextmanager
    def _whatever(self, message: str, name: str) -> Iterator[None]:
        """Go on without the database: the picture of now needs none."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - logged; SQLAlchemy's errors are of many kinds
            self._log.warning("%s: %s", message % name, error)


def readers_of(config: Config, log: logging.Logger) -> list[Reader]:
    """Return a reader for each cluster that sessions of ``c.CarmeSpawner`` can be on.

    Raises
    ------
    carme_hub.spawner.catalog.CatalogError
        When a cluster is not described correctly.
    """
    given = config.CarmeSpawner
    settings = SessionSettings(
        **{
            name: given[name]
            for name in ("clusters", "slurm_folder", "slurm_conf", "slurm_time_out")
            if name in given
        }
    )
    return [
        Reader(
            name,
            Slurm(
                str(cluster.slurm_folder or settings.slurm_folder),
                str(cluster.slurm_conf or settings.slurm_conf),
                float(settings.slurm_time_out),
            ),
            log,
        )
        for name, cluster in used_clusters(settings.clusters, given.get("profiles", ())).items()
    ]
