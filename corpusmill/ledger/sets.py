"""Sets of vectors: filled by jobs over the chunks that they lack, activated when they lack none, kept, dropped.

building ─► ready ─► active ─► kept ─► dropped
            └───────────┴───────┘        a kept one can be active again until its time is over

The vector of a chunk is the answer under its content key, so a set holds no vectors itself, and no chunk is paid for
twice, in whatever set, version or job it was asked for first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, select, update

from corpusmill.errors import UsageError
from corpusmill.ledger import collections, jobs, loading
from corpusmill.ledger.bulk import among, append_rows, insert_new, table_of
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.collection_records import Aim, Cover, LackingChunk, NewVector, SetView
from corpusmill.ledger.database import Database
from corpusmill.ledger.models import (
    Answer,
    Chunk,
    Collection,
    CollectionVersion,
    EmbeddingSet,
    Item,
    Job,
    Result,
    SetVector,
)
from corpusmill.ledger.records import JobView, NewJob
from corpusmill.ledger.stretches import Stretch, of_version
from corpusmill.spec import JobSpec

_ITEM = ("job_id", "item_no", "chunk_no", "key", "tokens")
_DROPPED_AT_ONCE = 20_000


def lacking(conn: Connection, collection_id: int, set_id: int, stretch: Stretch) -> list[LackingChunk]:
    """The chunks of a stretch that the set does not know yet."""
    known = and_(SetVector.set_id == set_id, SetVector.chunk_no == Chunk.chunk_no)
    wanted = (Chunk.collection_id == collection_id, Chunk.chunk_no.between(*stretch), SetVector.chunk_no.is_(None))
    columns = (Chunk.chunk_no, Chunk.text, Chunk.tokens, Chunk.problem)
    found = conn.execute(select(*columns).outerjoin(SetVector, known).where(*wanted).order_by(Chunk.chunk_no))
    return [
        LackingChunk(row.chunk_no, row.text or "", row.tokens, None if row.problem is None else tuple(row.problem))
        for row in found
    ]


def answered(conn: Connection, keys: Sequence[bytes]) -> set[bytes]:
    """Which of these content keys have an answer."""
    found: set[bytes] = set()
    for some in among(conn, Answer.key, set(keys)):
        found.update(conn.execute(select(Answer.key).where(some)).scalars())
    return found


def fill(conn: Connection, aim: Aim, rows: Sequence[NewVector], new_job: NewJob) -> tuple[int, JobView | None]:
    """Let the set know these chunks; those without an answer become items of `new_job`, which is made if need be.

    Two processes may fill one set at once: each chunk is taken by one of them. Gives the number of items, and the job.

    Raises:
        UsageError: the version was taken back, because its sync was not heard of for too long; or a document's purge
            took chunks of it away.
    """
    if aim.owner is not None:
        _hold(conn, aim)
    else:
        collections.refuse_purging(conn, aim.collection_id, aim.version_no)
    new = insert_new(conn, SetVector, [_row(aim.set_id, row) for row in rows])
    have = answered(conn, [row.key for row in rows if row.key is not None])
    wanted = [row for row in rows if (aim.set_id, row.chunk_no) in new and row.key is not None and row.key not in have]
    if not wanted:
        return 0, None
    job, _ = jobs.submit(conn, new_job)
    _append(conn, job.id, wanted)
    _link(conn, aim, job.id)
    return len(wanted), job


def _hold(conn: Connection, aim: Aim) -> None:
    """Say that the version is being filled; whoever takes it back waits for us, or we see that it did."""
    mine = (CollectionVersion.collection_id == aim.collection_id, CollectionVersion.version_no == aim.version_no)
    seen = update(CollectionVersion).where(*mine, CollectionVersion.state == "building")
    if conn.execute(seen.values(owner=aim.owner, seen_at=read_clock(conn).lease_s)).rowcount != 1:
        raise UsageError(
            f"another sync took version {aim.version_no} back, since this one was not heard of for too long",
            next_step="run the same command again",
        )


def _link(conn: Connection, aim: Aim, job_id: int) -> None:
    """Remember which job embeds what is lacking, in the transaction that takes chunks for it: none is forgotten."""
    if aim.owner is not None:
        mine = (CollectionVersion.collection_id == aim.collection_id, CollectionVersion.version_no == aim.version_no)
        conn.execute(update(CollectionVersion).where(*mine).values(job_id=job_id))
    else:
        aimed = {"state": "building", "target": aim.version_no, "job_id": job_id}
        open_ = EmbeddingSet.state.in_(("building", "ready"))
        conn.execute(update(EmbeddingSet).where(EmbeddingSet.id == aim.set_id, open_).values(**aimed))


def _row(set_id: int, vector: NewVector) -> dict[str, Any]:
    error_class, error = vector.problem or (None, None)
    numbers = {"set_id": set_id, "chunk_no": vector.chunk_no, "key": vector.key}
    return {**numbers, "error_class": error_class, "error": error}


def _append(conn: Connection, job_id: int, rows: Sequence[NewVector]) -> None:
    job = conn.execute(select(table_of(Job)).where(Job.id == job_id).with_for_update()).one()
    if job.state != "loading":
        raise UsageError(f"job {job.public_id} is {job.state} already", next_step="run the same command again")
    items = [(job_id, number, row.chunk_no, row.key, row.tokens) for number, row in enumerate(rows, start=job.items)]
    append_rows(conn, Item, _ITEM, items)
    loading.grow_shards(conn, job, len(items))
    counted = {"items": job.items + len(items), "input_tokens": job.input_tokens + sum(row.tokens for row in rows)}
    conn.execute(update(Job).where(Job.id == job_id).values(**counted))


def keep_failures(conn: Connection, set_id: int, job_id: int) -> int:
    """Let the set know which chunks its finished job could not embed, and why; how many."""
    ended = and_(Result.job_id == Item.job_id, Result.item_no == Item.item_no)
    mine = select(Item.chunk_no, Result.error_class, Result.error).join(Result, ended)
    failed = conn.execute(mine.where(Item.job_id == job_id, Result.error_class.is_not(None))).all()
    for row in failed:
        told = update(SetVector).where(SetVector.set_id == set_id, SetVector.chunk_no == row.chunk_no)
        conn.execute(told.values(error_class=row.error_class, error=row.error))
    return len(failed)


def forget_failures(conn: Connection, set_id: int) -> int:
    """Forget the chunks that calls failed for, so that they are tried again; how many. Those never sent stay."""
    failed = (SetVector.set_id == set_id, SetVector.error_class.is_not(None), SetVector.key.is_not(None))
    return conn.execute(delete(SetVector).where(*failed)).rowcount


def cover(database: Database, collection_id: int, set_id: int, version: int) -> Cover:
    """How much of the collection's version the set has."""
    chunks = vectors = failed = 0
    for first, last in of_version(database, collection_id, version):
        chunks += last - first + 1
        have, lost = database.read(_counted, set_id, (first, last))
        vectors, failed = vectors + have, failed + lost
    return Cover(chunks, vectors, failed)


