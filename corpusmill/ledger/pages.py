"""Rows of one owner (a job's, a collection's, a set's), a page at a time: read in order, or deleted in order.

A page is a transaction of its own, so that nobody waits long for it, and what was interrupted goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Select, delete, select

from corpusmill.ledger.base import Base, Col
from corpusmill.ledger.bulk import table_of
from corpusmill.ledger.database import Database
from corpusmill.ledger.models import Chunk

READ_AT_ONCE = 20_000
DELETED_AT_ONCE = 5_000
# Answers hold vectors or whole replies, chunks hold texts.
DELETED_LARGE = 1_000
Column = Col[Any]


def read(
    database: Database, owner: Column, owned_by: int, number: Column, *columns: Column, most: int = READ_AT_ONCE
) -> Iterator[Sequence[Any]]:
    """Pages of `number` and `columns` of the rows whose `owner` is this one, in the order of `number`."""
    after: Any = None
    while page := database.read(_read, owner, owned_by, number, columns, after, most):
        yield page
        after = page[-1][0]


def _read(
    conn: Connection, owner: Column, owned_by: int, number: Column, columns: Sequence[Column], after: Any, most: int
) -> Sequence[Any]:
    wanted: Select[Any] = select(number, *columns).where(owner == owned_by).order_by(number).limit(most)
    return conn.execute(wanted if after is None else wanted.where(number > after)).all()


def delete_all(database: Database, model: type[Base], owned_by: int) -> int:
    """Delete all rows of an owner, page by page; how many. The table's key is the owner and a number."""
    total = 0
    while gone := database.write(_delete_page, model, owned_by):
        total += gone
    return total


def _delete_page(conn: Connection, model: type[Base], owned_by: int) -> int:
    owner, number = table_of(model).primary_key.columns
    most = DELETED_LARGE if model is Chunk else DELETED_AT_ONCE
    page = select(number.label("number")).where(owner == owned_by).order_by(number).limit(most).subquery()
    last = conn.execute(select(page.c.number).order_by(page.c.number.desc()).limit(1)).scalar_one_or_none()
    return 0 if last is None else conn.execute(delete(model).where(owner == owned_by, number <= last)).rowcount
