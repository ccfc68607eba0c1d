"""`carme demo`: start the demo site, look at it, enter it, end it."""

from __future__ import annotations

import contextlib
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
from carme_hub.demo.layout import Layout

if TYPE_CHECKING:
    import argparse

START_TIMEOUT = 180  # seconds for everything to come up once all is installed and built
STOP_TIMEOUT = 45  # seconds for everything to end by itself
# Inside the site the project's own commands come first: `carme user ...` works as on any hub's machine.
PATH = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def register(commands: Any) -> None:
    """Add `carme demo …` to the command line."""
    demo = commands.add_parser("demo", help="the demo site: a whole cluster on this machine")
    actions = demo.add_subparsers(dest="action", required=True, metavar="ACTION")
    up = actions.add_parser(
        "up", help="install and build what is missing, start the site, wait until it answers"
    )
    up.set_defaults(run=lambda _args: start())
    needed = actions.add_parser("provide", help="only install and build what is missing")
    needed.add_argument("--tests", action="store_true", help="what the tests need too")
    needed.set_defaults(run=lambda args: get_ready(tests=args.tests))
    actions.add_parser("stop", help="end every process and mount of the site").set_defaults(
        run=lambda _args: stop()
    )
    status = actions.add_parser("status", help="whether it runs, where, and who can log in")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(run=lambda args: show(as_json=args.json))
    code = actions.add_parser(
        "code", help="a person's current one-time code, as their telephone would show it"
    )
    code.add_argument("username")
    code.set_defaults(run=lambda args: show_code(args.username))
    enter = actions.add_parser("exec", help="run a command inside the site")
    enter.add_argument("--node", help="on this compute node instead of the head node")
    enter.add_argument("--user", help="as this person instead of root")
    enter.add_argument("words", nargs="+", metavar="WORD", help="the command (put -- before it)")
    enter.set_defaults(run=execute)


def say(text: str) -> None:
    """Print one line of progress at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _root_only() -> None:
    if os.geteuid() != 0:
        raise SystemExit("carme demo: making namespaces, mounts and networks needs root: `sudo make demo`.")


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


def start() -> int:
    """Install, build and start what is missing; print where the site is and how to use it."""
    _root_only()
    layout = Layout(places.checkout())
    if not read_status(layout)["ready"]:
        if site_process(layout):
            stop()
        layout.state.mkdir(exist_ok=True)
        layout.state.chmod(0o755)
        layout.logs.mkdir(exist_ok=True)
        _start_site(layout, _provide(tests=False))
    _print_welcome(read_status(layout))
    return 0


def get_ready(*, tests: bool) -> int:
    """Install and build what is missing, and start nothing."""
    _root_only()
    _provide(tests=tests)
    return 0


def _provide(*, tests: bool) -> dict[str, Any]:
    from carme_hub.demo import provide, run  # noqa: PLC0415  other commands need none of what they import

    try:
        return provide.everything(say, tests=tests)
    except run.BuildError as error:
        raise SystemExit(f"carme demo: {error}") from None


def _start_site(layout: Layout, provided: dict[str, Any]) -> None:
    sockets = {port.name: _listen(port.wanted) for port in places.PORTS}
    settings = provided | {
        "listeners": {name: listener.fileno() for name, listener in sockets.items()},
        "addresses": {name: listener.getsockname()[1] for name, listener in sockets.items()},
    }
    unshare = [
        "unshare",
        "--mount",
        "--pid",
        "--net",
        "--uts",
        "--ipc",
        "--fork",
        "--kill-child",
        "tini",
        "--",
    ]
    process = subprocess.Popen(
        [*unshare, sys.executable, "-m", "carme_hub.demo.site", str(layout.checkout), json.dumps(settings)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=(layout.logs / "site.log").open("ab"),
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
    stop()
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


def stop() -> int:
    """End the site: ask it, wait, and if need be end its first process, which ends all."""
    from carme_hub.demo import slurm  # noqa: PLC0415

    _root_only()
    layout = Layout(places.checkout())
    pid = site_process(layout)
    if pid is None:
        say("the demo site is not running")
    else:
        with contextlib.suppress(SystemExit, ProcessLookupError):
            os.kill(first_process(layout), signal.SIGTERM)
        if not _ended(pid, STOP_TIMEOUT):
            os.kill(pid, signal.SIGKILL)  # its child, the site's first process, is killed with it
            _ended(pid, STOP_TIMEOUT)
        say("the demo site has ended")
    slurm.remove_cgroups(layout)
    for file in (layout.process, layout.status):
        file.unlink(missing_ok=True)
    return 0


def _ended(pid: int, timeout: float) -> bool:
    """Wait until a process is gone; it may be our own child or nobody's."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.05)
    return False


def show(*, as_json: bool) -> int:
    """Print the status; the exit code is 0 when the site is ready, else 1."""
    status = read_status(Layout(places.checkout()))
    if as_json:
        say(json.dumps(status, indent=2))
    elif status["ready"]:
        _print_welcome(status)
    else:
        say("the demo site is not running; start it with `make demo`")
    return 0 if status["ready"] else 1


def _print_welcome(status: dict[str, Any]) -> None:
    say(f"\n  carme-hub is ready:  {status['hub_url']}\n")
    say(f"  {'name':8} {'password':14} {'groups':26} a code (valid for half a minute)")
    for account in status["accounts"]:
        name, groups = account["username"], ", ".join(account["groups"])
        say(f"  {name:8} {account['password']:14} {groups:26} .venv/bin/carme demo code {name}")
    say("\n  People and secrets as JSON:  .venv/bin/carme demo status --json")
    say("  Slurm's commands:            .venv/bin/carme demo exec -- sinfo")
    say("  Stop:                        make demo-stop\n")


def show_code(username: str) -> int:
    """Print the code that this person's telephone shows now."""
    import pyotp  # noqa: PLC0415

    for account in read_status(Layout(places.checkout()))["accounts"]:
        if account["username"] == username:
            say(pyotp.TOTP(account["totp_secret"]).now())
            return 0
    raise SystemExit(
        f"carme demo: nobody called {username!r} on a running demo site; see `carme demo status`."
    )


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


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
    words = ["nsenter", f"--target={target}", "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup"]
    if user:
        words += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--reset-env", "--"]
    return words


def execute(args: argparse.Namespace) -> int:
    """Run a command inside the site and return its exit code."""
    _root_only()
    words = enter_words(Layout(places.checkout()), args.node, args.user)
    return subprocess.run([*words, *args.words], env={**os.environ, "PATH": PATH}, check=False).returncode
