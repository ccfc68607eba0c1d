"""Accounts, devices, recovery codes: what is kept, and the changes that have to be atomic. No policy.

Every call waits for the database: from the hub's loop only through a thread.
"""

import hmac
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from carme_hub.authenticator import credentials, recovery, throttle, totp
from carme_hub.authenticator.attempts import Attempts, of_account
from carme_hub.authenticator.audit import Audit
from carme_hub.authenticator.database import open_engine, write
from carme_hub.authenticator.ended import EndedLogins
from carme_hub.authenticator.enrolments import (
    Enrolments,
    end_logins,
    ensure_account,
    has_device,
    is_known,
    new_device,
    remove_all,
)
from carme_hub.authenticator.passkey_store import PASSKEY, Passkeys
from carme_hub.authenticator.secretbox import SecretBox
from carme_hub.authenticator.tables import account, attempt, device, enrolment
from carme_hub.authenticator.tables import recovery as recovery_code
from carme_hub.authenticator.words import DEFAULT_DEVICE_NAME

TOTP = "totp"
RECOVERY = "recovery"
AUDIT_DAYS = 365


@dataclass(frozen=True)
class Device:
    """A second factor of an account; times in seconds since 1970, 0 for never."""

    id: str
    username: str
    kind: str
    name: str
    created: int
    confirmed: int
    last_used: int


@dataclass(frozen=True)
class Account:
    """What the gate knows of a person; times in seconds since 1970, 0 for never."""

    username: str
    enrolled: int = 0
    devices: list[Device] = field(default_factory=list)
    recovery_left: int = 0
    open_enrolment: int = 0  # until when
    code_failures: int = 0  # in a row
    wait_until: int = 0
    locked: bool = False


