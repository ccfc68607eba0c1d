"""The scripts and style sheets of our pages: `templates/static`, served by the hub beside its own.

A template says ``{{ base_url }}carme-static/NAME?v={{ version_hash }}``. With the version, which is new with
each start of the hub, a browser keeps the file; without it, it asks each time whether there is a newer one.
"""

from pathlib import Path

from jupyterhub.handlers.static import CacheControlStaticFilesHandler

FOLDER = Path(__file__).parents[1] / "templates" / "static"


class StaticFiles(CacheControlStaticFilesHandler):  # type: ignore[misc] # JupyterHub ships no types
    """JupyterHub's way to serve files."""

    def set_extra_headers(self, path: str) -> None:
        """Forbid a browser to guess what a file is."""
        super().set_extra_headers(path)
        self.set_header("X-Content-Type-Options", "nosniff")


handlers: list[tuple[str, type, dict[str, str]]] = [
    # Resolved: tornado serves nothing that a link leads out of the folder for.
    (r"/carme-static/(.*)", StaticFiles, {"path": str(FOLDER.resolve())}),
]
