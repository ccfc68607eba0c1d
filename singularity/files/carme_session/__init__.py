"""What makes a Jupyter Server the server of a carme-hub session: one extension, which loads its parts.

A part is a module of this package with ``setup(serverapp)``. The image has this package in its site packages
and turns it on in ``/etc/jupyter/jupyter_server_config.d/carme_session.json``. Nothing of carme-hub is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Without these a server is no safe place: it ends rather than run without them.
GUARDS = ("guard", "memory", "logs", "answers", "forward", "kernels")
# What people miss when it is away, and work on.
EXTRAS = ("time_limit", "notes", "usage")


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "carme_session"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    for name in (*GUARDS, *EXTRAS):
        try:
            import_module(f"{__name__}.{name}").setup(serverapp)
        except Exception:
            serverapp.log.exception("carme: %s could not be set up", name)
            if name in GUARDS:
                serverapp.exit(1)
