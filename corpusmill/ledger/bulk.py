"""Many rows at once, the quickest way each database has.

PostgreSQL takes columns as arrays (`unnest`), one statement however many rows, and COPY. SQLite takes tuples in its
driver's own loop. Both bypass SQLAlchemy's work a row, which costs several times what the insert does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    LargeBinary,
    Table,
    and_,
    any_,
    bindparam,
    false,
    literal,
    or_,
    select,
    true,
)

from corpusmill.ledger.base import Base, Col

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

Row = Mapping[str, Any]
Key = tuple[Any, ...]
_Adapt = Callable[[Any], Any] | None
# SQLite takes 32,766 parameters a statement; this keeps statements small enough to be compiled once and cached.
_LOOKED_UP = 500
# The driver puts an array together under the interpreter's lock: this many vectors take it milliseconds, in which a
# worker's event loop stands still.
_AT_ONCE = 200
_numbers = itertools.count()


def table_of(model: type[Base]) -> Table:
    """The table behind a class."""
    return model.__table__


def insert_new(conn: Connection, model: type[Base], rows: Iterable[Row]) -> set[Key]:
    """Insert the rows whose primary key is not there yet; return the keys of those, in the order of its columns.

    Of rows with one key the first counts. Rows are inserted in key order, so that transactions that insert the same
    ones wait for each other instead of deadlocking.
    """
    table = table_of(model)
    names = [column.name for column in table.primary_key]
    unique: dict[Key, Row] = {}
    for row in rows:
        unique.setdefault(tuple([row[name] for name in names]), row)
    if not unique:
        return set()
    if conn.dialect.name == "postgresql":
        ordered = [unique[key] for key in sorted(unique)]
        pieces = (ordered[at : at + _AT_ONCE] for at in range(0, len(ordered), _AT_ONCE))
        return set().union(*(_insert_arrays(conn, table, piece) for piece in pieces))
    return _insert_tuples(conn, table, unique)


def _insert_arrays(conn: Connection, table: Table, rows: Sequence[Row]) -> set[Key]:
    """One statement of PostgreSQL that takes each column as an array, in psycopg's binary form (`%b`)."""
    names = tuple(rows[0])
    arrays = ", ".join(f"%b::{table.c[name].type.compile(conn.dialect)}[]" for name in names)
    keys = ", ".join(f'"{column.name}"' for column in table.primary_key)
    statement = (
        f"INSERT INTO {_into(table, names)} SELECT * FROM unnest({arrays}) "  # noqa: S608 - our own names
        f"ON CONFLICT DO NOTHING RETURNING {keys}"
    )
    columns = tuple(list(column) for column in zip(*_tuples(conn, table, names, rows), strict=True))
    return {tuple(row) for row in conn.exec_driver_sql(statement, columns)}


def _insert_tuples(conn: Connection, table: Table, unique: dict[Key, Row]) -> set[Key]:
    """All at once in the hope that all are new, as they nearly always are; else those that turn out to be."""
    attempt = conn.begin_nested()
    if _insert(conn, table, [unique[key] for key in sorted(unique)]) == len(unique):
        attempt.commit()
        return set(unique)
    attempt.rollback()
    fresh = unique.keys() - _existing(conn, table, list(unique))
    if fresh:
        _insert(conn, table, [unique[key] for key in sorted(fresh)])
    return fresh


def _insert(conn: Connection, table: Table, rows: Sequence[Row]) -> int:
    """Insert into SQLite what is not there; return how many were not."""
    names = tuple(rows[0])
    statement = f"{_insertion(table, names)} ON CONFLICT DO NOTHING"
    return conn.exec_driver_sql(statement, _tuples(conn, table, names, rows)).rowcount


def _existing(conn: Connection, table: Table, keys: Sequence[Key]) -> set[Key]:
    """Which of these primary keys are there."""
    columns = list(table.primary_key)
    found: set[Key] = set()
    for start in range(0, len(keys), _LOOKED_UP):
        asked = keys[start : start + _LOOKED_UP]
        found.update(tuple(row) for row in conn.execute(select(*columns).where(with_keys(columns, asked))))
    return found


