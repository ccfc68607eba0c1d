"""Files that are for their owner only, whoever makes them: the hub, or root with the `carme` command."""

import os
from pathlib import Path


def open_private(path: str | Path, flags: int) -> int:
    """
    Open a file, made with mode 0600 where there is none; returns its descriptor.

    One that root makes goes to the owner of its folder: the hub, which may be an ordinary account, has to
    go on with it.

    Raises
    ------
    OSError
        As `os.open`.
    """
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    status = os.fstat(descriptor)
    if os.geteuid() == 0 and status.st_uid == 0 and not status.st_size:
        folder = Path(path).parent.stat()
        os.fchown(descriptor, folder.st_uid, folder.st_gid)
    return descriptor
