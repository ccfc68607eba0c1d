"""carme-hub: share a GPU cluster interactively (JupyterHub, Slurm, Apptainer, LDAP, second factor)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carme_hub.front import proxy
from carme_hub.service import registration

__version__ = "0.1.0"

DAY = 86400  # seconds


def configure(c: Any, service: str | None = registration.URL) -> None:
    """Set in one line what makes a JupyterHub a carme-hub; call it first in ``jupyterhub_config.py``.

    Parameters
    ----------
    c : traitlets.config.Config
        What ``get_config()`` returns. Every setting made here can be changed after the call; to lists, as
        ``c.JupyterHub.services``, add with ``+=``.
    service : str or None
        Where the service listens that makes dashboard, history and admin pages: an address of this machine
        that nothing else has. None leaves the service out.
    """
    # Not above: it needs JupyterHub, which the commands do not.
    from carme_hub.spawner import closed  # noqa: PLC0415

    c.JupyterHub.spawner_class = "carme"
    c.JupyterHub.authenticator_class = "carme_hub.gate.SiteAuthenticator"
    c.JupyterHub.template_paths = [str(Path(__file__).parent / "templates")]
    # A script runs if a template has it, not if it came with what people typed; without this, any would.
    # The pages' texts go through gettext.
    c.JupyterHub.jinja_environment_options = {
        "extensions": ["carme_hub.csp.NonceExtension", "carme_hub.texts.TextsExtension"]
    }
    # The foot of pages, and what they say in maintenance; "help_url" here links to the site's own help.
    c.JupyterHub.template_vars = {"carme_version": __version__, "maintenance": closed.notice}
    # Sessions outlive the hub: a restart of it must not end anybody's work.
    c.JupyterHub.cleanup_servers = False
    # A session that waits in Slurm's queue is no load on the hub; counting it would lock the others out.
    c.JupyterHub.concurrent_spawn_limit = 0
    # Several sessions at once, each with a name; how many, the limits of CarmeSpawner say.
    c.JupyterHub.allow_named_servers = True
    # Each name that was ever started keeps a row in the database until it is removed.
    c.JupyterHub.named_server_limit_per_user = 50
    # A stolen cookie or token is of use for a day at most.
    c.JupyterHub.cookie_max_age_days = 1
    c.JupyterHub.token_expires_in_max_seconds = DAY
    c.JupyterHub.tornado_settings = {
        "cookie_options": {"SameSite": "Lax"},
        # A Content-Security-Policy named here would take the place of ours.
        "headers": {"Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff"},
        # Seconds until the waiting page takes over from the form; what is refused, is refused before that.
        "slow_spawn_timeout": 2,
    }
    # JupyterHub's own proxy, with our bounds; ["configurable-http-proxy"] is the plain one.
    c.JupyterHub.proxy_class = proxy.CLASS
    c.ConfigurableHTTPProxy.command = proxy.command()
    if service:
        registration.register(c, service)
