"""Reads what carme-hub's program around the server writes into the session's private /tmp."""

from __future__ import annotations

import json
import os
import stat
from typing import Any

LONGEST = 8000  # characters


def read_own(path: str) -> Any:
    """Return a file's JSON.

    Raises
    ------
    OSError, ValueError
        When there is none, or it is not a plain file of this person's.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, encoding="utf-8") as file:
        about = os.fstat(descriptor)
        if about.st_uid != os.getuid() or not stat.S_ISREG(about.st_mode):
            raise ValueError(f"{path} is no plain file of this person")
        return json.loads(file.read(LONGEST))
