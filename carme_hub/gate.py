"""The gate of a whole site, which stays shut when the site's description is wrong."""

from __future__ import annotations

from typing import Any

from jupyterhub.auth import Authenticator
from traitlets import TraitError

from carme_hub.authenticator.authenticator import CarmeAuthenticator
from carme_hub.records.attach import attach
from carme_hub.service import registration
from carme_hub.spawner.spawner import check_config


class WithService(Authenticator):  # type: ignore[misc]  # JupyterHub ships no types
    """What an authenticator of a carme-hub adds to the hub beside letting people in: the service's part."""

    def get_handlers(self, app: Any) -> list[tuple[Any, ...]]:
        """Add the short addresses of the service's pages, and let the service come up beside the hub."""
        # They change JupyterHub's handlers.
        from carme_hub.front import csp_reports, hub_door  # noqa: PLC0415
        from carme_hub.service import hub_pages  # noqa: PLC0415

        hub_door.attach(app)
        for sentence in registration.problems(self.config):
            self.log.warning(sentence)
        hub_pages.attach(app)
        return [*super().get_handlers(app), *hub_pages.handlers(), *csp_reports.handlers]


class SiteAuthenticator(WithService, CarmeAuthenticator):
    """CarmeAuthenticator, made once when the hub starts: the moment to check images, mounts and profiles.

    Raises
    ------
    SystemExit
        With a line for each mistake, which names the setting. Without this, the first person who wants a
        session would find the mistake.
    """

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        try:
            check_config(self.config)
        except (ValueError, TraitError) as error:
            raise SystemExit(f"carme: the hub does not start.\n{error}") from None
        attach(self.database_url, self.log)