def _counted(conn: Connection, set_id: int, stretch: Stretch) -> tuple[int, int]:
    there = (SetVector.set_id == set_id, SetVector.chunk_no.between(*stretch))
    counted = select(func.count(Answer.key), func.count(SetVector.error_class)).select_from(SetVector)
    found = conn.execute(counted.outerjoin(Answer, Answer.key == SetVector.key).where(*there)).one()
    return int(found[0]), int(found[1])


def clear_failures(conn: Connection, set_id: int) -> None:
    """Chunks that calls failed for are being tried again by the job that tried them."""
    failed = (SetVector.set_id == set_id, SetVector.error_class.is_not(None), SetVector.key.is_not(None))
    conn.execute(update(SetVector).where(*failed).values(error_class=None, error=None))


def begin(
    conn: Connection, collection_id: int, name: str, provider: str, spec: JobSpec, keep_s: float | None
) -> SetView:
    """The set to build beside the active one: one of this spec that is there, or a new one.

    It is aimed at the collection's last complete version; another one than before is for another job. One whose job is
    not finished has to come to the end of that first: its chunks are taken, and no other job would embed them.

    Raises:
        UsageError: a document is being purged from the collection.
    """
    row = conn.execute(select(table_of(Collection)).where(Collection.id == collection_id).with_for_update()).one()
    collections.refuse_purging(conn, collection_id, row.version)
    for each in collections.by_id(conn, collection_id).sets:
        if is_expired(conn, each):
            _drop(conn, each.id)
    here = collections.by_id(conn, collection_id)
    same = [each for each in here.sets if each.spec == spec and each.id != here.active.id]
    if same:
        set_id, job_id, target = same[-1].id, same[-1].job_id, same[-1].target
        if target != row.version and _is_finished(conn, job_id):
            job_id, target = None, row.version
    else:
        at, job_id, target = read_clock(conn).wall_s, None, row.version
        free = _free_name(conn, collection_id, name)
        set_id = collections.new_set(conn, collection_id, free, provider, spec, state="building", at=at)
    values = {"state": "building", "keep_until": None, "keep_s": keep_s, "provider": provider}
    aimed = update(EmbeddingSet).where(EmbeddingSet.id == set_id)
    conn.execute(aimed.values(**values, target=target, job_id=job_id))
    return view(conn, set_id)


def _is_finished(conn: Connection, job_id: int | None) -> bool:
    """Whether nothing is left to do of a set's job, if it has one."""
    return conn.execute(select(Job.state).where(Job.id == job_id)).scalar_one_or_none() in ("finished", None)


