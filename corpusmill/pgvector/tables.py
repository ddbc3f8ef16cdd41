"""The table that is loaded: its name, making it, and seeing that it is ours to change."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg.sql import SQL, Composed, Identifier, Literal

from corpusmill.errors import UsageError
from corpusmill.pgvector import statements
from corpusmill.pgvector.shapes import Source
from corpusmill.pgvector.target import Connection

# What PostgreSQL folds to itself: a name that is written without quotes means this table.
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_LOADS = "corpusmill_loads"
_COLUMNS = {
    "id", "chunk", "source", "start_offset", "end_offset", "text", "metadata", "embedding", "model", "prompt_tokens",
    "version", "digest",
}  # fmt: skip
# The longest vector that the type takes.
_MOST_DIMENSIONS = 16_000


@dataclass(frozen=True, slots=True)
class Record:
    """What a table holds, as it was remembered with the last load."""

    ledger: str
    collection: str
    set_name: str
    model: str
    dimensions: int
    version: int
    rows: int


@dataclass(frozen=True, slots=True)
class Table:
    """A table by its full name; `vector` is pgvector's type with its schema, `vector_oid` its number."""

    schema: str
    name: str
    vector: Identifier
    vector_oid: int

    def written(self, statement: SQL, *, size: int = 0) -> Composed:
        """The statement with this table's names in it."""
        return statement.format(
            table=Identifier(self.schema, self.name),
            loads=Identifier(self.schema, _LOADS),
            vector=self.vector,
            size=Literal(size),
        )

    @property
    def lock_name(self) -> str:
        """What the advisory lock of its loads is made from."""
        return f"corpusmill {self.schema}.{self.name}"


def table_name(given: str | None, collection: str) -> tuple[str | None, str]:
    """Schema, if one was named, and table: as `--table` says, else called like the collection.

    Raises:
        UsageError: it is no name that SQL takes without quotes, or it is ours.
    """
    if given is None:
        name = re.sub(r"[^a-z0-9_]", "_", collection.lower())
        schema, name = None, name if name[0].isalpha() or name[0] == "_" else f"_{name}"
    else:
        before, dot, behind = given.partition(".")
        schema, name = (before, behind) if dot else (None, before)
    if not all(_NAME.fullmatch(part) for part in (schema, name) if part is not None) or name == _LOADS:
        raise UsageError(
            f"a table cannot be called {given or name}",
            where="--table",
            next_step="use small letters, digits and underscores, at most 63; a schema goes before a dot",
        )
    return schema, name


def prepare(conn: Connection, schema: str | None, name: str) -> Table:
    """The table's full name, once the extension and the table of loads are there.

    Raises:
        UsageError: the server has no pgvector, this user may not make the extension, or there is no such schema.
    """
    with conn.transaction():
        # Two that make the same thing at once: one of them would be told that it is there already.
        conn.execute(statements.LOCK, ("corpusmill",))
        vector_schema = _extension(conn)
        schema = _schema(conn, schema)
        table = Table(schema, name, Identifier(vector_schema, "vector"), _vector_oid(conn, vector_schema))
        if not _exists(conn, schema, _LOADS):
            conn.execute(table.written(statements.MAKE_LOADS))
    return table


def _vector_oid(conn: Connection, schema: str) -> int:
    """Teach the connection pgvector's types, which are looked up by the search path alone; the number of `vector`."""
    if conn.execute("SELECT has_schema_privilege(%s, 'USAGE')", (schema,)).fetchone() != (True,):
        raise UsageError(
            f"the extension pgvector is in the schema {schema}, which this user may not use",
            next_step=f"have its owner type, in this database: GRANT USAGE ON SCHEMA {schema} TO {conn.info.user}",
        )
    conn.execute(statements.SEARCH_TOO, (schema,))
    register_vector(conn)
    return conn.adapters.types.get_oid("vector")


def _extension(conn: Connection) -> str:
    """The schema of the extension, which is made if need be."""
    found = conn.execute(statements.EXTENSION).fetchone()
    if found is None:
        raise UsageError(
            "this PostgreSQL server has no pgvector",
            next_step="install it there (https://github.com/pgvector/pgvector#installation; Debian: apt-get install "
            "postgresql-18-pgvector), then run the same command again",
        )
    if not found[1]:
        try:
            conn.execute(statements.MAKE_EXTENSION)
        except psycopg.errors.InsufficientPrivilege:
            raise UsageError(
                "the extension pgvector is not enabled in this database, and this user may not do it",
                next_step="have a superuser type, once, in this database: CREATE EXTENSION vector",
            ) from None
        found = conn.execute(statements.EXTENSION).fetchone()
    return str(found[0]) if found else "public"


