"""Reading a job's items with their results, in item order, however many there are.

Pages by key, each a short transaction: a long read would keep SQLite's log and PostgreSQL's dead rows from being
cleaned up while the job still runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, or_, select

from corpusmill.ledger import encoding
from corpusmill.ledger.database import Database
from corpusmill.ledger.models import Answer, Chunk, Document, Item, Job, Result
from corpusmill.ledger.records import ItemState, ResultRow

PAGE = 1_000


def results(database: Database, job_id: int, states: Sequence[ItemState], after: int) -> Iterator[ResultRow]:
    """The items after number `after` that are in one of `states`, each as it stood when its page was read."""
    while (page := database.read(_page, job_id, frozenset(states), after)) is not None:
        yield from page.rows
        after = page.upto


@dataclass(frozen=True, slots=True)
class _Page:
    """Items up to number `upto`: at most `PAGE`, perhaps none."""

    rows: list[ResultRow]
    upto: int


def _page(conn: Connection, job_id: int, states: Set[ItemState], after: int) -> _Page | None:
    """The next page; None behind the last.

    The numbers come first and then the joins between them: with a limit alone PostgreSQL likes to begin its joins at
    the job's first item, for every page anew.
    """
    upto = conn.execute(_upto(job_id, states, after)).scalar_one()
    if upto is None:
        return None
    collection_id = conn.execute(select(Job.collection_id).where(Job.id == job_id)).scalar_one()
    wanted = (Item.job_id == job_id, *_within(Item.item_no, after, upto), or_(*(_IS[state] for state in states)))
    statement = _joined(collection_id, after, upto).where(*wanted).order_by(Item.item_no)
    return _Page([_result_row(row) for row in conn.execute(statement)], upto)


_IS: dict[ItemState, ColumnElement[bool]] = {
    "succeeded": and_(Result.item_no.is_not(None), Result.error_class.is_(None)),
    "failed": Result.error_class.is_not(None),
    "open": Result.item_no.is_(None),
}


def _upto(job_id: int, states: Set[ItemState], after: int) -> Select[Any]:
    """The last item number of the next page. Only items know of those that are open; else results are enough."""
    table: type[Item | Result] = Item if "open" in states else Result
    numbers = select(table.item_no).where(table.job_id == job_id, table.item_no > after)
    if "open" not in states:
        numbers = numbers.where(or_(*(_IS[state] for state in states)))
    page = numbers.order_by(table.item_no).limit(PAGE).subquery()
    return select(func.max(page.c.item_no))


def _within(column: ColumnElement[int], after: int, upto: int) -> tuple[ColumnElement[bool], ...]:
    return column > after, column <= upto


def _joined(collection_id: int, after: int, upto: int) -> Select[Any]:
    chunk = and_(Chunk.collection_id == collection_id, Chunk.chunk_no == Item.chunk_no)
    document = and_(Document.collection_id == collection_id, Document.document_no == Chunk.document_no)
    bounds = _within(Result.item_no, after, upto)
    result = and_(Result.job_id == Item.job_id, Result.item_no == Item.item_no, *bounds)
    answer = and_(Answer.key == Item.key, Result.item_no.is_not(None), Result.error_class.is_(None))
    return (
        select(
            Item.item_no,
            Document.record_id,
            Document.source,
            Chunk.chunk,
            Chunk.start_offset,
            Chunk.end_offset,
            Document.line,
            Document.extra,
            Result.item_no.label("ended"),
            Result.cached,
            Answer.vector,
            Answer.body,
            Answer.model,
            Answer.finish_reason,
            Answer.prompt_tokens,
            Answer.completion_tokens,
            Result.error_class,
            Result.error,
            Result.attempts,
            Result.request_id,
        )
        .join(Chunk, chunk)
        .join(Document, document)
        .outerjoin(Result, result)
        .outerjoin(Answer, answer)
    )


def _result_row(row: Row[Any]) -> ResultRow:
    state: ItemState = "open" if row.ended is None else "failed" if row.error_class is not None else "succeeded"
    return ResultRow(
        item_no=row.item_no,
        id=row.id,
        source=row.source,
        chunk=row.chunk,
        start=row.start_offset,
        end=row.end_offset,
        line=row.line,
        metadata=row.metadata,
        state=state,
        cached=bool(row.cached),
        body=None if row.body is None else encoding.body_of(row.body, vector=row.vector),
        model=row.model,
        finish_reason=row.finish_reason,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        error_class=row.error_class,
        error=row.error,
        attempts=row.attempts or 0,
        request_id=row.request_id,
    )
