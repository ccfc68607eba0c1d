"""The gate of a whole site, which stays shut when the site's description is wrong."""

from __future__ import annotations

import time
from typing import Any

from jupyterhub.auth import Authenticator
from traitlets import TraitError

from carme_hub.authenticator.audit import SUCCESS, TOKEN_MADE, Event
from carme_hub.authenticator.authenticator import CarmeAuthenticator
from carme_hub.records.attach import attach
from carme_hub.records.notices import Notice
from carme_hub.service import registration
from carme_hub.spawner.spawner import check_config

TOLD_AGAIN = 3600  # seconds in which the next token is told of by the first one's notice
MADE = "An API token was made for your account"
REVOKE = "If you do not know what for, revoke it on the page Token and sign out."


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
        self._recorder = attach(self.database_url, self.log)

    async def record(self, handler: Any, event: Event) -> None:
        """Write an event to the audit log, and tell people of tokens that were made without a password.

        It may have been a script on a page of theirs. Once an hour is enough: a flood would hide all else.
        """
        await super().record(handler, event)
        if event.event == TOKEN_MADE and event.outcome == SUCCESS:
            now = int(time.time())
            about = f"{TOKEN_MADE}:{now // TOLD_AGAIN}"
            text = f"{f'“{event.detail}”. ' if event.detail else ''}{REVOKE}"
            self._recorder.take(
                Notice(
                    user=event.account,
                    kind="message",
                    level="warning",
                    title=MADE,
                    text=text,
                    about=about,
                    at=now,
                )
            )
