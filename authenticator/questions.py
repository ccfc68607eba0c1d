"""What is asked of one server, on one connection, to learn who somebody is. It blocks."""

import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ldap3
from ldap3.core.exceptions import LDAPException
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import escape_rdn
from ldapauthenticator.ldapauthenticator import TlsStrategy

from carme_hub.authenticator import password_change
from carme_hub.authenticator.connection import MustChangeError, Target, Way, bind, opened, search, values_of
from carme_hub.authenticator.directory_errors import WrongPasswordError
from carme_hub.authenticator.dn import value_of
from carme_hub.authenticator.groups import Group, Layout, groups_of
from carme_hub.authenticator.servers import Server


@dataclass(frozen=True)
class Person:
    """Somebody the directory knows: canonical name, distinguished name, names (cn) of the groups."""

    username: str
    dn: str
    groups: frozenset[str]


@dataclass(frozen=True)
class Settings:
    """How to reach the directory, and what is where in it. Times in seconds."""

    servers: Sequence[Server]
    tls: TlsStrategy
    ca_file: str | None
    connect_timeout: float
    receive_timeout: int
    deadline: float
    dn_templates: Sequence[str]
    lookup: bool
    lookup_filter: str
    user_search_base: str
    user_attribute: str
    user_filter: str
    group_search_base: str
    group_filter: str
    nested_group_levels: int
    member_of_attribute: str
    service_dn: str
    service_password: str = field(repr=False)


@dataclass(frozen=True)
class _Found:
    """A distinguished name somebody may have; its entry, where that was read with the rights that count."""

    dn: str
    entry: dict[str, Any] | None = None


class Questions:
    """
    What the gate wants to know of the directory.

    Each makes do with one connection and asks nothing twice: of a directory far away, every question takes as
    long as all the rest.

    Parameters
    ----------
    settings
        How the directory is laid out.
    way
        How its servers are reached.
    report
        Called with a sentence for the log.
    """

    def __init__(self, settings: Settings, way: Way, report: Callable[[str], None]) -> None:
        self._settings = settings
        self._way = way
        self._report = report

    def authenticate(self, target: Target, username: str, password: str) -> Person:
        """Check a password; raises `WrongPasswordError`."""
        if not password:
            raise WrongPasswordError
        with opened(self._way, target) as connection:
            found = self._bind_person(connection, username, password)
            self._bind_service(connection)
            person = self._read(connection, found, username, must_exist=bool(self._settings.user_filter))
        if person is None:
            self._report(f"{found.dn} does not fit search_filter, or its name is unclear.")
            raise WrongPasswordError
        return person

    def look_up(self, target: Target, username: str) -> Person | None:
        """Read a person through the service account; None where there is none."""
        with opened(self._way, target) as connection:
            self._bind_service(connection)
            for found in self._find(connection, username):
                person = self._read(connection, found, username, must_exist=True)
                if person is not None:
                    return person
        return None

    def change(self, target: Target, username: str, old: str, new: str) -> None:
        """Change a person's password; see `password_change.change` for what is raised."""
        with opened(self._way, target) as connection:
            with suppress(MustChangeError):  # which is what comes next
                self._bind_person(connection, username, old)
            password_change.change(connection, old, new)

    # ---- steps on a connection

    def _bind_person(self, connection: Any, username: str, password: str) -> _Found:
        """Become the person, and say who in the directory that is."""
        settings = self._settings
        if settings.lookup:
            self._bind_service(connection)
        candidates = self._find(connection, username)
        for found in candidates:
            try:
                bind(connection, found.dn, password)
            except WrongPasswordError as refusal:
                if refusal.args:
                    self._report(f"The directory does not let {found.dn} in: {refusal}.")
                if isinstance(refusal, MustChangeError):
                    raise
            else:
                return found
        if not candidates:
            # Takes the time that a wrong password takes, so that it does not show who exists.
            with suppress(WrongPasswordError, LDAPException, OSError):
                bind(connection, f"cn={uuid.uuid4().hex},{settings.user_search_base}", password)
        raise WrongPasswordError

    def _bind_service(self, connection: Any) -> None:
        """Become the service account; where there is none, whoever is bound goes on."""
        settings = self._settings
        if not settings.service_dn:
            return
        try:
            bind(connection, settings.service_dn, settings.service_password)
        except WrongPasswordError as refusal:
            # Ours was wrong, which must not be told to a person as theirs.
            raise LDAPException(f"the service account's password was refused {refusal}".strip()) from None

    def _find(self, connection: Any, username: str) -> list[_Found]:
        """List the distinguished names a person may have: by template, or by search."""
        settings = self._settings
        if not settings.lookup:
            return [_Found(one.format(username=escape_rdn(username))) for one in settings.dn_templates]
        query = settings.lookup_filter.format(
            login_attr=settings.user_attribute, login=escape_filter_chars(username)
        )
        attributes = self._attributes if settings.service_dn else ["1.1"]
        entries = search(connection, settings.user_search_base, query, ldap3.SUBTREE, attributes)
        if len(entries) > 1:
            self._report(f"The directory has {len(entries)} entries for {username}: none of them may log in.")
            return []
        return [_Found(entry["dn"], entry if settings.service_dn else None) for entry in entries]

    def _read(self, connection: Any, found: _Found, username: str, *, must_exist: bool) -> Person | None:
        """Read an entry's canonical name and its groups; None where it is missing or its name unclear."""
        settings = self._settings
        entry = found.entry
        is_needed = must_exist or settings.member_of_attribute or not value_of(found.dn, self._name)
        if settings.user_filter or (entry is None and is_needed):
            query = settings.user_filter.format(userattr=self._name, username=escape_filter_chars(username))
            entries = search(connection, found.dn, query or "(objectClass=*)", ldap3.BASE, self._attributes)
            if must_exist and not entries:
                return None
            entry = next(iter(entries), None)
        values = values_of(entry, self._name) if entry else []
        canonical = _canonical(found.dn, self._name, values, username)
        if canonical is None:
            return None
        own = values_of(entry, settings.member_of_attribute) if entry else []
        return Person(canonical, found.dn, self._groups(connection, found.dn, canonical, own))

    def _groups(self, connection: Any, dn: str, username: str, own: Sequence[str]) -> frozenset[str]:
        settings = self._settings
        base = settings.group_search_base
        if not base:
            return frozenset()

        def ask(query: str) -> list[Group]:
            entries = search(connection, base, query, ldap3.SUBTREE, ["cn"])
            return [Group(entry["dn"], values_of(entry, "cn")) for entry in entries]

        layout = Layout(base, settings.group_filter, settings.nested_group_levels)
        return groups_of(ask, layout, dn, username, own)

    @property
    def _name(self) -> str:
        return self._settings.user_attribute

    @property
    def _attributes(self) -> list[str]:
        """What is read of a person's entry."""
        return [name for name in (self._name, self._settings.member_of_attribute) if name]


def _canonical(dn: str, attribute: str, values: Sequence[str], asked: str) -> str | None:
    """
    Say which name an entry has here, in lower case; None where that is unclear.

    An entry with two uids must not become two accounts, each with its own second factor: the value in the
    distinguished name counts, then the only value there is.
    """
    named = value_of(dn, attribute)
    if named is not None:
        return named.lower()
    if len(values) > 1:
        return None
    return values[0].lower() if values else asked
