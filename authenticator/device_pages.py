"""What enrolment and the account's pages share: a new device's secret, its first code, recovery codes."""

from typing import Any

from carme_hub.authenticator import answers, credentials, totp
from carme_hub.authenticator.enrolments import Pending
from carme_hub.authenticator.pages import GatePage
from carme_hub.authenticator.qr import qr_code

MAX_TOKEN = 128  # characters


class DevicePage(GatePage):
    """
    A page on the way to a new device.

    Attributes
    ----------
    confirm_path, start_path
        Of the first code's form, and of the page where the way begins, below the hub's address.
    """

    confirm_path = ""
    start_path = ""

    async def refused(self, template: str, refusal: answers.GateError, /, **names: Any) -> None:
        """Show a form again, with what the gate says."""
        self.set_headers_of(refusal)
        names = {"error": refusal.jupyterhub_message, **names}
        await self.show(template, status=refusal.status_code, **names)

    async def show_secret(self, username: str, secret: str, ticket: str) -> None:
        """Show a secret, once, and ask for the first code."""
        uri = totp.provisioning_uri(secret, username, self.authenticator.issuer)
        await self._ask_code(ticket=ticket, secret=totp.spaced(secret), uri=uri, qr_code=qr_code(uri))

    async def show_codes(self, username: str, codes: list[str], **names: Any) -> None:
        """Show recovery codes, once."""
        place = self.authenticator.issuer
        head = (
            f"Recovery codes of {username} for {place}\nEach works once, in place of a code from a device.\n"
        )
        await self.show("recovery_codes.html", codes=codes, file_text="\n".join([head, *codes, ""]), **names)

    async def confirmed(self, username: str | None) -> Pending | None:
        """
        Read the first code's form, and make the device the account's where the code is right.

        Parameters
        ----------
        username
            Who is logged in and adds a device; None for an enrolment by somebody who is not.

        Returns
        -------
        Pending or None
            None where the person was told already why not.
        """
        gate = self.authenticator
        ticket, code = self.field("ticket", MAX_TOKEN), self.field("otp", credentials.MAX_CODE)
        try:
            pending: Pending | None = await gate.in_thread(lambda: gate.store.enrolments.attempt(ticket))
            if pending is None or not _belongs(pending, username):
                await self.over()
                return None
            step = gate.code_step(pending.secret, code)
            if step is None:
                await self._ask_code(status=403, error=answers.CODE_REFUSED, ticket=ticket)
                return None
            if not await gate.in_thread(lambda: gate.store.enrolments.finish(pending, ticket, step)):
                await self.over()
                return None
        except answers.GateUnavailableError as error:
            await self._ask_code(status=503, error=error.jupyterhub_message, ticket=ticket)
            return None
        return pending

    async def over(self) -> None:
        """Say that the ticket is of no use any more."""
        raise NotImplementedError

    async def _ask_code(self, **names: Any) -> None:
        names = {"confirm_path": self.confirm_path, "start_path": self.start_path, **names}
        await self.show("enrol_confirm.html", **names)


def _belongs(pending: Pending, username: str | None) -> bool:
    """Say whether an enrolment may be finished by this person (None: somebody who is not logged in)."""
    return pending.replaces if username is None else not pending.replaces and pending.username == username
