"""What Alembic runs: the migrations, on the connection that `corpusmill.ledger.migrate` hands over.

The caller's transaction holds the whole of it: a migration that fails leaves the schema as it was.
"""

from alembic import context

from corpusmill.ledger.whole_schema import METADATA

connection = context.config.attributes["connection"]
# batch: SQLite changes a table by making it anew.
context.configure(
    connection=connection,
    target_metadata=METADATA,
    render_as_batch=connection.dialect.name == "sqlite",
    transactional_ddl=False,
)
context.run_migrations()
