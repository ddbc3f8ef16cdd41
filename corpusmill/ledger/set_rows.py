"""Reading a set of a collection at one version: its chunks with their vectors, in the order of the sources.

Rows of a version never change, so that what is read page by page is one state however long it takes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, select

from corpusmill.ledger import encoding
from corpusmill.ledger.bulk import among
from corpusmill.ledger.collection_records import OutlineRow, StoredVector, VectorRow
from corpusmill.ledger.database import Database
from corpusmill.ledger.models import Answer, Chunk, SetVector
from corpusmill.ledger.stretches import Stretch, by_place, stretches

# Reads the chunks of a stretch, each a row with at least its `chunk_no`.
Reading = Callable[[Connection, Stretch], list[Row[Any]]]


def rows(
    database: Database, collection_id: int, set_id: int, version: int, *, failed: bool = False
) -> Iterator[VectorRow]:
    """The chunks that have a vector in the set, or those that failed."""

    def read(conn: Connection, stretch: Stretch) -> list[Row[Any]]:
        return _chunks(conn, collection_id, set_id, stretch, failed)

    found = _each(database, collection_id, version, read)
    for number, (document, chunk) in enumerate(found):
        yield _vector_row(number, document, chunk)


def outline(database: Database, collection_id: int, set_id: int, version: int) -> Iterator[OutlineRow]:
    """The chunks that have a vector in the set, without it and without their text."""

    def read(conn: Connection, stretch: Stretch) -> list[Row[Any]]:
        return _keys(conn, collection_id, set_id, stretch)

    for document, chunk in _each(database, collection_id, version, read):
        yield OutlineRow(
            chunk_no=chunk.chunk_no,
            id=document.id,
            source=document.source,
            chunk=chunk.chunk,
            start=chunk.start_offset,
            end=chunk.end_offset,
            metadata=document.metadata,
            key=chunk.key,
        )


def vectors(conn: Connection, collection_id: int, set_id: int, chunk_nos: Sequence[int]) -> list[StoredVector]:
    """What the set has of these chunks, with their texts; those without a vector are left out."""
    mine = and_(SetVector.set_id == set_id, SetVector.chunk_no == Chunk.chunk_no)
    columns = (Chunk.chunk_no, Chunk.text, Answer.vector, Answer.body, Answer.model, Answer.prompt_tokens)
    found: list[StoredVector] = []
    for some in among(conn, Chunk.chunk_no, chunk_nos):
        wanted = (Chunk.collection_id == collection_id, some, SetVector.error_class.is_(None))
        statement = select(*columns).join(SetVector, mine).join(Answer, Answer.key == SetVector.key).where(*wanted)
        found += [
            StoredVector(
                row.chunk_no,
                row.text or "",
                encoding.body_of(row.body, vector=row.vector),
                row.model,
                row.prompt_tokens,
            )
            for row in conn.execute(statement)
        ]
    return found


def _each(database: Database, collection_id: int, version: int, read: Reading) -> Iterator[tuple[Row[Any], Row[Any]]]:
    """Each document of a version with each of its chunks that `read` gives."""
    after = b""
    while page := database.read(by_place, collection_id, version, after):
        yield from _of_page(database, page, read)
        after = page[-1].place


def _of_page(database: Database, page: Sequence[Row[Any]], read: Reading) -> Iterator[tuple[Row[Any], Row[Any]]]:
    # Documents in order, those with neighbouring chunks together: one statement for most pages.
    group: list[Row[Any]] = []
    for document in page:
        if group and (not document.chunks or document.first_chunk != group[-1].first_chunk + group[-1].chunks):
            yield from _of_group(database, group, read)
            group = []
        if document.chunks:
            group.append(document)
    yield from _of_group(database, group, read)


def _of_group(database: Database, group: Sequence[Row[Any]], read: Reading) -> Iterator[tuple[Row[Any], Row[Any]]]:
    firsts = [document.first_chunk for document in group]
    for stretch in stretches((document.first_chunk, document.chunks) for document in group):
        for chunk in database.read(read, stretch):
            yield group[bisect_right(firsts, chunk.chunk_no) - 1], chunk


def _keys(conn: Connection, collection_id: int, set_id: int, stretch: Stretch) -> list[Row[Any]]:
    mine = and_(SetVector.set_id == set_id, SetVector.chunk_no == Chunk.chunk_no)
    statement = (
        select(Chunk.chunk_no, Chunk.chunk, Chunk.start_offset, Chunk.end_offset, SetVector.key)
        .join(SetVector, mine)
        .join(Answer, Answer.key == SetVector.key)
        .where(Chunk.collection_id == collection_id, Chunk.chunk_no.between(*stretch), SetVector.error_class.is_(None))
        .order_by(Chunk.chunk_no)
    )
    return list(conn.execute(statement))


def _chunks(conn: Connection, collection_id: int, set_id: int, stretch: Stretch, failed: bool) -> list[Row[Any]]:
    mine = and_(SetVector.set_id == set_id, SetVector.chunk_no == Chunk.chunk_no)
    columns = (
        Chunk.chunk_no,
        Chunk.chunk,
        Chunk.start_offset,
        Chunk.end_offset,
        SetVector.error_class,
        SetVector.error,
        Answer.vector,
        Answer.body,
        Answer.model,
        Answer.prompt_tokens,
    )
    lost = SetVector.error_class.is_not(None)
    wanted = lost if failed else and_(SetVector.error_class.is_(None), Answer.key.is_not(None))
    statement = (
        select(*columns)
        .join(SetVector, mine)
        .outerjoin(Answer, Answer.key == SetVector.key)
        .where(Chunk.collection_id == collection_id, Chunk.chunk_no.between(*stretch), wanted)
        .order_by(Chunk.chunk_no)
    )
    return list(conn.execute(statement))


def _vector_row(number: int, document: Row[Any], chunk: Row[Any]) -> VectorRow:
    return VectorRow(
        item_no=number,
        id=document.id,
        source=document.source,
        chunk=chunk.chunk,
        start=chunk.start_offset,
        end=chunk.end_offset,
        line=document.line,
        metadata=document.metadata,
        body=None if chunk.body is None else encoding.body_of(chunk.body, vector=chunk.vector),
        model=chunk.model,
        prompt_tokens=chunk.prompt_tokens,
        error_class=chunk.error_class,
        error=chunk.error,
        chunk_no=chunk.chunk_no,
    )