def append_rows(conn: Connection, model: type[Base], names: tuple[str, ...], rows: Sequence[Key]) -> None:
    """Append rows that are known to be new, given as the values of the columns `names`: COPY on PostgreSQL."""
    if not rows:
        return
    table = table_of(model)
    rows = _adapted(rows, _adapting(table, names, conn.dialect))
    if conn.dialect.name != "postgresql":
        conn.exec_driver_sql(_insertion(table, names), list(rows))
        return
    driver = conn.connection.driver_connection
    assert driver is not None  # noqa: S101 - the connection is open
    # Binary: a body need not become hexadecimal digits and bytes again, which takes half of what the server does.
    with driver.cursor() as cursor, cursor.copy(f"COPY {_into(table, names)} FROM STDIN (FORMAT BINARY)") as copy:
        # Without a length: the driver knows `varchar`, not `varchar(16)`.
        copy.set_types([table.c[name].type.compile(conn.dialect).lower().partition("(")[0] for name in names])
        for row in rows:
            copy.write_row(row)


def _insertion(table: Table, names: Sequence[str]) -> str:
    marks = ", ".join("?" * len(names))
    return f"INSERT INTO {_into(table, names)} VALUES ({marks})"  # noqa: S608 - our own names


def _into(table: Table, names: Sequence[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f'"{table.name}" ({quoted})'


def _tuples(conn: Connection, table: Table, names: tuple[str, ...], rows: Iterable[Row]) -> list[Key]:
    """The rows as the driver takes them."""
    adapting = _adapting(table, names, conn.dialect)
    values = [list(row.values()) for row in rows]
    for row in values:
        for position, adapt in adapting:
            row[position] = adapt(row[position])
    return [tuple(row) for row in values]


def _adapted(rows: Sequence[Key], adapting: Sequence[tuple[int, Callable[[Any], Any]]]) -> Sequence[Key]:
    """The rows as the driver takes them; those of a table without types of ours as they are."""
    for position, adapt in adapting:
        rows = [(*row[:position], adapt(row[position]), *row[position + 1 :]) for row in rows]
    return rows


@lru_cache(maxsize=64)
def _adapting(table: Table, names: tuple[str, ...], dialect: Dialect) -> list[tuple[int, Callable[[Any], Any]]]:
    """Which positions of a row have a type of ours, and what turns their values into the driver's."""
    adapts = [_adapt(table.c[name], dialect) for name in names]
    return [(position, adapt) for position, adapt in enumerate(adapts) if adapt is not None]


def _adapt(column: Column[Any], dialect: Dialect) -> _Adapt:
    if isinstance(column.type, LargeBinary):  # both drivers take bytes as they are
        return None
    adapt: _Adapt = column.type.dialect_impl(dialect).bind_processor(dialect)
    return adapt


def upsert(conn: Connection, model: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """An INSERT of the connection's dialect, which knows ON CONFLICT."""
    # Only the dialect in use is loaded: the other one would be a tenth of what a command takes to start.
    if conn.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as into_postgresql

        return into_postgresql(table_of(model))
    from sqlalchemy.dialects.sqlite import insert as into_sqlite

    return into_sqlite(table_of(model))


def with_keys(columns: Sequence[Col[Any]], keys: Iterable[Key]) -> ColumnElement[bool]:
    """Condition on the one or two columns of a key that it is one of these.

    Pairs go in as `a = … AND b IN (…)` for each `a`, of which there are few: for a list of pairs SQLite reads all rows.
    """
    if len(columns) == 1:
        return columns[0].in_([value for (value,) in keys])
    first, second = columns
    seconds: dict[Any, list[Any]] = {}
    for one, other in keys:
        seconds.setdefault(one, []).append(other)
    return or_(false(), *(and_(first == one, second.in_(others)) for one, others in seconds.items()))


def among(
    conn: Connection, column: Col[Any], values: Collection[Any], *, most: int = _LOOKED_UP
) -> list[ColumnElement[bool]]:
    """`column IN values`, as one condition or several to be tried in turn: SQLite takes no arrays.

    `most`: values in one condition of SQLite, below 32,766; more than usual where each condition reads a whole table.
    """
    ordered = sorted(values)
    if conn.dialect.name == "postgresql":
        return [column == any_(bindparam(None, ordered, type_=ARRAY(column.type)))] if ordered else []
    return [column.in_(ordered[at : at + most]) for at in range(0, len(ordered), most)]


def planned_anew(conn: Connection) -> ColumnElement[bool]:
    """A condition that holds always, and that keeps PostgreSQL from keeping a plan of its statement.

    Of a statement that comes often PostgreSQL keeps the plan. One from when a table had few rows reads all of them, and
    goes on to do so until the table is next analyzed, however many there are by then: a minute in which a fleet may
    fill a new ledger with a hundred thousand answers. A number makes the text new. It costs the server some 0.1 ms, so
    it is for those statements only that would read most.
    """
    if conn.dialect.name != "postgresql":
        return true()
    number = literal(next(_numbers), literal_execute=True)
    return number == number
