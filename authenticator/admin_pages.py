"""The pages on which admins look after people's devices: the list, one person, the audit log."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jupyterhub import orm, scopes
from jupyterhub.scopes import needs_scope
from jupyterhub.utils import url_path_join
from tornado import web

from carme_hub.authenticator import answers, credentials, people, words
from carme_hub.authenticator.audit import Entry, Event
from carme_hub.authenticator.pages import GatePage
from carme_hub.authenticator.store import Account

PAGE_SIZE = 50
MAX_PAGES_OF_LOG = 20  # older entries: `carme user audit`
EVENTS_OF_PERSON = 15
MAX_NUMBER = 8  # characters
SCOPE = "admin:users"
TOKEN, UNLOCK, RESET = "token", "unlock", "reset"


@dataclass(frozen=True)
class Page:
    """A piece of a list: what is on it, its number from 1, and how many there are."""

    items: list[Any]
    number: int
    last: int
    total: int


@dataclass(frozen=True)
class Asked:
    """What an admin wants to be done, as far as the form goes."""

    action: str
    hours: int


def listed(accounts: Iterable[Account], usernames: Iterable[str], prefix: str) -> list[Account]:
    """Put those of the store and those of the hub into one list by name, of the names that begin so."""
    found = {account.username: account for account in accounts}
    found.update((username, Account(username)) for username in usernames if username not in found)
    return [found[name] for name in sorted(found) if name.startswith(prefix)]


def piece(items: list[Any], number: int) -> Page:
    """Cut a page out of a list; a number that is none of its pages is the nearest one."""
    last = max(1, -(-len(items) // PAGE_SIZE))
    number = min(max(number, 1), last)
    return Page(items[(number - 1) * PAGE_SIZE : number * PAGE_SIZE], number, last, len(items))


def whole_number(text: str) -> int:
    """Read a number from a form or an address; 0 for what is none."""
    return int(text) if re.fullmatch(r"[0-9]{1,7}", text) else 0


def asked(action: str, hours: str) -> Asked | None:
    """Read what is to be done; None where it is nothing that can be."""
    if action in {UNLOCK, RESET}:
        return Asked(action, 0)
    number = whole_number(hours)
    if action == TOKEN and 1 <= number <= people.MAX_TOKEN_HOURS:
        return Asked(action, number)
    return None


class AdminPage(GatePage):
    """What the admins' pages have in common. A cookie opens them, an API token does not."""

    def word(self, name: str, limit: int) -> str:
        """Return a word of the address, empty where it is missing or too long."""
        value = str(self.get_query_argument(name, ""))
        return value if len(value) <= limit else ""

    def canonical(self, typed: str) -> str | None:
        """Return the one name of an account, None for what is no name."""
        name: str | None = credentials.canonical_name(typed, self.authenticator.valid_username_regex)
        return name

    def may_see_all(self) -> bool:
        """Say whether the admin's rights are over everybody."""
        return bool(self.parsed_scopes.get(SCOPE) == scopes.Scope.ALL)

    async def show(self, template: str, *, status: int = 200, **names: Any) -> None:
        """Show a page, which knows where the others are."""
        urls = {
            "people_url": url_path_join(self.hub.base_url, "admin/people"),
            "audit_url": url_path_join(self.hub.base_url, "admin/audit"),
        }
        about = {"states": people.states, "moment": words.moment}
        about["passkey_origin"] = self.authenticator.passkey_origin
        await super().show(template, status=status, **about, **urls, **names)


class PeoplePage(AdminPage):
    """Everybody who has, or had, a device, and everybody the hub knows."""

    @web.authenticated
    @needs_scope(SCOPE, post_filter=True)  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        """Show the list."""
        prefix = self.word("name", credentials.MAX_USERNAME).lower()
        gate = self.authenticator
        names = self._hub_names()
        rows = await gate.in_thread(lambda: listed(gate.store.accounts(), names, prefix))
        if not self.may_see_all():
            mine = self._names_in_scope()
            rows = [account for account in rows if account.username in mine]
        exact = self.canonical(prefix)
        unknown = (
            exact if exact not in {account.username for account in rows} and self.may_see_all() else None
        )
        page = piece(rows, whole_number(self.word("page", MAX_NUMBER)))
        failing = [server for server in gate.directory.health() if server.failures]
        await self.show("gate_admin_people.html", prefix=prefix, page=page, unknown=unknown, failing=failing)

    def _hub_names(self) -> list[str]:
        names = (name for (name,) in self.db.query(orm.User.name))
        # Others cannot log in here, however they came into the hub.
        return [name for name in names if self.canonical(name) == name]

    def _names_in_scope(self) -> set[str]:
        scope = self.parsed_scopes[SCOPE]
        in_groups = self.db.query(orm.User.name).filter(
            orm.User.groups.any(orm.Group.name.in_(scope.get("group", ())))
        )
        return {*scope.get("user", ()), *(name for (name,) in in_groups)}


