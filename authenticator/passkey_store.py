"""Passkeys as they are kept, and how one is used up. The rules are `passkeys`'s."""

from typing import Any

import sqlalchemy as sa

from carme_hub.authenticator import passkeys
from carme_hub.authenticator.challenges import Challenges
from carme_hub.authenticator.database import write
from carme_hub.authenticator.enrolments import Pending, new_device, use_up
from carme_hub.authenticator.passkeys import Passkey
from carme_hub.authenticator.secretbox import SecretBox
from carme_hub.authenticator.tables import device

PASSKEY = "passkey"


class Passkeys:
    """
    The passkeys of all accounts.

    Parameters
    ----------
    engine
        The gate's database.
    box
        Seals and opens what is kept of them.
    """

    def __init__(self, engine: sa.Engine, box: SecretBox) -> None:
        self._engine = engine
        self._box = box
        self.challenges = Challenges()

    def of(self, username: str) -> list[Passkey]:
        """
        Return an account's passkeys, oldest first.

        Raises
        ------
        SecretUnreadableError
            One does not open with the keys at hand.
        """
        query = sa.select(device).where(_of(username)).order_by(device.c.created, device.c.id)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return [self._open(row) for row in rows]

    def add(self, pending: Pending, ticket: str, passkey: Passkey) -> bool:
        """
        Make a passkey one more device; the open enrolment is used up with it.

        Parameters
        ----------
        pending, ticket
            As `Enrolments.attempt` gave and took them.
        passkey
            Verified for that enrolment.

        Returns
        -------
        bool
            False where another request was faster, some account has this passkey already, or this one has no
            device any more: it was reset.
        """
        values = new_device(
            self._box,
            pending.username,
            passkey.to_text(),
            pending.name,
            last_step=passkey.counter,
            kind=PASSKEY,
        )
        same = sa.select(device.c.id).where(device.c.credential == passkey.id_hash)
        with write(self._engine) as connection:
            if not use_up(connection, pending, ticket) or connection.execute(same).first() is not None:
                return False
            connection.execute(device.insert().values(**values, credential=passkey.id_hash))
        return True

    def use(self, username: str, text: str, origin: str, now: float) -> str | None:
        """
        Use up what one of the account's passkeys answered.

        Parameters
        ----------
        username
            Canonical.
        text
            JSON, as it came.
        origin
            Address of the hub; empty where there are no passkeys.
        now
            Seconds since 1970.

        Returns
        -------
        str or None
            The device's name; None where the answer is not this account's, does not fit, or was used before.

        Raises
        ------
        SecretUnreadableError
            The passkey does not open with the keys at hand.
        """
        assertion = passkeys.parse_assertion(text) if origin else None
        if assertion is None:
            return None
        query = sa.select(device).where(_of(username), device.c.credential == assertion.id_hash)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        counter = passkeys.verify_assertion(assertion, self._open(row), origin)
        if counter is None or not self.challenges.spend(assertion.challenge, now):
            return None
        return str(row.name) if self._count(row.id, counter, now) else None

    def _count(self, device_id: str, counter: int, now: float) -> bool:
        # A copy of a passkey shows in a counter that did not grow; of two answers at one instant, one wins.
        grown = device.c.last_step < counter if counter else device.c.last_step == 0
        update = (
            device.update()
            .where(device.c.id == device_id, grown)
            .values(last_step=counter, last_used=int(now))
        )
        with write(self._engine) as connection:
            return connection.execute(update).rowcount == 1

    def _open(self, row: Any) -> Passkey:
        return Passkey.from_text(self._box.open(row.secret, "device", row.username, row.id))


def _of(username: str) -> sa.ColumnElement[bool]:
    return sa.and_(device.c.username == username, device.c.kind == PASSKEY)
