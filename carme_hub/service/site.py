"""What all parts of the service share: the site's configuration, the hub, the database, the streams."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jupyterhub.utils import make_ssl_context
from tornado.log import app_log

from carme_hub.service.hub_api import HubApi
from carme_hub.service.hub_client import HubState
from carme_hub.service.streams import Streams

if TYPE_CHECKING:
    import sqlalchemy as sa
    from jupyterhub.services.auth import HubOAuth
    from traitlets.config import Config

    from carme_hub.records.attach import Door
    from carme_hub.service.pictures import Pictures
    from carme_hub.service.render import Pages

CACHE_SECONDS = 5  # in which a login that has ended may still be taken for one


@dataclass
class Site:
    """One site, as the service sees it.

    Attributes
    ----------
    config : Config
        ``jupyterhub_config.py``, the hub's own.
    auth : HubOAuth
        Who people are.
    pages : Pages
        The templates.
    secret : bytes
        The hub's cookie secret.
    streams : Streams
        Who looks, and what they last saw.
    hub : HubState
        The hub's sessions, and whether it answers.
    """

    config: Config
    auth: HubOAuth
    pages: Pages
    secret: bytes = field(repr=False)
    streams: Streams = field(default_factory=Streams)
    hub: HubState = field(default_factory=HubState)

    @property
    def service_url(self) -> str:
        """Our prefix, as browsers see it: ``/services/carme/``."""
        return str(self.auth.base_url)

    @property
    def hub_url(self) -> str:
        """The hub's prefix, as browsers see it: ``/hub/``."""
        return str(self.auth.hub_prefix)

    @cached_property
    def hub_api(self) -> HubApi:
        """The hub's API."""
        auth, tls = self.auth, None
        if auth.keyfile:
            tls = make_ssl_context(auth.keyfile, auth.certfile, cafile=auth.client_ca)
        return HubApi(str(auth.api_url), tls)

    async def ask_hub(self, method: str, path: str, body: object = None, time_out: float = 15.0) -> Any:
        """Call the hub's API as the service itself; see `HubApi.call`."""
        return await self.hub_api.call(str(self.auth.api_token), method, path, body, time_out)

    @cached_property
    def pictures(self) -> Pictures:
        """What the clusters look like."""
        from carme_hub.service.cluster_api import Records  # noqa: PLC0415  it needs what is made of this
        from carme_hub.service.pictures import Pictures, readers_of  # noqa: PLC0415

        return Pictures(
            readers_of(self.config, app_log),
            Records(self),
            lambda value: self.streams.publish("cluster", value),
            lambda: len(self.streams) > 0,
            app_log,
        )

    @cached_property
    def records(self) -> sa.Engine:
        """The project's database: `carme_hub.records` has the functions. Blocking: use it in threads."""
        from carme_hub.records import open_records  # noqa: PLC0415  heavy, and first needed on a look

        return open_records(self._database_url)

    @cached_property
    def door(self) -> Door:
        """Whether the site is in maintenance."""
        from carme_hub.records.attach import Door  # noqa: PLC0415  as above
        from carme_hub.records.recorder import Database  # noqa: PLC0415

        return Door(Database(self._database_url), app_log)

    @property
    def _database_url(self) -> str:
        from carme_hub.authenticator.authenticator import CarmeAuthenticator  # noqa: PLC0415  heavy, too

        given = self.config.CarmeAuthenticator.get("database_url", "")
        return given or str(CarmeAuthenticator.database_url.default_value)
