"""Which shards to put on the queues next, fairly over jobs, and which wake-ups to take for lost.

A shard is sent (`sent_at`) from the moment it is handed out here until it is done, given back, or taken for lost.
Within a job shards go in order, so those that a dead worker left come before those never sent.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from sqlalchemy import ColumnElement, Connection, func, or_, select, update

from corpusmill.ledger import workers
from corpusmill.ledger.bulk import with_keys
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.jobs import RUNNABLE
from corpusmill.ledger.models import UNDONE, Job, Shard
from corpusmill.ledger.records import Priority, ShardRef
from corpusmill.ledger.shards import KEY

PRIORITIES: tuple[Priority, ...] = get_args(Priority)


def sendable(conn: Connection, queue_kind: str, priority: Priority, *, room: int) -> list[ShardRef]:
    """Mark up to `room` shards as sent and return them, in the order to publish them."""
    now = read_clock(conn)
    now_s = now.lease_s
    jobs = servable(conn, queue_kind, priority)
    if not jobs or room <= 0:
        return []
    _take_back_lapsed(conn, jobs, now.over_s)
    ready = {job_id: _ready(conn, job_id, now_s, room) for job_id in jobs}
    chosen = share(_sent(conn, jobs), ready, room)
    mark = update(Shard).where(_among(chosen), UNDONE, Shard.sent_at.is_(None)).values(sent_at=now_s)
    # Two feeders may have chosen the same: each publishes what it marked itself.
    marked = set(conn.execute(mark.returning(Shard.job_id, Shard.shard_no))) if chosen else set()
    return [ref for ref in chosen if (ref.job_id, ref.shard_no) in marked]


def left_behind(conn: Connection, queue_kind: str, most: int) -> list[ShardRef]:
    """Mark up to `most` shards as sent anew whose owner let its lease lapse, and return them, longest lapsed first.

    That owner may still write what it paid for.
    """
    now_s = read_clock(conn).lease_s
    lapsed = _lapsed(conn, queue_kind, now_s)
    order = (Shard.lease_until, Shard.job_id, Shard.shard_no)
    found = conn.execute(select(Shard.job_id, Shard.shard_no).where(*lapsed).order_by(*order).limit(most)).all()
    chosen = [ShardRef(job_id, number) for job_id, number in found]
    mark = update(Shard).where(_among(chosen), *lapsed).values(owner=None, lease_until=None, sent_at=now_s)
    # Two feeders may have chosen the same: each publishes what it marked itself.
    marked = set(conn.execute(mark.returning(Shard.job_id, Shard.shard_no))) if chosen else set()
    return [ref for ref in chosen if (ref.job_id, ref.shard_no) in marked]


def any_left_behind(conn: Connection, queue_kind: str) -> bool:
    """Whether there is such a shard."""
    lapsed = _lapsed(conn, queue_kind, read_clock(conn).lease_s)
    return conn.execute(select(Shard.shard_no).where(*lapsed).limit(1)).first() is not None


def _lapsed(conn: Connection, queue_kind: str, now_s: float) -> Sequence[Any]:
    jobs = [job_id for priority in PRIORITIES for job_id in servable(conn, queue_kind, priority)]
    return (Shard.job_id.in_(jobs), UNDONE, Shard.sent_at.is_not(None), Shard.lease_until <= now_s)


def servable(conn: Connection, queue_kind: str, priority: Priority) -> list[int]:
    """Running jobs of a queue that some live worker can serve."""
    held = workers.held_by_living(conn)
    lane = (Job.queue_kind == queue_kind, Job.priority == priority, Job.state.in_(RUNNABLE))
    rows = conn.execute(select(Job.id, Job.endpoint, Job.key_fingerprint).where(*lane).order_by(Job.id))
    return [row.id for row in rows if (row.endpoint, row.key_fingerprint) in held]


def share(sent: Mapping[int, int], ready: Mapping[int, Sequence[int]], room: int) -> list[ShardRef]:
    """Hand out `room` places one by one, each to the job that has the fewest shards sent; the older job at a tie."""
    heap = [(sent.get(job_id, 0), job_id, 0) for job_id, numbers in ready.items() if numbers]
    heapq.heapify(heap)
    chosen: list[ShardRef] = []
    while heap and len(chosen) < room:
        count, job_id, taken = heapq.heappop(heap)
        chosen.append(ShardRef(job_id, ready[job_id][taken]))
        if taken + 1 < len(ready[job_id]):
            heapq.heappush(heap, (count + 1, job_id, taken + 1))
    return chosen


def outstanding(conn: Connection, queue_kind: str, priority: Priority, *, unclaimed: bool = False) -> int:
    """How many shards of running jobs of a queue are sent and not done; only those that no worker took, if asked."""
    sent = (UNDONE, Shard.sent_at.is_not(None), Shard.job_id.in_(_running(queue_kind, priority)))
    free = (Shard.owner.is_(None),) if unclaimed else ()
    return conn.execute(select(func.count()).select_from(Shard).where(*sent, *free)).scalar_one()


def held(conn: Connection, job_id: int) -> int:
    """How many shards of a job, whatever its state, some worker holds under a lease that is not over."""
    over_s = read_clock(conn).over_s
    sent = (Shard.job_id == job_id, UNDONE, Shard.sent_at.is_not(None))
    taken = (Shard.owner.is_not(None), Shard.lease_until > over_s)
    return conn.execute(select(func.count()).select_from(Shard).where(*sent, *taken)).scalar_one()


def unmark_sent(
    conn: Connection, older_than_s: float, *, queue_kind: str | None = None, priority: Priority | None = None
) -> int:
    """Take wake-ups for lost that were sent so long ago and never claimed; their shards can be sent again."""
    too_old = read_clock(conn).lease_s - older_than_s
    lost = (UNDONE, Shard.owner.is_(None), Shard.sent_at <= too_old)
    jobs = Shard.job_id.in_(_running(queue_kind, priority))
    return conn.execute(update(Shard).where(*lost, jobs).values(sent_at=None)).rowcount


def _running(queue_kind: str | None, priority: Priority | None) -> ColumnElement[int]:
    jobs = select(Job.id).where(Job.state.in_(RUNNABLE))
    if queue_kind is not None:
        jobs = jobs.where(Job.queue_kind == queue_kind)
    if priority is not None:
        jobs = jobs.where(Job.priority == priority)
    return jobs.scalar_subquery()


def _take_back_lapsed(conn: Connection, jobs: Sequence[int], over_s: float) -> None:
    """Shards whose owner let its lease lapse are ready again; that owner may still write what it paid for."""
    lapsed = (Shard.job_id.in_(jobs), UNDONE, Shard.sent_at.is_not(None), Shard.lease_until <= over_s)
    conn.execute(update(Shard).where(*lapsed).values(owner=None, lease_until=None, sent_at=None))


def _ready(conn: Connection, job_id: int, now_s: float, room: int) -> Sequence[int]:
    ready = (Shard.job_id == job_id, UNDONE, Shard.sent_at.is_(None))
    due = or_(Shard.not_before.is_(None), Shard.not_before <= now_s)
    return conn.execute(select(Shard.shard_no).where(*ready, due).order_by(Shard.shard_no).limit(room)).scalars().all()


def _sent(conn: Connection, jobs: Sequence[int]) -> dict[int, int]:
    sent = (Shard.job_id.in_(jobs), UNDONE, Shard.sent_at.is_not(None))
    counted = select(Shard.job_id, func.count()).where(*sent).group_by(Shard.job_id)
    return dict(conn.execute(counted).all())


def _among(refs: Sequence[ShardRef]) -> ColumnElement[bool]:
    return with_keys(KEY, ((ref.job_id, ref.shard_no) for ref in refs))
