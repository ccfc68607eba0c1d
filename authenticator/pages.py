"""The pages in front of the gate: login, and enrolment of a device. They show and ask; others decide."""

from typing import Any

import segno
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.login import LoginHandler
from jupyterhub.orm import APIToken
from jupyterhub.utils import new_token, url_path_join
from markupsafe import Markup
from tornado import web
from tornado.httputil import url_concat

from carme_hub.authenticator import answers, credentials, totp

MAX_TOKEN = 128  # characters
MAX_SHOWN_NAME = 32  # characters


class GatePage(BaseHandler):  # type: ignore[misc] # JupyterHub ships no types
    """What all pages have in common."""

    def decode_argument(self, value: bytes, name: str | None = None) -> str:  # noqa: ARG002 - tornado's signature
        """
        Read a field; what is no UTF-8 fits nothing, and is refused as that.

        Tornado would say the field's value in log and answer, and it may be a password.
        """
        return value.decode("utf-8", "replace")


class LoginPage(GatePage, LoginHandler):  # type: ignore[misc] # JupyterHub ships no types
    """JupyterHub's login page with an answer that speaks of the code too."""

    def set_login_cookie(self, user: Any) -> None:
        """Log a browser in under a new session id: one from before the login may be known to others."""
        if self.request.method == "POST":
            self.set_session_cookie()
        super().set_login_cookie(user)

    def _render(self, login_error: str | None = None, username: str | None = None, **names: Any) -> Any:
        enrolled = self.request.method == "GET" and bool(self.get_query_argument("enrolled", ""))
        return super()._render(login_error=login_error, username=username, enrolled=enrolled, **names)

    async def post(self) -> None:
        """Log in, or show the form again."""
        fields = ("username", "password", "otp")
        # A field that is missing stays missing: no answer of ours depends on which.
        data = {
            name: self.get_body_argument(name, strip=name == "username") for name in fields if self._has(name)
        }
        typed = data.get("username", "")
        if credentials.canonical_name(typed, self.authenticator.valid_username_regex) is None:
            # JupyterHub logs the name of a failed login; what is no name may be a misplaced password.
            data["username"] = ""
        user = await self.login_user(data)
        if user:
            self._jupyterhub_user = user
            self.redirect(self.get_next_url(user))
            return
        self.set_status(403)
        self.finish(await self._render(login_error=answers.LOGIN_REFUSED, username=typed[:MAX_SHOWN_NAME]))

    def _has(self, name: str) -> bool:
        return name in self.request.body_arguments


class EnrolBase(GatePage):
    """What both steps of enrolment have in common."""

    def set_default_headers(self) -> None:
        """Keep the pages, which show a secret, out of every cache and every Referer."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")

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

    async def show(self, template: str, *, status: int = 200, **names: Any) -> None:
        """Show one of the pages."""
        self.set_status(status)
        urls = {"enrol_url": url_path_join(self.hub.base_url, "enrol")}
        self.finish(await self.render_template(template, **urls, **names))


class EnrolPage(EnrolBase):
    """First step: who proves name, password and token gets a secret, shown once."""

    async def get(self) -> None:
        """Show the form."""
        await self.show("enrol.html", username="", error="")

    async def post(self) -> None:
        """Check, make a secret, show it."""
        username = self.field("username", credentials.MAX_USERNAME)
        try:
            shown = await self._begin(username)
        except answers.GateUnavailableError as error:
            await self.show("enrol.html", status=503, username=username, error=error.jupyterhub_message)
            return
        if shown is None:
            self.log.warning("Enrolment refused.")
            await self.show("enrol.html", status=403, username=username, error=answers.ENROL_REFUSED)
            return
        await self.show("enrol_confirm.html", error="", **shown)

    async def _begin(self, typed: str) -> dict[str, Any] | None:
        gate = self.authenticator
        username = credentials.canonical_name(typed, gate.valid_username_regex)
        password = credentials.usable_password(self.get_body_argument("password", "", strip=False))
        token = self.field("token", MAX_TOKEN)
        if username is None or password is None:
            return None
        # The token first: without one, this page says nothing about passwords.
        if not await gate.in_thread(lambda: gate.store.token_is_valid(username, token)):
            return None
        person = await gate.check_password(username, password)
        if person is None or person.username != username or not await gate.may_come_in(person):
            return None
        secret = totp.new_secret()
        ticket = await gate.in_thread(lambda: gate.store.begin_enrolment(username, token, secret))
        if ticket is None:
            return None
        uri = totp.provisioning_uri(secret, username, gate.issuer)
        return {"ticket": ticket, "secret": totp.spaced(secret), "qr_code": qr_code(uri)}


class EnrolConfirmPage(EnrolBase):
    """Second step: the first code proves that the app has the secret."""

    async def get(self) -> None:
        """Go back to the start: the secret is not shown again."""
        self.redirect(url_path_join(self.hub.base_url, "enrol"))

    async def post(self) -> None:
        """Check the code; a right one makes the device the account's."""
        ticket, code = self.field("ticket", MAX_TOKEN), self.field("otp", credentials.MAX_CODE)
        gate = self.authenticator
        try:
            pending = await gate.in_thread(lambda: gate.store.attempt_enrolment(ticket))
            if pending is None:
                await self._over()
                return
            step = gate.code_step(pending.secret, code)
            if step is None:
                await self.show("enrol_confirm.html", status=403, error=answers.CODE_REFUSED, ticket=ticket)
                return
            if not await gate.in_thread(lambda: gate.store.finish_enrolment(pending, ticket, step)):
                await self._over()
                return
        except answers.GateUnavailableError as error:
            await self.show("enrol_confirm.html", status=503, error=error.jupyterhub_message, ticket=ticket)
            return
        self._end_logins(pending.username)
        self.log.info("Enrolled: account=%s", pending.username)
        self.redirect(url_concat(self.settings["login_url"], {"enrolled": "1"}))

    def _end_logins(self, username: str) -> None:
        """
        End what was opened with the device before: browsers and API tokens.

        A running session keeps its own token as far as this hub knows it (it started the session itself).
        """
        user = self.find_user(username)
        if user is None:
            return
        own = [
            spawner.api_token for spawner in user.spawners.values() if spawner.active and spawner.api_token
        ]
        kept = {token.id for text in own if (token := APIToken.find(self.db, text)) is not None}
        user.orm_user.cookie_id = new_token()
        for token in list(user.orm_user.api_tokens):
            if token.id not in kept:
                self.db.delete(token)
        self.db.commit()

    async def _over(self) -> None:
        await self.show("enrol.html", status=403, username="", error=answers.CONFIRM_REFUSED)


def qr_code(text: str) -> Markup:
    """
    Draw a QR code as an SVG element.

    It is made here, so that no other server sees the secret, and coloured by attributes, so that it shows
    under a Content-Security-Policy without inline styles. The light ground stays light in dark mode: phones
    need it.
    """
    drawing = segno.make(text, micro=False, error="m")
    # What segno returns holds numbers and colours only, nothing of the text.
    return Markup(drawing.svg_inline(scale=5, dark="#000", light="#fff", svgclass="img-fluid rounded"))  # noqa: S704


handlers: list[tuple[str, type]] = [
    (r"/login", LoginPage),
    (r"/enrol", EnrolPage),
    (r"/enrol/confirm", EnrolConfirmPage),
]
