"""Runs inside the job, around the server: finds a port, tells the hub when it listens and when it ends.

Standard library only, so that it works in any image and starts at once. It reaches the container on standard
input (``python3 - COMMAND ...``), so it is in no mount and no argument. It says that it runs, and a port: on
which node that is, the hub knows from Slurm. Once that is said, the time keeper begins its work beside it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_NOT_REPORTED = 96
ATTEMPTS = 5
INTERVAL = 0.02  # seconds between two looks whether the server listens
REQUEST_TIMEOUT = 10.0  # seconds for one request to the hub
PATIENCE = 300.0  # seconds until a hub that does not answer is given up; it may be restarting
STOP_TIMEOUT = 10.0  # seconds from SIGTERM to SIGKILL for a server that has to be started again
FAREWELL = 5.0  # seconds in which the hub has to learn of the end; Slurm's KillWait is 30 s by default
CONFLICT = 409
SERVER_ERROR = 500
LONGEST_ANSWER = 1000
# The sources of what works beside the server, by name, put in by carme_hub.spawner.program.
PARTS: dict[str, str] = {}


class NotReportedError(Exception):
    """The hub refused the report or could not be reached."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: the request carries the server's token."""

    def redirect_request(self, *_args: object, **_more: object) -> None:
        return None


def say(text: str) -> None:
    """Write one line to the session's log."""
    print(f"carme: {text}", file=sys.stderr, flush=True)  # noqa: T201 - standard error is the log


def free_port() -> int:
    """Return a port that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def with_port(url: str, port: int) -> str:
    """Return a URL with another port; the scheme and the rest stay."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts._replace(netloc=f"[{host}]:{port}" if ":" in host else f"{host}:{port}").geturl()


def accepts(host: str, port: int) -> bool:
    """Say whether somebody accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def listeners(port: int) -> set[str]:
    """Return the inodes of all sockets on this node that listen on a port (``man 5 proc``, /proc/net/tcp)."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), Path(table).open() as lines:
            for line in lines:
                field = line.split()
                if field[3] == "0A" and int(field[1].rpartition(":")[2], 16) == port:
                    found.add(field[9])
    return found


def family(ancestor: int) -> set[int]:
    """Return a process and all its descendants."""
    parent = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                # The command's name, in parentheses, may hold anything; what follows it does not.
                parent[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found = {ancestor}
    while more := {pid for pid, above in parent.items() if above in found} - found:
        found |= more
    return found


def sockets(pids: set[int]) -> set[str]:
    """Return the inodes of the sockets that processes hold."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    link = str(entry.readlink())
                    if link.startswith("socket:["):
                        found.add(link[8:-1])
    return found


def wait_until_ours(child: subprocess.Popen[bytes], host: str, port: int) -> bool:
    """Wait until the server listens, and nobody but the server.

    Another user of the node could take the port between `free_port` and the server's own bind, and would
    then get what the hub sends to this person's server. So every listening socket on that port has to
    belong to the child.

    Returns
    -------
    bool
        False when the port belongs to somebody else, or the child ended.
    """
    while child.poll() is None:
        if accepts(host, port):
            found = listeners(port)
            if found:
                return found <= sockets(family(child.pid))
        time.sleep(INTERVAL)
    return False


def tls_context(environ: dict[str, str]) -> ssl.SSLContext | None:
    """Return what JupyterHub's internal certificates make of a connection to the hub."""
    authority = environ.get("JUPYTERHUB_SSL_CLIENT_CA")
    if not authority:
        return None
    context = ssl.create_default_context(cafile=authority)
    if environ.get("JUPYTERHUB_SSL_CERTFILE"):
        context.load_cert_chain(environ["JUPYTERHUB_SSL_CERTFILE"], environ.get("JUPYTERHUB_SSL_KEYFILE"))
    return context


def send(environ: dict[str, str], message: dict[str, Any] | None, time_out: float) -> object:
    """Tell the hub something, with the server's token, or ask it when there is no message.

    Returns
    -------
    object
        The hub's answer; None when it is empty or unreadable.

    Raises
    ------
    OSError, http.client.HTTPException
        When the hub refuses it (`urllib.error.HTTPError`) or does not answer.
    """
    request = urllib.request.Request(  # noqa: S310 - the address is the hub's own
        environ["JUPYTERHUB_API_URL"].rstrip("/") + "/carme/report",
        data=None if message is None else json.dumps(message).encode(),
        headers={
            "Authorization": f"token {environ['JUPYTERHUB_API_TOKEN']}",
            "Content-Type": "application/json",
        },
    )
    # No proxy of the environment: the token is for the hub only.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        _NoRedirect(),
        urllib.request.HTTPSHandler(context=tls_context(environ)),
    )
    with opener.open(request, timeout=time_out) as answer, contextlib.suppress(ValueError):
        told: object = json.loads(answer.read(LONGEST_ANSWER))
        return told
    return None


