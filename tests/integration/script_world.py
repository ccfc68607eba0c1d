"""Batch scripts on the demo cluster without its hub: for sites that the demo is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from carme_hub.spawner import failure, script
from carme_hub.spawner.answers import Ending
from carme_hub.spawner.catalog import Catalog
from carme_hub.spawner.request import JobRequest, Person

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support import Site

SUBMIT = 'printf %s "$1" | sbatch --parsable --wait --nodelist="$2"; echo "ended $?"'


@dataclass
class Ran:
    """How a session's job ended."""

    code: int
    log: str
    request: JobRequest
    home: str

    def sentence(self) -> str:
        """Return what its owner is told."""
        return failure.sentence(Ending("FAILED", "", self.code), self.request, self.home, self.log)


def run_script(
    site: Site,
    username: str,
    program: str,
    *,
    nodes: str = "node1",
    mounts: Mapping[str, Mapping[str, object]] | None = None,
) -> Ran:
    """Run a session's script with a program of our own in place of the reporter, and wait for its end.

    Parameters
    ----------
    program
        Python, run in the container with the standard library only.
    nodes
        Names, with commas.
    mounts
        As in ``CarmeSpawner.mounts``; the session has all of them.
    """
    mounts = mounts or {}
    images = {"base": {"title": "x", "path": "/srv/images/base.sif", "mounts": list(mounts)}}
    count, home = len(nodes.split(",")), f"/srv/home/{username}"
    profile = {"name": "p", "title": "x", "max_time": "5", "memory": "500M", "max_nodes": count}
    catalog = Catalog.load(images, mounts, [profile])
    request = JobRequest.parse({"nodes": count}, catalog, Person(username))
    text = script.render(request, script.Plan(home, "carme:test", ("server",), program))
    said = site.run("bash", "-c", SUBMIT, "x", text, nodes, user=username)
    number, _, code = said.partition("\n")
    log = site.run("cat", script.log_path(home, number), node=nodes.partition(",")[0], check=False)
    return Ran(int(code.split()[-1]), log, request, home)
