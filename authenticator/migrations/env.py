"""What alembic runs to reach the database (its name is alembic's)."""

from alembic import context

from carme_hub.authenticator.migrations import VERSION_TABLE
from carme_hub.authenticator.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
