"""Who asks: what the hub says about the owner of a token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Person:
    """Somebody who has come in.

    Attributes
    ----------
    name : str
        The user name.
    admin : bool
        Whether JupyterHub calls them an admin. What somebody may do, `may` says.
    groups : frozenset of str
        JupyterHub's groups.
    scopes : frozenset of str
        What their token is good for here: of their own rights, those in `registration.PERSON_SCOPES`.
    token_id : str
        The hub's name of the token ("a12"); empty where it says none.
    session_id : str
        Of the login that the token came of; empty for an API token.
    """

    name: str
    admin: bool = False
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] = field(default=frozenset(), repr=False)
    token_id: str = ""
    session_id: str = field(default="", repr=False)

    @classmethod
    def of(cls, model: dict[str, Any]) -> Person:
        """Read the answer of ``GET /hub/api/user``."""
        return cls(
            name=str(model["name"]),
            admin=bool(model.get("admin")),
            groups=frozenset(map(str, model.get("groups") or ())),
            scopes=frozenset(map(str, model.get("scopes") or ())),
            token_id=str(model.get("token_id") or ""),
            session_id=str(model.get("session_id") or ""),
        )

    def may(self, scope: str, user: str | None = None, groups: frozenset[str] = frozenset()) -> bool:
        """Say whether a scope is theirs: over everybody, or over one user.

        Parameters
        ----------
        scope
            JupyterHub's name, without a filter: ``admin:servers``.
        user
            Whose; None asks for the right over everybody.
        groups
            The groups of that user, since a right may be over a group.
        """
        if scope in self.scopes:
            return True
        if user is None:
            return False
        filters = [f"{scope}!user={user}", *(f"{scope}!group={group}" for group in groups)]
        return not self.scopes.isdisjoint(filters)

    def may_any(self, scope: str) -> bool:
        """Say whether a scope is theirs over anybody but themselves."""
        mine = f"{scope}!user={self.name}"
        return any(one.partition("!")[0] == scope and one != mine for one in self.scopes)
