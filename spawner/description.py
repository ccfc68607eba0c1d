"""The site's description, checked once for all sessions: each has settings of its own, and all the same.

A hub that finds a thousand sessions when it starts would else check and keep the same description a thousand
times.
"""

from __future__ import annotations

from typing import Any

from carme_hub.spawner.backends import check_profiles, known_clusters
from carme_hub.spawner.catalog import Catalog
from carme_hub.spawner.limits import LimitRules
from carme_hub.spawner.remembered import Remembered


def _checked(
    images: dict[str, Any], mounts: dict[str, Any], profiles: list[Any], clusters: dict[str, Any]
) -> Catalog:
    catalog = Catalog.load(images, mounts, profiles, "CarmeSpawner")
    check_profiles(catalog.profiles.values(), known_clusters(clusters))
    return catalog


# What the settings of these names offer, and the limits that they set; a CatalogError for mistakes in them.
described = Remembered(_checked)
limited = Remembered(LimitRules.load)
