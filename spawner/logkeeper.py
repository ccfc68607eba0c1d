"""Runs inside the job, in the reporter: writes what server and kernels say into the log, and bounds that.

The log lies in the person's home. A kernel that writes without end, or whoever makes the server write, must
not fill that. Standard library only; it reaches the job as text (`carme_hub.spawner.program`).
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading

MOST = 1 << 20  # bytes of a log
BEGINNING = 128 << 10  # bytes that stay when it is too long
END = 384 << 10  # bytes of what came last, which stay then, too
PIECE = 1 << 16
FAREWELL = 1.0  # seconds for what is still in the pipe when the server has ended


class Log:
    """A log that is open already.

    Parameters
    ----------
    descriptor
        Open for appending. What is no file (a pipe, a terminal) is not bounded: nothing of it is kept here.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._bounded = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._left_out = 0

    def write(self, data: bytes) -> None:
        """Append something. Where it cannot be written (the home is full), it is dropped."""
        with contextlib.suppress(OSError):
            if self._bounded and os.fstat(self._descriptor).st_size + len(data) > MOST:
                self._shorten()
            while data:
                data = data[os.write(self._descriptor, data) :]

    def _shorten(self) -> None:
        """Keep the beginning and the end."""
        # The descriptor is for writing alone; this opens the same file, wherever its name leads by now.
        with open(f"/proc/self/fd/{self._descriptor}", "rb") as file:  # noqa: PTH123 - as short as it gets
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - END, BEGINNING))
            end = file.read(END)
        self._left_out += size - BEGINNING - len(end)
        os.ftruncate(self._descriptor, BEGINNING)
        words = f"\ncarme: {self._left_out} bytes of this log are left out here\n".encode()
        os.write(self._descriptor, words + end)


def keep(descriptor: int) -> tuple[int, threading.Thread]:
    """Write into a log what comes through a pipe, in a thread of its own.

    Parameters
    ----------
    descriptor
        The log's.

    Returns
    -------
    tuple of int and threading.Thread
        The pipe's other end, which whoever gets it may close; the thread ends when nobody holds it any more.
    """
    source, target = os.pipe()
    log = Log(descriptor)

    def pump() -> None:
        while data := os.read(source, PIECE):
            log.write(data)

    thread = threading.Thread(target=pump, daemon=True, name="log")
    thread.start()
    return target, thread
