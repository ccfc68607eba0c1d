"""Sealing the secrets in the database anew, while the hub goes on working with them."""

from dataclasses import dataclass, field

import sqlalchemy as sa

from carme_hub.authenticator.database import write
from carme_hub.authenticator.secretbox import SecretBox, SecretUnreadableError
from carme_hub.authenticator.tables import device, enrolment

MAX_PASSES = 10

_TABLES = {"device": device, "enrolment": enrolment}  # by what their secrets are sealed for


@dataclass(frozen=True)
class _Kept:
    """A secret as it is in the database."""

    purpose: str
    username: str
    id: str
    sealed: str = field(repr=False)


def reseal(engine: sa.Engine, box: SecretBox) -> int:
    """
    Seal all secrets with the newest key.

    Each is changed only where it is still what was read: what the hub writes meanwhile is not lost. What it
    was just writing with the key before is found by going over all once more, until there is none left.

    Returns
    -------
    int
        How many were changed. One that no key opens is left as it is; see `not_newest`.

    Raises
    ------
    SecretKeyError
        The key file cannot be used.
    """
    changed = 0
    unreadable: set[_Kept] = set()
    for _ in range(MAX_PASSES):
        old = [one for one in _old(engine, box) if one not in unreadable]
        if not old:
            break
        for one in old:
            try:
                changed += _seal_anew(engine, box, one)
            except SecretUnreadableError:
                unreadable.add(one)
    return changed


def not_newest(engine: sa.Engine, box: SecretBox) -> list[str]:
    """Return the accounts with a secret that is not sealed with the newest key, by name."""
    return sorted({one.username for one in _old(engine, box)})


def _old(engine: sa.Engine, box: SecretBox) -> list[_Kept]:
    old = []
    for purpose, table in _TABLES.items():
        query = sa.select(table.c.username, table.c.id, table.c.secret).where(table.c.secret.is_not(None))
        with engine.connect() as connection:
            rows = connection.execute(query).all()
        old += [_Kept(purpose, row.username, row.id, row.secret) for row in rows]
    return [one for one in old if not box.is_newest(one.sealed)]


def _seal_anew(engine: sa.Engine, box: SecretBox, one: _Kept) -> bool:
    owner = (one.purpose, one.username, one.id)
    sealed = box.seal(box.open(one.sealed, *owner), *owner)
    table = _TABLES[one.purpose]
    update = table.update().where(table.c.id == one.id, table.c.secret == one.sealed).values(secret=sealed)
    with write(engine) as connection:
        return connection.execute(update).rowcount == 1
