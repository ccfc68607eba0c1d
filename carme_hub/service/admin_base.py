"""What the admins' pages have in common: who may open them, what they say after a change, the audit log."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy.exc import SQLAlchemyError
from tornado.log import app_log

from carme_hub.authenticator.audit import Audit, Event
from carme_hub.authenticator.database import StoreError
from carme_hub.authenticator.words import moment
from carme_hub.service.base import PageHandler
from carme_hub.service.refusal import Refused

if TYPE_CHECKING:
    from carme_hub.service.person import Person
    from carme_hub.service.site import Site

READ, CONTROL = "read:servers", "delete:servers"
EVERYTHING = "admin:servers"  # over everybody: who has it looks after the site
NOT_YOURS = "This page is for administrators. Your account does not have the rights for it."
_TOLD = "carme-admin-told"  # cookie: what the next page says about a change
_MOST_TOLD = 1500  # characters; a cookie holds 4,096 bytes
_AUDIT_DAYS = 365  # the default of CarmeAuthenticator.audit_days


def over_others(person: Person, scope: str) -> bool:
    """Say whether a right is somebody's over anybody but themselves and their own servers."""
    mine = (f"{scope}!user={person.name}", f"{scope}!server={person.name}/")
    return any(
        one.partition("!")[0] == scope and one != mine[0] and not one.startswith(mine[1])
        for one in person.scopes
    )


class AdminPage(PageHandler):
    """A page of an admin's.

    Attributes
    ----------
    tab : str
        Which of the admins' pages it is, for the row of them at its top.
    """

    tab = ""

    def need_others(self, scope: str = READ) -> None:
        """Go on only for somebody with a right over other people.

        Raises
        ------
        Refused
            With status 403.
        """
        if not over_others(self.person, scope):
            raise Refused(403, NOT_YOURS)

    def need_everybody(self) -> None:
        """Go on only for somebody who looks after the whole site.

        Raises
        ------
        Refused
            With status 403.
        """
        if not self.person.may(EVERYTHING):
            raise Refused(403, NOT_YOURS)

    async def need_over(self, scope: str, user: str) -> None:
        """Go on only for somebody with a right over one user, perhaps by one of the user's groups.

        Raises
        ------
        Refused
            With status 403, whether there is such a user or not.
        """
        if not await self.may_over(scope, user):
            raise Refused(403, f"Your rights do not reach as far as {user}.")

    async def may_over(self, scope: str, user: str) -> bool:
        """Say whether a right is the reader's over one user."""
        if self.person.may(scope, user):
            return True
        if not over_others(self.person, scope):
            return False
        model = await model_of(self.site, user)
        return self.person.may(scope, user, groups_in(model))

    def field(self, name: str, most: int = 200) -> str:
        """Return a field of a form, cut to what can be meant."""
        return str(self.get_body_argument(name, ""))[:most]

    def word(self, name: str, most: int = 200) -> str:
        """Return a word of the address, cut to what can be meant."""
        return str(self.get_query_argument(name, ""))[:most]

    # ---- what is said after a change

    def tell(self, text: str, *, level: str = "success") -> None:
        """Let the next page say something: a change ends with a redirect, and no link can claim one."""
        value = json.dumps({"text": text[:_MOST_TOLD], "level": level})
        self.set_secure_cookie(
            _TOLD, value, expires_days=None, path=self.site.service_url, httponly=True, samesite="Strict"
        )

    def _told(self) -> dict[str, str] | None:
        kept = self.get_secure_cookie(_TOLD, max_age_days=1)
        if not kept:
            return None
        self.clear_cookie(_TOLD, path=self.site.service_url)
        try:
            value = json.loads(kept)
            return {"text": str(value["text"]), "level": str(value["level"])}
        except (ValueError, KeyError, TypeError):
            return None

    def show(self, template: str, *, status: int = 200, **values: Any) -> None:
        """Show one of the admins' pages."""
        self.set_status(status)
        self.render_page(
            template,
            tab=self.tab,
            told=self._told(),
            moment=moment,
            **values,
        )

    # ---- who did what

    async def note(self, event: str, *, account: str = "", detail: str = "") -> None:
        """Write a change into the log and, where that can be written, into the audit log of the gate."""
        app_log.info("%s by %s: %s %s", event, self.person.name, account, detail)
        what = Event(event, account=account, actor=self.person.name, detail=detail)
        try:
            await asyncio.to_thread(_write, self.site, what)
        except (SQLAlchemyError, StoreError, OSError) as error:
            app_log.warning("%s is missing in the audit log: %s", event, type(error).__name__)


def _write(site: Site, event: Event) -> None:
    settings = site.config.CarmeAuthenticator
    days = int(settings.get("audit_days", _AUDIT_DAYS))
    Audit(site.records, str(settings.get("audit_file", "")), days, app_log.error).write(event)


async def model_of(site: Site, user: str) -> dict[str, Any]:
    """Return what the hub says of a user; empty for one that it does not know.

    Raises
    ------
    Refused
        With status 503, when the hub does not answer.
    """
    if user in {".", ".."}:  # no name, and no path of the hub's API
        return {}
    try:
        model = await site.ask_hub("GET", f"/users/{quote(user, safe='')}")
    except Refused as error:
        if error.status_code >= 500:  # noqa: PLR2004 - the hub is away
            raise
        return {}
    return model if isinstance(model, dict) else {}


def groups_in(model: dict[str, Any]) -> frozenset[str]:
    """Return the groups in a user's model."""
    return frozenset(map(str, model.get("groups") or ()))
