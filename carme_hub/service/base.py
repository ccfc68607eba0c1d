"""What all pages and answers of the service have in common: who asks, from which page, with which rights."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import TYPE_CHECKING, Any

from jupyterhub.services.auth import HubOAuthCallbackHandler, HubOAuthenticated
from tornado.web import HTTPError, RequestHandler

from carme_hub.navigation import OPENER, WORKER, navigates, registers_worker, saves
from carme_hub.service.person import Person
from carme_hub.service.refusal import NO_HUB, RELOAD, Refused, sentence_of
from carme_hub.service.ticket import fits, ticket

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from carme_hub.service.site import Site

HUB_PATIENCE = 10.0  # seconds for the hub to say who somebody is
READING = {"GET", "HEAD"}
NOT_IN = "You are not signed in here. Please load the page again."


class Handler(HubOAuthenticated, RequestHandler):  # type: ignore[misc]  # JupyterHub ships no types
    """The base of `PageHandler` and `ApiHandler`; use one of those.

    Attributes
    ----------
    person : Person
        Who asks. A method of a handler is only run for somebody who has come in.
    """

    person: Person
    _proven = False  # whether it is known that no other page's script asks
    # The right over oneself that this takes: a token for these pages alone tells nothing of its owner's work.
    reads = "read:servers"
    proof_for_reading = True  # whether a GET has to prove, too, that a page of ours sent it

    @property
    def site(self) -> Site:
        """What all handlers share."""
        return self.settings["site"]  # type: ignore[no-any-return]

    def set_default_headers(self) -> None:
        """Say what a browser may do with the answer."""
        self._nonce = secrets.token_urlsafe(16)
        self.set_header("Content-Security-Policy", self.site.pages.policy(self._nonce))
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header(*OPENER)
        # What is shown here is somebody's own.
        self.set_header("Cache-Control", "no-store")
        self.clear_header("Server")

    async def prepare(self) -> None:
        """Let nobody in whom the hub does not know, and nothing that a page of ours did not send."""
        self._token_authenticated = False
        if registers_worker(self.request.headers):
            raise Refused(403, WORKER)
        person = await self._who()
        if person is None:
            self.nobody()
            return
        self.person = person
        self.current_user = {"name": person.name}
        self._check_origin()
        if self.reads:
            self.need(self.reads, person.name)

    async def _who(self) -> Person | None:
        try:
            async with asyncio.timeout(HUB_PATIENCE):
                model = await self.hub_auth.get_user(self, sync=False)
        except (TimeoutError, HTTPError):
            raise Refused(503, NO_HUB) from None
        if not model:
            return None
        allowed = self.hub_auth.check_scopes(self.hub_auth.access_scopes, model)
        if not allowed or model.get("kind") != "user":
            raise Refused(403, "Your account may not use these pages. Please ask your administrator.")
        return Person.of(model)

    def check_xsrf_cookie(self) -> None:
        """Do nothing: `_check_origin` looks, when it is known who asks."""

    def _check_origin(self) -> None:
        """Refuse what no page of ours sent: a cookie is sent along by every page of every session, too."""
        if self._token_authenticated:
            return
        headers = self.request.headers
        if self.request.method in READING:
            if not self.proof_for_reading and (navigates(headers) or saves(headers)):
                self._proven = navigates(headers)
                return
        elif headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise Refused(403, RELOAD)
        given = headers.get("X-XSRFToken") or self.get_argument("_xsrf", "")
        if not fits(given, self.site.secret, self.hub_auth.get_session_id(self), self.person.name):
            raise Refused(403, RELOAD)
        self._proven = True

    def nobody(self) -> None:
        """Answer somebody who has not come in."""
        raise Refused(403, NOT_IN)

    def get_current_user(self) -> None:
        """Return nobody: `prepare` finds out who it is without stopping the loop, which this could not."""

    @property
    def xsrf(self) -> str:
        """What forms and scripts of this person's pages send back; empty on a page that refuses a script."""
        if not self._proven:
            return ""
        return ticket(self.site.secret, self.hub_auth.get_session_id(self), self.person.name)

    def as_person(self, method: str, path: str, body: object = None) -> Awaitable[Any]:
        """Call the hub's API with the person's own token, so that their own rights decide.

        Parameters and errors are those of `HubApi.call`; a refusal of the hub becomes this request's answer
        when nobody catches it.
        """
        return self.site.hub_api.call(self.hub_auth.get_token(self), method, path, body)

    def need(self, scope: str, user: str | None = None) -> None:
        """Go on only for somebody with a right: over everybody, or over one user.

        Raises
        ------
        Refused
            With status 403.
        """
        if not self.person.may(scope, user):
            raise Refused(
                403, "Your account does not have the rights for that. Please ask your administrator."
            )

    def log_exception(self, *problem: Any) -> None:
        """Log what went wrong, and no refusal: that is an answer."""
        if not isinstance(problem[1], Refused):
            super().log_exception(*problem)


