"""How the whole fleet stands, for monitors: few rows, read at one moment, cheap enough to ask every few seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from corpusmill.ledger import workers
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.jobs import LANE_REASONS, RUNNABLE
from corpusmill.ledger.models import UNDONE, Job, Shard
from corpusmill.ledger.records import Overview, QueueView

# Of jobs that ended there are more every day.
_COUNTED = (*RUNNABLE, "loading", "paused")


def overview(conn: Connection, live_s: float) -> Overview:
    """Jobs, queues, parked lanes and live workers."""
    living = workers.seen(conn, live_s)
    return Overview(
        jobs=_jobs(conn),
        paused=_paused(conn),
        lanes_parked=_lanes_parked(conn),
        queues=_queues(conn),
        workers=len(living),
        slots=sum(worker.slots for worker in living),
    )


def _jobs(conn: Connection) -> dict[str, int]:
    counted = select(Job.state, func.count()).where(Job.state.in_(_COUNTED)).group_by(Job.state)
    return dict(conn.execute(counted).all())


def _paused(conn: Connection) -> dict[str, int]:
    counted = select(Job.reason, func.count()).where(Job.state == "paused").group_by(Job.reason)
    return {reason or "user": count for reason, count in conn.execute(counted)}


def _lanes_parked(conn: Connection) -> dict[str, int]:
    """Endpoints with a key for which jobs are paused, by reason."""
    parked = (Job.state == "paused", Job.reason.in_(LANE_REASONS))
    lanes = select(Job.reason, Job.endpoint, Job.key_fingerprint).where(*parked).distinct().subquery()
    counted = select(lanes.c.reason, func.count()).group_by(lanes.c.reason)
    return dict(conn.execute(counted).all())


def _queues(conn: Connection) -> list[QueueView]:
    """Shards that were sent and that no worker has claimed yet, by queue, and how long the oldest has waited."""
    now_s = read_clock(conn).lease_s
    sent = (UNDONE, Shard.sent_at.is_not(None), Shard.owner.is_(None), Job.state.in_(RUNNABLE))
    waiting = (
        select(Job.queue_kind, Job.priority, func.count(), func.min(Shard.sent_at))
        .join(Job, Job.id == Shard.job_id)
        .where(*sent)
        .group_by(Job.queue_kind, Job.priority)
    )
    rows: Sequence[Any] = conn.execute(waiting).all()
    return [QueueView(kind, priority, count, max(0.0, now_s - at)) for kind, priority, count, at in rows]
