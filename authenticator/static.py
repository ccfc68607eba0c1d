"""The scripts and style sheets of our pages: `templates/static`, served by the hub beside its own.

A template says ``{{ carme_static }}NAME``, which is ``/hub/carme-static/VERSION/``: the version is that of
what is in the files, so browsers keep them for good, and what a script imports has it, too. Under any other
version, and under none, a browser asks each time whether there is a newer file.
"""

import functools
import gzip
import hashlib
from pathlib import Path
from typing import Any

from jupyterhub.handlers.static import CacheControlStaticFilesHandler

FOLDER = (Path(__file__).parents[1] / "templates" / "static").resolve()
FOR_GOOD = "public, max-age=31536000, immutable"
ZIPPED = {".css", ".js", ".json", ".map", ".svg", ".txt", ".ttf"}  # kinds of files that become smaller
SMALL = 1024  # bytes that fit into one packet anyway
KEPT = 256  # files that are held in memory, zipped


@functools.cache
def version() -> str:
    """Return the version of all of our files together."""
    content = hashlib.sha256()
    for file in sorted(path for path in FOLDER.rglob("*") if path.is_file()):
        content.update(f"{file.relative_to(FOLDER)}\0".encode() + file.read_bytes())
    return content.hexdigest()[:16]


def prefix(hub_url: str) -> str:
    """Return where the files of this version are.

    Parameters
    ----------
    hub_url
        The hub's prefix: ``/hub/``.
    """
    return f"{hub_url}carme-static/{version()}/"


@functools.lru_cache(maxsize=KEPT)
def _zipped(path: str, _changed: float) -> bytes:
    return gzip.compress(Path(path).read_bytes(), mtime=0)


class CompressedFiles(CacheControlStaticFilesHandler):  # type: ignore[misc] # JupyterHub ships no types
    """JupyterHub's way to serve files, which sends them small: they hold no secret that a size could tell."""

    _content: bytes | None = None

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        """Look whether the file may be sent, and how."""
        found: str | None = super().validate_absolute_path(root, absolute_path)
        if found is not None and Path(found).suffix in ZIPPED and "Range" not in self.request.headers:
            self.set_header("Vary", "Accept-Encoding")
            status = Path(found).stat()
            if status.st_size > SMALL and "gzip" in self.request.headers.get("Accept-Encoding", ""):
                self._content = _zipped(found, status.st_mtime)
                self.set_header("Content-Encoding", "gzip")
        return found

    @classmethod
    def get_content_version(cls, abspath: str) -> str:
        """Return the version of a file's content: the file is read as it is."""
        return str(CacheControlStaticFilesHandler.get_content_version(abspath))

    def get_content_size(self) -> int:
        """Return the bytes that are sent."""
        return len(self._content) if self._content is not None else int(super().get_content_size())

    def get_content(self, abspath: str, start: int | None = None, end: int | None = None) -> Any:
        """Return what is sent."""
        return self._content if self._content is not None else super().get_content(abspath, start, end)


def other_version(about: str) -> str:
    """Return a version that changes when ours does, and when something else does: JupyterHub, say."""
    return hashlib.sha256(f"{about}\0{version()}".encode()).hexdigest()[:16]


class StaticFiles(CompressedFiles):
    """Our own files."""

    def set_extra_headers(self, path: str) -> None:
        """Say how long a browser keeps a file, and forbid it to guess what it is."""
        super().set_extra_headers(path)
        if self.path_kwargs.get("given") == version():
            self.set_header("Cache-Control", FOR_GOOD)
        self.set_header("X-Content-Type-Options", "nosniff")

    async def get(self, path: str, given: str | None = None, include_body: bool = True) -> None:  # noqa: ARG002
        """Send a file; `given` is the version in the address."""
        await super().get(path, include_body)

    async def head(self, path: str, given: str | None = None) -> None:
        """Say what would be sent."""
        await self.get(path, given, include_body=False)


handlers: list[tuple[str, type, dict[str, str]]] = [
    # Resolved: tornado serves nothing that a link leads out of the folder for.
    (r"/carme-static/(?:(?P<given>[0-9a-f]{16})/)?(?P<path>.*)", StaticFiles, {"path": str(FOLDER)}),
]
