"""Who is asking, as far as it can be believed: a client's address, and a browser that logged in before."""

import ipaddress
import re
import secrets
from collections.abc import Iterable
from typing import Any

COOKIE = "carme-known-browser"
BROWSER = "browser:"  # how the source of a known browser begins
COOKIE_DAYS = 90
COOKIE_VERSION = 2  # of tornado's signed values; the older one has a weaker signature
BROWSER_ID = re.compile(r"[0-9a-f]{32}")
IPV6_NETWORK = 64  # bits; the smallest that one customer of a provider has

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _parse(text: str) -> Address | None:
    """Read an address; IPv4 inside IPv6 is IPv4, so that nobody has two addresses."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    # A zone (fe80::1%eth0) is a name on this machine, and in a header it is any text of any length.
    return address.ipv4_mapped or ipaddress.IPv6Address(int(address))


def is_proxy(peer: str, local: str, trusted: Iterable[str]) -> bool:
    """
    Say whether a connection's other end is a proxy of the site.

    Parameters
    ----------
    peer
        The other end of the TCP connection.
    local
        This end of it.
    trusted
        Addresses of proxies: ``JupyterHub.trusted_downstream_ips``.
    """
    nearest = _parse(peer)
    if nearest is None:
        return False
    return nearest.is_loopback or nearest == _parse(local) or nearest in {_parse(text) for text in trusted}


def client_address(peer: str, local: str, forwarded: Iterable[str], trusted: Iterable[str]) -> str:
    """
    Return the address a request comes from, as far as it can be believed.

    Parameters
    ----------
    peer
        The other end of the TCP connection.
    local
        This end of it.
    forwarded
        ``X-Forwarded-For``, one text for each time the header is there.
    trusted
        Addresses of proxies: ``JupyterHub.trusted_downstream_ips``.

    Returns
    -------
    str
        An address in its one spelling; empty where not even `peer` is one.

    Notes
    -----
    Anybody can send the header. It counts when it comes from the hub's own proxy: from this machine, that
    is from a loopback address or the one the connection came to, or from a proxy the admin named. Then its
    last address was added by that proxy. What stands before it was sent by that address, and counts only
    if the admin named that one, too. So a proxy in front of the hub's own has to be named even where it is
    on the same machine: whoever else is on this machine would be believed as well.

    ``X-Real-IP`` never counts: the hub's proxy passes on whatever a client says in it.
    """
    nearest = _parse(peer)
    if nearest is None:
        return ""
    trusted = tuple(trusted)
    proxies = {_parse(text) for text in trusted}
    if not is_proxy(peer, local, trusted):
        return str(nearest)
    for text in reversed(",".join(forwarded).split(",")):
        claimed = _parse(text)
        if claimed is None:
            break
        if claimed not in proxies:
            return str(claimed)
    return str(nearest)


def network_of(address: str) -> str:
    """Return what a limit per address counts: IPv4 by address, IPv6 by network, as one client has 2**64."""
    parsed = _parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(parsed), IPV6_NETWORK), strict=False))
    return str(parsed) if parsed else ""


def address_of(handler: Any) -> str:
    """
    Return the address that a handler's request comes from; empty for None.

    The first answer is kept with the request: once the client has gone, the connection's own address, by
    which the proxy is recognised, can no longer be asked for.
    """
    if handler is None:
        return ""
    request = handler.request
    if not hasattr(request, "carme_address"):
        connection = request.connection
        # tornado's own `request.remote_ip` believes the headers of everybody.
        address = connection.context.address
        # What comes through a Unix socket comes from this machine.
        peer = str(address[0]) if isinstance(address, tuple) and address else "127.0.0.1"
        request.carme_address = client_address(
            peer,
            _local_address(connection),
            request.headers.get_list("X-Forwarded-For"),
            connection.context.trusted_downstream,
        )
    return str(request.carme_address)


def _local_address(connection: Any) -> str:
    stream = connection.stream
    if stream is None or stream.socket is None:  # closed
        return ""
    try:
        name = stream.socket.getsockname()
    except OSError:
        return ""
    return str(name[0]) if isinstance(name, tuple) else ""


def remember_browser(handler: Any, username: str) -> None:
    """
    Give the browser that just logged in a sign by which it is known the next time.

    The sign opens nothing. It lets the throttle tell the account's own browser from others that try the
    same name, so that these cannot lock its owner out. JavaScript cannot read it, and it is sent to the
    hub's pages alone, never to a session.
    """
    browser = _browser_of(handler, username) or secrets.token_hex(16)
    handler._set_cookie(  # noqa: SLF001  JupyterHub's own way, which knows when a cookie has to be secure
        COOKIE,
        f"{browser}:{username}",
        path=handler.hub.base_url,
        expires_days=COOKIE_DAYS,
        httponly=True,
        samesite="Lax",
    )


def source_of(handler: Any, username: str) -> str:
    """
    Return what failures are counted by: a browser that is known for this name, else a network.

    Returns
    -------
    str
        ``browser:ID``, ``address:NETWORK``, or ``address:`` where there is no request.
    """
    browser = "" if handler is None else _browser_of(handler, username)
    return f"{BROWSER}{browser}" if browser else f"address:{network_of(address_of(handler))}"


def _browser_of(handler: Any, username: str) -> str:
    """Return the id in a browser's sign, empty where there is none that is ours, fresh and for this name."""
    signed = handler.get_signed_cookie(COOKIE, max_age_days=COOKIE_DAYS, min_version=COOKIE_VERSION)
    browser, _, owner = (signed or b"").decode("utf-8", "replace").partition(":")
    return browser if owner == username and BROWSER_ID.fullmatch(browser) else ""
