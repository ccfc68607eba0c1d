"""A person's groups, also those that are members of groups. Searching itself is somebody else's."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ldap3.utils.conv import escape_filter_chars

from carme_hub.authenticator.dn import is_below, key_of, value_of

MAX_NAME = 255  # characters, the width of JupyterHub's column
MAX_MEMBERS = 50  # entries asked for in one search; together with long names some 30 kB of filter

Item = TypeVar("Item")


@dataclass(frozen=True)
class Group:
    """
    A group of the directory.

    Parameters
    ----------
    dn
        Its distinguished name.
    names
        Values of ``cn`` as the directory gave them.
    """

    dn: str
    names: Sequence[str] = ()

    @property
    def name(self) -> str:
        """
        What the group is called.

        Of several values of ``cn``, the one in the distinguished name: values have no order (RFC 4511,
        section 4.1.7), so another server may give them in another.
        """
        named = value_of(self.dn, "cn")
        return named if named is not None else next(iter(self.names), "")


@dataclass(frozen=True)
class Layout:
    """
    Where groups are.

    Parameters
    ----------
    base
        Entry below which all groups are that count.
    query
        Filter for the groups of one member, with ``{userdn}`` and ``{uid}``; empty: there are only those that
        the person's own entry names.
    levels
        How many times the groups of groups are asked for.
    """

    base: str
    query: str
    levels: int


def groups_of(
    search: Callable[[str], Iterable[Group]], layout: Layout, dn: str, username: str, own: Iterable[str] = ()
) -> frozenset[str]:
    """
    Name all groups of a person.

    Parameters
    ----------
    search
        Finds the groups below the layout's base that fit a filter.
    layout
        Where groups are.
    dn, username
        The person.
    own
        Distinguished names of groups that the person's own entry names (``memberOf``). Those outside the base
        do not count: whoever may make groups there could make one with an admin's name.
    """
    known: dict[object, Group] = {}
    members = [dn]
    for level in range(layout.levels + 1):
        found = [
            group
            for some in _chunks(members, MAX_MEMBERS)
            for group in (search(_query(layout, some, username)) if layout.query else ())
        ]
        if level == 0:
            found += [Group(one) for one in own if is_below(one, layout.base)]
        new: dict[object, Group] = {}
        for group in found:
            if (key := key_of(group.dn)) not in known:
                new.setdefault(key, group)
        known.update(new)
        members = [group.dn for group in new.values()]  # nothing twice, so that circles come to an end
        if not members or "{userdn}" not in layout.query:
            break
    return frozenset(group.name for group in known.values() if _is_usable(group.name))


def _query(layout: Layout, members: Sequence[str], username: str) -> str:
    # The person's name stays beside a group's DN: a group's own name there could be another person's.
    uid = escape_filter_chars(username)
    queries = [layout.query.format(userdn=escape_filter_chars(member), uid=uid) for member in members]
    return queries[0] if len(queries) == 1 else f"(|{''.join(queries)})"


def _is_usable(name: str) -> bool:
    return bool(name.strip()) and len(name) <= MAX_NAME and name.isprintable()


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