class PersonPage(AdminPage):
    """One person, and what an admin can do for them."""

    @web.authenticated
    @needs_scope(SCOPE)  # type: ignore[untyped-decorator]
    async def get(self, user_name: str) -> None:
        """Show all about the person."""
        await self._show(self._named(user_name))

    @web.authenticated
    @needs_scope(SCOPE)  # type: ignore[untyped-decorator]
    async def post(self, user_name: str) -> None:
        """Do what is asked for, once the admin's own code is right."""
        username = self._named(user_name)
        if forbidden := await self._forbidden(username):
            raise answers.GateError(403, forbidden)
        typed = self.field("action", MAX_NUMBER), self.field("hours", MAX_NUMBER)
        wanted = asked(*typed)
        if wanted is None:
            error = answers.ADMIN_NO_ACTION.format(hours=int(people.MAX_TOKEN_HOURS))
            await self._show(username, status=400, error=error, chosen=typed)
            return
        password = self.typed("password")
        code = self.field("otp", credentials.MAX_CODE)
        try:
            # The password too: whoever only found a browser open must not lock an admin out by wrong codes.
            await self.authenticator.prove(self, "prove", self.current_user.name, password, code)
            done = await self._do(wanted, username)
        except answers.GateError as refused:
            wrong = isinstance(refused, answers.RefusedError)
            error = answers.ADMIN_CODE_REFUSED if wrong else refused.jupyterhub_message
            self.set_headers_of(refused)
            await self._show(username, status=refused.status_code, error=error, chosen=typed)
            return
        # The answer itself and no redirect to it: a token is shown once, and no link can claim a success.
        await self._show(username, done=wanted.action, **done)

    def _named(self, user_name: str) -> str:
        if self.canonical(user_name) != user_name:
            raise web.HTTPError(404)
        return user_name

    async def _forbidden(self, username: str) -> str:
        """Say why this admin may change nothing about this person; empty where they may."""
        if username == self.current_user.name:
            return answers.ADMIN_SELF
        if self.current_user.admin:
            return ""
        # The hub has the same rule for its own users. It knows no admin who has never logged in.
        user = self.find_user(username)
        is_admin = (user is not None and user.admin) or await self.authenticator.is_admin_by_now(username)
        return answers.ADMIN_OF_ADMIN if is_admin else ""

    async def _do(self, wanted: Asked, username: str) -> dict[str, Any]:
        """Do it, and return what the page says about it."""
        gate, actor = self.authenticator, self.current_user.name
        if wanted.action == TOKEN:
            token = await gate.in_thread(lambda: gate.store.enrolments.new_token(username, wanted.hours))
            detail = f"valid for {wanted.hours} hours"
            await gate.record(self, Event("enrol-token", account=username, actor=actor, detail=detail))
            return {"token": token, "hours": wanted.hours}
        if wanted.action == UNLOCK:
            changed = await gate.in_thread(lambda: gate.store.unlock(username))
            if changed:
                await gate.record(self, Event("unlock", account=username, actor=actor))
            return {"changed": changed}
        count = await gate.in_thread(lambda: gate.store.reset(username))
        detail = people.devices(count)
        await gate.record(self, Event("reset", account=username, actor=actor, detail=detail))
        user = self.find_user(username)
        if user is not None:
            await gate.end_old_logins(user)
        return {"removed": detail, "running": user is not None and user.running}

    async def _show(self, username: str, *, status: int = 200, **names: Any) -> None:
        gate = self.authenticator
        user = self.find_user(username)

        def read() -> tuple[bool, Account, list[Entry]]:
            entries = gate.store.audit.entries(username, limit=EVENTS_OF_PERSON)
            return gate.store.knows(username), gate.store.account(username), entries

        known, account, entries = await gate.in_thread(read)
        await self.show(
            "gate_admin_person.html",
            status=status,
            account=account,
            known=known or user is not None,
            hub_user=user,
            activities=[words.activity(entry) for entry in entries],
            entries=entries,
            forbidden=await self._forbidden(username),
            enrol_path=url_path_join(self.hub.base_url, "enrol"),
            default_hours=int(people.TOKEN_HOURS),
            max_hours=int(people.MAX_TOKEN_HOURS),
            **names,
        )


class AuditPage(AdminPage):
    """The newest of the audit log."""

    @web.authenticated
    @needs_scope(SCOPE, post_filter=True)  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        """Show the log, or one account's part of it."""
        typed = self.word("account", credentials.MAX_USERNAME)
        username = self.canonical(typed)
        number = min(max(whole_number(self.word("page", MAX_NUMBER)), 1), MAX_PAGES_OF_LOG)
        entries: list[Entry] = []
        # Whose rights are over some people sees the log of one of them at a time.
        allowed = self.has_scope(f"{SCOPE}!user={username}") if username else self.may_see_all() and not typed
        if allowed:
            gate = self.authenticator
            # One more than is shown tells whether there are older ones.
            wanted = number * PAGE_SIZE + 1
            entries = await gate.in_thread(lambda: gate.store.audit.entries(username, limit=wanted))
        start = (number - 1) * PAGE_SIZE
        shown = entries[start : start + PAGE_SIZE]
        await self.show(
            "gate_admin_audit.html",
            account=typed,
            allowed=allowed,
            entries=shown,
            activities=[words.activity(entry) for entry in shown],
            number=number,
            older=len(entries) > start + PAGE_SIZE,
            at_end=number == MAX_PAGES_OF_LOG,
        )


handlers: list[tuple[str, type]] = [
    (r"/admin/people", PeoplePage),
    (r"/admin/people/([^/]+)", PersonPage),
    (r"/admin/audit", AuditPage),
]
