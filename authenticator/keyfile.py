"""Changing the key file: as a whole or not at all, and by one at a time."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carme_hub.authenticator.secretbox import SecretKeyError, fresh_key, parse_keys, read_key_file


@contextmanager
def locked(path: str) -> Iterator[Path]:
    """
    Keep other commands from changing a key file at the same time: the key of one of them would be lost.

    Parameters
    ----------
    path
        The key file; where it is a link, what it points to is meant.

    Raises
    ------
    SecretKeyError
        Somebody else is changing it, or its folder cannot be used.
    """
    file = Path(path).resolve()
    try:
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SecretKeyError(
            f"The folder of the key file {path} cannot be used: {error.strerror}."
        ) from error
    try:
        _lock(folder, path)
        yield file
    finally:
        os.close(folder)


def _lock(folder: int, path: str) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise SecretKeyError(
            f"The key file {path} cannot be locked: {error.strerror}. If another command is changing it, "
            "try again when that one has finished."
        ) from error


def add_key(file: Path) -> None:
    """
    Put a fresh key in front of those in a file; what they sealed still opens.

    Raises
    ------
    SecretKeyError
        The file cannot be used or not be written.
    """
    _replace(file, [fresh_key(), *_keys(file)])


def drop_old_keys(file: Path) -> int:
    """
    Leave only the first key in a file.

    Returns
    -------
    int
        How many are gone.

    Raises
    ------
    SecretKeyError
        The file cannot be used or not be written.
    """
    first, *old = _keys(file)
    if old:
        _replace(file, [first])
    return len(old)


def _keys(file: Path) -> list[str]:
    text, _ = read_key_file(str(file))
    parse_keys(text, str(file))
    return text.split()


def _replace(file: Path, keys: list[str]) -> None:
    """Write the file anew beside the old one, and on the disk before it takes its place."""
    beside = file.with_name(f".{file.name}.new")
    try:
        beside.unlink(missing_ok=True)  # of one that was interrupted; `locked` says that nobody is at it
        status = file.stat()
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as new:
                os.fchown(descriptor, status.st_uid, status.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
                new.write("".join(f"{key}\n" for key in keys))
                new.flush()
                os.fsync(descriptor)
            beside.rename(file)
        finally:
            beside.unlink(missing_ok=True)
        _sync(file.parent)
    except OSError as error:
        raise SecretKeyError(
            f"The key file {file} cannot be changed: {error.strerror}. Run this as root or as its owner."
        ) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
