"""A person's session as the home page shows it: what the dashboard knows, and the words for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from carme_hub.spawner.brief import PENDING, brief
from carme_hub.spawner.request import harmless
from carme_hub.spawner.summary import summary
from carme_hub.spawner.timelimit import clock
from carme_hub.spawner.units import spoken_memory

if TYPE_CHECKING:
    from carme_hub.spawner.spawner import CarmeSpawner

WAITING, ENDED = "waiting", "ended"


def card(spawner: CarmeSpawner, now: float) -> dict[str, Any]:
    """Return what a page shows of a session, or of the last one of that name.

    Parameters
    ----------
    now
        Seconds since 1970.

    Returns
    -------
    dict
        As `carme_hub.spawner.brief.brief`; ``kind`` says how it is, ``memory_text`` and ``..._clock`` are for
        people. Of one that does not run only ``kind``, its words, and ``again``: options to start it as the
        last time, and the same as a link's query.
    """
    if not spawner.active:
        return _ended(spawner)
    known = brief(spawner, now)
    if not known:  # in the first moment of a start
        return _ended(spawner) | {"kind": "starting", "apps": [], "again": {}}
    shown = known | {
        "kind": WAITING if known["state"] == PENDING else known["state"],
        "memory_text": spoken_memory(known["memory"]),
    }
    for name in ("expected_start", "submitted", "start"):
        moment = known[name]
        shown[f"{name.removesuffix('_start')}_clock"] = clock(moment, now) if moment else ""
    return shown


def _ended(spawner: CarmeSpawner) -> dict[str, Any]:
    row = spawner.orm_spawner
    again = harmless(row.user_options if row is not None else None)
    nothing = {"title": "", "what": "", "image_title": ""}
    words: dict[str, Any] = dict(summary(again, spawner.catalog, "", "")) if again.get("profile") else nothing
    image = spawner.catalog.images.get(again.get("image", ""))
    return {
        **words,
        "kind": ENDED,
        "job": None,
        "slurm_state": "",
        "image_title": image.title if image is not None else again.get("image", ""),
        "again": again if again.get("profile") else {},
        "again_query": urlencode({f"opt-{name}": value for name, value in again.items()}),
    }
