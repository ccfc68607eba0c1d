"""Sessions, notices, announcements, samples, settings."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make all tables."""
    _make_session()
    _make_notice()
    op.create_table(
        "carme_announcement",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("starts", sa.BigInteger, nullable=False),
        sa.Column("ends", sa.BigInteger, nullable=True),
        sa.Column("author", sa.String(255), nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "carme_sample",
        sa.Column("cluster", sa.String(64), primary_key=True),
        sa.Column("at", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("used", sa.Integer, nullable=False),
        sa.Column("queued", sa.Integer, nullable=False),
        sa.Column("down", sa.Integer, nullable=False),
        sa.Index("ix_carme_sample_at", "at"),
    )
    op.create_table(
        "carme_setting",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("value", sa.JSON, nullable=False),
    )


def _make_session() -> None:
    op.create_table(
        "carme_session",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("cluster", sa.String(64), nullable=False),
        sa.Column("job", sa.BigInteger, nullable=False),
        sa.Column("username", sa.String(255), nullable=False),
        sa.Column("server", sa.String(255), nullable=False),
        sa.Column("profile", sa.String(64), nullable=False),
        sa.Column("image", sa.String(64), nullable=False),
        sa.Column("partition", sa.String(255), nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("submitted", sa.BigInteger, nullable=False),
        sa.Column("started", sa.BigInteger, nullable=True),
        sa.Column("ended", sa.BigInteger, nullable=True),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("exit_code", sa.Integer, nullable=True),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.Column("nodes", sa.Integer, nullable=False),
        sa.Column("node", sa.String(255), nullable=False),
        sa.Column("cpus", sa.Integer, nullable=False),
        sa.Column("gpus", sa.Integer, nullable=False),
        sa.Column("gpu_type", sa.String(64), nullable=False),
        sa.Column("memory", sa.BigInteger, nullable=False),
        sa.Column("time_limit", sa.Integer, nullable=True),
        sa.Column("cpu_seconds", sa.Float, nullable=True),
        sa.Column("max_memory", sa.BigInteger, nullable=True),
        sa.Column("accounted", sa.Boolean, nullable=False),
        sa.UniqueConstraint("cluster", "job", "submitted"),
        sa.Index("ix_carme_session_username_id", "username", "id"),
        sa.Index("ix_carme_session_submitted", "submitted"),
        sa.Index("ix_carme_session_accounted", "accounted"),
    )


def _make_notice() -> None:
    op.create_table(
        "carme_notice",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("username", sa.String(255), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("server", sa.String(255), nullable=False),
        sa.Column("about", sa.String(128), nullable=True),
        sa.Column("read_at", sa.BigInteger, nullable=True),
        sa.UniqueConstraint("username", "about"),
        sa.Index("ix_carme_notice_username_id", "username", "id"),
        sa.Index("ix_carme_notice_at", "at"),
    )
