"""The tables of this package. `migrations` makes them and brings older ones up to this shape."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

# Times are seconds since 1970. Numbers for rows: SQLite counts up in this type of column only.
_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")

# One row for each job that was submitted; what is not known (yet) is NULL, and texts are empty.
session = sa.Table(
    "carme_session",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("cluster", sa.String(64), nullable=False),  # a name in CarmeSpawner.clusters, or "local"
    sa.Column("job", sa.BigInteger, nullable=False),
    sa.Column("username", sa.String(255), nullable=False),
    sa.Column("server", sa.String(255), nullable=False),  # its name; empty for the default one
    sa.Column("profile", sa.String(64), nullable=False),
    sa.Column("image", sa.String(64), nullable=False),
    sa.Column("partition", sa.String(255), nullable=False),
    sa.Column("options", sa.JSON, nullable=False),  # as they were asked for (request.JobRequest.options)
    sa.Column("submitted", sa.BigInteger, nullable=False),
    sa.Column("started", sa.BigInteger, nullable=True),
    sa.Column("ended", sa.BigInteger, nullable=True),
    sa.Column("state", sa.String(32), nullable=False),  # Slurm's word
    sa.Column("exit_code", sa.Integer, nullable=True),
    sa.Column("sentence", sa.Text, nullable=False),  # how it ended, for its owner
    sa.Column("nodes", sa.Integer, nullable=False),
    sa.Column("node", sa.String(255), nullable=False),  # where its server ran
    sa.Column("cpus", sa.Integer, nullable=False),  # all nodes together, as for what follows
    sa.Column("gpus", sa.Integer, nullable=False),
    sa.Column("gpu_type", sa.String(64), nullable=False),
    sa.Column("memory", sa.BigInteger, nullable=False),  # MiB
    sa.Column("time_limit", sa.Integer, nullable=True),  # minutes
    sa.Column("cpu_seconds", sa.Float, nullable=True),  # used, by accounting
    sa.Column("max_memory", sa.BigInteger, nullable=True),  # MiB, of the step and node that used most
    sa.Column("accounted", sa.Boolean, nullable=False),  # whether accounting has said its last word
    sa.UniqueConstraint("cluster", "job", "submitted"),
    sa.Index("ix_carme_session_username_id", "username", "id"),
    sa.Index("ix_carme_session_submitted", "submitted"),
    sa.Index("ix_carme_session_accounted", "accounted"),
)

# What a person is told.
notice = sa.Table(
    "carme_notice",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("username", sa.String(255), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("level", sa.String(16), nullable=False),
    sa.Column("title", sa.String(200), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("server", sa.String(255), nullable=False),  # the session it is about; see `about`
    sa.Column("about", sa.String(128), nullable=True),  # what is told once; NULL for what may be repeated
    sa.Column("read_at", sa.BigInteger, nullable=True),
    sa.UniqueConstraint("username", "about"),
    sa.Index("ix_carme_notice_username_id", "username", "id"),
    sa.Index("ix_carme_notice_at", "at"),
)

# What everybody is told.
announcement = sa.Table(
    "carme_announcement",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("title", sa.String(200), nullable=False),
    sa.Column("text", sa.Text, nullable=False),  # Markdown, as it was typed
    sa.Column("level", sa.String(16), nullable=False),
    sa.Column("starts", sa.BigInteger, nullable=False),
    sa.Column("ends", sa.BigInteger, nullable=True),  # NULL: until it is removed
    sa.Column("author", sa.String(255), nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
)

# How much of a cluster was in use, every few minutes.
sample = sa.Table(
    "carme_sample",
    metadata,
    sa.Column("cluster", sa.String(64), primary_key=True),
    sa.Column("at", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(64), primary_key=True),  # "cpu", or Slurm's gres: "gpu:a100"
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("used", sa.Integer, nullable=False),
    sa.Column("queued", sa.Integer, nullable=False),  # what waiting jobs ask for
    sa.Column("down", sa.Integer, nullable=False),
    sa.Index("ix_carme_sample_at", "at"),
)

# What admins set on pages.
setting = sa.Table(
    "carme_setting",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("value", sa.JSON, nullable=False),
)
