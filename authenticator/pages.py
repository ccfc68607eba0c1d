"""The login page, and what all pages of the gate have in common. They show and ask; others decide."""

from typing import Any

from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.login import LoginHandler
from jupyterhub.utils import url_path_join
from tornado import web
from tornado.httputil import url_concat

from carme_hub.authenticator import answers, client, logins

MAX_SHOWN_NAME = 32  # characters


class GatePage(BaseHandler):  # type: ignore[misc] # JupyterHub ships no types
    """What all pages of the gate have in common."""

    def set_default_headers(self) -> None:
        """Keep the pages, some of which show a secret, out of every cache and every Referer."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")

    def decode_argument(self, value: bytes, name: str | None = None) -> str:  # noqa: ARG002 - tornado's signature
        """
        Read a field; what is no UTF-8 fits nothing, and is refused as that.

        Tornado would say the field's value in log and answer, and it may be a password.
        """
        return value.decode("utf-8", "replace")

    def check_xsrf_cookie(self) -> None:
        """Say in people's words what JupyterHub says in technical ones."""
        try:
            super().check_xsrf_cookie()
        except web.HTTPError as error:
            raise web.HTTPError(error.status_code, answers.FORM_EXPIRED) from error

    def field(self, name: str, limit: int) -> str:
        """Return a field of the form without surrounding space, empty where it is missing or too long."""
        value = str(self.get_body_argument(name, ""))
        return value if len(value) <= limit else ""

    def typed(self, name: str) -> str:
        """Return a field as it was typed, empty where it is missing: a password may begin with a space."""
        return str(self.get_body_argument(name, "", strip=False))

    def set_headers_of(self, error: answers.GateError) -> None:
        """Send along what an answer of the gate says in headers."""
        for name, value in error.headers.items():
            self.set_header(name, value)

    async def show(self, template: str, *, status: int = 200, **names: Any) -> None:
        """Show a page."""
        self.set_status(status)
        self.finish(await self.render_template(template, **names))


class LoginPage(GatePage, LoginHandler):  # type: ignore[misc] # JupyterHub ships no types
    """JupyterHub's login page with an answer that speaks of the code too."""

    gate_event = "login"  # in the audit log
    gate_notices = False

    def set_login_cookie(self, user: Any) -> None:
        """Log a browser in under a new session id: one from before the login may be known to others."""
        if self.request.method == "POST":
            self.set_session_cookie()
        super().set_login_cookie(user)

    def _render(self, login_error: str | None = None, username: str | None = None, **names: Any) -> Any:
        enrolled = self.request.method == "GET" and bool(self.get_query_argument("enrolled", ""))
        return super()._render(login_error=login_error, username=username, enrolled=enrolled, **names)

    async def authenticate(self, data: Any) -> Any:
        """Decide; after a refusal JupyterHub logs the name, and it may be a misplaced password."""
        typed = dict(data)
        data["username"] = ""
        return await super().authenticate(typed)

    async def auth_to_user(self, authenticated: Any, user: Any = None) -> Any:
        """Make the hub's user; what was opened before a reset is ended before this login begins."""
        is_login = user is None  # JupyterHub refreshes those who are in on this way, too
        user = await super().auth_to_user(authenticated, user)
        if is_login:
            await self.authenticator.admit(self, user)
        return user

    async def post(self) -> None:
        """Log in, or show the form again."""
        fields = ("username", "password", "otp")
        # A field that is missing stays missing: no answer of ours depends on which.
        data = {
            name: self.get_body_argument(name, strip=name == "username")
            for name in fields
            if name in self.request.body_arguments
        }
        shown = data.get("username", "")[:MAX_SHOWN_NAME]
        before, session_id = self.current_user, self.get_session_cookie() or ""
        try:
            user = await self.login_user(data)
        except answers.GateError as error:
            self.set_headers_of(error)
            await self._again(error.status_code, error.jupyterhub_message, shown)
            return
        if not user:
            await self._again(403, answers.LOGIN_REFUSED, shown)
            return
        if before is not None:  # whose cookies the new ones take the place of, and nobody could end any more
            await logins.end_login(self, before, session_id)
        self._jupyterhub_user = user
        client.remember_browser(self, user.name)
        self.redirect(self._first_page(user))

    def _first_page(self, user: Any) -> str:
        """Say where to go: by way of the notices, where there are some."""
        next_url = str(self.get_next_url(user))
        if not self.gate_notices:
            return next_url
        return str(url_concat(url_path_join(self.hub.base_url, "account/notices"), {"next": next_url}))

    async def _again(self, status: int, sentence: str, username: str) -> None:
        self.set_status(status)
        self.finish(await self._render(login_error=sentence, username=username))


handlers: list[tuple[str, type]] = [(r"/login", LoginPage)]
