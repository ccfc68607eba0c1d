"""Accounts, several devices each, recovery codes, counters, the audit log, passkeys."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Keep the devices; open enrolments end, and with them their tokens."""
    op.drop_table("carme_schema")
    op.drop_table("carme_enrolment")
    # There are as many as people: carried over by hand, and both databases get the table as it is meant.
    query = sa.text(
        "SELECT id, username, kind, name, secret, last_step, created, confirmed FROM carme_device"
    )
    devices = [dict(row) for row in op.get_bind().execute(query).mappings()]
    op.drop_table("carme_device")
    _make_accounts(devices)
    _make_counters_and_log()


def _make_accounts(devices: list[dict[str, object]]) -> None:
    account = op.create_table(
        "carme_account",
        sa.Column("username", sa.String(64), primary_key=True),
        sa.Column("enrolled", sa.BigInteger, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.BigInteger, nullable=False),
        sa.Column("notices_seen", sa.BigInteger, nullable=False),
    )
    device = op.create_table(
        "carme_device",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("username", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("last_step", sa.BigInteger, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("confirmed", sa.BigInteger, nullable=False),
        sa.Column("last_used", sa.BigInteger, nullable=False),
        sa.Column("credential", sa.String(64), nullable=True, unique=True),
    )
    op.create_index("ix_carme_device_username", "carme_device", ["username"])
    first: dict[object, object] = {}
    for row in sorted(devices, key=lambda row: int(str(row["confirmed"]))):
        first.setdefault(row["username"], row["confirmed"])
    op.bulk_insert(device, [{**row, "last_used": 0, "credential": None} for row in devices])
    op.bulk_insert(
        account,
        [
            {"username": username, "enrolled": enrolled, "generation": 0, "ended": 0, "notices_seen": 0}
            for username, enrolled in first.items()
        ],
    )
    op.create_table(
        "carme_recovery",
        sa.Column("username", sa.String(64), primary_key=True),
        sa.Column("code_hash", sa.String(64), primary_key=True),
        sa.Column("salt", sa.String(32), nullable=False),
    )
    op.create_table(
        "carme_enrolment",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("username", sa.String(64), nullable=False),
        sa.Column("replaces", sa.Boolean, nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("secret", sa.Text, nullable=True),
        sa.Column("ticket_hash", sa.String(64), nullable=True, unique=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.UniqueConstraint("username", "replaces"),
    )


def _make_counters_and_log() -> None:
    op.create_table(
        "carme_attempt",
        sa.Column("scope", sa.String(16), primary_key=True),
        sa.Column("key", sa.String(160), primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("wait_until", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_carme_attempt_last", "carme_attempt", ["last"])
    op.create_table(
        "carme_audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("detail", sa.String(128), nullable=False),
    )
    op.create_index("ix_carme_audit_account_id", "carme_audit", ["account", "id"])
    op.create_index("ix_carme_audit_time", "carme_audit", ["time"])
