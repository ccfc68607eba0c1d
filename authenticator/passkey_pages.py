"""What passkeys need of pages: a challenge for whoever signs in, and the two steps to a new passkey."""

import time
from typing import Any

from tornado import web

from carme_hub.authenticator import answers, passkeys, totp, words
from carme_hub.authenticator.account_changes import AddDevicePage, ConfirmDevicePage, FieldError
from carme_hub.authenticator.device_pages import MAX_TOKEN
from carme_hub.authenticator.pages import GatePage
from carme_hub.authenticator.passkey_store import PASSKEY

NOT_ADDED = (
    "The passkey was not added: it took too long, it is one that you have added before, or what your browser "
    "sent did not fit. Start again."
)


class PasskeyDoor(GatePage):
    """A page that is there only where an admin has said at which address the hub is opened."""

    async def prepare(self) -> None:
        """Say that there is no such page, where there are no passkeys."""
        await super().prepare()
        if not self.authenticator.passkey_origin:
            raise web.HTTPError(404)


class ChallengePage(PasskeyDoor):
    """What a passkey has to answer. The same for everybody: it says nothing about any account."""

    async def post(self) -> None:
        """Make a challenge; POST, so that nobody is made to ask for one from another site."""
        gate = self.authenticator
        challenge = gate.store.passkeys.challenges.new(time.time())
        self.set_header("Content-Type", "application/json")
        self.finish(passkeys.request_options(gate.passkey_origin, challenge))


class AddPasskeyPage(PasskeyDoor, AddDevicePage):
    """One more passkey: first its name and the proof, then the browser makes it."""

    template = "account_passkey.html"

    async def change(self, about: dict[str, Any]) -> None:
        """Show the page whose script has the passkey made."""
        if about["is_full"]:
            raise FieldError("name", answers.TOO_MANY_DEVICES)
        await self.prove()
        gate, store, username = self.authenticator, self.authenticator.store, self.username
        name = words.device_name(self.field("name", words.MAX_DEVICE_NAME) or words.KINDS[PASSKEY])
        secret = totp.new_secret()

        def begin() -> tuple[list[passkeys.Passkey], str | None]:
            return store.passkeys.of(username), store.enrolments.begin_second(username, secret, name)

        known, ticket = await gate.in_thread(begin)
        if ticket is None:  # reset in the same moment
            raise answers.RefusedError
        options = passkeys.creation_options(gate.passkey_origin, gate.issuer, username, secret, known)
        await self.show("account_passkey_confirm.html", ticket=ticket, device_name=name, options=options)


class ConfirmPasskeyPage(PasskeyDoor, ConfirmDevicePage):
    """What the browser made."""

    template = "account_passkey.html"
    start_path = "account/passkey"

    @web.authenticated
    async def post(self) -> None:
        """Check it, and make it a device."""
        gate = self.authenticator
        ticket, answer = self.field("ticket", MAX_TOKEN), self.field("credential", passkeys.MAX_REGISTRATION)
        try:
            name = await gate.in_thread(lambda: self._add(ticket, answer))
        except answers.GateUnavailableError as error:
            await self.refused(self.template, error, **await self.about())
            return
        if name is None:
            await self.over()
            return
        await self.record("device-added", name)
        self.back("device-added")

    def _add(self, ticket: str, answer: str) -> str | None:
        store, origin = self.authenticator.store, self.authenticator.passkey_origin
        pending = store.enrolments.attempt(ticket)
        if pending is None or pending.replaces or pending.username != self.username:
            return None
        known = store.passkeys.of(pending.username)
        made = passkeys.verify_registration(answer, origin, pending.secret, known)
        if made is None or not store.passkeys.add(pending, ticket, made):
            return None
        return str(pending.name)

    async def over(self) -> None:
        """Go back to the first step."""
        await self.show(self.template, status=403, **{**await self.about(), "error": NOT_ADDED})


handlers: list[tuple[str, Any]] = [
    (r"/login/challenge", ChallengePage),
    (r"/account/passkey", AddPasskeyPage),
    (r"/account/passkey/confirm", ConfirmPasskeyPage),
]