class PageHandler(Handler):
    """A page. Whoever is not in is sent to the hub, and comes back."""

    proof_for_reading = False

    async def prepare(self) -> None:
        """Come in, and know what all pages say."""
        await super().prepare()
        await self.site.door.sentence()

    def nobody(self) -> None:
        """Let the hub say who it is; a form that was sent is lost."""
        if self.request.method not in READING:
            raise Refused(403, NOT_IN)
        self.redirect(self.get_login_url())

    def render_page(self, template: str, **values: Any) -> None:
        """Answer with a filled-in template; see `carme_hub.service` for what it knows."""
        person = getattr(self, "person", None)
        values = {"maintenance": self.site.door.notice(), **values}
        self.finish(self.site.pages.page(template, person, self._nonce, self.xsrf, values))

    def write_error(self, status_code: int, **problem: Any) -> None:
        """Show a sentence."""
        error = problem.get("exc_info", (None, None))[1]
        self.render_page(
            "service_error.html", status_code=status_code, message=sentence_of(status_code, error)
        )


class ApiHandler(Handler):
    """An answer in JSON."""

    def answer(self, value: object) -> None:
        """Send a value."""
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(value))

    def body(self) -> dict[str, Any]:
        """Return the JSON object that was sent.

        Raises
        ------
        Refused
            With status 400: it is none.
        """
        try:
            value = json.loads(self.request.body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise Refused(400, "The request has to be a JSON object.")
        return value

    def write_error(self, status_code: int, **problem: Any) -> None:
        """Say a sentence; ``signed_in`` tells a script whether it may have to sign in first."""
        error = problem.get("exc_info", (None, None))[1]
        self.answer({"message": sentence_of(status_code, error), "signed_in": hasattr(self, "person")})


class Callback(HubOAuthCallbackHandler, PageHandler):  # type: ignore[misc]  # JupyterHub ships no types
    """Where the hub sends people back to, with a code for their token."""

    async def prepare(self) -> None:
        """Let everybody in: they have no token yet."""
        self._token_authenticated = False

    async def get(self) -> None:
        """Take the code, unless another page of the same browser came in meanwhile.

        Two pages that come in at once have one cookie for the state between them, and whoever is first takes
        it away. The other one goes back to where it wanted to: it is in by then, or starts again.
        """
        state = self.get_argument("state", "")
        kept = self.get_secure_cookie(self.hub_auth.get_state_cookie_name(state)) or b""
        overtaken = kept.decode("ascii", "replace") != state
        # Without this cookie, there are none, and going back would lead here for ever.
        if state and overtaken and self.hub_auth.get_session_id(self):
            self.redirect(self.hub_auth.get_next_url(state))
            return
        await HubOAuthCallbackHandler.get(self)


class Unknown(PageHandler):
    """Every address that is none."""

    async def prepare(self) -> None:
        """Refuse before anybody has to sign in."""
        raise Refused(404, "There is no such page.")
