"""``python -m carme_hub.service``: the service itself. The hub starts it, and it ends when the hub ends."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tornado.log import app_log, enable_pretty_logging
from tornado.netutil import bind_sockets

from carme_hub import site_config
from carme_hub.service import registration

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Sequence

    from carme_hub.service.site import Site

PORT_PATIENCE = 60.0  # seconds to wait for a port that somebody else has
PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with(hub: int) -> None:
    """Let the kernel end this process when its parent ends, however that comes about.

    SIGKILL, since it ends what hangs, too; and nothing is lost by it.

    Parameters
    ----------
    hub
        The parent's process id, as it was when this process began: it may have ended meanwhile.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != hub:
        raise SystemExit("carme: the hub has ended.")


def borrow_environment(hub: int) -> None:
    """Take over what the hub's environment has and ours lacks: the configuration may read it.

    JupyterHub hands its services a few variables only. Ours runs as the hub's own user, reads the hub's own
    configuration, and starts nothing that is not the site's.
    """
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{hub}/environ").read_bytes().split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name:
                os.environb.setdefault(name, value)


def open_many() -> None:
    """Allow this process as many files as it may allow itself: one for each page that somebody looks at.

    Where nobody said anything else that is 1,024 at first, and half a million at most (systemd). A server
    that has no more than it uses takes nobody in, and says so in the log without end.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def bind(host: str, port: int) -> list[socket.socket]:
    """Take the port; wait for whoever has it, who may be a service of an earlier hub that is just ending.

    Raises
    ------
    SystemExit
        They still have it after `PORT_PATIENCE`.
    """
    deadline = time.monotonic() + PORT_PATIENCE
    while True:
        try:
            return bind_sockets(port, host)
        except OSError as error:
            if time.monotonic() > deadline:
                raise SystemExit(
                    f"carme: the service cannot listen on {host}:{port}: {error.strerror}. If something else "
                    "has that port, name another one in jupyterhub_config.py: "
                    'carme_hub.configure(c, service="http://127.0.0.1:8083").'
                ) from None
            time.sleep(0.2)


def site_of(config_path: str) -> Site:
    """Read the site's configuration and get ready to serve it."""
    from jupyterhub.services.auth import HubOAuth  # noqa: PLC0415  needs the environment

    from carme_hub.service import site  # noqa: PLC0415
    from carme_hub.service.render import Pages  # noqa: PLC0415
    from carme_hub.service.ticket import hub_secret  # noqa: PLC0415

    config = site_config.load(config_path)
    options = {"SameSite": "Lax", **config.JupyterHub.get("tornado_settings", {}).get("cookie_options", {})}
    options["expires_days"] = config.JupyterHub.get("cookie_max_age_days", 1)
    auth = HubOAuth.instance(cache_max_age=site.CACHE_SECONDS, cookie_options=options)
    hub_url = f"{auth.hub_host}{auth.hub_prefix}"
    return site.Site(config, auth, Pages(config, hub_url, auth.base_url), hub_secret(config))


def _tls() -> ssl.SSLContext | None:
    """Return our certificate when the site has TLS between its parts (``JupyterHub.internal_ssl``)."""
    from jupyterhub.utils import make_ssl_context  # noqa: PLC0415

    names = ("JUPYTERHUB_SSL_KEYFILE", "JUPYTERHUB_SSL_CERTFILE", "JUPYTERHUB_SSL_CLIENT_CA")
    key, certificate, authority = (os.environ.get(name, "") for name in names)
    context: ssl.SSLContext | None = make_ssl_context(key, certificate, cafile=authority) if key else None
    return context


async def serve(site: Site, sockets: list[socket.socket]) -> None:
    """Answer until somebody sends SIGTERM or SIGINT."""
    from carme_hub.service.app import keep_running, make_server  # noqa: PLC0415

    server = make_server(site, _tls())
    server.add_sockets(sockets)
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    running = asyncio.create_task(keep_running(site))
    app_log.info("The service answers at %s", site.service_url)
    await over.wait()
    running.cancel()


def main(words: Sequence[str] | None = None) -> None:
    """Run the service."""
    hub = os.getppid()
    parser = argparse.ArgumentParser(prog="python -m carme_hub.service", description=__doc__)
    parser.add_argument(
        "--config", default=site_config.default_path(), help="the site's jupyterhub_config.py"
    )
    args = parser.parse_args(words)
    if "JUPYTERHUB_SERVICE_URL" not in os.environ:
        raise SystemExit("carme: the hub starts this service itself; see carme_hub.configure(c).")
    end_with(hub)
    open_many()
    borrow_environment(hub)
    enable_pretty_logging()
    address = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    default = urlsplit(registration.URL)
    # Before anything else, so that people who come early wait and are not sent away.
    sockets = bind(address.hostname or str(default.hostname), address.port or int(default.port or 0))
    asyncio.run(serve(site_of(args.config), sockets))
    # Threads may still wait for a command or a database: nobody waits for them.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
