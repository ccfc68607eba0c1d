"""Images and mounts as the hub's machine sees them: where sessions run on it, or no node was asked."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from carme_hub.authenticator.threads import Threads
from carme_hub.checks.values import Check, Probe, failed, ok, skipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carme_hub.spawner.catalog import Catalog, Image, Mount, Profile

PART = "Nodes"
SECONDS = 5.0  # for one path; one that lies in a dead file system keeps its thread
TIME_OUT = 30.0
WHERE = "on the hub's machine"

_threads = Threads(8, "carme-check-path")


def probe(catalog: Catalog, profiles: Sequence[Profile]) -> Probe:
    """Return the look at what profiles need that run on the hub's own machine."""
    images = {name: catalog.images[name] for profile in profiles for name in profile.images}
    mounts = {mount.name: mount for image in images.values() for mount in catalog.mounts_of(image)}
    look_at = partial(look, list(images.values()), list(mounts.values()), needed=True)
    return Probe(PART, "The hub's machine", TIME_OUT, look_at)


async def look(images: Iterable[Image], mounts: Iterable[Mount], *, needed: bool = False) -> list[Check]:
    """Look at paths.

    Parameters
    ----------
    images, mounts
        What to look at.
    needed
        Whether they have to be on this machine. Where only the nodes need them, one that is missing here says
        nothing, and one that is there says a little.
    """
    found = []
    for kind, name, path in [
        *(("Image", image.name, image.path) for image in images),
        *(("Mount", mount.name, mount.source) for mount in mounts),
    ]:
        title = f"{kind} {name} {WHERE}"
        try:
            readable = await _threads.run(partial(os.access, path, os.R_OK), SECONDS)
        except TimeoutError:
            found.append(failed(title, f"{path} lies in a file system that does not answer."))
            continue
        found.append(judge(title, path, readable=readable, needed=needed))
    return found


def judge(title: str, path: str, *, readable: bool, needed: bool) -> Check:
    """Judge whether a path can be read here."""
    if readable:
        return ok(title, f"{path} can be read{'' if needed else ' here; no node was asked'}.")
    if needed:
        return failed(title, f"{path} cannot be read. Copy it here, or correct the path.")
    return skipped(title, f"{path} is not on this machine, which need not be wrong: no node was asked.")
