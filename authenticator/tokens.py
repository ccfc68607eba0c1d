"""The hub's token API: what a login changes, a token that is asked for by password changes too."""

import json
from typing import Any

from jupyterhub.apihandlers.users import UserTokenListAPIHandler
from jupyterhub.utils import utcnow
from tornado import web

from carme_hub.authenticator import answers
from carme_hub.authenticator.audit import TOKEN_MADE, Event
from carme_hub.authenticator.words import device_name

MAX_BODY = 2**20  # bytes


class TokensHandler(UserTokenListAPIHandler):  # type: ignore[misc] # JupyterHub ships no types
    """JupyterHub's handler, which on its own asks who somebody is and not what they may."""

    gate_event = "token"  # in the audit log
    _refusal: answers.GateError | None = None

    async def authenticate(self, data: Any) -> dict[str, Any] | None:
        """Decide as at a login, and give the hub's user the groups and the admin right of this moment."""
        try:
            model: dict[str, Any] | None = await super().authenticate(data)
            if model:
                # Without this, who has lost a right would get a token that has it.
                user = await self.auth_to_user(model, self.find_user(model["name"]))
                await self.authenticator.admit(self, user)
        except answers.RefusedError:
            raise  # JupyterHub makes it a plain 403, as every refusal here
        except answers.GateError as error:
            self._refusal = error
            raise
        return model

    async def post(self, user_name: str) -> None:
        """Make a token; what the gate says is told as it says it (JupyterHub makes every fault a 403)."""
        requester = self.current_user
        try:
            await super().post(user_name)
        except web.HTTPError:
            if self._refusal is not None:
                raise self._refusal from None
            raise
        if requester is not None:  # by cookie or token; `authenticate` has written down the others
            event = Event(TOKEN_MADE, account=user_name, actor=requester.name, detail=self._note())
            await self.authenticator.record(self, event)

    def _note(self) -> str:
        """Return what the token is said to be for, as one line."""
        body = self.get_json_body()
        note = body.get("note") if isinstance(body, dict) else None
        return device_name(note) if isinstance(note, str) and note.strip() else ""

    def get_json_body(self) -> Any:
        """
        Read the body.

        JupyterHub would log one that is no JSON, and there is a password in it. A token that is asked for
        with a token ends with it: else whoever got hold of one had it for ever.
        """
        if len(self.request.body) > MAX_BODY:
            raise web.HTTPError(413, "The request is too long.")
        try:
            body = json.loads(self.request.body.decode("utf-8", "replace")) if self.request.body else {}
        except (ValueError, RecursionError):
            raise web.HTTPError(400, "Invalid JSON in body of request") from None
        token = self.get_token() if self.current_user is not None else None
        if isinstance(body, dict) and token is not None and token.expires_at is not None:
            left = max(1, int((token.expires_at - utcnow(with_tz=False)).total_seconds()))
            asked = body.get("expires_in")
            if asked is None or (isinstance(asked, int) and asked > left):
                body["expires_in"] = left
        return body


handlers: list[tuple[str, type]] = [(r"/api/users/([^/]+)/tokens", TokensHandler)]
