"""The site's description, checked once for all sessions: each has settings of its own, and all the same."""

from __future__ import annotations

from typing import Any

from carme_hub.spawner.backends import check_profiles, read_clusters
from carme_hub.spawner.catalog import Catalog

# The last description, as text, and what came of it; there is one for as long as the hub runs.
_LAST: dict[str, Catalog] = {}


def described(
    images: dict[str, Any], mounts: dict[str, Any], profiles: list[Any], clusters: dict[str, Any]
) -> Catalog:
    """Return what the settings of these names offer.

    A hub that finds a thousand sessions when it starts would else check and keep the same description a
    thousand times. As text, because 1 and True are equal, and because settings can be changed in place.

    Raises
    ------
    CatalogError
        With one line for each mistake, starting with the setting.
    """
    asked = repr((images, mounts, profiles, clusters))
    if asked not in _LAST:
        catalog = Catalog.load(images, mounts, profiles, "CarmeSpawner")
        check_profiles(catalog.profiles.values(), read_clusters(clusters))
        _LAST.clear()
        _LAST[asked] = catalog
    return _LAST[asked]
