"""Purging a document of a collection from every version: its rows, texts, vectors and answers.

It is held as a sync holds it: a version that nobody else may begin beside. First the document is hidden, in every
version at once, then its rows go, its own last; so the same purge goes on after a kill. Readers see a new version.

The same text elsewhere stays: a document that is there now and has the same content keeps it, and a chunk of the same
text in another document keeps the vector. Earlier documents of the same content, which is what a move leaves behind,
go with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import product
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, or_, select, update

from corpusmill.errors import CorpusmillError, UsageError
from corpusmill.ledger import collections, pages, purge_collections, purge_jobs, shards, versions
from corpusmill.ledger.bulk import among, table_of
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.collection_records import CollectionView, VersionView
from corpusmill.ledger.database import Database
from corpusmill.ledger.leftovers import Tally
from corpusmill.ledger.models import (
    Chunk,
    Collection,
    CollectionFile,
    CollectionVersion,
    Document,
    EmbeddingSet,
    InFlight,
    Item,
    Job,
    Result,
    SetVector,
    Shard,
    Suspect,
)
from corpusmill.ledger.purge_holding import Held, hold, is_
from corpusmill.ledger.records import ShardRef
from corpusmill.ledger.references import Going
from corpusmill.ledger.stretches import MOST, Stretch, stretches


@dataclass(frozen=True, slots=True)
class Purged:
    """What went. `also_called`: other names of the same content, which went with it; `stays_in`: those that keep it.

    `names_left`: those of `also_called` under which there is other content, which stays. `answers_kept`: answers of its
    chunks that something else refers to. `jobs`: those over plain sources that read a document of this name.
    """

    rows: Tally
    also_called: Sequence[str]
    names_left: Sequence[str]
    stays_in: Sequence[str]
    answers_kept: int
    jobs: Sequence[str]


def purge(database: Database, name: str, source: str) -> Purged:
    """Purge the document or record of that source or id from every version of a collection.

    Raises:
        UsageError: there is none, or a sync or a job of the collection has not ended.
        CorpusmillError: something of it is left.
    """
    collection = database.read(collections.find, name)
    half = collection.under_way is not None and collection.under_way.sources == collections.PURGE
    if not half:
        database.read(_refuse_unknown, collection, source)  # before anything is held
    with hold(database, collection, source) as held:
        found = database.read(_found, collection, source)
        _hide(held, found)
        kept = purge_jobs.count_answers(
            database, database.read(_going, collection.id, found), referred=True, beat=held.beat
        )
        told = _purge_rows(held, found)
        held.write(_complete)
    _prove(database, collection, source)
    return _told(database, source, found, told, kept)


def count(database: Database, name: str, source: str) -> Purged:
    """What `purge` would take away; the same refusals."""
    collection = database.read(collections.find, name)
    database.read(purge_collections.refuse_under_way, collection.id, name)
    database.read(_refuse_unknown, collection, source)
    found = database.read(_found, collection, source)
    told = sum((database.read(_rows_of, collection.id, stretch) for stretch in found.chunks), Tally())
    told["documents"] = len(found.numbers)
    going = database.read(_going, collection.id, found)
    told["answers"] = purge_jobs.count_answers(database, going)
    kept = purge_jobs.count_answers(database, going, referred=True)
    return _told(database, source, found, told, kept)


def _told(database: Database, source: str, found: _Found, rows: Tally, kept: int) -> Purged:
    jobs = database.read(_plain_jobs, source)
    return Purged(rows, found.also_called, found.names_left, found.stays_in, kept, jobs)


# --- what goes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    """The rows of a document: their numbers, those of that very name last; its chunks; and where chunks stay.

    `kept`: stretches of chunks that another document has now, and its number. `files`: the sources of its files;
    `shared`: those of them that hold other records, too.
    """

    numbers: Sequence[int]
    chunks: tuple[Stretch, ...]
    kept: Sequence[tuple[Stretch, int]]
    files: Sequence[str]
    shared: frozenset[str]
    also_called: Sequence[str]
    names_left: Sequence[str]
    stays_in: Sequence[str]


# A file may be as many rows: their metadata stays where it is.
_COLUMNS = (
    Document.document_no,
    Document.source,
    Document.first_chunk,
    Document.chunks,
    Document.until_version,
)


def _called(collection: CollectionView, source: str) -> tuple[ColumnElement[bool], ...]:
    return Document.collection_id == collection.id, or_(Document.source == source, Document.record_id == source)


def _refuse_unknown(conn: Connection, collection: CollectionView, source: str) -> None:
    named = select(Document.document_no).where(*_called(collection, source))
    if conn.execute(named.limit(1)).first() is None:
        raise UsageError(
            f"{collection.name} has no document {source}, in no version",
            where=_near(conn, collection.id, source),
            next_step="name it as an export does: by its source, or by the id of a record",
        )


def _found(conn: Connection, collection: CollectionView, source: str) -> _Found:
    """The document of that name; of one whose purge was cut short there may be nothing left."""
    here = Document.collection_id == collection.id
    named = conn.execute(select(*_COLUMNS).where(*_called(collection, source))).all()
    mine = {row.document_no for row in named}
    contents = {row.first_chunk: row.chunks for row in named if row.chunks}
    sharing: list[Any] = []
    for some in among(conn, Document.first_chunk, contents):
        sharing += conn.execute(select(*_COLUMNS).where(here, some, Document.chunks > 0)).all()
    others = [row for row in sharing if row.document_no not in mine]
    living = {row.first_chunk: row for row in others if row.until_version is None}
    earlier = [row for row in others if row.first_chunk not in living]
    going = sorted((first, size) for first, size in contents.items() if first not in living)
    files, also_called = {row.source for row in named}, {row.source for row in earlier}
    mine_of = Counter(row.source for row in (*named, *earlier))
    there = _rows_by_source(conn, collection.id, (files | also_called) - {source})
    partly = {name for name, rows in there.items() if rows > mine_of[name]}
    return _Found(
        numbers=[row.document_no for row in earlier] + sorted(mine),
        chunks=tuple(stretches(going)),
        kept=[((first, first + row.chunks - 1), row.document_no) for first, row in sorted(living.items())],
        files=sorted(files),
        shared=frozenset(files & partly),
        also_called=sorted(also_called),
        names_left=sorted((also_called - files) & partly),
        stays_in=sorted({row.source for row in living.values()}),
    )


def _rows_by_source(conn: Connection, collection_id: int, sources: Set[str]) -> dict[str, int]:
    """How many rows, of whatever version, the collection has of each of these sources."""
    counted = select(Document.source, func.count()).where(Document.collection_id == collection_id)
    found: dict[str, int] = {}
    for some in among(conn, Document.source, sources):
        found |= {row[0]: row[1] for row in conn.execute(counted.where(some).group_by(Document.source))}
    return found


def _near(conn: Connection, collection_id: int, source: str) -> str:
    tail = source.rsplit("/", 1)[-1]
    like = (Document.collection_id == collection_id, Document.source.contains(tail, autoescape=True))
    found = conn.execute(select(Document.source).where(*like).distinct().limit(3)).scalars().all()
    return f"near it: {', '.join(found)}" if found and tail else ""


def _plain_jobs(conn: Connection, source: str) -> list[str]:
    """Jobs over plain sources that have a document of this name."""
    found = select(Job.public_id).join(Collection, Collection.id == Job.collection_id)
    named = select(Document.collection_id).where(or_(Document.source == source, Document.record_id == source))
    plain = (Collection.name.is_(None), Collection.id.in_(named))
    return list(conn.execute(found.where(*plain).order_by(Job.id)).scalars())


def _going(conn: Connection, collection_id: int, found: _Found) -> Going:
    jobs = conn.execute(select(Job.id).where(Job.collection_id == collection_id)).scalars()
    return Going(frozenset(jobs), frozenset(purge_collections.sets_of(conn, collection_id)), found.chunks)


# --- hiding it, and showing readers what is left ---------------------------------------------------------------------


def _hide(held: Held, found: _Found) -> None:
    """Let readers see nothing of it; those that read meanwhile are told by the note."""
    hidden = sum(held.write(_hide_rows, some) for some in _parts(found.numbers))
    held.write(_note_hidden, hidden)


def _note_hidden(conn: Connection, version: VersionView, hidden: int) -> None:
    counts = versions.view(conn, version.collection_id, version.version_no).counts
    noted = {**counts, "hidden": counts.get("hidden", 0) + hidden}
    conn.execute(update(CollectionVersion).where(*is_(version)).values(counts=noted))


def _hide_rows(conn: Connection, version: VersionView, numbers: Sequence[int]) -> int:
    """Let these rows be there in no version; how many documents readers had until now."""
    there = (Document.collection_id == version.collection_id, Document.until_version.is_(None))
    hidden = 0
    for some in among(conn, Document.document_no, numbers):
        hidden += conn.execute(select(func.count()).where(*there, some)).scalar_one()
        mine = update(Document).where(Document.collection_id == version.collection_id, some)
        conn.execute(mine.values(until_version=Document.from_version))
    return hidden


def _complete(conn: Connection, version: VersionView) -> None:
    """Readers see this version from now on: the one before, without the document. Its name is forgotten."""
    row = conn.execute(select(table_of(Collection)).where(Collection.id == version.collection_id)).one()
    hidden = versions.view(conn, version.collection_id, version.version_no).counts["hidden"]
    counts = {"deleted": hidden, "purged": True, "shape": row.shape}
    done = {"state": "complete" if row.version else "failed", "owner": None, "seen_at": None, "counts": counts}
    conn.execute(update(CollectionVersion).where(*is_(version)).values(**done, finished_at=read_clock(conn).wall_s))
    if not row.version:  # no reader ever saw anything of this collection
        return
    number = version.version_no
    for column in (EmbeddingSet.version, EmbeddingSet.target):
        on = update(EmbeddingSet).where(EmbeddingSet.collection_id == version.collection_id, column == row.version)
        conn.execute(on.values({column: number}))
    conn.execute(update(Collection).where(Collection.id == version.collection_id).values(version=number))


# --- rows -----------------------------------------------------------------------------------------------------------


def _purge_rows(held: Held, found: _Found) -> Tally:
    """Answers first, which the other rows lead to; documents last, by which a purge that was cut short goes on.

    Raises:
        CorpusmillError: something is left of what documents lead to; they are still there.
    """
    database, collection_id = held.database, held.version.collection_id
    going = database.read(_going, collection_id, found)
    told = Tally(answers=purge_jobs.delete_answers(database, going, beat=held.beat))
    if left := purge_jobs.count_answers(database, going, beat=held.beat):
        raise _left({"answers": left})
    told += _purge_chunks(held, found, going)
    told["collection_files"] = database.write(_forget_files, collection_id, found)
    if rows := +_rows_left(held, found):
        raise _left(rows)
    for some in _parts(found.numbers):
        told["documents"] += held.write(_delete_documents, some)
    return told


def _purge_chunks(held: Held, found: _Found, going: Going) -> Tally:
    """What sets and jobs have of these chunks, and the chunks; those that stay get another document."""
    database, collection_id = held.database, held.version.collection_id
    told = Tally()
    for set_id, stretch in product(sorted(going.sets), found.chunks):
        told["vectors"] += database.write(_delete_vectors, set_id, stretch)
        held.beat()
    for job_id in sorted(going.jobs):
        told += _purge_items(held, job_id, going)
    for stretch, document_no in found.kept:
        for first, last in _cut(stretch):
            database.write(_hand_over, collection_id, (first, last), document_no)
            held.beat()
    for stretch in found.chunks:
        told["chunks"] += database.write(_delete_chunks, collection_id, stretch)
        held.beat()
    return told


def _delete_vectors(conn: Connection, set_id: int, stretch: Stretch) -> int:
    return conn.execute(
        delete(SetVector).where(SetVector.set_id == set_id, SetVector.chunk_no.between(*stretch))
    ).rowcount


def _delete_chunks(conn: Connection, collection_id: int, stretch: Stretch) -> int:
    mine = (Chunk.collection_id == collection_id, Chunk.chunk_no.between(*stretch))
    return conn.execute(delete(Chunk).where(*mine)).rowcount


def _hand_over(conn: Connection, collection_id: int, stretch: Stretch, document_no: int) -> None:
    """Chunks that stay belong to a document that stays: a request is made from both."""
    mine = (Chunk.collection_id == collection_id, Chunk.chunk_no.between(*stretch), Chunk.document_no != document_no)
    conn.execute(update(Chunk).where(*mine).values(document_no=document_no))


def _delete_documents(conn: Connection, version: VersionView, numbers: Sequence[int]) -> int:
    gone = 0
    for some in among(conn, Document.document_no, numbers):
        mine = delete(Document).where(Document.collection_id == version.collection_id, some)
        gone += conn.execute(mine).rowcount
    return gone


def _forget_files(conn: Connection, collection_id: int, found: _Found) -> int:
    """The files that were the document; one that holds other records, too, is read anew by the next sync."""
    gone = 0
    for source in found.files:
        mine = (CollectionFile.collection_id == collection_id, CollectionFile.source == source)
        if source in found.shared:
            anew = {"digest": b"", "mtime_ns": None, "ctime_ns": None}
            conn.execute(update(CollectionFile).where(*mine).values(**anew))
        else:
            gone += conn.execute(delete(CollectionFile).where(*mine)).rowcount
    return gone


def _purge_items(held: Held, job_id: int, going: Going) -> Tally:
    """Take the items of these chunks out of a job, a shard at a time, and out of its counters."""
    database = held.database
    told, size = Tally(), database.read(_shard_size, job_id)
    for page in pages.read(database, Item.job_id, job_id, Item.item_no, Item.chunk_no):
        inside = going.inside([row.chunk_no for row in page])
        by_shard: dict[int, list[int]] = {}
        for row, is_inside in zip(page, inside, strict=True):
            if is_inside:
                by_shard.setdefault(row.item_no // size, []).append(row.item_no)
        for shard_no, numbers in by_shard.items():
            told += database.write(_delete_items, ShardRef(job_id, shard_no), numbers)
            held.beat()
        held.beat()
    return told


def _shard_size(conn: Connection, job_id: int) -> int:
    return conn.execute(select(Job.shard_size).where(Job.id == job_id)).scalar_one()


def _delete_items(conn: Connection, ref: ShardRef, numbers: Sequence[int]) -> Tally:
    """Items of one shard with all that is theirs; what was paid for them stays on the bill."""
    shards.lock(conn, [ref])
    conn.execute(select(Job.id).where(Job.id == ref.job_id).with_for_update()).one()
    told, tokens, succeeded, failed, cached = Tally(), 0, 0, 0, 0
    for some in among(conn, Item.item_no, numbers):
        ended = and_(Result.job_id == Item.job_id, Result.item_no == Item.item_no)
        good = and_(Result.item_no.is_not(None), Result.error_class.is_(None))
        sums = select(
            func.sum(Item.tokens),
            func.sum(case((good, 1), else_=0)),
            func.count(Result.error_class),
            func.sum(case((and_(good, Result.cached), 1), else_=0)),
        )
        row = conn.execute(sums.select_from(Item).outerjoin(Result, ended).where(Item.job_id == ref.job_id, some)).one()
        tokens, succeeded = tokens + int(row[0] or 0), succeeded + int(row[1] or 0)
        failed, cached = failed + int(row[2]), cached + int(row[3] or 0)
    for table in (Result, Suspect, Item):
        for some in among(conn, table.item_no, numbers):
            told[table.__tablename__] += conn.execute(delete(table).where(table.job_id == ref.job_id, some)).rowcount
    conn.execute(delete(InFlight).where(InFlight.job_id == ref.job_id, InFlight.shard_no == ref.shard_no))
    count = told["items"]
    shard = update(Shard).where(Shard.job_id == ref.job_id, Shard.shard_no == ref.shard_no)
    conn.execute(
        shard.values(
            size=Shard.size - count,
            goal=case((Shard.goal == Shard.size, Shard.goal - count), else_=Shard.goal - (succeeded + failed)),
            succeeded=Shard.succeeded - succeeded,
            failed=Shard.failed - failed,
            cached=Shard.cached - cached,
        )
    )
    fewer = {"items": Job.items - count, "input_tokens": Job.input_tokens - tokens}
    conn.execute(update(Job).where(Job.id == ref.job_id).values(**fewer))
    return told


# --- the proof ------------------------------------------------------------------------------------------------------


def _prove(database: Database, collection: CollectionView, source: str) -> None:
    """No document of that name is left in any version; nothing else of it was before the last of them went.

    Raises:
        CorpusmillError: one is.
    """
    left = Tally()
    left["documents"] = database.read(_count, Document, *_called(collection, source))
    if left := +left:
        raise _left(left)


def _rows_left(held: Held, found: _Found) -> Tally:
    """What is left of what documents lead to, by table."""
    told = Tally()
    for stretch in found.chunks:
        told += held.database.read(_rows_of, held.version.collection_id, stretch)
        held.beat()
    return told


def _rows_of(conn: Connection, collection_id: int, stretch: Stretch) -> Tally:
    """What is there of these chunks, by table."""
    told, jobs = Tally(), conn.execute(select(Job.id).where(Job.collection_id == collection_id)).scalars().all()
    sets = purge_collections.sets_of(conn, collection_id)
    told["chunks"] = _count(conn, Chunk, Chunk.collection_id == collection_id, Chunk.chunk_no.between(*stretch))
    told["vectors"] = _count(conn, SetVector, SetVector.set_id.in_(sets), SetVector.chunk_no.between(*stretch))
    told["items"] = _count(conn, Item, Item.job_id.in_(jobs), Item.chunk_no.between(*stretch))
    return told


def _count(conn: Connection, table: Any, *conditions: ColumnElement[bool]) -> int:
    return conn.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one()


def _left(left: dict[str, int]) -> CorpusmillError:
    told = ", ".join(f"{number:,} of {name}" for name, number in left.items())
    return CorpusmillError(
        f"rows of the document came while it was purged: {told}", next_step="type the same command again"
    )


def _parts(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for at in range(0, len(numbers), MOST):
        yield numbers[at : at + MOST]


def _cut(stretch: Stretch) -> Iterator[Stretch]:
    yield from stretches([(stretch[0], stretch[1] - stretch[0] + 1)])
