"""Purging a whole collection: its sets, versions, files, documents and texts, its jobs, and answers of its own.

Its name is taken from it in the first transaction, so that nobody reads or syncs what is left of it; the name may be
given to a new collection at once. A note in `meta` says what it was called until nothing of it is left: so the same
purge goes on after a kill, with that one alone: a collection that was made under its name since is another one.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, select, update

from corpusmill.errors import CorpusmillError, UsageError
from corpusmill.ledger import collections, pages, purge_jobs
from corpusmill.ledger.base import Base
from corpusmill.ledger.bulk import table_of, upsert
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.collection_records import SILENT_S
from corpusmill.ledger.database import Database
from corpusmill.ledger.jobs import ENDED, PURGED
from corpusmill.ledger.leftovers import Tally
from corpusmill.ledger.models import (
    Chunk,
    Collection,
    CollectionFile,
    CollectionVersion,
    Document,
    EmbeddingSet,
    Job,
    Meta,
    SetVector,
)
from corpusmill.ledger.references import Going

_NOTE = "purge:"
_TABLES: tuple[type[Base], ...] = (Chunk, Document, CollectionFile, CollectionVersion)


def purge(database: Database, name: str, *, keep_usage: bool) -> Tally:
    """Purge what is left of collections of that name, or else the one that has it; how many rows of each table went.

    Raises:
        UsageError: there is none, or a sync or a job of it has not ended.
        CorpusmillError: something of it is left.
    """
    found = database.write(_begin, name)
    told = Tally(collections=len(found))
    for collection_id in found:
        told += _purge_one(database, collection_id, keep_usage=keep_usage)
    return told


def count(database: Database, name: str, *, keep_usage: bool) -> Tally:
    """What `purge` would take away; the same refusals."""
    found = database.read(_found, name)
    told = Tally(collections=len(found))
    for collection_id in found:
        going = database.read(_going, collection_id)
        told += database.read(_rows, collection_id)
        told["answers"] += purge_jobs.count_answers(database, going)
        for job_id in sorted(going.jobs):
            told += database.read(purge_jobs.count_rows, job_id, keep_usage=keep_usage)
        told["jobs"] += len(going.jobs)
    return told


def _found(conn: Connection, name: str) -> list[int]:
    """Those half purged that had the name; without any the collection that has it, if nothing of it is under way."""
    if half := _half_purged(conn, name):
        return half
    known = collections.find(conn, name)
    refuse_under_way(conn, known.id, name)
    return [known.id]


def _half_purged(conn: Connection, name: str) -> list[int]:
    noted = select(Meta.name).where(Meta.name.startswith(_NOTE), Meta.value == name.encode())
    return [int(note.removeprefix(_NOTE)) for note in conn.execute(noted).scalars()]


def has_namesake(conn: Connection, name: str) -> bool:
    """Whether one that had the name is half purged, and another one has it now."""
    return bool(_half_purged(conn, name)) and collections.named(conn, name) is not None


def refuse_under_way(conn: Connection, collection_id: int, name: str) -> None:
    """Refuse while a sync of the collection is being written, or a job of it has not ended."""
    writing = (
        CollectionVersion.collection_id == collection_id,
        CollectionVersion.state.in_(collections.UNDER_WAY),
        CollectionVersion.seen_at > read_clock(conn).lease_s - SILENT_S,
    )
    held = conn.execute(select(CollectionVersion.sources).where(*writing)).first()
    if held is not None:
        what = "the purge of a document" if held.sources == collections.PURGE else "a sync"
        raise UsageError(
            f"{what} of {name} is under way",
            next_step=f"wait for it, or end it (one that was killed counts as ended after {SILENT_S:.0f} s)",
        )
    going_on = (Job.collection_id == collection_id, Job.state.not_in((*ENDED, *PURGED)))
    open_ = conn.execute(select(Job.public_id, Job.state).where(*going_on).order_by(Job.id)).all()
    if open_:
        raise UsageError(
            f"{name} has jobs that have not ended: {', '.join(f'{job.public_id} is {job.state}' for job in open_)}",
            next_step=f"corpusmill cancel {open_[0].public_id}   # then purge it",
        )
    for job_id in conn.execute(select(Job.id).where(Job.collection_id == collection_id)).scalars().all():
        purge_jobs.refuse_in_flight(conn, job_id)


def _begin(conn: Connection, name: str) -> list[int]:
    """Take the name away; nobody waits for its versions and sets any more."""
    conn.execute(select(Collection.id).where(Collection.name == name).with_for_update())
    found = _found(conn, name)
    for collection_id in found:
        note = upsert(conn, Meta).values(name=f"{_NOTE}{collection_id}", value=name.encode())
        conn.execute(note.on_conflict_do_nothing())
        # The next version's number is another, so that a sync which has looked already looks again.
        hidden = {"name": None, "next_version": Collection.next_version + 1}
        conn.execute(update(Collection).where(Collection.id == collection_id).values(**hidden))
        conn.execute(
            update(CollectionVersion)
            .where(CollectionVersion.collection_id == collection_id)
            .values(state="failed", owner=None, job_id=None)
        )
        ended = update(EmbeddingSet).where(EmbeddingSet.collection_id == collection_id)
        conn.execute(ended.values(state="dropped", job_id=None, target=None, keep_until=None))
    return found


def _going(conn: Connection, collection_id: int) -> Going:
    jobs = conn.execute(select(Job.id).where(Job.collection_id == collection_id)).scalars()
    return Going(frozenset(jobs), frozenset(sets_of(conn, collection_id)))


def sets_of(conn: Connection, collection_id: int) -> Sequence[int]:
    """Its sets, dropped ones too."""
    found = select(EmbeddingSet.id).where(EmbeddingSet.collection_id == collection_id)
    return conn.execute(found.order_by(EmbeddingSet.id)).scalars().all()


def _purge_one(database: Database, collection_id: int, *, keep_usage: bool) -> Tally:
    going = database.read(_going, collection_id)
    jobs = sorted(going.jobs)
    kept = purge_jobs.begin(database, jobs, keep_usage=keep_usage)
    told = Tally(answers=purge_jobs.delete_answers(database, going))
    for set_id in sorted(going.sets):
        told["vectors"] += pages.delete_all(database, SetVector, set_id)
    told += purge_jobs.purge_rows(database, jobs, kept)
    for table in _TABLES:
        told[table.__tablename__] += pages.delete_all(database, table, collection_id)
    told["embedding_sets"] = database.write(_remove, collection_id)
    return told


def _remove(conn: Connection, collection_id: int) -> int:
    """Its own row and those of its sets, once nothing is left that names them; how many sets."""
    if left := _rows(conn, collection_id, sets=False):
        told = ", ".join(f"{number:,} of {name}" for name, number in left.items())
        raise CorpusmillError(
            f"rows of collection number {collection_id} came while it was purged: {told}",
            next_step="type the same command again",
        )
    sets = [
        set_id for set_id in sets_of(conn, collection_id) if not purge_jobs.is_newest(conn, EmbeddingSet.id, set_id)
    ]
    conn.execute(delete(EmbeddingSet).where(EmbeddingSet.id.in_(sets)))
    conn.execute(delete(Meta).where(Meta.name.startswith(f"out:{collection_id}:")))
    conn.execute(delete(Meta).where(Meta.name == f"{_NOTE}{collection_id}"))
    kept = conn.execute(select(func.count()).select_from(Job).where(Job.collection_id == collection_id)).scalar_one()
    if kept or purge_jobs.is_newest(conn, Collection.id, collection_id) or sets_of(conn, collection_id):
        hollow = {"active_set": None, "version": None}
        conn.execute(update(Collection).where(Collection.id == collection_id).values(**hollow))
    else:
        conn.execute(delete(Collection).where(Collection.id == collection_id))
    return len(sets)


def _rows(conn: Connection, collection_id: int, *, sets: bool = True) -> Tally:
    """What is there of a collection, by table."""
    told = Tally()
    for table in _TABLES:
        owner = table_of(table).c.collection_id
        told[table.__tablename__] = _count(conn, table, owner == collection_id)
    known = sets_of(conn, collection_id)
    told["vectors"] = _count(conn, SetVector, SetVector.set_id.in_(known))
    if sets:
        told["embedding_sets"] = len(known)
    return +told


def _count(conn: Connection, table: type[Base], condition: object) -> int:
    return int(conn.execute(select(func.count()).select_from(table).where(condition)).scalar_one())  # type: ignore[arg-type]
