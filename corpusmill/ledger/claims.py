"""Claiming a shard: the lease and its fence, the answers that are there already, and what is left to send.

wake-up (job, shard) ──► claim ──► None                    somebody has it, it is done, or the job is not for us
└─────► fence, items to send, items that await another shard's answer
└─► awaited, again and again, until nothing waits
"""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, select, update

from corpusmill.ledger import budgets, inflight, shards, suspects
from corpusmill.ledger.amounts import NOTHING
from corpusmill.ledger.bulk import insert_new, planned_anew, table_of
from corpusmill.ledger.clock import Now, read_clock
from corpusmill.ledger.goals import ended, open_items
from corpusmill.ledger.jobs import RUNNABLE, run_of
from corpusmill.ledger.models import Answer, Chunk, Document, Item, Job, Result
from corpusmill.ledger.records import AwaitReport, ClaimedShard, ShardRef, WorkItem
from corpusmill.ledger.shards import LockedShard

Holds = Collection[tuple[str, str]]


def claim(conn: Connection, ref: ShardRef, *, worker_id: str, lease_s: float, holds: Holds) -> ClaimedShard | None:
    """Take the shard for `lease_s` seconds, if it is free and its job runs and is one that `holds` can serve."""
    shard = shards.lock(conn, [ref]).get(ref)
    job = conn.execute(select(table_of(Job)).where(Job.id == ref.job_id)).one_or_none()
    now = read_clock(conn)
    if shard is None or job is None or not _is_free(shard, now):
        return None
    if not _is_for(job, holds):
        # The wake-up is used up. The next tick sends another: in a mixed fleet, until a worker with the key takes it.
        shard.sent_at = None
        shards.save(conn, [shard])
        return None
    if suspects.busy_with_another(conn, shard, worker_id):
        shard.let_go(not_before=now.lease_s + suspects.BUSY_S)
        shards.save(conn, [shard])
        return None
    given_back = shard.reserve
    _own(shard, worker_id, now, lease_s)
    inflight.drop_shard(conn, ref)  # what an earlier owner left behind
    work = _share_out(conn, job, shard, now, held=set(), first=True)
    if not work.items and not work.waiting and shard.complete:
        shard.close()
        suspects.ended_in_order(conn, shard)
    shards.save(conn, [shard])
    budgets.adjust(conn, {ref.job_id: NOTHING - given_back})
    conn.execute(update(Job).where(Job.id == ref.job_id, Job.state == "queued").values(state="running"))
    if shard.done:
        shards.closed(conn, [ref], now.wall_s)
    return ClaimedShard(
        ref=ref,
        fence=shard.fence,
        job=run_of(job),
        items=work.items,
        awaited=work.waiting,
        trial=suspects.on_trial(shard),
    )


def awaited(conn: Connection, ref: ShardRef, fence: int) -> AwaitReport:
    """Where a shard's awaited keys stand; keys whose payer failed or died are taken over and come back as `items`."""
    shard = shards.lock(conn, [ref]).get(ref)
    if shard is None or not shard.held(fence):
        return AwaitReport(settled=0, items=(), waiting=())
    job = conn.execute(select(table_of(Job)).where(Job.id == ref.job_id)).one()
    if not job.cache:
        return AwaitReport(settled=0, items=(), waiting=())
    held = inflight.held(conn, shard)
    before = shard.succeeded
    work = _share_out(conn, job, shard, read_clock(conn), held=held, first=False)
    shards.save(conn, [shard])
    fresh = [item for item in work.items if item.key not in held]
    return AwaitReport(settled=shard.succeeded - before, items=fresh, waiting=work.waiting)


def _is_free(shard: LockedShard, now: Now) -> bool:
    if shard.done or (shard.not_before or 0) > now.lease_s:
        return False
    return shard.owner is None or (shard.lease_until or 0) <= now.over_s


def _is_for(job: Row[Any], holds: Holds) -> bool:
    return job.state in RUNNABLE and (job.endpoint, job.key_fingerprint) in holds


def _own(shard: LockedShard, worker_id: str, now: Now, lease_s: float) -> None:
    shard.let_go()
    shard.owner = worker_id
    shard.fence += 1
    shard.deaths += 1  # unless it ends in order
    shard.lease_until = now.lease_s + lease_s
    shard.sent_at = now.lease_s


@dataclass(frozen=True, slots=True)
class _Work:
    items: Sequence[WorkItem]
    waiting: Sequence[WorkItem]


def _share_out(
    conn: Connection, job: Row[Any], shard: LockedShard, now: Now, *, held: Set[bytes], first: bool
) -> _Work:
    """Settle the items that have an answer; of the rest, those whose key is ours (`held`, or now) are to be sent.

    `first`: the shard is being claimed. Of one on trial only a part is handed out, and no more of it later.
    """
    _settle_answered(conn, job, shard, now)
    rest = _open_work(conn, job, shard)
    if suspects.on_trial(shard):
        rest = suspects.hand_out(conn, shard, rest, now) if first else suspects.handed_out(conn, shard, rest)
    if not job.cache:  # such keys belong to one item each
        return _Work(items=rest, waiting=())
    ours = set(held) | inflight.take(conn, shard, {item.key for item in rest} - held, now.over_s)
    items: list[WorkItem] = []
    waiting: list[WorkItem] = []
    for item in rest:
        # The first item of a key pays for it; the others of this shard wait for its answer.
        (items if item.key in ours else waiting).append(item)
        ours.discard(item.key)
    return _Work(items=items, waiting=waiting)


def _settle_answered(conn: Connection, job: Row[Any], shard: LockedShard, now: Now) -> None:
    answered = (
        select(Item.item_no, Answer.truncated)
        .join(Answer, Answer.key == Item.key)
        .outerjoin(Result, ended(job, shard.shard_no))
        .where(*open_items(job, shard.shard_no), planned_anew(conn))
    )
    found = dict(conn.execute(answered).all())
    blank = {"cached": True, "error_class": None, "error": None, "attempts": 0, "request_id": None, "at": now.wall_s}
    new = insert_new(conn, Result, [{"job_id": job.id, "item_no": number, **blank} for number in found])
    if new:
        shard.succeeded += len(new)
        shard.cached += len(new)
        shard.truncated += sum(found[number] for _, number in new)
        shard.last_at = now.wall_s


def _open_work(conn: Connection, job: Row[Any], shard: LockedShard) -> list[WorkItem]:
    rest = (
        select(Item.item_no, Item.key, Item.tokens, Document.source, Chunk.text, Chunk.body)
        .join(Chunk, and_(Chunk.collection_id == job.collection_id, Chunk.chunk_no == Item.chunk_no))
        .join(Document, and_(Document.collection_id == job.collection_id, Document.document_no == Chunk.document_no))
        .outerjoin(Result, ended(job, shard.shard_no))
        .where(*open_items(job, shard.shard_no), planned_anew(conn))
        .order_by(Item.item_no)
    )
    return [WorkItem(row[0], row[1] or b"", row[2], row[3], row[4], row[5]) for row in conn.execute(rest)]