def _schema(conn: Connection, given: str | None) -> str:
    if given is None:
        found = conn.execute("SELECT current_schema()").fetchone()
        if found and found[0]:
            return str(found[0])
        raise UsageError("no schema of this user's search_path is there", next_step="name one: --table SCHEMA.NAME")
    if conn.execute("SELECT FROM pg_namespace WHERE nspname = %s", (given,)).fetchone() is None:
        raise UsageError(f"there is no schema {given}", where="--table", next_step=f"make it: CREATE SCHEMA {given}")
    return given


def settle(conn: Connection, table: Table, source: Source, *, force: bool) -> Record | None:
    """See that the table can take this set, and make it if it is not there; what it holds so far.

    Raises:
        UsageError: it is somebody else's, holds another collection, or vectors of another length.
    """
    record = _record(conn, table)
    if not _exists(conn, table.schema, table.name):
        conn.execute(table.written(statements.MAKE_TABLE, size=_size(source)))
        return None
    _refuse_foreign(conn, table, record)
    if record is not None:
        _refuse_other_collection(table, record, source, force=force)
        _refuse_other_size(table, record, source)
    return record


def _record(conn: Connection, table: Table) -> Record | None:
    row = conn.execute(table.written(statements.LOADED), (table.name,)).fetchone()
    return None if row is None else Record(*row)


def remember(conn: Connection, table: Table, record: Record) -> None:
    """Write down what the table holds from now on."""
    values = (record.ledger, record.collection, record.set_name, record.model, record.dimensions, record.version)
    conn.execute(table.written(statements.REMEMBER), (table.name, *values, record.rows))


def _exists(conn: Connection, schema: str, name: str) -> bool:
    asked = "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname = %s AND relname = %s"
    return conn.execute(asked, (schema, name)).fetchone() is not None


def _size(source: Source) -> int:
    size = source.dimensions
    if size is None:
        raise UsageError(
            f"{source.collection}@{source.set_name} has no vectors, so nobody knows how long they are",
            next_step=f"corpusmill failures {source.collection}@{source.set_name}",
        )
    if size > _MOST_DIMENSIONS:
        raise UsageError(
            f"pgvector takes vectors of at most {_MOST_DIMENSIONS:,} dimensions; these have {size:,}",
            next_step="write them to a file: --out vectors.npy",
        )
    return size


def _refuse_foreign(conn: Connection, table: Table, record: Record | None) -> None:
    """Nothing is written into a table that no load made, whatever is asked for."""
    asked = (
        "SELECT attname, atttypid, atttypmod FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE nspname = %s AND relname = %s AND attnum > 0 AND NOT attisdropped"
    )
    columns: dict[str, tuple[Any, ...]] = {row[0]: row[1:] for row in conn.execute(asked, (table.schema, table.name))}
    ours = record is not None and columns.keys() >= _COLUMNS
    if not ours or record is None or columns["embedding"] != (table.vector_oid, record.dimensions):
        raise UsageError(
            f"there is a table {table.name} in that database that corpusmill did not make, or that was altered since",
            where=f"{table.schema}.{table.name}",
            next_step="load into another one: --table NAME",
        )


def _refuse_other_collection(table: Table, record: Record, source: Source, *, force: bool) -> None:
    if force or (record.ledger, record.collection) == (source.ledger, source.collection):
        return
    of = "" if record.ledger == source.ledger else ", made from another ledger"
    raise UsageError(
        f"the table {table.name} holds the collection {record.collection}{of}",
        where=f"{table.schema}.{table.name}",
        next_step="load into another one: --table NAME; or add --force to replace what it holds",
    )


def _refuse_other_size(table: Table, record: Record, source: Source) -> None:
    size = source.dimensions
    if size in (None, record.dimensions):
        return
    raise UsageError(
        f"the table {table.name} holds vectors of {record.dimensions:,} dimensions, and those of "
        f"{source.collection}@{source.set_name} have {size:,}: the queries over it would all fail",
        where=f"{table.schema}.{table.name}, loaded from {record.collection}@{record.set_name}",
        next_step=f"load beside it and let the queries follow: --table {table.name[:50]}_{size}; "
        f"or drop it first: DROP TABLE {table.schema}.{table.name}",
    )
