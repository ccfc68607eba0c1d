"""Where the proxy leads to the hub although a session of the same person runs.

``/user/NAME/SERVER/`` of a named session lies inside ``/user/NAME/`` of the default one. While that one runs,
it would be asked for a named session that does not, and know nothing of it. And a session that Slurm has
suspended answers nobody. Both get a route of their own to the hub, whose page says what there is to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyterhub.proxy import Proxy
from jupyterhub.utils import url_escape_path, url_path_join

if TYPE_CHECKING:
    from collections.abc import Mapping

_add_user, _delete_user = Proxy.add_user, Proxy.delete_user


def shadowed(running: Mapping[str, bool]) -> set[str]:
    """Return which of a person's servers need a route to the hub.

    Parameters
    ----------
    running
        Name -> whether it has a route of its own; all that the hub's database has of them.
    """
    if not running.get(""):
        return set()
    return {name for name, runs in running.items() if name and not runs}


def _runs(user: Any, name: str) -> bool:
    row = user.orm_user.orm_spawners.get(name)
    return row is not None and row.server is not None


def _spec(user: Any, name: str) -> str:
    """Return a server's route, as JupyterHub makes it, without making the server's spawner."""
    return str(url_path_join(user.proxy_spec, url_escape_path(name), "/") if name else user.proxy_spec)


async def settle(proxy: Any, user: Any, ending: str | None = None) -> None:
    """Give all of a person's sessions that need one a route to the hub, and take all others away.

    `Proxy.extra_routes` are those that JupyterHub keeps when it looks through all of them.

    Parameters
    ----------
    ending
        The name of a server that the database has, but not for long.
    """
    running = {name: name != ending and _runs(user, name) for name in user.orm_user.orm_spawners}
    wanted = {_spec(user, name) for name in shadowed(running)}
    taken = {_spec(user, name) for name, runs in running.items() if runs}
    for spec in wanted - set(proxy.extra_routes):
        proxy.extra_routes[spec] = proxy.hub.host
        await proxy.add_route(spec, proxy.hub.host, {"extra": True})
    mine = {spec for spec in proxy.extra_routes if spec.startswith(user.proxy_spec)}
    for spec in mine - wanted:
        await forget(proxy, spec, keep=spec in taken)


async def forget(proxy: Any, spec: str, *, keep: bool = False) -> None:
    """Take the route to the hub away that a session had; ``keep`` it where it leads to the session by now."""
    if proxy.extra_routes.pop(spec, None) and not keep:
        await proxy.delete_route(spec)


async def settle_for(handler: Any, user_name: str) -> None:
    """Do this after a request that may have made or removed a session, also when the proxy is away."""
    user = handler.find_user(user_name)
    if user is None:
        return
    try:
        await settle(handler.proxy, user)
    except Exception as error:  # noqa: BLE001 - what was asked for is done
        handler.log.warning("The routes of %s are not in order yet: %s", user_name, error)


async def add_user(proxy: Any, user: Any, server_name: str = "") -> None:
    """Lead to a session that runs; to the hub when it is suspended."""
    spec = _spec(user, server_name)
    proxy.extra_routes.pop(spec, None)
    if getattr(user.spawners[server_name], "paused", False):
        await proxy.add_route(spec, proxy.hub.host, {"user": user.name, "server_name": server_name})
    else:
        await _add_user(proxy, user, server_name)
    await settle(proxy, user)


async def delete_user(proxy: Any, user: Any, server_name: str = "") -> None:
    """Lead no more to a session that ends."""
    await _delete_user(proxy, user, server_name)
    await settle(proxy, user, server_name)


def install() -> None:
    """Have every proxy of JupyterHub's do this; doing it again changes nothing."""
    Proxy.add_user, Proxy.delete_user = add_user, delete_user
