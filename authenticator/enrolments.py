"""Open enrolments: from a token, or from a person who adds a device, to the first code. No policy."""

import time
import uuid
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from carme_hub.authenticator import totp
from carme_hub.authenticator.attempts import of_account
from carme_hub.authenticator.database import write
from carme_hub.authenticator.secretbox import SecretBox
from carme_hub.authenticator.tables import account, attempt, device, enrolment, recovery

MAX_CONFIRMATIONS = 10  # codes that may be tried for one secret that was shown
HOUR = 3600
PENDING_SECONDS = 900  # how long an enrolment without a token waits for its first code


@dataclass(frozen=True)
class Pending:
    """An enrolment whose secret was shown and waits for its first code."""

    id: str
    username: str
    name: str
    replaces: bool
    secret: str = field(repr=False)


def _now() -> int:
    return int(time.time())


class Enrolments:
    """
    Open enrolments.

    Parameters
    ----------
    engine
        The gate's database.
    box
        Seals and opens the secrets.
    """

    def __init__(self, engine: sa.Engine, box: SecretBox) -> None:
        self._engine = engine
        self._box = box

    def new_token(self, username: str, hours: float) -> str:
        """Make a token that, with the account's password, sets a device; only its hash is kept."""
        token = totp.new_token()
        values = {"token_hash": totp.hash_token(token), "expires": _now() + int(hours * HOUR)}
        with write(self._engine) as connection:
            ensure_account(connection, username)
            _replace(connection, username, replaces=True, name="", **values)
        return token

    def token_is_valid(self, username: str, token: str) -> bool:
        """Say whether this account has this open token."""
        query = sa.select(enrolment.c.token_hash).where(
            enrolment.c.username == username, enrolment.c.replaces, enrolment.c.expires > _now()
        )
        with self._engine.connect() as connection:
            kept = connection.execute(query).scalar_one_or_none()
        # Compared also where there is none, so that the time taken does not tell.
        return totp.token_matches(token, kept or totp.hash_token("")) and kept is not None

    def may_enrol_first(self, username: str) -> bool:
        """Say whether an account has never had a device, nor been reset or given a token by an admin."""
        with self._engine.connect() as connection:
            return not is_known(connection, username)

    def begin_first(self, username: str, secret: str, name: str) -> str | None:
        """
        Keep a secret for an account that has no device and no token (mode "first-login").

        Returns
        -------
        str or None
            A ticket that names this secret for `attempt`; None where something is known of the account.
        """
        return self._begin(username, secret, name, replaces=True)

    def begin_second(self, username: str, secret: str, name: str) -> str | None:
        """
        Keep a secret that is to become one more device.

        Returns
        -------
        str or None
            A ticket for `attempt`; None for an account without a device, which has just been reset.
        """
        return self._begin(username, secret, name, replaces=False)

    def _begin(self, username: str, secret: str, name: str, *, replaces: bool) -> str | None:
        ticket, enrolment_id = totp.new_token(), uuid.uuid4().hex
        with write(self._engine) as connection:
            # For the first device nothing may be known, a token that was just made included.
            allowed = not is_known(connection, username) if replaces else has_device(connection, username)
            if not allowed:
                return None
            _replace(
                connection,
                username,
                replaces=replaces,
                id=enrolment_id,
                name=name,
                expires=_now() + PENDING_SECONDS,
                secret=self._box.seal(secret, "enrolment", username, enrolment_id),
                ticket_hash=totp.hash_token(ticket),
            )
        return ticket

    def begin(self, username: str, token: str, secret: str, name: str) -> str | None:
        """
        Keep a secret until its first code comes; it takes the place of one that was shown before.

        Returns
        -------
        str or None
            A ticket that names this secret for `attempt`; None where the token is not valid.
        """
        ticket = totp.new_token()
        mine = sa.and_(
            enrolment.c.username == username,
            enrolment.c.replaces,
            enrolment.c.token_hash == totp.hash_token(token),
            enrolment.c.expires > _now(),
        )
        with write(self._engine) as connection:
            enrolment_id = connection.execute(sa.select(enrolment.c.id).where(mine)).scalar_one_or_none()
            if enrolment_id is None:
                return None
            update = (
                enrolment.update()
                .where(mine, enrolment.c.id == enrolment_id)
                .values(
                    secret=self._box.seal(secret, "enrolment", username, enrolment_id),
                    ticket_hash=totp.hash_token(ticket),
                    name=name,
                    attempts=0,
                )
            )
            return ticket if connection.execute(update).rowcount == 1 else None

    def attempt(self, ticket: str) -> Pending | None:
        """Count one try at confirming; None where the ticket is unknown, expired, or was tried too often."""
        mine = sa.and_(
            enrolment.c.ticket_hash == totp.hash_token(ticket),
            enrolment.c.expires > _now(),
        )
        with self._engine.connect() as connection:
            # Anybody can send a ticket: those that are none hold up no writer.
            if connection.execute(sa.select(enrolment.c.id).where(mine)).first() is None:
                return None
        with write(self._engine) as connection:
            counted = connection.execute(
                enrolment.update()
                .where(mine, enrolment.c.attempts < MAX_CONFIRMATIONS)
                .values(attempts=enrolment.c.attempts + 1)
            )
            if counted.rowcount != 1:
                return None
            row = connection.execute(sa.select(enrolment).where(mine)).one()
        secret = self._box.open(row.secret, "enrolment", row.username, row.id)
        return Pending(row.id, row.username, row.name, row.replaces, secret)

    def finish(self, pending: Pending, ticket: str, step: int) -> bool:
        """
        Turn a confirmed secret into a device; the enrolment, and its token, is used up with it.

        Parameters
        ----------
        pending
            As `attempt` gave it.
        ticket
            The same ticket.
        step
            Time step of the code that confirmed it; it counts as used.

        Returns
        -------
        bool
            False where another request was faster.
        """
        values = new_device(self._box, pending.username, pending.secret, pending.name, last_step=step)
        with write(self._engine) as connection:
            if not use_up(connection, pending, ticket):
                return False
            if pending.replaces:
                remove_all(connection, pending.username)
            connection.execute(device.insert().values(**values))
            ensure_account(connection, pending.username, enrolled=_now())
            if pending.replaces:
                end_logins(connection, pending.username)
        return True


