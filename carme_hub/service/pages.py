"""The service's own few pages: the way to the dashboard, who somebody is here, how the service is."""

from __future__ import annotations

from carme_hub import __version__
from carme_hub.service.base import ApiHandler, PageHandler


class Front(PageHandler):
    """``/services/carme/``: people are meant to be at home."""

    reads = ""

    async def get(self) -> None:
        """Lead them there."""
        self.redirect(f"{self.site.hub_url}home")


class About(PageHandler):
    """Which version runs, and whether the hub can be heard."""

    reads = ""

    async def get(self) -> None:
        """Show it."""
        self.render_page("service_about.html", version=__version__)


class Me(ApiHandler):
    """Who somebody is here, for scripts of pages."""

    reads = ""

    async def get(self) -> None:
        """Say it."""
        self.answer(
            {"name": self.person.name, "admin": self.person.admin, "groups": sorted(self.person.groups)}
        )


routes = [(r"", Front), (r"about", About), (r"api/me", Me)]
