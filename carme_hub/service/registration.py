"""What `carme_hub.configure` tells JupyterHub of the service.

Nothing of JupyterHub is imported here: the `carme` command runs this, too.
"""

from __future__ import annotations

import sys
from typing import Any

NAME = "carme"
URL = "http://127.0.0.1:8082"  # on loopback only: people reach it through the hub's proxy
CLIENT = f"service-{NAME}"  # OAuth client and name of the cookie

# Which of the tokens that people came in with still hold; see `hub_pages.Logins`.
LOGINS_SCOPE = "custom:carme:logins"
CUSTOM_SCOPES = {
    LOGINS_SCOPE: {"description": "Ask which logins at the service carme have ended, by their tokens' ids."}
}
# What the service may do by itself: read whose sessions there are. It changes nothing.
SERVICE_SCOPES = ["read:servers", "list:users", "read:users:groups", LOGINS_SCOPE]
# What a person's token may be used for here, as far as the person's own rights go: sessions, one's own and,
# for those who may, other people's; and what tells the pages who is an admin.
PERSON_SCOPES = ["read:users!user", "admin:servers", "list:users", "admin-ui"]
USER_SCOPES = ["self", f"access:services!service={NAME}"]

NO_SERVICE = (
    "JupyterHub.services does not name the service 'carme': dashboard, history and admin pages are missing. "
    "Write `c.JupyterHub.services += [...]` after carme_hub.configure(c), not `=`."
)
NO_ROLE = (
    "JupyterHub.load_roles does not name 'service-carme': the pages cannot show any session. Write "
    "`c.JupyterHub.load_roles += [...]` after carme_hub.configure(c), not `=`."
)
NO_USERS = (
    f"The role 'user' in JupyterHub.load_roles lacks the scope {USER_SCOPES[1]!r}: dashboard and history "
    "open for admins only."
)


def register(c: Any, url: str) -> None:
    """Add the service, its rights and everybody's right to use it to a configuration.

    Parameters
    ----------
    c : traitlets.config.Config
        As in `carme_hub.configure`. What it says of services and roles so far stays.
    url : str
        Where the service listens; with ``JupyterHub.internal_ssl`` it begins with ``https:``.
    """
    file = _configuration_file()
    command = [sys.executable, "-m", "carme_hub.service", *(["--config", file] if file else [])]
    service = {
        "name": NAME,
        "url": url,
        "command": command,
        # It is a part of the hub: nobody is asked whether it may know them, and no menu shows it by its name.
        "oauth_no_confirm": True,
        "display": False,
        "oauth_client_allowed_scopes": PERSON_SCOPES,
    }
    roles = [
        {"name": f"service-{NAME}", "services": [NAME], "scopes": SERVICE_SCOPES},
        {"name": "user", "scopes": USER_SCOPES},
    ]
    c.JupyterHub.services = [*_listed(c, "services"), service]
    c.JupyterHub.load_roles = [*_listed(c, "load_roles"), *roles]
    c.JupyterHub.custom_scopes.update(CUSTOM_SCOPES)


def _listed(c: Any, name: str) -> list[Any]:
    """Return what a configuration says so far; empty where it says nothing."""
    value = c.JupyterHub.get(name, [])
    return value if isinstance(value, list) else []


def _configuration_file() -> str:
    """Return the path of the configuration that is being read, empty where none is.

    It is the outermost one: what `load_subconfig` reads is a part of it. JupyterHub's loader puts the path
    and this function into the namespace it runs a configuration in.
    """
    found, frame = "", sys._getframe()  # noqa: SLF001  the one way to the caller's namespace
    while frame.f_back:
        frame = frame.f_back
        if "load_subconfig" in frame.f_globals and "get_config" in frame.f_globals:
            found = str(frame.f_globals.get("__file__", ""))
    return found


def problems(c: Any) -> list[str]:
    """Say in sentences what a configuration has taken away again that the pages need.

    Parameters
    ----------
    c : traitlets.config.Config
        The whole configuration, as the hub has read it.
    """
    if not any(service.get("name") == NAME for service in _listed(c, "services")):
        return [NO_SERVICE]
    roles = {role.get("name"): set(role.get("scopes", ())) for role in _listed(c, "load_roles")}
    found = [] if f"service-{NAME}" in roles else [NO_ROLE]
    if not roles.get("user", set()) & {*USER_SCOPES[1:], "access:services", "inherit"}:
        found.append(NO_USERS)
    return found