def _replace(connection: sa.Connection, username: str, *, replaces: bool, **values: object) -> None:
    """Put a new enrolment in the place of the open one of this kind."""
    connection.execute(
        enrolment.delete().where(enrolment.c.username == username, enrolment.c.replaces == replaces)
    )
    row = {"id": uuid.uuid4().hex, "attempts": 0, **values}
    connection.execute(enrolment.insert().values(username=username, replaces=replaces, **row))


def use_up(connection: sa.Connection, pending: Pending, ticket: str) -> bool:
    """
    Use up an enrolment that is about to become a device.

    Returns
    -------
    bool
        False where another request was faster, or the account to which it adds has just been reset.
    """
    mine = sa.and_(enrolment.c.id == pending.id, enrolment.c.ticket_hash == totp.hash_token(ticket))
    used = connection.execute(enrolment.delete().where(mine)).rowcount == 1
    return used and (pending.replaces or has_device(connection, pending.username))


def remove_all(connection: sa.Connection, username: str) -> int:
    """Remove what an account can log in with, and its failures; returns how many devices there were."""
    for table in (enrolment, recovery):
        connection.execute(table.delete().where(table.c.username == username))
    connection.execute(attempt.delete().where(of_account(username)))
    return connection.execute(device.delete().where(device.c.username == username)).rowcount


def end_logins(connection: sa.Connection, username: str) -> None:
    """Say that an account's logins and API tokens from before now are over."""
    connection.execute(
        account.update().where(account.c.username == username).values(generation=account.c.generation + 1)
    )


def is_known(connection: sa.Connection, username: str) -> bool:
    """Say whether this is the name of an account, which has or had a device or a token."""
    query = sa.select(account.c.username).where(account.c.username == username)
    return connection.execute(query).first() is not None


def has_device(connection: sa.Connection, username: str) -> bool:
    """Say whether an account has a device: what is only for those who have one is not given to others."""
    return connection.execute(sa.select(device.c.id).where(device.c.username == username)).first() is not None


def ensure_account(connection: sa.Connection, username: str, enrolled: int = 0) -> None:
    """Make an account's row where there is none, and remember when its first device came."""
    row = {"username": username, "enrolled": 0, "generation": 0, "ended": 0, "notices_seen": 0}
    # Both say "on conflict" in the same words; without it, two processes at once would be one error.
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(insert(account).values(**row).on_conflict_do_nothing())
    if enrolled:
        connection.execute(
            account.update()
            .where(account.c.username == username, account.c.enrolled == 0)
            .values(enrolled=enrolled)
        )


def new_device(
    box: SecretBox, username: str, secret: str, name: str, *, last_step: int = 0, kind: str = "totp"
) -> dict[str, object]:
    """Return the row of a new device."""
    device_id, now = uuid.uuid4().hex, _now()
    return {
        "id": device_id,
        "username": username,
        "kind": kind,
        "name": name,
        "secret": box.seal(secret, "device", username, device_id),
        "last_step": last_step,
        "created": now,
        "confirmed": now,
        "last_used": 0,
    }
