"""The hub's token API: what a login changes, a token that is asked for by password changes too."""

import json
from typing import Any

from jupyterhub.apihandlers.users import UserTokenListAPIHandler
from tornado import web

from carme_hub.authenticator import answers


class TokensHandler(UserTokenListAPIHandler):  # type: ignore[misc] # JupyterHub ships no types
    """JupyterHub's handler, which on its own asks who somebody is and not what they may."""

    _unavailable: answers.GateUnavailableError | None = None

    async def authenticate(self, data: Any) -> dict[str, Any] | None:
        """Decide as at a login, and give the hub's user the groups and the admin right of this moment."""
        try:
            model: dict[str, Any] | None = await super().authenticate(data)
        except answers.GateUnavailableError as error:
            self._unavailable = error
            raise
        user = self.find_user(model["name"]) if model else None
        if user is not None:
            # Without this, who has lost a right would get a token that has it.
            await self.auth_to_user(model, user)
        return model

    async def post(self, user_name: str) -> None:
        """Make a token; a fault that is ours is told as ours (JupyterHub makes every fault a 403)."""
        try:
            await super().post(user_name)
        except web.HTTPError:
            if self._unavailable is not None:
                raise self._unavailable from None
            raise

    def get_json_body(self) -> Any:
        """Read the body. JupyterHub would log one that is no JSON, and there is a password in it."""
        try:
            return json.loads(self.request.body.decode("utf-8", "replace")) if self.request.body else None
        except (ValueError, RecursionError):
            raise web.HTTPError(400, "Invalid JSON in body of request") from None


handlers: list[tuple[str, type]] = [(r"/api/users/([^/]+)/tokens", TokensHandler)]
