"""Install and build what the demo site stands on; each step does only what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carme_hub.demo import apptainer, cache, images, nodejs, packages

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGES = ("base", "ml")


def everything(say: Callable[[str], None], *, tests: bool = False) -> dict[str, Any]:
    """Return where the things are that the inside of the site needs (see `site.Settings`).

    Parameters
    ----------
    say : callable
        Takes one line of progress.
    tests : bool
        Whether what only the tests need is wanted too.
    """
    packages.ensure(say, packages.DEMO + (packages.TEST if tests else ()))
    store = cache.root()
    if tests:
        nodejs.axe(store, say)
    tree = apptainer.ensure(store, say)
    return {
        "proxy": str(nodejs.proxy(store, say)),
        "apptainer": str(tree or ""),
        "images": {name: str(sif) for name, sif in images.ensure(store, IMAGES, say).items()},
    }
