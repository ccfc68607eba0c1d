"""The pages that change something of one's own account. Each asks for password and code again.

They show and ask; the gate decides, and the store changes.
"""

from typing import Any

from jupyterhub.utils import url_path_join
from tornado import web
from tornado.httputil import url_concat

from carme_hub.authenticator import answers, credentials, totp
from carme_hub.authenticator.audit import ERROR, Event
from carme_hub.authenticator.device_pages import DevicePage
from carme_hub.authenticator.directory_errors import (
    ChangeUnclearError,
    DirectoryUnreachableError,
    PasswordPolicyError,
    WrongPasswordError,
)
from carme_hub.authenticator.words import MAX_DEVICE_NAME, device_name

MAX_DEVICES = 10  # each is one more code that a guess may hit
MAX_ID = 64  # characters


class FieldError(Exception):
    """
    What was typed into a field cannot be used.

    Parameters
    ----------
    field
        The field's name.
    sentence
        What the person reads beside it.
    """

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = field
        self.sentence = sentence


class ChangePage(DevicePage):
    """A form for one change: GET shows it and changes nothing, POST asks the gate first."""

    template = ""

    @property
    def username(self) -> str:
        """Whose account it is: who is logged in, whatever the request says."""
        return str(self.current_user.name)

    @web.authenticated
    async def get(self) -> None:
        """Show the form."""
        await self.show(self.template, **await self.about())

    @web.authenticated
    async def post(self) -> None:
        """Make the change, or show the form again."""
        about = await self.about()
        try:
            await self.change(about)
        except FieldError as error:
            errors = {error.field: error.sentence}
            await self.show(self.template, status=400, **{**about, "errors": errors})
        except answers.RefusedError as error:
            refused = {"error": answers.PROVE_REFUSED, "is_refused": True}
            await self.refused(self.template, error, **{**about, **refused})
        except answers.GateError as error:
            await self.refused(self.template, error, **about)

    async def show(self, template: str, *, status: int = 200, **names: Any) -> None:
        """Show a page; every form may offer a passkey in place of the code."""
        await super().show(template, status=status, passkey_origin=self.authenticator.passkey_origin, **names)

    async def about(self) -> dict[str, Any]:
        """Return what the form needs."""
        return {}

    async def change(self, about: dict[str, Any]) -> None:
        """Check what was typed, ask the gate (`prove`), make the change, answer; `about` is the form's."""
        raise NotImplementedError

    async def prove(self) -> None:
        """Ask the gate whether password and code are right; the code is used up by it."""
        code = self.field("otp", credentials.MAX_CODE)
        await self.authenticator.prove(self, "prove", self.username, self.typed("password"), code)

    async def record(self, event: str, detail: str = "") -> None:
        """Write the change down."""
        await self.authenticator.record(self, Event(event, account=self.username, detail=detail))

    async def end_other_logins(self) -> None:
        """Sign out all other browsers and end API tokens, where the person wants that."""
        if self.field("elsewhere", 8):
            gate = self.authenticator
            # In the store first: it ends those, too, that are just beginning.
            await gate.in_thread(lambda: gate.store.end_logins(self.username))
            await gate.end_old_logins(self.current_user)
            self.set_login_cookie(self.current_user)  # this browser stays in

    def back(self, done: str) -> None:
        """Go to the account's page, which says what was done."""
        self.redirect(url_concat(url_path_join(self.hub.base_url, "account"), {"done": done}))


class AddDevicePage(ChangePage):
    """One more device: first its name, then its secret, shown once."""

    template = "account_device.html"
    confirm_path = "account/device/confirm"
    start_path = "account/device"

    async def about(self) -> dict[str, Any]:
        """Say whether there is room for one more."""
        gate = self.authenticator
        devices = await gate.in_thread(lambda: gate.store.devices(self.username))
        return {"is_full": len(devices) >= MAX_DEVICES, "max_devices": MAX_DEVICES}

    async def change(self, about: dict[str, Any]) -> None:
        """Show the secret of a new device."""
        if about["is_full"]:
            raise FieldError("name", answers.TOO_MANY_DEVICES)
        await self.prove()
        gate = self.authenticator
        secret, name = totp.new_secret(), device_name(self.field("name", MAX_DEVICE_NAME))
        ticket = await gate.in_thread(lambda: gate.store.enrolments.begin_second(self.username, secret, name))
        if ticket is None:  # reset in the same moment
            raise answers.RefusedError
        await self.show_secret(self.username, secret, ticket)


