"""The pages on which a person gets the first device: name, password and token, then the first code."""

from jupyterhub.utils import url_path_join
from tornado.httputil import url_concat

from carme_hub.authenticator import answers, credentials, totp
from carme_hub.authenticator.audit import Event
from carme_hub.authenticator.device_pages import MAX_TOKEN, DevicePage
from carme_hub.authenticator.words import MAX_DEVICE_NAME, device_name


class EnrolBase(DevicePage):
    """What both steps of enrolment have in common."""

    confirm_path = "enrol/confirm"
    start_path = "enrol"

    @property
    def needs_token(self) -> bool:
        """Whether nobody enrols without a token."""
        return bool(self.authenticator.enrolment == "token")


class EnrolPage(EnrolBase):
    """First step: who proves name, password and token gets a secret, shown once."""

    async def get(self) -> None:
        """Show the form."""
        await self.show("enrol.html", needs_token=self.needs_token)

    async def post(self) -> None:
        """Check, make a secret, show it."""
        typed = self.field("username", credentials.MAX_USERNAME)
        username = credentials.canonical_name(typed, self.authenticator.valid_username_regex) or ""
        secret = totp.new_secret()
        again = {"username": typed, "needs_token": self.needs_token}
        try:
            ticket = await self._begin(username, secret)
        except answers.RefusedError as error:
            await self.refused("enrol.html", error, **{**again, "error": answers.ENROL_REFUSED})
        except answers.GateError as error:
            await self.refused("enrol.html", error, **again)
        else:
            await self.show_secret(username, secret, ticket)

    async def _begin(self, username: str, secret: str) -> str:
        gate = self.authenticator
        token = self.field("token", MAX_TOKEN)
        person = await gate.prove_invited(
            self, username, self.typed("password"), lambda: self._is_invited(username, token)
        )
        if person.username != username:  # another name of the same entry: no login would ask for this device
            raise answers.RefusedError
        name = device_name(self.field("name", MAX_DEVICE_NAME))
        ticket: str | None = await gate.in_thread(lambda: self._keep(username, token, secret, name))
        if ticket is None:  # while the directory was asked, the token was used or replaced
            raise answers.RefusedError
        return ticket

    def _is_invited(self, username: str, token: str) -> bool:
        """Say whether something besides the password admits this account."""
        enrolments = self.authenticator.store.enrolments
        if not username:
            return False
        if token or self.needs_token:
            return bool(enrolments.token_is_valid(username, token))
        return bool(enrolments.may_enrol_first(username))

    def _keep(self, username: str, token: str, secret: str, name: str) -> str | None:
        enrolments = self.authenticator.store.enrolments
        if token:
            ticket: str | None = enrolments.begin(username, token, secret, name)
            return ticket
        # Asked again: while the directory was asked, an admin may have made a token.
        return enrolments.begin_first(username, secret, name) if self._is_invited(username, "") else None


class EnrolConfirmPage(EnrolBase):
    """Second step: the first code proves that the app has the secret; recovery codes are the answer."""

    async def get(self) -> None:
        """Go back to the start: the secret is not shown again."""
        self.redirect(url_path_join(self.hub.base_url, "enrol"))

    async def post(self) -> None:
        """Check the code; a right one makes the device the account's, in place of all others."""
        pending = await self.confirmed(None)
        if pending is None:
            return
        gate, username = self.authenticator, pending.username
        await gate.record(self, Event("enrol", account=username, detail=pending.name))
        user = self.find_user(username)
        if user is not None:
            # What was opened with the devices before.
            await gate.end_old_logins(user)
        codes = await gate.in_thread(lambda: gate.store.new_recovery_codes(username))
        if not codes:  # reset in the same moment
            await self.over()
            return
        await self.show_codes(
            username,
            codes,
            is_first=True,
            on_url=url_concat(self.settings["login_url"], {"enrolled": "1"}),
        )

    async def over(self) -> None:
        """Go back to the first step."""
        await self.show("enrol.html", status=403, error=answers.CONFIRM_REFUSED, needs_token=self.needs_token)


handlers: list[tuple[str, type]] = [
    (r"/enrol", EnrolPage),
    (r"/enrol/confirm", EnrolConfirmPage),
]
