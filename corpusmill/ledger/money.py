"""A job's budget: what is spent, perhaps spent and reserved, and whether there is room for more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal

from sqlalchemy import Connection, func, or_, select, update

from corpusmill.errors import UsageError
from corpusmill.ledger import shards
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.models import Job, Shard
from corpusmill.ledger.records import Reservation, ShardRef
from corpusmill.ledger.types import rounded

# What whole pico-dollars in a BIGINT can hold, rounded down.
MOST_USD = Decimal(9_000_000)


def checked(budget: Decimal | None) -> Decimal | None:
    """The budget, if the ledger can hold it.

    Raises:
        UsageError: it is negative, no number, or over nine million dollars.
    """
    if budget is None or (budget.is_finite() and 0 <= budget <= MOST_USD):
        return budget
    raise UsageError(
        f"a budget of {budget} USD cannot be kept",
        next_step=f"choose one from 0 to {MOST_USD:,} USD, or none",
    )


def reserve(conn: Connection, ref: ShardRef, fence: int, usd: Decimal) -> Reservation:
    """Set `usd` aside for calls of a shard that we hold, if the job's budget has room.

    `wait`: there would be room if others' reservations came back. `over`: there is none whatever they do. `lost`: the
    shard is not ours any more. A job without a budget keeps no reservations: always `ok`.
    """
    usd = rounded(usd)
    shard = shards.lock(conn, [ref]).get(ref)
    if shard is None or not shard.held(fence):
        return "lost"
    job = conn.execute(select(Job.budget_usd, Job.set_aside).where(Job.id == ref.job_id).with_for_update()).one()
    if job.budget_usd is None:
        return "ok"
    aside = job.set_aside
    if aside + usd > job.budget_usd:
        aside -= _take_back(conn, ref)
    if aside + usd > job.budget_usd:
        return "wait" if aside - _reserved(conn, ref.job_id) + usd <= job.budget_usd else "over"
    shard.reserved += usd
    shards.save(conn, [shard])
    adjust(conn, {ref.job_id: usd})
    return "ok"


def _take_back(conn: Connection, asking: ShardRef) -> Decimal:
    """Free what other shards of the job that have no living owner still hold; return how much.

    A claim frees it too, but nobody may get to claim them: all slots can be waiting for this very money. Shards that
    others have locked are skipped: we hold the job's lock already, which comes after theirs.
    """
    over = or_(Shard.owner.is_(None), Shard.lease_until <= read_clock(conn).over_s)
    others = (Shard.job_id == asking.job_id, Shard.shard_no != asking.shard_no)
    dead = (*others, Shard.reserved > 0, over)
    rows = conn.execute(select(Shard.shard_no, Shard.reserved).where(*dead).with_for_update(skip_locked=True)).all()
    freed = sum((row.reserved for row in rows), Decimal(0))
    if rows:
        numbers = [row.shard_no for row in rows]
        conn.execute(update(Shard).where(*others, Shard.shard_no.in_(numbers)).values(reserved=0))
        adjust(conn, {asking.job_id: -freed})
    return freed


def _reserved(conn: Connection, job_id: int) -> Decimal:
    total = select(func.coalesce(func.sum(Shard.reserved), 0)).where(Shard.job_id == job_id)
    return conn.execute(total).scalar_one()


def stop_at_tokens(conn: Connection, job_ids: Collection[int]) -> list[int]:
    """Pause those of the jobs that have used up their tokens; return their ids.

    Looked at whenever something is written, not before each send: what is in flight by then still comes.
    """
    used = select(func.sum(Shard.prompt_tokens + Shard.completion_tokens)).where(Shard.job_id == Job.id)
    over = (Job.id.in_(job_ids), Job.budget_tokens <= used.scalar_subquery(), Job.state.in_(("queued", "running")))
    paused = update(Job).where(*over).values(state="paused", reason="budget", note="its tokens are used up")
    return list(conn.execute(paused.returning(Job.id)).scalars())


def adjust(conn: Connection, deltas: Mapping[int, Decimal]) -> None:
    """Change what is set aside, by job; jobs without a budget keep no account of it."""
    for job_id, delta in sorted(deltas.items()):
        if delta:
            budgeted = (Job.id == job_id, Job.budget_usd.is_not(None))
            conn.execute(update(Job).where(*budgeted).values(set_aside=Job.set_aside + delta))


def recount(conn: Connection, job_id: int) -> None:
    """Work out anew what is set aside; the caller holds the locks of all shards of the job."""
    spent = func.sum(Shard.usd + Shard.unknown_usd + Shard.reserved)
    total = select(func.coalesce(spent, 0)).where(Shard.job_id == job_id).scalar_subquery()
    conn.execute(update(Job).where(Job.id == job_id).values(set_aside=total))
