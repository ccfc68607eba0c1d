"""Runs inside the job, around the server: what of the home cannot be written, and where things go instead.

A home that is full, read-only or in disorder must not lock its owner out: the server starts and keeps in the
session's private /tmp what it would write there, and everybody is told. Standard library only: it reaches the
container as a text within the reporter's (`carme_hub.spawner.program`). The hub has the sentences from here.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

# Where the programs of a session write by themselves. Jupyter reads what is in the old place all the same.
REFUGE = "/tmp/.carme-home"  # noqa: S108 - the session's own /tmp
UNCOPIED = "/.carme/uncopied"  # made by the batch script (`carme_hub.spawner.course`)
# What JupyterLab, Code-Server and terminals of our images show (singularity/files).
NOTES = "/tmp/.carme-notes.json"  # noqa: S108 - as above
TERMINALS = "/tmp/.carme-notes.txt"  # noqa: S108 - as above
_PROBE = 4096  # bytes: what a file system keeps within the inode is no proof

FULL, READ_ONLY, CLOSED, AWAY, COURSE = "full", "read-only", "closed", "away", "course"
# What is said of the home itself, by the error that a write ended with.
_ERRORS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EROFS: READ_ONLY,
    errno.EACCES: CLOSED,
    errno.EPERM: CLOSED,
}
_ABOUT_HOME = {
    FULL: "Your home folder is full: nothing can be saved there. Remove files you no longer need.",
    READ_ONLY: "Your home folder is read-only: nothing can be saved there. Please tell the administrators.",
    CLOSED: "You may not write to your home folder: nothing can be saved. Please tell the administrators.",
    AWAY: "Your home folder cannot be written to: nothing can be saved. Please tell the administrators.",
    COURSE: "The course material was not copied: no room in your home folder. Remove files and start again.",
}
_KEPT = "It has to be a folder that you may write to: rename or remove it."
_ABOUT_FOLDER = {
    ".carme": "The log of this session cannot be kept in .carme in your home folder.",
    ".jupyter": "Settings of Jupyter cannot be saved in .jupyter in your home folder.",
    ".local": "Settings cannot be saved in .local in your home folder.",
    ".ipython": "The history of notebooks cannot be saved in .ipython in your home folder.",
    ".cache": "Nothing can be kept in .cache in your home folder.",
}
WORDS = frozenset(_ABOUT_HOME) | frozenset(_ABOUT_FOLDER)


class Found(NamedTuple):
    """What is wrong with a home.

    Attributes
    ----------
    words
        Of `WORDS`, the most important first; empty when all is well.
    variables
        What the server's environment needs for it.
    """

    words: tuple[str, ...] = ()
    variables: Mapping[str, str] = {}


def sentence(word: str) -> str:
    """Return what a person is told."""
    return _ABOUT_HOME.get(word) or f"{_ABOUT_FOLDER[word]} {_KEPT}"


def problem(folder: Path) -> str:
    """Say why nothing can be written into a folder, made for it if it is missing; empty when something can.

    Notes
    -----
    The answer is found by writing: neither modes nor free blocks know of quotas, lists of rights, or a
    server of files that maps its root to nobody.
    """
    probe = folder / f".carme-probe-{os.urandom(8).hex()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(
            probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            _write(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return _ERRORS.get(error.errno or 0, AWAY)
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return ""


def _write(descriptor: int) -> None:
    # Some file systems find out about a quota when the data leave the cache.
    if os.write(descriptor, bytes(_PROBE)) < _PROBE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)


def look(home: Path, environ: Mapping[str, str], refuge: str = REFUGE, uncopied: str = UNCOPIED) -> Found:
    """Look at a home before the server starts.

    Parameters
    ----------
    home
        The person's home folder.
    environ
        The session's environment: what points elsewhere already is left alone.
    refuge
        Folder for what cannot be written; made when it is needed.
    uncopied
        Is there when a course's material could not be copied.
    """
    words = [word] if (word := problem(home)) else []
    bad = [name for name in _ABOUT_FOLDER if words or problem(home / _probed(name))]
    if not words:
        words = list(bad)
    if Path(uncopied).exists():
        words.append(COURSE)
    variables: dict[str, str] = {}
    if bad:
        with contextlib.suppress(OSError):
            Path(refuge).mkdir(mode=0o700, exist_ok=True)
        for name in bad:
            variables |= _instead(name, home, refuge, environ)
    return Found(tuple(words), variables)


def _probed(name: str) -> str:
    """Return the folder that is really written to: a person's .local may be whole but for this part."""
    return f"{name}/share/jupyter" if name == ".local" else name


def _instead(name: str, home: Path, refuge: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that lead programs away from a folder of the home."""

    def elsewhere(variable: str, path: Path) -> dict[str, str]:
        kept = environ.get(variable, "")
        # What a site or an image has put outside the home is none of ours.
        if kept and not Path(kept).is_relative_to(home):
            return {}
        return {variable: str(path)}

    def as_well(variable: str, path: Path) -> dict[str, str]:
        return {variable: os.pathsep.join(filter(None, [str(path), environ.get(variable, "")]))}

    folder = Path(refuge) / name.removeprefix(".")
    if name == ".jupyter":
        moved = elsewhere("JUPYTER_CONFIG_DIR", folder)
        for variable, part in (
            ("JUPYTERLAB_SETTINGS_DIR", "user-settings"),
            ("JUPYTERLAB_WORKSPACES_DIR", "workspaces"),
        ):
            moved |= elsewhere(variable, folder / "lab" / part)
        return moved | as_well("JUPYTER_CONFIG_PATH", home / ".jupyter")
    if name == ".local":
        moved = elsewhere("JUPYTER_DATA_DIR", folder / "share/jupyter")
        runtime = elsewhere("JUPYTER_RUNTIME_DIR", folder / "runtime")
        return moved | runtime | as_well("JUPYTER_PATH", home / ".local/share/jupyter")
    if name == ".ipython":
        return elsewhere("IPYTHONDIR", folder)
    if name == ".cache":
        return elsewhere("XDG_CACHE_HOME", folder)
    return {}


def show(sentences: Mapping[str, str], notes: str = NOTES, terminals: str = TERMINALS) -> None:
    """Write what the session's pages and new terminals show: sentences by the word they stand for."""
    told = [{"id": word, "text": text} for word, text in sentences.items()]
    _replace(notes, json.dumps(told))
    _replace(terminals, "".join(f"*** {text} ***\n" for text in sentences.values()))


def _replace(path: str, text: str) -> None:
    """Write a file, whole at any moment and for its owner only."""
    part = f"{path}.{os.urandom(8).hex()}"
    with contextlib.suppress(OSError):
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(part).replace(path)


def tail(path: str, most: int) -> str:
    """Return the end of a log, at most so many bytes; empty when it cannot be read."""
    with contextlib.suppress(OSError), Path(path).open("rb") as file:
        begin = max(file.seek(0, os.SEEK_END) - most, 0)
        file.seek(begin)
        return file.read(most).decode("utf-8", "replace")
    return ""
