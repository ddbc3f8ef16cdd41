"""One load: the table becomes what the set is, in one transaction that writes what differs.

Rows as they ought to be are sent first, without texts and vectors; the server says which of them are not there. Of
those alone texts and vectors are read and sent, a page at a time, so that neither side holds more than a page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import orjson
from psycopg.sql import SQL

from corpusmill.errors import CorpusmillError
from corpusmill.pgvector import statements, tables
from corpusmill.pgvector.shapes import Loaded, Outline, Source
from corpusmill.pgvector.tables import Record, Table
from corpusmill.pgvector.target import Connection, Target

# A page of vectors of 3,072 numbers is 12 MB.
_PAGE = 1_000
# Another number and every row is written anew: for columns that are made otherwise than before.
_FORM = b"1"


def load(
    target: Target,
    schema: str | None,
    name: str,
    choose: Callable[[], Source],
    *,
    force: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Loaded:
    """Bring the table to the set that `choose` gives, at its version; nobody sees anything of it before it is whole.

    Args:
        target: the database.
        schema: where the table is; None for the first schema of the user's search path.
        name: the table; made if it is not there.
        choose: asked once no other load of this table goes on, so that a later load never brings an earlier version.
        force: replace what another collection was loaded to.
        note: told what a person should know.

    Raises:
        UsageError: the table is somebody else's, or cannot take these vectors; the extension cannot be made.
        Unavailable: the database cannot be reached.
    """
    with target.connected() as conn:
        table = tables.prepare(conn, schema, name)
        with conn.transaction():
            conn.execute(statements.NO_LIMITS)
            _wait_for_others(conn, table, note)
            return _Load(conn, table, choose()).run(force=force)


def _wait_for_others(conn: Connection, table: Table, note: Callable[[str], None]) -> None:
    if conn.execute(statements.TRY_LOCK, (table.lock_name,)).fetchone() != (True,):
        note(f"another load of {table.name} is under way; it goes first")
        conn.execute(statements.LOCK, (table.lock_name,))


class _Load:
    """A load within its transaction."""

    def __init__(self, conn: Connection, table: Table, source: Source) -> None:
        self._conn, self._table, self._source = conn, table, source

    def run(self, *, force: bool) -> Loaded:
        source = self._source
        before = tables.settle(self._conn, self._table, source, force=force)
        rows = self._send_wanted()
        deleted = self._do(statements.DELETE_GONE)
        missing, changed = self._find_missing()
        self._write_missing(missing)
        source.refuse_gone()
        size = source.dimensions if before is None else before.dimensions
        now = Record(source.ledger, source.collection, source.set_name, source.model, size or 0, source.version, rows)
        if now != before:
            tables.remember(self._conn, self._table, now)
        return Loaded(
            collection=source.collection,
            set=source.set_name,
            model=source.model,
            version=source.version,
            dimensions=size,
            table=f"{self._table.schema}.{self._table.name}",
            added=missing - changed,
            changed=changed,
            deleted=deleted,
            rows=rows,
            before=None if before is None else f"{before.collection}@{before.set_name}",
        )

    def _send_wanted(self) -> int:
        """Send all rows without texts and vectors; how many."""
        self._do(statements.MAKE_WANTED)
        count = 0
        with self._conn.cursor() as cursor, cursor.copy(statements.COPY_WANTED) as copy:
            copy.set_types(statements.WANTED_TYPES)
            for count, row in enumerate(map(_wanted, self._source.outline()), start=1):  # noqa: B007
                copy.write_row(row)
        self._do(statements.LOOK_AT_WANTED)
        return count

    def _find_missing(self) -> tuple[int, int]:
        """How many rows are not there as they ought to be, and how many of those are there otherwise."""
        self._do(statements.MAKE_MISSING)
        self._do(statements.INDEX_MISSING)
        self._do(statements.LOOK_AT_MISSING)
        counted = self._conn.execute(statements.COUNT_MISSING).fetchone()
        return counted or (0, 0)

    def _write_missing(self, expected: int) -> None:
        self._do(statements.MAKE_VECTORS)
        written = sum(self._write_page(page) for page in self._pages())
        if written != expected:
            # Nothing of a version vanishes but by being dropped, or purged, while it is read.
            self._source.refuse_gone()
            raise CorpusmillError(
                f"{expected - written:,} of {expected:,} vectors could not be read any more; the table is as it was",
                where=f"{self._source.collection}@{self._source.set_name}, version {self._source.version}",
                next_step="run the same command again",
            )

    def _pages(self) -> Iterator[list[int]]:
        last = -1
        while page := [row[0] for row in self._conn.execute(statements.PAGE_OF_MISSING, (last, _PAGE))]:
            yield page
            last = page[-1]

    def _write_page(self, page: list[int]) -> int:
        with self._conn.cursor() as cursor, cursor.copy(statements.COPY_VECTORS) as copy:
            copy.set_types(("int8", "text", self._table.vector_oid, "text", "int8"))
            for row in self._source.vectors(page):
                vector = np.frombuffer(row.body, dtype="<f4").astype(np.float32, copy=False)
                copy.write_row((row.chunk_no, row.text, vector, row.model, row.prompt_tokens))
        written = self._conn.execute(
            self._table.written(statements.WRITE_PAGE), (self._source.version, page[0], page[-1])
        ).rowcount
        self._do(statements.EMPTY_VECTORS)
        return written

    def _do(self, statement: SQL) -> int:
        return self._conn.execute(self._table.written(statement)).rowcount


def _wanted(row: Outline) -> tuple[Any, ...]:
    metadata = None if row.metadata is None else _json(row.metadata)
    made_from = orjson.dumps([row.source, row.start, row.end, metadata])
    digest = hashlib.blake2b(_FORM + row.key + made_from, digest_size=16).digest()
    return (row.id, row.chunk, row.source, row.start, row.end, metadata, row.chunk_no, digest)


def _json(value: Mapping[str, Any]) -> str:
    """JSON as `jsonb` takes it, which has no NUL."""
    text = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    return orjson.dumps(_without_nul(value)).decode() if "\\u0000" in text else text


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, Mapping):
        return {_without_nul(str(key)): _without_nul(each) for key, each in value.items()}
    return [_without_nul(each) for each in value] if isinstance(value, list) else value
