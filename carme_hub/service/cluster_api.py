"""The clusters, for scripts of pages: numbers, nodes, the chart, and when a request would start.

Everybody who may use these pages may see this: it is what ``sinfo`` shows every user of the cluster, and
counts of jobs without their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carme_hub.records import pictures as kept
from carme_hub.records import samples
from carme_hub.service import shapes
from carme_hub.service.base import ApiHandler, PageHandler
from carme_hub.service.forecast import Request
from carme_hub.service.refusal import Refused
from carme_hub.spawner.cluster import parse_gres

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carme_hub.service.pictures import Reader
    from carme_hub.service.site import Site

_LARGEST = 10_000_000  # of any number in a request


class Records:
    """Where pictures and samples are kept: the project's database."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def load(self, cluster: str) -> dict[str, Any] | None:
        """Return the last picture of a cluster."""
        picture = kept.get(self._site.records, cluster)
        # One that an older version kept has another shape.
        return picture if picture is not None and picture.get("shape") == shapes.SHAPE else None

    def keep(self, picture: Mapping[str, Any]) -> None:
        """Keep a picture, and its numbers as a sample."""
        counts = {
            one["name"]: samples.Sample(one["total"], one["used"], one["queued"], one["down"])
            for one in picture["resources"]
        }
        samples.add(self._site.records, picture["at"], picture["name"], counts)
        kept.keep(self._site.records, picture["name"], picture)

    def past(self, cluster: str, since: float) -> dict[str, Any]:
        """Return the chart of the time since then."""
        return shapes.past_chart(samples.since(self._site.records, cluster, since))


async def run(site: Site) -> None:
    """Read the clusters, for ever."""
    await site.pictures.run()


class _ClusterHandler(ApiHandler):
    """An answer about one cluster, which ``cluster=`` names; without it, about the site's first."""

    def reader(self) -> Reader:
        self.site.pictures.looked()
        found = self.site.pictures.reader(self.get_query_argument("cluster", ""))
        if found is None:
            raise Refused(404, "There is no such cluster.")
        return found


class Clusters(_ClusterHandler):
    """All clusters, as the stream says them."""

    async def get(self) -> None:
        """Answer."""
        self.site.pictures.looked()
        self.answer(self.site.pictures.now())


class Nodes(_ClusterHandler):
    """All nodes of a cluster."""

    async def get(self) -> None:
        """Answer."""
        reader = self.reader()
        picture = reader.view.picture if reader.view else {"at": None, "nodes": []}
        self.answer({"cluster": reader.name, "at": picture["at"], "nodes": picture["nodes"]})


class Chart(_ClusterHandler):
    """The last and the next day of a cluster."""

    async def get(self) -> None:
        """Answer."""
        self.answer(await self.site.pictures.chart(self.reader().name))


class Start(_ClusterHandler):
    """When a request would start at the latest.

    ``partition``, ``nodes``, and for each node ``cpus``, ``memory`` (MiB), ``gres`` (``gpu:a100:2``);
    ``minutes`` is its time limit. The answer's ``start`` (seconds since 1970) is null when nobody can say.
    """

    async def get(self) -> None:
        """Answer."""
        reader = self.reader()
        request = Request(
            partition=self.get_query_argument("partition", ""),
            nodes=self._number("nodes", 1),
            cpus=self._number("cpus", 1),
            memory=self._number("memory", 0),
            gres=parse_gres(self.get_query_argument("gres", "")),
            minutes=self._number("minutes", 60),
        )
        at = reader.view.picture["at"] if reader.view else None
        self.answer({"cluster": reader.name, "at": at, "start": await reader.start_of(request)})

    def _number(self, name: str, default: int) -> int:
        text = self.get_query_argument(name, str(default))
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(_LARGEST))):
            raise Refused(400, f"{name} has to be a whole number.")
        return max(int(text), min(default, 1))


class ClusterPage(PageHandler):
    """The clusters on a page of their own."""

    async def get(self) -> None:
        """Show it; the numbers come over the stream."""
        self.site.pictures.looked()
        self.render_page("cluster.html")


routes = [
    (r"cluster", ClusterPage),
    (r"api/cluster", Clusters),
    (r"api/nodes", Nodes),
    (r"api/chart", Chart),
    (r"api/start", Start),
]
background = [run]
