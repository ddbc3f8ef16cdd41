"""Purging jobs: what they asked, what came of it, and, unless it is kept, their bill.

finished, cancelled, stopped ─► purging ─► (no row any more), or purged: the bill is kept, the shards' counters with it

From the first transaction on the job is `purging`: nobody takes it for an intact one, and the command that made it
makes a new one. Rows go in such an order that what is left says what is still to do: so the same purge goes on after
a kill.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection as Several
from collections.abc import Sequence
from decimal import Decimal

from sqlalchemy import Connection, Row, and_, delete, func, or_, select, update

from corpusmill.errors import CorpusmillError, UsageError
from corpusmill.ledger import pages, references, sets, shards
from corpusmill.ledger.base import Col
from corpusmill.ledger.bulk import table_of
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.collections import UNDER_WAY
from corpusmill.ledger.database import Database
from corpusmill.ledger.jobs import ENDED, PURGED
from corpusmill.ledger.leftovers import OF_COLLECTION, OF_JOB, Tally, own_collection, rows_left
from corpusmill.ledger.models import (
    Collection,
    CollectionVersion,
    EmbeddingSet,
    InFlight,
    Job,
    Output,
    Shard,
    Usage,
)
from corpusmill.ledger.references import Beat, Candidates, Going

KEPT = "purged; its usage is kept"
_GONE = "purged; SQLite would give its number to the next job"


def purge(database: Database, job_ids: Sequence[int], *, keep_usage: bool) -> Tally:
    """Purge jobs that have ended; how many rows of each table went.

    Raises:
        UsageError: one of them has not ended, or is needed; none was touched then.
        CorpusmillError: something of them is left.
    """
    for job_id in job_ids:
        database.read(refuse, job_id)
    kept = begin(database, job_ids, keep_usage=keep_usage)
    told = Tally(answers=delete_answers(database, Going(jobs=frozenset(job_ids))))
    return told + purge_rows(database, job_ids, kept)


def begin(database: Database, job_ids: Sequence[int], *, keep_usage: bool) -> frozenset[int]:
    """Let these jobs be half purged from now on; those whose bill is kept."""
    return frozenset(job_id for job_id in job_ids if database.write(_begin, job_id, keep_usage))


def purge_rows(database: Database, job_ids: Sequence[int], kept: Several[int]) -> Tally:
    """Take away all but the answers of jobs that are half purged, and the bills of those in `kept`."""
    told = Tally()
    for job_id in job_ids:
        told += _purge_content(database, job_id)
        told += _keep_bill(database, job_id) if job_id in kept else _purge_bill(database, job_id)
    return told


def count(database: Database, job_ids: Sequence[int], *, keep_usage: bool) -> Tally:
    """What `purge` would take away; the same refusals."""
    told = Tally(jobs=len(job_ids))
    for job_id in job_ids:
        database.read(refuse, job_id)
        told += database.read(count_rows, job_id, keep_usage=keep_usage)
    told["answers"] = count_answers(database, Going(jobs=frozenset(job_ids)))
    return told


def ended_before(conn: Connection, at: float, *, purged: bool) -> list[int]:
    """Jobs that ended before `at` (epoch seconds), and those half purged; with `purged` also those that kept a bill.

    One that a collection still waits for is left out, as are those with calls in flight.
    """
    last = select(func.max(Shard.last_at)).where(Shard.job_id == Job.id).scalar_subquery()
    old = func.coalesce(Job.finished_at, last, Job.created_at) < at
    wanted = [and_(Job.state.in_(ENDED), old), Job.state == "purging"]
    if purged:
        newest = select(func.max(Job.id)).scalar_subquery()
        hollow = and_(Job.note == _GONE, Job.id < newest)
        wanted.append(and_(Job.state == "purged", or_(and_(Job.note == KEPT, old), hollow)))
    found = conn.execute(select(table_of(Job)).where(or_(*wanted)).order_by(Job.id)).all()
    return [row.id for row in found if _needed_by(conn, row) is None and not _held(conn, row.id)]


# --- whether it may go ----------------------------------------------------------------------------------------------


def refuse(conn: Connection, job_id: int) -> None:
    """Refuse to purge a job that has not ended, that has calls in flight, or that a collection waits for."""
    job = conn.execute(select(table_of(Job)).where(Job.id == job_id)).one_or_none()
    if job is None:  # another purge of it came to its end
        return
    if job.state not in (*ENDED, *PURGED):
        raise UsageError(
            f"{job.public_id} is {job.state}; only a job that has ended can be purged",
            next_step=f"corpusmill cancel {job.public_id}   # then purge it",
        )
    refuse_in_flight(conn, job_id)
    if (needed := _needed_by(conn, job)) is not None:
        raise UsageError(
            f"{job.public_id} embeds {needed}, which readers do not see yet",
            next_step="run that sync or reembed again to its end, activate the set, or purge the collection",
        )


def refuse_in_flight(conn: Connection, job_id: int) -> None:
    """Refuse while calls of the job are in flight: what they bring would come after the purge."""
    if held := _held(conn, job_id):
        public_id = conn.execute(select(Job.public_id).where(Job.id == job_id)).scalar_one()
        raise UsageError(
            f"{public_id} still has calls in flight, in {held} shard(s): what they bring would come after the purge",
            next_step="wait until they have ended, then type the same command again",
        )


def _held(conn: Connection, job_id: int) -> int:
    """How many shards of the job some living worker holds."""
    taken = (Shard.job_id == job_id, Shard.owner.is_not(None), Shard.lease_until > read_clock(conn).over_s)
    return conn.execute(select(func.count()).select_from(Shard).where(*taken)).scalar_one()


def _needed_by(conn: Connection, job: Row[tuple[object, ...]]) -> str | None:
    """The version or set that is not active yet and waits for this job, or goes on as it did, in words."""
    version = (CollectionVersion.job_id == job.id, CollectionVersion.state.in_(UNDER_WAY))
    if (found := conn.execute(select(CollectionVersion.version_no).where(*version)).first()) is not None:
        return f"version {found.version_no} of collection {job.collection_id}"
    unseen = (EmbeddingSet.job_id == job.id, EmbeddingSet.state.in_(("building", "ready")))
    named = conn.execute(select(EmbeddingSet.name).where(*unseen)).first()
    return None if named is None else f"the set {named.name} of collection {job.collection_id}"


# --- a purge, step by step ------------------------------------------------------------------------------------------


def _begin(conn: Connection, job_id: int, keep_usage: bool) -> bool:
    """From now on the job is purged; its prompt goes at once. Returns whether its bill is kept.

    It is kept only if every command so far asked for it: of one that did not, some of it may be gone.
    """
    shards.lock_all(conn, job_id)
    job = conn.execute(select(table_of(Job)).where(Job.id == job_id).with_for_update()).one_or_none()
    if job is None:
        return False
    refuse(conn, job_id)
    keep = keep_usage and (job.state in ENDED or job.note == KEPT)
    texts: dict[str, object] = {"prompt": None, "system": None, "options": {}}
    values = {
        "state": "purging",
        "reason": None,
        "note": KEPT if keep else None,
        # The command that made it may make it again.
        "key": hashlib.sha256(b"purged\n" + job.key).digest() if job.state in ENDED else job.key,
        "spec": {**job.spec, **texts},
        "out": None,
        "errors_out": None,
    }
    conn.execute(update(Job).where(Job.id == job_id).values(**values))
    for table in (CollectionVersion, EmbeddingSet):
        conn.execute(update(table).where(table.job_id == job_id).values(job_id=None))
    conn.execute(delete(Output).where(Output.job_id == job_id))
    conn.execute(delete(InFlight).where(InFlight.job_id == job_id))
    return keep


def delete_answers(database: Database, going: Going, *, beat: Beat = lambda: None) -> int:
    """Delete the answers that only these rows refer to; how many. `beat` is called with every page that is read."""
    candidates = Candidates(references.keys_of(database, going, beat))
    seen, gone = references.strike_referred(database, candidates, going, beat), 0
    for some in references.batches(map(candidates.unreferred, references.keys_of(database, going, beat))):
        gone += database.write(references.delete_unreferred, some, seen, going)
    return gone


def count_answers(database: Database, going: Going, *, referred: bool = False, beat: Beat = lambda: None) -> int:
    """How many answers only these rows refer to; or, `referred`, how many of theirs something else refers to."""
    candidates = Candidates(references.keys_of(database, going, beat))
    references.strike_referred(database, candidates, going, beat)
    found: set[bytes] = set()
    for page in references.keys_of(database, going, beat):
        free = candidates.unreferred(page)
        found |= database.read(sets.answered, sorted(set(page) - set(free)) if referred else free)
    return len(found)


def _purge_content(database: Database, job_id: int) -> Tally:
    """Results, items and, of a job from plain sources, texts."""
    told = Tally({table.__tablename__: pages.delete_all(database, table, job_id) for table in OF_JOB})
    collection_id = database.read(own_collection, job_id)
    if collection_id is not None:
        for table in OF_COLLECTION:
            told[table.__tablename__] = pages.delete_all(database, table, collection_id)
    return told


def _keep_bill(database: Database, job_id: int) -> Tally:
    database.write(_set_purged, job_id)
    return Tally(jobs=1)


def _set_purged(conn: Connection, job_id: int) -> None:
    if left := rows_left(conn, job_id):
        raise _left(job_id, left)
    conn.execute(update(Job).where(Job.id == job_id).values(state="purged"))


def _purge_bill(database: Database, job_id: int) -> Tally:
    told = Tally(usage=pages.delete_all(database, Usage, job_id))
    told["shards"] = pages.delete_all(database, Shard, job_id)
    database.write(_remove, job_id)
    told["jobs"] = 1
    return told


def _remove(conn: Connection, job_id: int) -> None:
    """The job's row, once nothing is left that names it."""
    if left := rows_left(conn, job_id, bill=True):
        raise _left(job_id, left)
    collection_id = conn.execute(select(Job.collection_id).where(Job.id == job_id)).scalar_one_or_none()
    own = own_collection(conn, job_id)
    if is_newest(conn, Job.id, job_id):
        nothing = {"items": 0, "documents": 0, "input_tokens": 0, "shards_open": 0, "set_aside": Decimal(0)}
        none: dict[str, object] = {"name": None, "labels": {}, "budget_usd": None, "price_card": None, "first": None}
        hollow = update(Job).where(Job.id == job_id)
        conn.execute(hollow.values(state="purged", note=_GONE, **nothing, **none))
        return
    conn.execute(delete(Job).where(Job.id == job_id))
    if own is not None and not is_newest(conn, Collection.id, own):
        conn.execute(delete(Collection).where(Collection.id == collection_id))


def is_newest(conn: Connection, column: Col[int], number: int) -> bool:
    """Whether SQLite would give the number of this row away once more: then an empty row stays."""
    return conn.dialect.name == "sqlite" and conn.execute(select(func.max(column))).scalar_one() == number


# --- what is there ---------------------------------------------------------------------------------------------------


def count_rows(conn: Connection, job_id: int, *, keep_usage: bool) -> Tally:
    """What a purge of the job would take away, but for answers."""
    told = rows_left(conn, job_id, bill=not keep_usage)
    for small in ("in_flight", "outputs"):
        told.pop(small, None)
    return told


def _left(job_id: int, left: Tally) -> CorpusmillError:
    told = ", ".join(f"{number:,} of {name}" for name, number in left.items())
    return CorpusmillError(
        f"rows of job number {job_id} came while it was purged: {told}", next_step="type the same command again"
    )
