"""Where built things are kept between runs: outside the checkout, keyed by what they are built from."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def root() -> Path:
    """Return the cache's folder (``CARME_CACHE``, or ``/var/cache/carme-hub``), made if it is not there.

    Job users read images from it, so it is open for reading to everybody.
    """
    folder = Path(os.environ.get("CARME_CACHE") or "/var/cache/carme-hub").absolute()
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    return folder


def key(*parts: str | bytes | Path) -> str:
    """Return a short name for the content of some inputs.

    Parameters
    ----------
    parts
        Text and bytes count as they are; a path counts by the content of the file.

    Returns
    -------
    str
        16 hexadecimal digits; any change of a part, or of their order, changes them.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = (
            part.read_bytes() if isinstance(part, Path) else part.encode() if isinstance(part, str) else part
        )
        # The length goes first, so that ("ab", "c") and ("a", "bc") differ.
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def publish(target: Path) -> Iterator[Path | None]:
    """Build `target` once: give a private place to make it at, and move it to its name at the end.

    The target is thus either complete or not there. Of several processes one builds; the others wait and
    find it built.

    Parameters
    ----------
    target
        A file or folder; its parent is made.

    Yields
    ------
    Path or None
        The path to make the file or folder at, on the same file system as `target`; None when it is there
        already. When the body raises, nothing appears.
    """
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if target.exists():
        yield None
        return
    with (target.parent / f".{target.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if target.exists():
            yield None
            return
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        work.chmod(0o755)
        try:
            yield work / target.name
            (work / target.name).rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
