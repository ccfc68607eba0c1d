"""Starts ipykernel as ``ipykernel_launcher`` does, with no TCP port that others on the node could open.

Run as a file, by whatever Python a kernel has, so nothing but ipykernel is used. Two things of ipykernel
listen on 127.0.0.1 and do not ask who comes: the pipe for what forked processes print (``IOPubThread``, which
takes messages of any length into memory before it compares a secret), and the debugger. The pipe becomes a
Unix socket in a private folder. The debugger knows TCP only, so it is off.
"""

# ruff: noqa: SLF001 - what is changed is the inside of ipykernel

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

SHORT = 60  # of the 107 bytes that the address of a Unix socket may have


def pipe_in(self: Any) -> None:
    """Listen for what forked processes print. As ``IOPubThread._setup_pipe_in``, but for where."""
    import zmq  # noqa: PLC0415
    from zmq.eventloop.zmqstream import ZMQStream  # noqa: PLC0415

    self._pipe_uuid = os.urandom(16)
    # mkdtemp lets nobody else in.
    self._pipe_folder = tempfile.mkdtemp(prefix="ipykernel-", dir=_folder())
    self._pipe_port = f"ipc://{self._pipe_folder}/iopub"
    pipe = self.socket.context.socket(zmq.PULL)
    pipe.linger = 0
    pipe.bind(self._pipe_port)
    self._pipe_in = ZMQStream(pipe, self.io_loop)
    self._pipe_in.on_recv(self._handle_pipe_msg)


def pipe_out(self: Any) -> tuple[Any, Any]:
    """Return a context and a socket for a forked process. As ``IOPubThread._setup_pipe_out``."""
    import zmq  # noqa: PLC0415

    context = zmq.Context()
    pipe = context.socket(zmq.PUSH)
    pipe.linger = 3000
    pipe.connect(self._pipe_port)
    return context, pipe


def _folder() -> str | None:
    """Return the session's private folder, None for the usual one for temporary files."""
    folder = os.environ.get("JUPYTER_RUNTIME_DIR", "")
    return folder if len(folder) < SHORT and Path(folder).is_dir() else None


def change(iostream: Any, debugger: Any) -> None:
    """Change ipykernel's modules. One that has no such pipe, or no debugger, is left as it is."""
    thread = iostream.IOPubThread
    if hasattr(thread, "_setup_pipe_in") and hasattr(thread, "_setup_pipe_out"):
        stop = thread.stop

        def stop_and_clean(self: Any) -> None:
            stop(self)
            if self._is_master_process():
                shutil.rmtree(getattr(self, "_pipe_folder", ""), ignore_errors=True)

        thread._setup_pipe_in, thread._setup_pipe_out = pipe_in, pipe_out
        thread.stop = stop_and_clean
    if debugger is not None:
        debugger._is_debugpy_available = False


def main() -> None:
    """Start the kernel."""
    # Neither the folder of this file, whose names are not for kernels, nor the working folder come first on
    # the path. IPython adds the latter when all is imported, as with ipykernel_launcher.
    first = Path(sys.path[0] or ".").resolve()
    if first in {Path.cwd().resolve(), Path(__file__).resolve().parent}:
        del sys.path[0]
    from ipykernel import iostream, kernelapp  # noqa: PLC0415

    try:
        debugger: Any = import_module("ipykernel.debugger")
    except ImportError:
        debugger = None
    change(iostream, debugger)
    kernelapp.launch_new_instance()


if __name__ == "__main__":
    main()