class ConfirmDevicePage(AddDevicePage):
    """The first code of the new device."""

    @web.authenticated
    async def get(self) -> None:
        """Go back to the start: the secret is not shown again."""
        self.redirect(url_path_join(self.hub.base_url, self.start_path))

    @web.authenticated
    async def post(self) -> None:
        """Check the code; a right one adds the device."""
        pending = await self.confirmed(self.username)
        if pending is not None:
            await self.record("device-added", pending.name)
            self.back("device-added")

    async def over(self) -> None:
        """Go back to the first step."""
        await self.show(self.template, status=403, **{**await self.about(), "error": answers.ADDING_OVER})


class RemoveDevicePage(ChangePage):
    """The end of a device, unless it is the last one."""

    template = "account_remove.html"

    async def about(self) -> dict[str, Any]:
        """Find the device; only one's own can be found."""
        gate = self.authenticator
        devices = await gate.in_thread(lambda: gate.store.devices(self.username))
        wanted = self.get_argument("id", "")[:MAX_ID]
        found = [device for device in devices if device.id == wanted]
        if not found:
            raise web.HTTPError(404, answers.NO_SUCH_DEVICE)
        return {"device": found[0], "is_last": len(devices) == 1}

    async def change(self, about: dict[str, Any]) -> None:
        """Remove it."""
        gate, device = self.authenticator, about["device"]
        if about["is_last"]:
            raise FieldError("id", answers.LAST_DEVICE)
        await self.prove()
        if await gate.in_thread(lambda: gate.store.remove_device(self.username, device.id)) is None:
            raise FieldError("id", answers.LAST_DEVICE)  # another request was faster
        await self.record("device-removed", device.name)
        await self.end_other_logins()
        self.back("device-removed")


class RecoveryPage(ChangePage):
    """New recovery codes, shown once."""

    template = "account_recovery.html"

    async def about(self) -> dict[str, Any]:
        """Say how many of the old ones are left."""
        gate = self.authenticator
        account = await gate.in_thread(lambda: gate.store.account(self.username))
        return {"recovery_left": account.recovery_left}

    async def change(self, about: dict[str, Any]) -> None:  # noqa: ARG002 - as for every change
        """Make them."""
        await self.prove()
        gate = self.authenticator
        codes = await gate.in_thread(lambda: gate.store.new_recovery_codes(self.username))
        if not codes:  # reset in the same moment
            raise answers.RefusedError
        await self.record("recovery-new")
        await self.show_codes(
            self.username, codes, is_first=False, on_url=url_path_join(self.hub.base_url, "account")
        )


class PasswordPage(ChangePage):
    """A new password, in the directory."""

    template = "account_password.html"

    async def change(self, about: dict[str, Any]) -> None:  # noqa: ARG002 - as for every change
        """Check the new password as far as that is possible here, then let the directory decide."""
        old, new = self.typed("password"), self.typed("new_password")
        if credentials.usable_password(new) is None:
            raise FieldError("new_password", answers.NEW_UNUSABLE)
        if new == old:
            raise FieldError("new_password", answers.NEW_IS_OLD)
        if new != self.typed("new_again"):
            raise FieldError("new_again", answers.NEW_DIFFER)
        await self.prove()
        await self._set(old, new)
        await self.record("password-changed")
        await self.end_other_logins()
        self.back("password-changed")

    async def _set(self, old: str, new: str) -> None:
        gate = self.authenticator
        try:
            await gate.directory.change_password(self.username, old, new)
        except PasswordPolicyError as error:
            raise FieldError("new_password", f"{error.sentence} {answers.NEXT_CODE}") from error
        except WrongPasswordError as error:
            raise answers.RefusedError from error
        except DirectoryUnreachableError as error:
            is_unclear = isinstance(error, ChangeUnclearError)
            sentence = answers.CHANGE_UNCLEAR if is_unclear else answers.CHANGE_FAILED
            # Without a traceback: the sentence names server and reason.
            self.log.error("A password could not be changed: %s", error)  # noqa: TRY400
            await gate.record(self, Event("password-changed", ERROR, "directory", self.username))
            raise answers.GateUnavailableError(sentence, "directory") from error


handlers: list[tuple[str, Any]] = [
    (r"/account/device", AddDevicePage),
    (r"/account/device/confirm", ConfirmDevicePage),
    (r"/account/device/remove", RemoveDevicePage),
    (r"/account/recovery", RecoveryPage),
    (r"/account/password", PasswordPage),
]