def report(child: subprocess.Popen[bytes], environ: dict[str, str], port: int) -> object:
    """Tell the hub the port, trying again while the hub does not answer, and return its answer.

    Raises
    ------
    NotReportedError
        When the hub says no, or stays silent for `PATIENCE` seconds.
    """
    end, delay = time.monotonic() + PATIENCE, 0.1
    while child.poll() is None:
        try:
            return send(environ, {"port": port}, REQUEST_TIMEOUT)
        except urllib.error.HTTPError as error:
            problem = f"{error.code} {error.reason}"
            if error.code == CONFLICT:
                # An earlier try arrived although its answer was lost.
                return None
            if error.code < SERVER_ERROR:
                raise NotReportedError(problem) from None
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
        if time.monotonic() > end:
            raise NotReportedError(problem)
        time.sleep(delay)
        delay = min(2 * delay, 5.0)
    return None


def keep_time(environ: dict[str, str], first: object) -> None:
    """Warn of the end of the time limit, in a thread of its own. The server does not depend on it.

    Parameters
    ----------
    environ
        As for `serve`.
    first
        The hub's answer to the report.
    """

    def ask() -> object:
        try:
            return send(environ, None, REQUEST_TIMEOUT)
        except http.client.HTTPException as error:
            raise OSError(str(error)) from None

    if "timekeeper" in PARTS:
        beside(
            lambda: part("timekeeper")["keep"](ask, environ, first), "nobody will be warned of the time limit"
        )


def part(name: str) -> dict[str, Any]:
    """Return what a part of this program defines."""
    module: dict[str, Any] = {"__name__": name}
    # A text of ours, as this one is.
    exec(compile(PARTS[name], name, "exec"), module)  # noqa: S102
    return module


def beside(work: Callable[[], None], otherwise: str) -> None:
    """Do something beside the server, which does not depend on it."""

    def run() -> None:
        try:
            work()
        except Exception as problem:  # noqa: BLE001 - the thread's end is no reason for the session's
            say(f"{otherwise}: {problem!r}")

    threading.Thread(target=run, daemon=True).start()


def look_out(environ: dict[str, str]) -> Callable[[], None]:
    """Have home and memory looked after, and return what tells the hub all that is left to tell.

    Parameters
    ----------
    environ
        As for `serve`; what the server cannot write to the home is led elsewhere.
    """

    def tell(message: dict[str, Any]) -> object:
        try:
            return send(environ, message, REQUEST_TIMEOUT)
        except http.client.HTTPException as error:
            raise OSError(str(error)) from None

    if "lookout" not in PARTS:
        return lambda: None
    try:
        terminals = part("timekeeper")["tell_terminals"]
        lookout = part("lookout")["Lookout"](environ, tell, part("homecare"), part("memorywatch"), terminals)
        lookout.prepare()
    except Exception as problem:  # noqa: BLE001 - a session is worth more than what is told of it
        say(f"home and memory are not looked after: {problem!r}")
        return lambda: None
    beside(lookout.run, "home and memory are not looked after")

    def rest() -> None:
        with contextlib.suppress(OSError):
            lookout.report(log=True)

    return rest


def tell_begun(environ: dict[str, str]) -> None:
    """Tell the hub once that the container runs, beside the server's start. Nothing depends on it."""

    def tell() -> None:
        with contextlib.suppress(OSError, KeyError, http.client.HTTPException):
            send(environ, {"begun": True}, REQUEST_TIMEOUT)

    threading.Thread(target=tell, daemon=True, name="begun").start()


def tell_end(environ: dict[str, str]) -> None:
    """Tell the hub that the server ends, for `FAREWELL` seconds at most; a hub that says no knows it."""
    end = time.monotonic() + FAREWELL
    while (left := end - time.monotonic()) > 0:
        try:
            send(environ, {"ended": True}, left)
        except urllib.error.HTTPError as error:
            if error.code < SERVER_ERROR:
                return
        except (OSError, http.client.HTTPException):
            pass  # the hub may be restarting
        else:
            return
        time.sleep(0.2)


