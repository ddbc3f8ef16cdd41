"""Many rows at once, the quickest way each database has.

PostgreSQL takes columns as arrays (`unnest`): one statement however many rows, and it says which were new. SQLite
takes rows one by one inside one call of its driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, Connection, FromClause, Select, Table, bindparam, func, insert, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase

Row = Mapping[str, Any]
Key = tuple[Any, ...]
# SQLite takes 32,766 parameters a statement; this keeps statements small enough to be compiled once and cached.
_LOOKED_UP = 500


def table_of(model: type[DeclarativeBase]) -> Table:
    """The Core table behind a model."""
    table = model.__table__
    assert isinstance(table, Table)  # noqa: S101 - narrows the type; ours all are
    return table


def insert_new(conn: Connection, model: type[DeclarativeBase], rows: Iterable[Row]) -> set[Key]:
    """Insert the rows whose primary key is not there yet; return the keys of those, in the order of its columns.

    Of rows with one key the first counts. Rows that share a database row are locked in key order.
    """
    table = table_of(model)
    names = [column.name for column in table.primary_key]
    unique: dict[Key, Row] = {}
    for row in rows:
        unique.setdefault(tuple(row[name] for name in names), row)
    if not unique:
        return set()
    ordered = [unique[key] for key in sorted(unique)]
    if conn.dialect.name == "postgresql":
        return _insert_arrays(conn, table, ordered)
    fresh = unique.keys() - existing(conn, table, list(unique))
    if fresh:
        conn.execute(insert(table), [dict(unique[key]) for key in sorted(fresh)])
    return fresh


def existing(conn: Connection, table: Table, keys: Sequence[Key]) -> set[Key]:
    """Which of these primary keys are there."""
    columns = list(table.primary_key)
    found: set[Key] = set()
    for start in range(0, len(keys), _LOOKED_UP):
        asked = keys[start : start + _LOOKED_UP]
        found.update(tuple(row) for row in conn.execute(select(*columns).where(tuple_(*columns).in_(asked))))
    return found


def upsert(conn: Connection, model: type[DeclarativeBase]) -> postgresql.Insert | sqlite.Insert:
    """An INSERT of the connection's dialect, which knows ON CONFLICT."""
    table = table_of(model)
    return postgresql.insert(table) if conn.dialect.name == "postgresql" else sqlite.insert(table)


def as_table(table: Table, rows: Sequence[Row]) -> FromClause:
    """`rows` as a derived table of array parameters; PostgreSQL only."""
    columns = [table.c[name] for name in rows[0]]
    arrays = [
        bindparam(column.name, [row[column.name] for row in rows], type_=ARRAY(column.type)) for column in columns
    ]
    return func.unnest(*arrays).table_valued(*(column.name for column in columns)).render_derived()


def _insert_arrays(conn: Connection, table: Table, rows: Sequence[Row]) -> set[Key]:
    source = as_table(table, rows)
    given: Select[Any] = select(*source.c)
    statement = postgresql.insert(table).from_select(list(rows[0]), given).on_conflict_do_nothing()
    return {tuple(row) for row in conn.execute(statement.returning(*table.primary_key))}


def copy_in(conn: Connection, model: type[DeclarativeBase], rows: Sequence[Row]) -> None:
    """Append rows that are known to be new: COPY on PostgreSQL."""
    if not rows:
        return
    table = table_of(model)
    if conn.dialect.name != "postgresql":
        conn.execute(insert(table), [dict(row) for row in rows])
        return
    columns = [table.c[name] for name in rows[0]]
    quoted = ", ".join(f'"{column.name}"' for column in columns)
    to_driver = [column.type.dialect_impl(conn.dialect).bind_processor(conn.dialect) for column in columns]
    driver = conn.connection.driver_connection
    assert driver is not None  # noqa: S101 - the connection is open
    with driver.cursor() as cursor, cursor.copy(f'COPY "{table.name}" ({quoted}) FROM STDIN') as copy:
        for row in rows:
            values = zip(to_driver, row.values(), strict=True)
            copy.write_row([value if adapt is None else adapt(value) for adapt, value in values])
