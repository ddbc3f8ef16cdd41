"""The SQL of a load.

In braces: `table` and `loads` with their schema, `vector` pgvector's type with its own, `size` the vectors' length.
"""

from __future__ import annotations

from psycopg.sql import SQL

# Loads of one table wait for each other; those of others do not. Taken before anything is looked at.
TRY_LOCK = SQL("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))")
LOCK = SQL("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))")

# A load lasts as long as it lasts, whatever this user's queries may take.
NO_LIMITS = SQL(
    "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
)

# Where the extension is, if it is there; whether it could be.
EXTENSION = SQL(
    "SELECT n.nspname, e.oid IS NOT NULL FROM pg_available_extensions a"
    " LEFT JOIN pg_extension e ON e.extname = a.name LEFT JOIN pg_namespace n ON n.oid = e.extnamespace"
    " WHERE a.name = 'vector'"
)
MAKE_EXTENSION = SQL("CREATE EXTENSION IF NOT EXISTS vector")
SEARCH_TOO = SQL("SELECT set_config('search_path', quote_ident(%s) || ', ' || current_setting('search_path'), true)")

# What each table of this schema holds.
MAKE_LOADS = SQL("""
CREATE TABLE IF NOT EXISTS {loads} (
    table_name text PRIMARY KEY,
    ledger text NOT NULL,
    collection text NOT NULL,
    set_name text NOT NULL,
    model text NOT NULL,
    dimensions integer NOT NULL,
    version bigint NOT NULL,
    rows bigint NOT NULL,
    loaded_at timestamptz NOT NULL
)""")
LOADED = SQL("SELECT ledger, collection, set_name, model, dimensions, version, rows FROM {loads} WHERE table_name = %s")
REMEMBER = SQL("""
INSERT INTO {loads} (table_name, ledger, collection, set_name, model, dimensions, version, rows, loaded_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp())
ON CONFLICT (table_name) DO UPDATE SET
    (ledger, collection, set_name, model, dimensions, version, rows, loaded_at) =
    (EXCLUDED.ledger, EXCLUDED.collection, EXCLUDED.set_name, EXCLUDED.model, EXCLUDED.dimensions,
     EXCLUDED.version, EXCLUDED.rows, EXCLUDED.loaded_at)
""")

# `version`: with which version a row last changed. `digest`: over all that the row was made from.
MAKE_TABLE = SQL("""
CREATE TABLE {table} (
    id text NOT NULL,
    chunk bigint NOT NULL,
    source text NOT NULL,
    start_offset bigint NOT NULL,
    end_offset bigint NOT NULL,
    text text NOT NULL,
    metadata jsonb,
    embedding {vector}({size}) NOT NULL,
    model text NOT NULL,
    prompt_tokens bigint,
    version bigint NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (id, chunk)
)""")

# Rows as they ought to be, without text and vector.
MAKE_WANTED = SQL("""
CREATE TEMPORARY TABLE corpusmill_wanted (
    id text, chunk bigint, source text, start_offset bigint, end_offset bigint, metadata text, chunk_no bigint,
    digest bytea
) ON COMMIT DROP""")
COPY_WANTED = SQL("COPY pg_temp.corpusmill_wanted FROM STDIN (FORMAT BINARY)")
WANTED_TYPES = ("text", "int8", "text", "int8", "int8", "text", "int8", "bytea")
LOOK_AT_WANTED = SQL("ANALYZE pg_temp.corpusmill_wanted")

DELETE_GONE = SQL("""
DELETE FROM {table} AS t
 WHERE NOT EXISTS (SELECT FROM pg_temp.corpusmill_wanted AS w WHERE w.id = t.id AND w.chunk = t.chunk)
""")

# Those that are not there as they ought to be. `there`: under this key there is another row.
MAKE_MISSING = SQL("""
CREATE TEMPORARY TABLE corpusmill_missing ON COMMIT DROP AS
SELECT w.*, t.id IS NOT NULL AS there
  FROM pg_temp.corpusmill_wanted AS w LEFT JOIN {table} AS t ON t.id = w.id AND t.chunk = w.chunk
 WHERE t.digest IS DISTINCT FROM w.digest
""")
INDEX_MISSING = SQL("CREATE INDEX ON pg_temp.corpusmill_missing (chunk_no)")
LOOK_AT_MISSING = SQL("ANALYZE pg_temp.corpusmill_missing")
COUNT_MISSING = SQL("SELECT count(*), count(*) FILTER (WHERE there) FROM pg_temp.corpusmill_missing")
PAGE_OF_MISSING = SQL(
    "SELECT DISTINCT chunk_no FROM pg_temp.corpusmill_missing WHERE chunk_no > %s ORDER BY chunk_no LIMIT %s"
)

# Texts and vectors of a page of them: documents of one content share chunks, which then come once.
MAKE_VECTORS = SQL("""
CREATE TEMPORARY TABLE corpusmill_vectors (
    chunk_no bigint, text text, embedding {vector}, model text, prompt_tokens bigint
) ON COMMIT DROP""")
COPY_VECTORS = SQL("COPY pg_temp.corpusmill_vectors FROM STDIN (FORMAT BINARY)")
EMPTY_VECTORS = SQL("TRUNCATE pg_temp.corpusmill_vectors")

# The range is for the planner, which knows nothing of the page and would read all that is missing for each.
WRITE_PAGE = SQL("""
INSERT INTO {table} (id, chunk, source, start_offset, end_offset, text, metadata, embedding, model, prompt_tokens,
                     version, digest)
SELECT m.id, m.chunk, m.source, m.start_offset, m.end_offset, v.text, m.metadata::jsonb, v.embedding, v.model,
       v.prompt_tokens, %s, m.digest
  FROM pg_temp.corpusmill_missing AS m JOIN pg_temp.corpusmill_vectors AS v USING (chunk_no)
 WHERE m.chunk_no BETWEEN %s AND %s
ON CONFLICT (id, chunk) DO UPDATE SET
    (source, start_offset, end_offset, text, metadata, embedding, model, prompt_tokens, version, digest) =
    (EXCLUDED.source, EXCLUDED.start_offset, EXCLUDED.end_offset, EXCLUDED.text, EXCLUDED.metadata,
     EXCLUDED.embedding, EXCLUDED.model, EXCLUDED.prompt_tokens, EXCLUDED.version, EXCLUDED.digest)
""")
