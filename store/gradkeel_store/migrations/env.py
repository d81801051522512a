"""Alembic runs this file; see ``upgrade.py``, which hands the connection over."""

from alembic import context

from gradkeel_store.records.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    transactional_ddl=True,
)
# The connection's own transaction is open already: it holds the lock and commits or undoes all at once.
context.run_migrations()