def _free_name(conn: Connection, collection_id: int, name: str) -> str:
    taken = set(conn.execute(select(EmbeddingSet.name).where(EmbeddingSet.collection_id == collection_id)).scalars())
    number = 1
    while (free := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    return free


def finished(conn: Connection) -> list[SetView]:
    """Sets that are being built by a job that is finished."""
    found = select(table_of(EmbeddingSet)).join(Job, Job.id == EmbeddingSet.job_id)
    rows = conn.execute(found.where(EmbeddingSet.state == "building", Job.state == "finished"))
    return [collections.set_view(row) for row in rows]


def view(conn: Connection, set_id: int) -> SetView:
    """That set."""
    return collections.set_view(conn.execute(select(table_of(EmbeddingSet)).where(EmbeddingSet.id == set_id)).one())


def complete(conn: Connection, set_id: int) -> bool:
    """The set has all of the version that it was aimed at, if its job is finished; whether it has.

    One without a job is complete when whoever filled it says so, by `filled`: it may be on its way to that.
    """
    here = _locked(conn, set_id)
    if here.state != "building":
        return bool(here.state == "ready")
    if here.job_id is None:
        return False
    if conn.execute(select(Job.state).where(Job.id == here.job_id)).scalar_one() != "finished":
        return False
    keep_failures(conn, set_id, here.job_id)
    _make_ready(conn, here)
    return True


def filled(conn: Connection, set_id: int, version_no: int) -> int | None:
    """A set that is being built knows all chunks of `version_no`, and nothing has to be embedded: it is complete.

    Unless another process took chunks for a job meanwhile: then its number is given.
    """
    here = _locked(conn, set_id)
    if here.state != "building" or here.target != version_no:
        return None
    if here.job_id is not None:
        return int(here.job_id)
    _make_ready(conn, here)
    return None


def _locked(conn: Connection, set_id: int) -> Row[Any]:
    return conn.execute(select(table_of(EmbeddingSet)).where(EmbeddingSet.id == set_id).with_for_update()).one()


def _make_ready(conn: Connection, row: Row[Any]) -> None:
    done = {"state": "ready", "version": row.target}
    conn.execute(update(EmbeddingSet).where(EmbeddingSet.id == row.id).values(**done))


def lost(conn: Connection, collection_id: int, set_id: int) -> list[int]:
    """The chunks that this set could not embed and the active one has."""
    active = select(Collection.active_set).where(Collection.id == collection_id).scalar_subquery()
    failed = select(SetVector.chunk_no).where(SetVector.set_id == set_id, SetVector.error_class.is_not(None))
    good = select(SetVector.chunk_no).where(SetVector.set_id == active, SetVector.error_class.is_(None))
    return sorted(conn.execute(failed.where(SetVector.chunk_no.in_(good))).scalars())


def still_there(database: Database, collection_id: int, version: int, chunks: Sequence[int]) -> int:
    """How many of these chunks, in order, belong to a document at `version`."""
    found: set[int] = set()
    if chunks:
        for first, last in of_version(database, collection_id, version):
            found.update(chunks[bisect_right(chunks, first - 1) : bisect_right(chunks, last)])
    return len(found)


def is_whole(conn: Connection, set_id: int) -> bool:
    """Whether nothing of the set has been taken away yet."""
    found = select(EmbeddingSet.state, EmbeddingSet.keep_until).where(EmbeddingSet.id == set_id)
    row = conn.execute(found).one_or_none()
    if row is None or row.state == "dropped":
        return False
    return row.state != "kept" or row.keep_until is None or row.keep_until >= read_clock(conn).wall_s


def is_expired(conn: Connection, set_: SetView) -> bool:
    """Whether a set was kept long enough: it is nobody's any more, and soon dropped."""
    return set_.state == "kept" and set_.keep_until is not None and set_.keep_until < read_clock(conn).wall_s


def drop_expired(conn: Connection) -> int:
    """Drop a set that was kept long enough; if there is none, take a bounded part of a dropped one's rows away.

    It is dropped before the first row goes: nobody may activate a part. Returns how much was done.
    """
    expired = (EmbeddingSet.state == "kept", EmbeddingSet.keep_until < read_clock(conn).wall_s)
    found = conn.execute(select(EmbeddingSet.id, EmbeddingSet.collection_id).where(*expired).limit(1)).first()
    if found is None:
        return _drop_rows(conn)
    # Whoever activates it, or begins to build it again, holds this lock too.
    conn.execute(select(Collection.id).where(Collection.id == found.collection_id).with_for_update())
    if not is_expired(conn, view(conn, found.id)):
        return 0
    _drop(conn, found.id)
    return 1


def _drop(conn: Connection, set_id: int) -> None:
    """A set is no more, and its name is free again; its rows go later. The caller has locked the collection."""
    dropped = {"state": "dropped", "name": EmbeddingSet.name + f"~{set_id}", "keep_until": None}
    conn.execute(update(EmbeddingSet).where(EmbeddingSet.id == set_id).values(**dropped))


def _drop_rows(conn: Connection) -> int:
    some = select(SetVector.chunk_no).where(SetVector.set_id == EmbeddingSet.id).exists()
    left = select(EmbeddingSet.id).where(EmbeddingSet.state == "dropped", some).limit(1)
    set_id = conn.execute(left).scalar_one_or_none()
    if set_id is None:
        return 0
    page = select(SetVector.chunk_no).where(SetVector.set_id == set_id).order_by(SetVector.chunk_no)
    last = select(func.max(page.limit(_DROPPED_AT_ONCE).subquery().c.chunk_no)).scalar_subquery()
    return conn.execute(delete(SetVector).where(SetVector.set_id == set_id, SetVector.chunk_no <= last)).rowcount