@dataclass(frozen=True)
class TotpDevice:
    """What is needed to check a code."""

    id: str
    username: str
    name: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Used:
    """A second factor that was used up: by which kind, and what the person may want to read about it."""

    kind: str
    detail: str


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
    audit_file, audit_days, report
        See `audit.Audit`.

    Raises
    ------
    StoreError
        The database cannot be used.
    """

    def __init__(
        self,
        url: str,
        box: SecretBox,
        audit_file: str = "",
        audit_days: int = AUDIT_DAYS,
        report: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        self.engine = open_engine(url)
        self.box = box
        self.enrolments = Enrolments(self.engine, box)
        self.passkeys = Passkeys(self.engine, box)
        self.attempts = Attempts(self.engine)
        self.audit = Audit(self.engine, audit_file, audit_days, report)
        self.ended = EndedLogins(self.engine)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    # ---- accounts

    def account(self, username: str) -> Account:
        """Return all about one account; an empty one where there is none."""
        found = self._accounts(username)
        return found[0] if found else Account(username)

    def accounts(self) -> list[Account]:
        """Return everybody who has, or has had, a device or a token, by name."""
        return self._accounts(None)

    def _accounts(self, username: str | None) -> list[Account]:
        def mine(
            query: sa.Select[tuple[object, ...]], column: sa.Column[str]
        ) -> sa.Select[tuple[object, ...]]:
            return query if username is None else query.where(column == username)

        now = _now()
        devices: defaultdict[str, list[Device]] = defaultdict(list)
        for one in self.devices(username):
            devices[one.username].append(one)
        with self.engine.connect() as connection:
            rows = connection.execute(
                mine(sa.select(account).order_by(account.c.username), account.c.username)
            )
            people = {str(row.username): int(row.enrolled) for row in rows}
            left = sa.select(recovery_code.c.username, sa.func.count().label("left"))
            left = mine(left, recovery_code.c.username).group_by(recovery_code.c.username)
            codes = {str(row.username): int(row.left) for row in connection.execute(left)}
            pending = {
                row.username: row.expires
                for row in connection.execute(
                    mine(
                        sa.select(enrolment).where(enrolment.c.expires > now, enrolment.c.replaces),
                        enrolment.c.username,
                    )
                )
            }
            counters = {
                row.key: throttle.Count(row.failures, row.wait_until, row.last)
                for row in connection.execute(
                    mine(sa.select(attempt).where(attempt.c.scope == throttle.CODE.scope), attempt.c.key)
                )
            }
        return [
            Account(
                name,
                enrolled,
                devices[name],
                codes.get(name, 0),
                pending.get(name, 0),
                (count := counters.get(name, throttle.Count())).failures,
                count.wait_until if count.wait_until > now else 0,
                throttle.verdict(count, throttle.CODE, now) == throttle.LOCKED,
            )
            for name, enrolled in people.items()
        ]

    def knows(self, username: str) -> bool:
        """Say whether this is the name of an account."""
        with self.engine.connect() as connection:
            return is_known(connection, username)

    def reset(self, username: str) -> int:
        """
        Remove an account's devices, recovery codes, open enrolments and counters, and end its logins.

        The hub ends them when it next looks at the person (`generations`). The account's name stays: in mode
        "first-login" one that was never there could be taken by whoever knows the password. Returns how many
        devices there were.
        """
        with write(self.engine) as connection:
            count = remove_all(connection, username)
            ensure_account(connection, username)
            end_logins(connection, username)
            return count

    def unlock(self, username: str) -> bool:
        """Forget an account's failures; says whether there were any."""
        with write(self.engine) as connection:
            return connection.execute(attempt.delete().where(of_account(username))).rowcount > 0

    def end_logins(self, username: str) -> None:
        """Say that logins and API tokens from before now are over; the hub ends them (`generations`)."""
        with write(self.engine) as connection:
            end_logins(connection, username)

    def generations(self, username: str) -> tuple[int, int]:
        """Return how often an account was reset, and up to which reset its logins have been ended."""
        query = sa.select(account.c.generation, account.c.ended).where(account.c.username == username)
        with self.engine.connect() as connection:
            row = connection.execute(query).first()
        return (row.generation, row.ended) if row else (0, 0)

    def logins_ended(self, username: str, generation: int) -> None:
        """Remember that the logins from before a reset have been ended."""
        with write(self.engine) as connection:
            connection.execute(
                account.update()
                .where(account.c.username == username, account.c.ended < generation)
                .values(ended=generation)
            )

    # ---- devices

    def devices(self, username: str | None = None) -> list[Device]:
        """List the devices of one account, or of all."""
        columns = [device.c[name] for name in Device.__dataclass_fields__]
        query = sa.select(*columns).order_by(device.c.username, device.c.created, device.c.id)
        if username is not None:
            query = query.where(device.c.username == username)
        with self.engine.connect() as connection:
            return [Device(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - public in SQLAlchemy

    def totp_devices(self, username: str) -> list[TotpDevice]:
        """
        Return what is needed to check a code of this account.

        Raises
        ------
        SecretUnreadableError
            A secret does not open with the keys at hand.
        """
        query = sa.select(device.c.id, device.c.name, device.c.secret).where(
            device.c.username == username, device.c.kind == TOTP
        )
        with self.engine.connect() as connection:
            rows = connection.execute(query).all()
        return [
            TotpDevice(row.id, username, row.name, self.box.open(row.secret, "device", username, row.id))
            for row in rows
        ]

    def add_totp(self, username: str, secret: str, name: str = DEFAULT_DEVICE_NAME) -> str:
        """
        Give an account a device with a known base32 secret; nothing changes where it has that one.

        Raises
        ------
        ValueError
            The secret has less than 128 bit (RFC 4226, section 4, R6).
        """
        if len(secret) < totp.LEAST_LENGTH:
            raise ValueError("A secret needs at least 128 bit: 26 characters in base32.")
        for known in self.totp_devices(username):
            if known.secret == secret:
                return known.id
        values = new_device(self.box, username, secret, name)
        with write(self.engine) as connection:
            connection.execute(device.insert().values(**values))
            ensure_account(connection, username, enrolled=_now())
        return str(values["id"])

    def remove_device(self, username: str, device_id: str) -> Device | None:
        """
        Remove one of several devices.

        Returns
        -------
        Device or None
            None where it is not this account's, or its last one: nobody locks themselves out.
        """
        with write(self.engine) as connection:
            columns = [device.c[name] for name in Device.__dataclass_fields__]
            rows = connection.execute(sa.select(*columns).where(device.c.username == username)).all()
            found = [row for row in rows if row.id == device_id]
            if not found or len(rows) == 1:
                return None
            connection.execute(device.delete().where(device.c.id == device_id))
            return Device(**found[0]._mapping)  # noqa: SLF001 - public in SQLAlchemy

    # ---- codes

    def use_code(
        self, username: str, code: str, now: float, window: int, passkey_origin: str = ""
    ) -> Used | None:
        """
        Use up a code: the present one of one of the account's devices, a passkey's answer, a recovery code.

        Parameters
        ----------
        username
            Canonical.
        code
            As typed.
        now
            Seconds since 1970.
        window
            Time steps before and after the present one whose code counts.
        passkey_origin
            Address of the hub; empty where passkeys do not count.

        Returns
        -------
        Used or None
            None where it is no code of this account, or was used before.

        Raises
        ------
        SecretUnreadableError
            A secret does not open with the keys at hand.
        """
        if credentials.is_assertion(code):
            name = self.passkeys.use(username, code, passkey_origin, now)
            return None if name is None else Used(PASSKEY, name)
        for one in self.totp_devices(username):
            step = totp.matching_step(one.secret, code, now, window)
            if step is not None and self.consume_step(username, one.id, step):
                return Used(TOTP, one.name)
        return self._use_recovery(username, code)

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
            .values(last_step=step, last_used=_now())
        )
        with write(self.engine) as connection:
            return connection.execute(update).rowcount == 1

    def new_recovery_codes(self, username: str) -> list[str]:
        """
        Make ten codes, which are returned once and kept as hashes; those from before end.

        There are none for an account without a device, which has just been reset.
        """
        codes, salt = recovery.new_codes(), recovery.new_salt()
        hashes = [recovery.hash_code(recovery.normal(code) or "", salt) for code in codes]
        with write(self.engine) as connection:
            if not has_device(connection, username):
                return []
            connection.execute(recovery_code.delete().where(recovery_code.c.username == username))
            connection.execute(
                recovery_code.insert(),
                [{"username": username, "salt": salt, "code_hash": code_hash} for code_hash in hashes],
            )
        return codes

    def _use_recovery(self, username: str, typed: str) -> Used | None:
        code = recovery.normal(typed)
        if code is None:
            return None
        mine = recovery_code.c.username == username
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(recovery_code).where(mine)).all()
        hashes = {salt: recovery.hash_code(code, salt) for salt in {row.salt for row in rows}}
        fitting = [row.code_hash for row in rows if hmac.compare_digest(row.code_hash, hashes[row.salt])]
        if not fitting:
            return None
        with write(self.engine) as connection:
            # Of several at one instant, one deletes it.
            used = connection.execute(
                recovery_code.delete().where(mine, recovery_code.c.code_hash == fitting[0])
            )
            if used.rowcount != 1:
                return None
            left = connection.execute(
                sa.select(sa.func.count()).select_from(recovery_code).where(mine)
            ).scalar_one()
        return Used(RECOVERY, f"{left} left")
