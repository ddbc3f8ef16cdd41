"""The first schema: jobs and their items, what was paid and what came of it, and the two views that users may rely on.

Revision: 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# SQLite numbers rows by itself only in an INTEGER key.
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _texts()
    _jobs()
    _shards()
    _outcomes()
    _working()
    for statement in _VIEWS[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    for view in ("corpusmill_usage", "corpusmill_results"):
        op.execute(f"DROP VIEW {view}")
    for table in _TABLES:
        op.drop_table(table)


_TABLES = (
    "in_flight",
    "workers",
    "meta",
    "usage",
    "results",
    "answers",
    "shards",
    "outputs",
    "items",
    "jobs",
    "chunks",
    "documents",
    "collections",
)


def _texts() -> None:
    op.create_table(
        "collections",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "documents",
        sa.Column("collection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("document_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("collection_id", "document_no"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "chunks",
        sa.Column("collection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("chunk_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("document_no", sa.BigInteger(), nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("start_offset", sa.BigInteger(), nullable=False),
        sa.Column("end_offset", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("collection_id", "chunk_no"),
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", _ID, nullable=False),
        sa.Column("public_id", sa.String(length=16), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("collection_id", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("queue_kind", sa.String(length=16), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("key_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("priority", sa.String(length=8), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("cache", sa.Boolean(), nullable=False),
        sa.Column("shard_size", sa.Integer(), nullable=False),
        sa.Column("items", sa.BigInteger(), nullable=False),
        sa.Column("documents", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("shards_open", sa.Integer(), nullable=False),
        sa.Column("budget_usd", sa.BigInteger(), nullable=True),
        sa.Column("set_aside", sa.BigInteger(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=True),
        sa.Column("out", sa.Text(), nullable=True),
        sa.Column("errors_out", sa.Text(), nullable=True),
        sa.Column("detached", sa.Boolean(), nullable=False),
        sa.Column("price_card", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("committed_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("public_id"),
        sa.UniqueConstraint("key"),
        sa.ForeignKeyConstraint(["collection_id"], ["collections.id"], ondelete="RESTRICT"),
    )
    op.create_index("jobs_by_name", "jobs", ["name"], unique=False)
    op.create_index("jobs_by_state", "jobs", ["state"], unique=False)
    op.create_table(
        "items",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("item_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("chunk_no", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "item_no"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outputs",
        sa.Column("job_id", _ID, autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("job_id", "path"),
    )


def _shards() -> None:
    op.create_table(
        "shards",
        sa.Column("job_id", _ID, autoincrement=False, nullable=False),
        sa.Column("shard_no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("goal", sa.Integer(), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("sent_at", sa.Double(), nullable=True),
        sa.Column("not_before", sa.Double(), nullable=True),
        sa.Column("succeeded", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("cached", sa.Integer(), nullable=False),
        sa.Column("truncated", sa.Integer(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("max_completion", sa.Integer(), nullable=False),
        sa.Column("usd", sa.BigInteger(), nullable=False),
        sa.Column("unknown_usd", sa.BigInteger(), nullable=False),
        sa.Column("unknown_attempts", sa.Integer(), nullable=False),
        sa.Column("unpriced", sa.Integer(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("job_id", "shard_no"),
    )
    op.create_index(
        "shards_ready",
        "shards",
        ["job_id", "shard_no"],
        unique=False,
        sqlite_where=sa.text("NOT done AND sent_at IS NULL"),
        postgresql_where=sa.text("NOT done AND sent_at IS NULL"),
    )
    op.create_index(
        "shards_sent",
        "shards",
        ["job_id", "shard_no"],
        unique=False,
        sqlite_where=sa.text("NOT done AND sent_at IS NOT NULL"),
        postgresql_where=sa.text("NOT done AND sent_at IS NOT NULL"),
    )


def _outcomes() -> None:
    op.create_table(
        "answers",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("vector", sa.Boolean(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=True),
        sa.Column("finish_reason", sa.Text(), nullable=True),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("reasoning_tokens", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "results",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("item_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.Column("error_class", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "item_no"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "results_failed",
        "results",
        ["job_id", "error_class"],
        unique=False,
        sqlite_where=sa.text("error_class IS NOT NULL"),
        postgresql_where=sa.text("error_class IS NOT NULL"),
    )
    op.create_table(
        "usage",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt_id", sa.LargeBinary(), nullable=False),
        sa.Column("shard_no", sa.Integer(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=True),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_tokens", sa.Integer(), nullable=False),
        sa.Column("cache_write_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("reasoning_tokens", sa.Integer(), nullable=False),
        sa.Column("usd", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.String(length=8), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "attempt_id"),
        sqlite_with_rowid=False,
    )


def _working() -> None:
    op.create_table(
        "meta",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("holds", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("lease_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "in_flight",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("shard_no", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sqlite_with_rowid=False,
    )
    op.create_index("in_flight_by_shard", "in_flight", ["job_id", "shard_no"], unique=False)


_RESULTS = """
CREATE VIEW corpusmill_results AS
SELECT j.public_id AS job,
       j.name AS name,
       i.item_no AS item,
       d.id AS id,
       d.source AS source,
       d.line AS line,
       c.chunk AS chunk,
       c.start_offset AS start_offset,
       c.end_offset AS end_offset,
       CASE WHEN r.item_no IS NULL THEN 'open' WHEN r.error_class IS NULL THEN 'succeeded' ELSE 'failed' END AS state,
       a.output AS output,
       a.finish_reason AS finish_reason,
       a.model AS model,
       a.prompt_tokens AS prompt_tokens,
       a.completion_tokens AS completion_tokens,
       r.cached AS cached,
       r.error_class AS error_class,
       r.error AS error,
       r.attempts AS attempts,
       r.request_id AS request_id,
       d.metadata AS metadata,
       {at} AS at
  FROM items i
  JOIN jobs j ON j.id = i.job_id
  JOIN chunks c ON c.collection_id = j.collection_id AND c.chunk_no = i.chunk_no
  JOIN documents d ON d.collection_id = j.collection_id AND d.document_no = c.document_no
  LEFT JOIN results r ON r.job_id = i.job_id AND r.item_no = i.item_no
  LEFT JOIN answers a ON a.key = i.key AND r.item_no IS NOT NULL AND r.error_class IS NULL
