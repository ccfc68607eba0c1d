"""Devices and their enrolments, as the first version made them without alembic."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make what is not there: a database of the first version is taken over as it is."""
    op.create_table(
        "carme_schema",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "carme_device",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("username", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("last_step", sa.BigInteger, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("confirmed", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_carme_device_username", "carme_device", ["username"], if_not_exists=True)
    op.create_table(
        "carme_enrolment",
        sa.Column("username", sa.String(64), primary_key=True),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("secret", sa.Text, nullable=True),
        sa.Column("ticket_hash", sa.String(64), nullable=True, unique=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        if_not_exists=True,
    )
