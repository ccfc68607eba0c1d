"""The gate's own tables. `migrations` makes them and brings older ones up to this shape."""

import sqlalchemy as sa

metadata = sa.MetaData()

# Times are seconds since 1970: no database's idea of a time zone comes in. Names are canonical ones.

account = sa.Table(
    "carme_account",
    metadata,
    sa.Column("username", sa.String(64), primary_key=True),
    sa.Column("enrolled", sa.BigInteger, nullable=False),  # when the first device was confirmed; 0: never
    # Counts resets. Logins and API tokens from before the last one are over; the hub ends them and says so.
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("ended", sa.BigInteger, nullable=False),  # the generation up to which the hub has ended them
    sa.Column("notices_seen", sa.BigInteger, nullable=False),  # carme_audit.id of the last that was shown
)

device = sa.Table(
    "carme_device",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("username", sa.String(64), nullable=False, index=True),
    sa.Column("kind", sa.String(16), nullable=False),  # "totp" or "passkey"
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("secret", sa.Text, nullable=False),  # sealed for ("device", username, id)
    sa.Column("last_step", sa.BigInteger, nullable=False),  # totp: newest time step; passkey: newest counter
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("confirmed", sa.BigInteger, nullable=False),
    sa.Column("last_used", sa.BigInteger, nullable=False),  # 0: never
    sa.Column("credential", sa.String(64), nullable=True, unique=True),  # passkey: SHA-256 of its id, in hex
)

recovery = sa.Table(
    "carme_recovery",
    metadata,
    sa.Column("username", sa.String(64), primary_key=True),
    sa.Column("code_hash", sa.String(64), primary_key=True),
    sa.Column("salt", sa.String(32), nullable=False),  # one for all codes that were made together
)

# Open enrolments: one by token, which replaces all devices, and one by a person who adds a device.
enrolment = sa.Table(
    "carme_enrolment",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("username", sa.String(64), nullable=False),
    sa.Column("replaces", sa.Boolean, nullable=False),  # whether it takes the place of all devices
    sa.Column("token_hash", sa.String(64), nullable=True),
    sa.Column("name", sa.String(64), nullable=False),  # of the device
    sa.Column("expires", sa.BigInteger, nullable=False),
    sa.Column("secret", sa.Text, nullable=True),  # sealed for ("enrolment", username, id), until confirmed
    sa.Column("ticket_hash", sa.String(64), nullable=True, unique=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.UniqueConstraint("username", "replaces"),
)

# Who failed how often, and until when they have to wait (`throttle`).
attempt = sa.Table(
    "carme_attempt",
    metadata,
    sa.Column("scope", sa.String(16), primary_key=True),  # "password", "account", "code", "address"
    sa.Column("key", sa.String(160), primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("wait_until", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False, index=True),
)

audit = sa.Table(
    "carme_audit",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("account", sa.String(64), nullable=False),  # empty where it is not known
    sa.Column("actor", sa.String(64), nullable=False),  # who did it, where that is somebody else
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("event", sa.String(32), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("detail", sa.String(128), nullable=False),
    sa.Index("ix_carme_audit_account_id", "account", "id"),
    sa.Index("ix_carme_audit_time", "time"),
)

# Logins that somebody has signed out of: their cookies count no more (`ended`).
ended_login = sa.Table(
    "carme_ended_login",
    metadata,
    sa.Column("session_hash", sa.String(64), primary_key=True),  # SHA-256 of the session's id, in hex
    sa.Column("until", sa.BigInteger, nullable=False),  # when its cookies have expired by themselves
)
