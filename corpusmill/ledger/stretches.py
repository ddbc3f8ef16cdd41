"""The documents of a collection at one version, page by page, and the stretches of chunks that are theirs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, or_, select

from corpusmill.ledger.database import Database
from corpusmill.ledger.models import Collection, Document

PAGE = 1_000
# Chunks read by one statement: a few MB of texts.
MOST = 1_000
Stretch = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a version was read: up to `document`, and of that one up to `chunk`."""

    document: int = 0
    chunk: int = 0


START = Mark()


def there(version: int) -> tuple[ColumnElement[bool], ...]:
    """Condition on a document that it is there at `version`."""
    return Document.from_version <= version, or_(Document.until_version.is_(None), Document.until_version > version)


def first_after(conn: Connection, collection_id: int, version: int) -> int:
    """The number of the first document that came after `version`; behind all when none did."""
    came = select(func.min(Document.document_no)).where(
        Document.collection_id == collection_id, Document.from_version > version
    )
    last = select(Collection.next_document).where(Collection.id == collection_id)
    return int(conn.execute(select(func.coalesce(came.scalar_subquery(), last.scalar_subquery()))).scalar_one())


def by_number(conn: Connection, collection_id: int, version: int, after: int) -> list[Row[Any]]:
    """The next documents behind number `after`: number, first chunk, chunks."""
    columns = (Document.document_no, Document.first_chunk, Document.chunks)
    wanted = (Document.collection_id == collection_id, Document.document_no > after, *there(version))
    return list(conn.execute(select(*columns).where(*wanted).order_by(Document.document_no).limit(PAGE)))


def by_place(conn: Connection, collection_id: int, version: int, after: bytes) -> list[Row[Any]]:
    """The next documents behind the place `after`, in the order of the sources."""
    columns = (
        Document.place,
        Document.source,
        Document.record_id,
        Document.line,
        Document.extra,
        Document.first_chunk,
        Document.chunks,
    )
    wanted = (Document.collection_id == collection_id, Document.place > after, *there(version))
    return list(conn.execute(select(*columns).where(*wanted).order_by(Document.place).limit(PAGE)))


def of_version(database: Database, collection_id: int, version: int) -> Iterator[Stretch]:
    """The chunks of all documents at `version`; stretches of at most `MOST`.

    Documents of one content share chunks, which then come more than once.
    """
    for stretch, _ in onward(database, collection_id, version, START):
        yield stretch


def onward(database: Database, collection_id: int, version: int, mark: Mark) -> Iterator[tuple[Stretch, Mark]]:
    """As `of_version` from a mark on; each stretch with the mark behind it."""
    after = mark.document - 1
    while page := database.read(by_number, collection_id, version, after):
        for run in _runs(page):
            first, end = run[0].first_chunk, run[-1].first_chunk + run[-1].chunks
            if run[0].document_no == mark.document:
                first = max(first, mark.chunk)
            for stretch in _cut(first, end):
                yield stretch, _behind(run, stretch[1])
        after = page[-1].document_no


def _runs(documents: Iterable[Row[Any]]) -> Iterator[list[Row[Any]]]:
    """Documents with chunks in order, those with neighbouring chunks together."""
    run: list[Row[Any]] = []
    for document in documents:
        if not document.chunks:
            continue
        if run and document.first_chunk != run[-1].first_chunk + run[-1].chunks:
            yield run
            run = []
        run.append(document)
    if run:
        yield run


def _behind(run: Sequence[Row[Any]], chunk: int) -> Mark:
    """The mark behind a chunk of a run."""
    document = run[bisect_right([each.first_chunk for each in run], chunk) - 1]
    if chunk + 1 == document.first_chunk + document.chunks:
        return Mark(document.document_no + 1)
    return Mark(document.document_no, chunk + 1)


def stretches(documents: Iterable[tuple[int, int]]) -> Iterator[Stretch]:
    """`(first chunk, chunks)` of documents in order, as `(first, last)`: neighbours together, long ones cut."""
    first, end = 0, 0
    for begin, count in documents:
        if not count:
            continue
        if begin != end:
            yield from _cut(first, end)
            first = begin
        end = begin + count
    yield from _cut(first, end)


def _cut(first: int, end: int) -> Iterator[Stretch]:
    for begin in range(first, end, MOST):
        yield begin, min(begin + MOST, end) - 1