def hold(port: int, kind: socket.AddressFamily, held: contextlib.ExitStack) -> bool:
    """Listen on a port in one address family, until `held` is closed; False while somebody else does."""
    with contextlib.suppress(OSError):
        held.enter_context(socket.create_server(("", port), family=kind, backlog=1))
        return True
    return False


def pass_signals_on(child: subprocess.Popen[bytes], at_end: Callable[[], None] | None = None) -> None:
    """Give the signals that end this process to the server, and stay to see how it ends.

    Parameters
    ----------
    child
        The server.
    at_end
        Called on SIGTERM; it has to be safe in a signal handler.
    """

    def forward(number: int, _frame: object) -> None:
        child.send_signal(number)
        if number == signal.SIGTERM and at_end is not None:
            at_end()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, forward)


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a server that must not go on."""
    child.terminate()
    try:
        child.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def exit_code(child: subprocess.Popen[bytes]) -> int:
    """Wait for the server's end; a signal becomes a number the way shells do it."""
    code = child.wait()
    return 128 - code if code < 0 else code


def see_off(child: subprocess.Popen[bytes], environ: dict[str, str], port: int) -> int:
    """Wait for the server's end and return its exit code, and tell the hub before anybody has the port.

    The proxy sends the owner's requests to this port until the hub knows better, and any user of this node
    could take it. So the hub is told on SIGTERM or when the server is gone, and until it has answered the
    port is held in the server's place. Somebody quick may still be faster, for the moment that the hub needs;
    and where nothing of this runs (the whole job is killed at once) only Slurm tells the hub. The real cure
    is JupyterHub's ``internal_ssl``: then the proxy talks to nobody but the holder of the server's
    certificate.
    """
    ends: queue.SimpleQueue[None] = queue.SimpleQueue()  # its put() may interrupt itself

    def wait() -> None:
        child.wait()
        ends.put(None)

    pass_signals_on(child, lambda: ends.put(None))
    threading.Thread(target=wait, daemon=True).start()
    ends.get()
    telling = threading.Thread(target=tell_end, args=(environ,), daemon=True)
    telling.start()
    free = [socket.AF_INET, socket.AF_INET6]
    with contextlib.ExitStack() as held:
        while telling.is_alive():
            free = [kind for kind in free if not hold(port, kind, held)]
            telling.join(0.001 if free else FAREWELL)
    return exit_code(child)


def serve_with_log(words: list[str], environ: dict[str, str]) -> int:
    """Do as `serve`, with a bound on what the server and all that it starts write to standard error."""
    if "logkeeper" not in PARTS:
        return serve(words, environ)
    module = part("logkeeper")
    target, thread = module["keep"](2)
    try:
        return serve(words, environ, target)
    finally:
        os.close(target)
        thread.join(module["FAREWELL"])


def serve(words: list[str], environ: dict[str, str], log: int | None = None) -> int:
    """Run the server, report its port once it listens, see it off, and return its exit code.

    Parameters
    ----------
    words
        The server's command.
    environ
        With ``JUPYTERHUB_SERVICE_URL``, ``JUPYTERHUB_API_URL`` and ``JUPYTERHUB_API_TOKEN``.
    log
        Where the server writes; None for where this program does.
    """
    url = environ["JUPYTERHUB_SERVICE_URL"]
    host = urlsplit(url).hostname or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - connected to, not bound
    tell_begun(environ)
    tell_rest = look_out(environ)
    try:
        return _serve(words, environ, url, host, log)
    finally:
        tell_rest()


def _serve(words: list[str], environ: dict[str, str], url: str, host: str, log: int | None) -> int:
    for _ in range(ATTEMPTS):
        port = free_port()
        child = subprocess.Popen(
            words,
            env=environ | {"JUPYTERHUB_SERVICE_URL": with_port(url, port)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        pass_signals_on(child)
        if wait_until_ours(child, host, port):
            try:
                first = report(child, environ, port)
            except NotReportedError as problem:
                say(f"the hub did not take the report of port {port}: {problem}")
                stop(child)
                return EXIT_NOT_REPORTED
            keep_time(environ, first)
            return see_off(child, environ, port)
        if child.poll() is not None and not listeners(port):
            return exit_code(child)
        say(f"somebody else took port {port}, trying another one")
        stop(child)
    say(f"no free port in {ATTEMPTS} attempts")
    return EXIT_NOT_REPORTED


if __name__ == "__main__":
    try:
        sys.exit(serve_with_log(sys.argv[1:], dict(os.environ)))
    except (KeyError, OSError) as problem:
        say(f"the server could not be started: {problem}")
        sys.exit(EXIT_NOT_REPORTED)
