"""Versions of a collection: read by one process, filled by a job, then complete at one moment, or taken back.

reading ─► building ─► complete
└──────────┴─────────► failed      taken back: its documents were never there, those it ended are there again

Until it is complete nobody sees anything of it: readers keep to the version of their set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from corpusmill.errors import UsageError
from corpusmill.ledger import collections, control, counts, sets
from corpusmill.ledger.bulk import among, append_rows, table_of
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.collection_records import KnownDocument, KnownFile, VersionView, Writing
from corpusmill.ledger.models import (
    Chunk,
    Collection,
    CollectionFile,
    CollectionVersion,
    Document,
    EmbeddingSet,
    Item,
    Job,
    SetVector,
)
from corpusmill.ledger.stretches import PAGE

_FILE = ("collection_id", "file_no", "source", "path", "place", "format", "digest", "size", "mtime_ns", "ctime_ns",
         "documents", "from_version")  # fmt: skip
_DOCUMENT = ("collection_id", "document_no", "source", "id", "line", "metadata", "place", "digest", "first_chunk",
             "chunks", "from_version")  # fmt: skip
_CHUNK = ("collection_id", "chunk_no", "document_no", "chunk", "start_offset", "end_offset", "text", "tokens",
          "problem")  # fmt: skip
_METADATA = 4
_TABLES = (CollectionFile, Document)


def files(conn: Connection, collection_id: int) -> list[KnownFile]:
    """The files that the collection was last read from."""
    names = [table_of(CollectionFile).c[name] for name in KnownFile.__dataclass_fields__]
    now = (CollectionFile.collection_id == collection_id, CollectionFile.until_version.is_(None))
    return [KnownFile(*row) for row in conn.execute(select(*names).where(*now))]


def documents(conn: Connection, collection_id: int, place: bytes, after: bytes) -> list[KnownDocument]:
    """The next documents of the file at `place` that the collection holds now, behind the one at `after`."""
    columns = (
        Document.document_no,
        Document.source,
        Document.record_id,
        Document.place,
        Document.digest,
        Document.first_chunk,
        Document.chunks,
    )
    within = (Document.place > max(after, place + b"\x00"), Document.place < place + b"\x01")
    now = (Document.collection_id == collection_id, *within, Document.until_version.is_(None))
    found = select(*columns).where(*now).order_by(Document.place).limit(PAGE)
    return [KnownDocument(*cast(Any, row)) for row in conn.execute(found)]


def begin(
    conn: Connection, collection_id: int, expected: int, owner: str, sources: bytes, active_set: int | None = None
) -> VersionView | None:
    """Begin version `expected` on the active set; None when somebody else began one since it was looked up.

    `active_set`: the set that it is to be for, None for any. When readers see another one by now, that one may lack
    chunks that this one has: None, too.
    """
    found = conn.execute(select(table_of(Collection)).where(Collection.id == collection_id).with_for_update()).one()
    if found.next_version != expected or active_set not in (None, found.active_set):
        return None
    if collections.by_id(conn, collection_id).under_way is not None:
        return None
    now = read_clock(conn)
    row = {
        "collection_id": collection_id,
        "version_no": expected,
        "set_id": found.active_set,
        "state": "reading",
        "owner": owner,
        "seen_at": now.lease_s,
        "sources": sources,
        "first_file": found.next_file,
        "first_document": found.next_document,
        "first_chunk": found.next_chunk,
        "counts": {},
        "started_at": now.wall_s,
    }
    conn.execute(insert(CollectionVersion).values(row))
    conn.execute(update(Collection).where(Collection.id == collection_id).values(next_version=expected + 1))
    return view(conn, collection_id, expected)


def view(conn: Connection, collection_id: int, version_no: int) -> VersionView:
    """That version."""
    return collections.version_view(conn, _row(conn, collection_id, version_no))


def write(conn: Connection, version: VersionView, owner: str, rows: Writing) -> None:
    """Add rows to a version that `owner` reads.

    Raises:
        UsageError: another process took it over, because this one was not heard of for too long.
    """
    hold(conn, version, owner)
    known, number = version.collection_id, version.version_no
    append_rows(conn, CollectionFile, _FILE, [(known, *row, number) for row in rows.files])
    append_rows(conn, Document, _DOCUMENT, [(known, *row, number) for row in _with_metadata(conn, known, rows)])
    append_rows(conn, Chunk, _CHUNK, [(known, *row) for row in rows.chunks])
    for some in among(conn, CollectionFile.file_no, rows.ended_files):
        ended = update(CollectionFile).where(CollectionFile.collection_id == known, some)
        conn.execute(ended.values(until_version=number))
    for some in among(conn, Document.document_no, rows.ended_documents):
        conn.execute(update(Document).where(Document.collection_id == known, some).values(until_version=number))
    for path, size, mtime_ns, ctime_ns, file_no in rows.restamped:
        stamped = update(CollectionFile).where(CollectionFile.collection_id == known, CollectionFile.file_no == file_no)
        conn.execute(stamped.values(path=path, size=size, mtime_ns=mtime_ns, ctime_ns=ctime_ns))
    _count_up(conn, known, rows)


def _with_metadata(conn: Connection, collection_id: int, rows: Writing) -> list[tuple[Any, ...]]:
    """The new documents; those that are copies with the metadata of the older row."""
    if not rows.copies:
        return rows.documents
    extra: dict[int, Any] = {}
    for some in among(conn, Document.document_no, set(rows.copies.values())):
        found = select(Document.document_no, Document.extra).where(Document.collection_id == collection_id, some)
        extra.update({row[0]: row[1] for row in conn.execute(found)})
    return [
        (*row[:_METADATA], extra[rows.copies[row[0]]], *row[_METADATA + 1 :]) if row[0] in rows.copies else row
        for row in rows.documents
    ]


def _count_up(conn: Connection, collection_id: int, rows: Writing) -> None:
    grown = {
        "next_file": max((row[0] + 1 for row in rows.files), default=None),
        "next_document": max((row[0] + 1 for row in rows.documents), default=None),
        "next_chunk": max((row[0] + 1 for row in rows.chunks), default=None),
    }
    values = {name: value for name, value in grown.items() if value is not None}
    if values:
        conn.execute(update(Collection).where(Collection.id == collection_id).values(**values))


def read_whole(conn: Connection, version: VersionView, owner: str, told: Mapping[str, Any]) -> None:
    """The sources are read: what is left is to embed what is new. `told` has the shape by which they were."""
    hold(conn, version, owner)
    values = {"state": "building", "seen_at": read_clock(conn).lease_s, "counts": dict(told)}
    conn.execute(update(CollectionVersion).where(*_is(version.collection_id, version.version_no)).values(**values))


def filled(conn: Connection, collection_id: int, version_no: int) -> int | None:
    """The set knows all chunks of the version, and nothing has to be embedded.

    Unless another process took chunks for a job meanwhile: then nothing is noted, and its number is given.
    """
    row = conn.execute(
        select(table_of(CollectionVersion)).where(*_is(collection_id, version_no)).with_for_update()
    ).one()
    if row.job_id is not None:
        return int(row.job_id)
    told = update(CollectionVersion).where(*_is(collection_id, version_no), CollectionVersion.state == "building")
    conn.execute(told.values(counts={**row.counts, "filled": True}, seen_at=None))
    return None


def complete(conn: Connection, collection_id: int, version_no: int) -> bool:
    """Let readers see the version, if its job is finished or it needed none; whether they do now.

    One for a set that is not active any more is taken back: readers would not see it, and the next sync begins anew.
    """
    here = select(Collection.active_set).where(Collection.id == collection_id).with_for_update()
    active = conn.execute(here).scalar_one()
    row = _row(conn, collection_id, version_no)
    if row.state != "building":
        return bool(row.state == "complete")
    if row.set_id != active:
        take_back(conn, view(conn, collection_id, version_no))
        return False
    if row.job_id is not None:
        if conn.execute(select(Job.state).where(Job.id == row.job_id)).scalar_one() != "finished":
            return False
        sets.keep_failures(conn, row.set_id, row.job_id)
    elif not row.counts.get("filled"):
        return False
    told = {**row.counts, **_bill(conn, row)}
    done = {"state": "complete", "counts": told, "finished_at": read_clock(conn).wall_s}
    conn.execute(update(CollectionVersion).where(*_is(collection_id, version_no)).values(**done))
    new = {"version": version_no, "shape": row.counts["shape"]}
    conn.execute(update(Collection).where(Collection.id == collection_id).values(**new))
    conn.execute(update(EmbeddingSet).where(EmbeddingSet.id == row.set_id).values(version=version_no))
    return True


def complete_all(conn: Connection) -> int:
    """Complete every version whose job is finished, whoever started it; how many."""
    found = select(CollectionVersion.collection_id, CollectionVersion.version_no)
    ready = found.join(Job, Job.id == CollectionVersion.job_id).where(
        CollectionVersion.state == "building", Job.state == "finished"
    )
    return sum(complete(conn, row[0], row[1]) for row in conn.execute(ready).all())


def _bill(conn: Connection, row: Row[Any]) -> dict[str, Any]:
    """What the version took: chunks embedded and reused, failures, and money as text."""
    fresh = (SetVector.set_id == row.set_id, SetVector.chunk_no >= row.first_chunk)
    filled, failed = conn.execute(
        select(func.count(), func.count(SetVector.error_class)).select_from(SetVector).where(*fresh)
    ).one()
    if row.job_id is None:
        return {"reused": filled - failed, "embedded": 0, "failed": failed, "requests": 0, "usd": "0"}
    spent = counts.counts(conn, row.job_id)
    embedded = spent.succeeded - spent.cached
    asked = (Item.job_id == row.job_id, Item.chunk_no >= row.first_chunk)
    items = conn.execute(select(func.count()).select_from(Item).where(*asked)).scalar_one()
    sent = items - (spent.items - spent.succeeded) - spent.cached
    return {
        "reused": max(0, filled - failed - max(0, sent)),
        "embedded": embedded,
        "failed": failed,
        "requests": spent.requests,
        "usd": None if spent.usd is None else str(spent.usd),
    }


def take_back(conn: Connection, version: VersionView) -> None:
    """A version that will not be completed: nobody has seen it, and what was paid for is kept as answers."""
    known, number = version.collection_id, version.version_no
    row = conn.execute(select(table_of(CollectionVersion)).where(*_is(known, number)).with_for_update()).one()
    if row.state not in collections.UNDER_WAY:
        return
    sets_of = select(EmbeddingSet.id).where(EmbeddingSet.collection_id == known)
    mine = SetVector.chunk_no >= row.first_chunk
    if row.job_id is None:
        _delete_new(conn, row)
    else:
        # The job's items point at the chunks: they stay, as those of documents that were never there.
        control.end(conn, row.job_id, "cancelled", None)
        items = select(Item.chunk_no).where(Item.job_id == row.job_id)
        mine = or_(mine, (SetVector.set_id == row.set_id) & SetVector.chunk_no.in_(items))
        for table in _TABLES:
            new = update(table).where(table.collection_id == known, table.from_version == number)
            conn.execute(new.values(until_version=number))
    conn.execute(delete(SetVector).where(SetVector.set_id.in_(sets_of), mine))
    for table in _TABLES:
        ended = (table.collection_id == known, table.until_version == number, table.from_version != number)
        conn.execute(update(table).where(*ended).values(until_version=None))
    failed = {"state": "failed", "owner": None, "finished_at": read_clock(conn).wall_s}
    conn.execute(update(CollectionVersion).where(*_is(known, number)).values(**failed))


def _delete_new(conn: Connection, row: Row[Any]) -> None:
    known = row.collection_id
    conn.execute(delete(Chunk).where(Chunk.collection_id == known, Chunk.chunk_no >= row.first_chunk))
    conn.execute(delete(Document).where(Document.collection_id == known, Document.document_no >= row.first_document))
    mine = (CollectionFile.collection_id == known, CollectionFile.file_no >= row.first_file)
    conn.execute(delete(CollectionFile).where(*mine))


def hold(conn: Connection, version: VersionView, owner: str) -> None:
    """Say that the process that reads this version lives.

    Raises:
        UsageError: another one took it over.
    """
    mine = (*_is(version.collection_id, version.version_no), CollectionVersion.owner == owner)
    seen = update(CollectionVersion).where(*mine, CollectionVersion.state == "reading")
    if conn.execute(seen.values(seen_at=read_clock(conn).lease_s)).rowcount != 1:
        raise UsageError(
            f"another sync took version {version.version_no} over, since this one was not heard of for too long",
            next_step="run the same command again",
        )


def _row(conn: Connection, collection_id: int, version_no: int) -> Row[Any]:
    return conn.execute(select(table_of(CollectionVersion)).where(*_is(collection_id, version_no))).one()


def _is(collection_id: int, version_no: int) -> tuple[Any, ...]:
    return CollectionVersion.collection_id == collection_id, CollectionVersion.version_no == version_no
