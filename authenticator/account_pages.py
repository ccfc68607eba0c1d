"""The page about one's own account, and what people are told after a login."""

import re
from typing import Any

from jupyterhub.utils import url_path_join
from tornado import web
from tornado.httputil import url_concat

from carme_hub.authenticator import account_changes, words
from carme_hub.authenticator.audit import SUCCESS, Entry
from carme_hub.authenticator.pages import GatePage
from carme_hub.authenticator.store import Account

FEW_CODES = 3  # recovery codes left, of which the person is warned
SHOWN_ENTRIES = 10
READ_ENTRIES = 50  # of which those are shown that say something

# What `?done=` says; nothing else of the address is shown.
DONE = {
    "device-added": "The device was added. Sign in with either of your devices from now on.",
    "device-removed": "The device was removed. Its codes are not taken any more.",
    "password-changed": "Your password was changed, here and everywhere else this account is used.",
}

_ENTRY_ID = re.compile(r"[0-9]{1,18}")


class AccountOverview(GatePage):
    """Devices, recovery codes, password, and what happened lately."""

    @web.authenticated
    async def get(self) -> None:
        """Show them."""
        gate, username = self.authenticator, self.current_user.name

        def read() -> tuple[Account, list[Entry], list[Entry]]:
            log = gate.store.audit
            return gate.store.account(username), log.logins(username), log.entries(username, READ_ENTRIES)

        account, logins, entries = await gate.in_thread(read)
        # Sign-ins have a list of their own; what asked for password and code is in this list itself.
        silent = {("prove", SUCCESS), ("login", SUCCESS), ("token", SUCCESS)}
        telling = [entry for entry in entries if (entry.event, entry.outcome) not in silent]
        await self.show(
            "account.html",
            account=account,
            kinds=words.KINDS,
            has_passkeys=bool(gate.passkey_origin),
            moment=words.moment,
            few_codes=account.recovery_left <= FEW_CODES,
            logins=[words.activity(entry) for entry in logins],
            activities=[words.activity(entry) for entry in telling[:SHOWN_ENTRIES]],
            done=DONE.get(self.get_query_argument("done", ""), ""),
        )


class NoticesPage(GatePage):
    """What happened to an account since its owner was last told."""

    @web.authenticated
    async def get(self) -> None:
        """Show it; whoever has been told everything goes on."""
        entries = await self._unseen()
        if entries:
            await self._show(entries)
        else:
            self.redirect(self.get_next_url(self.current_user))

    @web.authenticated
    async def post(self) -> None:
        """Remember what was shown, and go on."""
        gate, username = self.authenticator, self.current_user.name
        typed = self.field("last", 18)
        last = int(typed) if _ENTRY_ID.fullmatch(typed) else 0
        entries = await self._unseen()
        # Only what there is can have been shown: a number from the future would hide what is to come.
        if entries and last not in {entry.id for entry in entries}:
            await self._show(entries)
            return
        if entries:
            await gate.in_thread(lambda: gate.store.audit.seen(username, last))
        self.redirect(self.get_next_url(self.current_user))

    async def _unseen(self) -> list[Entry]:
        gate, username = self.authenticator, self.current_user.name
        entries: list[Entry] = await gate.in_thread(lambda: gate.store.audit.notices(username))
        return entries

    async def _show(self, entries: list[Entry]) -> None:
        here = url_path_join(self.hub.base_url, "account/notices")
        await self.show(
            "notices.html",
            notices=[words.notice(entry) for entry in entries],
            last=entries[0].id,
            here_url=url_concat(here, {"next": self.get_next_url(self.current_user)}),
        )


handlers: list[tuple[str, Any]] = [
    (r"/account", AccountOverview),
    (r"/account/notices", NoticesPage),
    *account_changes.handlers,
]
