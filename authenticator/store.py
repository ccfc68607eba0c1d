"""Devices and open enrolments: what is kept, and the few changes that have to be atomic. No policy.

Every call waits for the database: from the hub's loop only through a thread.
"""

import time
import uuid
from dataclasses import dataclass, field

import sqlalchemy as sa

from carme_hub.authenticator import totp
from carme_hub.authenticator.secretbox import SecretBox
from carme_hub.authenticator.tables import device, enrolment, open_engine

TOTP = "totp"
DEFAULT_DEVICE_NAME = "Authenticator app"
MAX_CONFIRMATIONS = 10  # codes that may be tried for one secret that was shown
HOUR = 3600


@dataclass(frozen=True)
class Device:
    """A second factor of an account; times in seconds since 1970."""

    id: str
    username: str
    kind: str
    name: str
    created: int
    confirmed: int


@dataclass(frozen=True)
class TotpDevice:
    """What is needed to check a code."""

    id: str
    username: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Pending:
    """An enrolment whose secret was shown and waits for its first code."""

    username: str
    secret: str = field(repr=False)


def _now() -> int:
    return int(time.time())


class Store:
    """
    The gate's database.

    Parameters
    ----------
    url
        SQLAlchemy address of the database.
    box
        Seals and opens the secrets.

    Raises
    ------
    StoreError
        The database cannot be used.
    """

    def __init__(self, url: str, box: SecretBox) -> None:
        self._engine = open_engine(url)
        self._box = box

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    # ---- devices

    def devices(self, username: str | None = None) -> list[Device]:
        """List the devices of one account, or of all."""
        columns = [device.c[name] for name in ("id", "username", "kind", "name", "created", "confirmed")]
        query = sa.select(*columns).order_by(device.c.username, device.c.created)
        if username is not None:
            query = query.where(device.c.username == username)
        with self._engine.connect() as connection:
            return [Device(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - public in SQLAlchemy

    def totp_devices(self, username: str) -> list[TotpDevice]:
        """
        Return what is needed to check a code of this account.

        Raises
        ------
        SecretUnreadableError
            A secret does not open with the keys at hand.
        """
        query = sa.select(device.c.id, device.c.secret).where(
            device.c.username == username, device.c.kind == TOTP
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return [
            TotpDevice(row.id, username, self._box.open(row.secret, "device", username, row.id))
            for row in rows
        ]

    def add_totp(self, username: str, secret: str, name: str = DEFAULT_DEVICE_NAME) -> str:
        """Give an account a device with a known base32 secret; nothing changes where it has that one."""
        for known in self.totp_devices(username):
            if known.secret == secret:
                return known.id
        values = self._new_device(username, secret, name, last_step=0)
        with self._engine.begin() as connection:
            connection.execute(device.insert().values(**values))
        return str(values["id"])

    def _new_device(self, username: str, secret: str, name: str, last_step: int) -> dict[str, str | int]:
        device_id, now = uuid.uuid4().hex, _now()
        return {
            "id": device_id,
            "username": username,
            "kind": TOTP,
            "name": name,
            "secret": self._box.seal(secret, "device", username, device_id),
            "last_step": last_step,
            "created": now,
            "confirmed": now,
        }

    def consume_step(self, username: str, device_id: str, step: int) -> bool:
        """
        Use up a time step, and with it all steps before it (RFC 6238, section 5.2).

        One conditional UPDATE: of any number of callers at one instant, in any number of processes, exactly
        one sees its row changed.

        Returns
        -------
        bool
            Whether the step was still unused.
        """
        update = (
            device.update()
            .where(device.c.id == device_id, device.c.username == username, device.c.last_step < step)
            .values(last_step=step)
        )
        with self._engine.begin() as connection:
            return connection.execute(update).rowcount == 1

    def reset(self, username: str) -> int:
        """Remove all devices and the open enrolment of an account; says how many devices there were."""
        with self._engine.begin() as connection:
            connection.execute(enrolment.delete().where(enrolment.c.username == username))
            return connection.execute(device.delete().where(device.c.username == username)).rowcount

    # ---- enrolment

    def new_enrolment(self, username: str, hours: float) -> str:
        """Make a token that, with the account's password, sets a device; only its hash is kept."""
        token = totp.new_token()
        with self._engine.begin() as connection:
            connection.execute(enrolment.delete().where(enrolment.c.username == username))
            connection.execute(
                enrolment.insert().values(
                    username=username,
                    token_hash=totp.hash_token(token),
                    expires=_now() + int(hours * HOUR),
                    attempts=0,
                )
            )
        return token

    def token_is_valid(self, username: str, token: str) -> bool:
        """Say whether this account has this open token."""
        query = sa.select(enrolment.c.token_hash).where(
            enrolment.c.username == username, enrolment.c.expires > _now()
        )
        with self._engine.connect() as connection:
            kept = connection.execute(query).scalar_one_or_none()
        # Compared also where there is none, so that the time taken does not tell.
        return totp.token_matches(token, kept or totp.hash_token("")) and kept is not None

    def begin_enrolment(self, username: str, token: str, secret: str) -> str | None:
        """
        Keep a secret until its first code comes; it takes the place of one that was shown before.

        Returns
        -------
        str or None
            A ticket that names this secret for `attempt_enrolment`; None where the token is not valid.
        """
        ticket = totp.new_token()
        update = (
            enrolment.update()
            .where(
                enrolment.c.username == username,
                enrolment.c.token_hash == totp.hash_token(token),
                enrolment.c.expires > _now(),
            )
            .values(
                secret=self._box.seal(secret, "enrolment", username),
                ticket_hash=totp.hash_token(ticket),
                attempts=0,
            )
        )
        with self._engine.begin() as connection:
            return ticket if connection.execute(update).rowcount == 1 else None

    def attempt_enrolment(self, ticket: str) -> Pending | None:
        """Count one try at confirming; None where the ticket is unknown, expired, or was tried too often."""
        mine = sa.and_(
            enrolment.c.ticket_hash == totp.hash_token(ticket),
            enrolment.c.expires > _now(),
        )
        with self._engine.begin() as connection:
            counted = connection.execute(
                enrolment.update()
                .where(mine, enrolment.c.attempts < MAX_CONFIRMATIONS)
                .values(attempts=enrolment.c.attempts + 1)
            )
            if counted.rowcount != 1:
                return None
            row = connection.execute(sa.select(enrolment.c.username, enrolment.c.secret).where(mine)).one()
        return Pending(row.username, self._box.open(row.secret, "enrolment", row.username))

    def finish_enrolment(self, pending: Pending, ticket: str, step: int) -> bool:
        """
        Turn a confirmed secret into the account's only device; the token is used up with it.

        Parameters
        ----------
        pending
            As `attempt_enrolment` gave it.
        ticket
            The same ticket.
        step
            Time step of the code that confirmed it; it counts as used.

        Returns
        -------
        bool
            False where another request was faster.
        """
        values = self._new_device(pending.username, pending.secret, DEFAULT_DEVICE_NAME, last_step=step)
        with self._engine.begin() as connection:
            used = connection.execute(
                enrolment.delete().where(enrolment.c.ticket_hash == totp.hash_token(ticket))
            )
            if used.rowcount != 1:
                return False
            connection.execute(device.delete().where(device.c.username == pending.username))
            connection.execute(device.insert().values(**values))
        return True
