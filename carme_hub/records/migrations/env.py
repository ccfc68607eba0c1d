"""What alembic runs to reach the database (its name is alembic's)."""

from alembic import context

from carme_hub.records.migrations import SHAPES
from carme_hub.records.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=SHAPES.version_table,
)
with context.begin_transaction():
    context.run_migrations()
