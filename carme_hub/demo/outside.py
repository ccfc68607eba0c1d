"""The demo site seen from the machine that hosts it: its process, its start and end, the way in."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carme_hub.demo import layout as places
from carme_hub.demo import slurm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carme_hub.demo.layout import Layout

START_TIMEOUT = 180  # seconds for a site that another process starts
STOP_TIMEOUT = 45  # seconds for everything to end by itself
LONGEST_SOCKET = 107  # bytes, without the null that ends it (man 7 unix)
LOCK = "lock"  # in the state's folder; who starts or stops the site holds it
NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc")
# Inside the site the project's own commands come first: `carme user ...` works as on any hub's machine.
PATH = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def check_place(layout: Layout) -> None:
    """Say at once when the checkout lies where a site cannot live.

    Raises
    ------
    SystemExit
        With the reason and what to do.
    """
    path = str(layout.checkout)
    if set(path) & set(" ,:\\\"'"):
        raise SystemExit(
            f"carme demo: the checkout's path {path!r} has a character that mount options cannot carry. "
            "Clone into a folder without spaces, commas, colons, quotes and backslashes."
        )
    if path == "/srv" or path.startswith("/srv/"):
        raise SystemExit("carme demo: the site has a /srv of its own. Clone into another folder.")
    if len(str(layout.run / "munge" / "munge.socket.2").encode()) > LONGEST_SOCKET:
        raise SystemExit(
            f"carme demo: the path {path!r} is too long for Unix sockets. Clone into a shorter one."
        )


@contextlib.contextmanager
def alone(layout: Layout, say: Callable[[str], None]) -> Iterator[None]:
    """Let one process at a time start or stop the site."""
    layout.state.mkdir(mode=0o755, exist_ok=True)
    with (layout.state / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another `carme demo` is starting or stopping this site; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def site_process(layout: Layout) -> int | None:
    """Return the process outside that holds the site's namespaces, or None when the site is not running.

    A process id may be given away again, so the start time has to fit too (proc(5), field 22).
    """
    with contextlib.suppress(OSError, ValueError, KeyError):
        known = json.loads(layout.process.read_text())
        if _started(known["pid"]) == known["started"]:
            return int(known["pid"])
    return None


def _started(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def first_process(layout: Layout) -> int:
    """Return the first process inside the site, as the machine outside counts.

    Raises
    ------
    SystemExit
        When the site is not running.
    """
    pid = site_process(layout)
    children = _children(pid) if pid else []
    if not children:
        raise SystemExit("carme demo: the site is not running. Start it with `make demo`.")
    return children[0]


def node_process(layout: Layout, node: str) -> int:
    """Return the first process of a compute node, as the machine outside counts.

    Raises
    ------
    SystemExit
        When there is no such node.
    """
    for site in _children(first_process(layout)):
        for process in _children(site):
            words = Path(f"/proc/{process}/cmdline").read_text().split("\0")
            if words[0] == "unshare" and node in words:
                return _children(process)[0]
    raise SystemExit(f"carme demo: there is no node {node!r}; there are {', '.join(places.NODES)}.")


def enter_words(layout: Layout, node: str | None = None, user: str | None = None) -> list[str]:
    """Return the words to put before a command so that it runs inside the site."""
    target = node_process(layout, node) if node else first_process(layout)
    words = ["nsenter", f"--target={target}", *NAMESPACES, "--cgroup"]
    if user:
        words += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--reset-env", "--"]
    return words


def read_status(layout: Layout) -> dict[str, Any]:
    """Return what the site says of itself; ``ready`` is true only while its hub answers."""
    status: dict[str, Any] = {"ready": False, "hub_url": "", "slurm_conf": "", "ldap_url": "", "accounts": []}
    if site_process(layout) is None or not layout.status.exists():
        return status
    status |= json.loads(layout.status.read_text())
    try:
        with urllib.request.urlopen(status["hub_url"] + "/hub/health", timeout=5):  # noqa: S310  the site's own
            pass
    except OSError:
        status["ready"] = False
    return status


def wait_until_ready(layout: Layout) -> bool:
    """Wait while the site runs and its hub does not answer; say whether it does."""
    deadline = time.monotonic() + START_TIMEOUT
    while site_process(layout) and time.monotonic() < deadline:
        if read_status(layout)["ready"]:
            return True
        time.sleep(0.5)
    return False


def start_site(layout: Layout, provided: dict[str, Any], say: Callable[[str], None]) -> None:
    """Start the site and wait until it is up, passing on what it says.

    Raises
    ------
    SystemExit
        When it does not come up; what there was of it is ended.
    """
    layout.logs.mkdir(exist_ok=True)
    layout.logs.chmod(0o700)  # what a hub logs is not for people with sessions on the nodes
    sockets = {port.name: _listen(port.wanted) for port in places.PORTS}
    settings = provided | {
        "listeners": {name: listener.fileno() for name, listener in sockets.items()},
        "addresses": {name: listener.getsockname()[1] for name, listener in sockets.items()},
    }
    site = [sys.executable, "-m", "carme_hub.demo.site", str(layout.checkout), json.dumps(settings)]
    with (layout.logs / "site.log").open("ab") as log:
        process = subprocess.Popen(
            ["unshare", *NAMESPACES, "--fork", "--kill-child", "tini", "--", *site],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=layout.checkout,
            pass_fds=list(settings["listeners"].values()),
            start_new_session=True,
            text=True,
        )
    for listener in sockets.values():
        listener.close()
    places.write_json(layout.process, {"pid": process.pid, "started": _started(process.pid)})
    began = time.monotonic()
    assert process.stdout is not None  # noqa: S101  for mypy: it is a pipe
    for line in process.stdout:
        if line.strip() == "ready":
            say(f"the site is up after {time.monotonic() - began:.0f} s")
            return
        say(f"  [{time.monotonic() - began:4.0f} s] {line.rstrip()}")
    stop_site(layout)
    raise SystemExit(f"carme demo: the site did not come up; see above and {layout.logs}.")


def _listen(wanted: int) -> socket.socket:
    """Return a socket that listens on 127.0.0.1, at the wanted port if it is free."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", wanted))
    except OSError:
        listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def stop_site(layout: Layout) -> bool:
    """End the site: ask it, wait, and if need be end its first process, which ends all.

    Returns
    -------
    bool
        Whether it was running.
    """
    pid = site_process(layout)
    try:
        if pid is not None:
            with contextlib.suppress(SystemExit, ProcessLookupError):
                os.kill(first_process(layout), signal.SIGTERM)
            if not _ended(pid):
                os.kill(pid, signal.SIGKILL)  # its child, the site's first process, is killed with it
                _ended(pid)
        slurm.remove_cgroups(layout)
    finally:
        for file in (layout.process, layout.status):
            file.unlink(missing_ok=True)
    return pid is not None


def _ended(pid: int) -> bool:
    """Wait until a process is gone; it may be our own child or nobody's."""
    deadline = time.monotonic() + STOP_TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.05)
    return False