"""
_USAGE = """
CREATE VIEW corpusmill_usage AS
SELECT j.public_id AS job,
       j.name AS name,
       j.labels AS labels,
       u.provider AS provider,
       u.model AS model,
       u.tier AS tier,
       u.items AS items,
       u.prompt_tokens AS prompt_tokens,
       u.cached_tokens AS cached_tokens,
       u.cache_write_tokens AS cache_write_tokens,
       u.completion_tokens AS completion_tokens,
       u.reasoning_tokens AS reasoning_tokens,
       {usd} AS usd,
       u.outcome AS outcome,
       u.request_id AS request_id,
       u.latency_ms AS latency_ms,
       {at} AS at
  FROM usage u
  JOIN jobs j ON j.id = u.job_id
"""
_VIEWS = {
    "sqlite": (
        _RESULTS.format(at="strftime('%Y-%m-%dT%H:%M:%fZ', r.at, 'unixepoch')"),
        _USAGE.format(at="strftime('%Y-%m-%dT%H:%M:%fZ', u.at, 'unixepoch')", usd="u.usd / 1e12"),
    ),
    "postgresql": (
        _RESULTS.format(at="to_timestamp(r.at)"),
        _USAGE.format(at="to_timestamp(u.at)", usd="u.usd::numeric / 1000000000000"),
        # The bodies are compressed already, and vectors do not compress: PostgreSQL need not try.
        "ALTER TABLE answers ALTER COLUMN body SET STORAGE EXTERNAL",
    ),
}
