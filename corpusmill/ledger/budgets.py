"""A job's budgets: what is spent, perhaps spent and reserved, and whether there is room for more.

One account for both: dollars and tokens are set aside, spent and given back together, as an `Amount`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal

from sqlalchemy import ColumnElement, Connection, SQLColumnExpression, func, or_, select, type_coerce, update

from corpusmill.errors import UsageError
from corpusmill.ledger import shards
from corpusmill.ledger.amounts import NOTHING, Amount, Budget
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.models import Job, Shard, Usage
from corpusmill.ledger.records import Reservation, ShardRef
from corpusmill.ledger.shards import LockedShard
from corpusmill.ledger.types import Usd

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


def has_one() -> ColumnElement[bool]:
    """Jobs with a budget, of dollars or tokens: an account is kept of these alone."""
    return or_(Job.budget_usd.is_not(None), Job.budget_tokens.is_not(None))


def reserve(conn: Connection, ref: ShardRef, fence: int, amount: Amount) -> Reservation:
    """Set an amount aside for calls of a shard that we hold, if the job's budget has room for all of it.

    `wait`: there would be room if others' reservations came back. `over`: there is none whatever they do. `lost`: the
    shard is not ours any more. A job without a budget keeps no reservations: always `ok`.
    """
    amount = amount.rounded()
    shard = shards.lock(conn, [ref]).get(ref)
    if shard is None or not shard.held(fence):
        return "lost"
    account = select(Job.budget_usd, Job.budget_tokens, Job.set_aside, Job.set_aside_tokens)
    job = conn.execute(account.where(Job.id == ref.job_id).with_for_update()).one()
    budget, aside = Budget(job.budget_usd, job.budget_tokens), Amount(job.set_aside, job.set_aside_tokens)
    if not budget:
        return "ok"
    if not budget.covers(aside + amount):
        aside -= _take_back(conn, ref)
    if not budget.covers(aside + amount):
        return "wait" if budget.covers(aside - _reserved(conn, ref.job_id) + amount) else "over"
    shard.reserve += amount
    shards.save(conn, [shard])
    adjust(conn, {ref.job_id: amount})
    return "ok"


def _take_back(conn: Connection, asking: ShardRef) -> Amount:
    """Free what other shards of the job that have no living owner still hold; return how much.

    A claim frees it too, but nobody may get to claim them: all slots can be waiting for this very amount. Shards that
    others have locked are skipped: we hold the job's lock already, which comes after theirs.
    """
    over = or_(Shard.owner.is_(None), Shard.lease_until <= read_clock(conn).over_s)
    others = (Shard.job_id == asking.job_id, Shard.shard_no != asking.shard_no)
    dead = (*others, or_(Shard.reserved > 0, Shard.reserved_tokens > 0), over)
    held = select(Shard.shard_no, Shard.reserved, Shard.reserved_tokens).where(*dead)
    rows = conn.execute(held.with_for_update(skip_locked=True)).all()
    freed = sum((Amount(row.reserved, row.reserved_tokens) for row in rows), NOTHING)
    if rows:
        numbers = [row.shard_no for row in rows]
        none = {"reserved": Decimal(0), "reserved_tokens": 0}
        conn.execute(update(Shard).where(*others, Shard.shard_no.in_(numbers)).values(**none))
        adjust(conn, {asking.job_id: NOTHING - freed})
    return freed


def _reserved(conn: Connection, job_id: int) -> Amount:
    return _total(conn, job_id, Shard.reserved, Shard.reserved_tokens)


def spent(conn: Connection, job_id: int) -> Amount:
    """What a job has used so far, with what calls of unknown outcome may have."""
    tokens = Shard.prompt_tokens + Shard.completion_tokens + Shard.unknown_tokens
    return _total(conn, job_id, Shard.usd + Shard.unknown_usd, tokens)


def _total(
    conn: Connection, job_id: int, usd: SQLColumnExpression[Decimal], tokens: SQLColumnExpression[int]
) -> Amount:
    # A sum of sums forgets that it is money.
    sums = select(type_coerce(func.sum(usd), Usd), func.sum(tokens))
    row = conn.execute(sums.where(Shard.job_id == job_id)).one()
    return Amount(row[0] or Decimal(0), int(row[1] or 0))


def moved(locked: Mapping[ShardRef, LockedShard], before: Mapping[ShardRef, Amount]) -> dict[int, Amount]:
    """By how much what is set aside of each job has changed since `before`."""
    by_job: dict[int, Amount] = defaultdict(Amount)
    for ref, shard in locked.items():
        by_job[ref.job_id] += shard.set_aside - before[ref]
    return by_job


def adjust(conn: Connection, deltas: Mapping[int, Amount]) -> None:
    """Change what is set aside, by job; jobs without a budget keep no account of it."""
    for job_id, delta in sorted(deltas.items()):
        if delta:
            more = {
                "set_aside": Job.set_aside + delta.usd,
                "set_aside_tokens": Job.set_aside_tokens + delta.tokens,
            }
            conn.execute(update(Job).where(Job.id == job_id, has_one()).values(**more))


def recount(conn: Connection, job_id: int) -> None:
    """Work out anew what is set aside; the caller holds the locks of all shards of the job."""
    usd = Shard.usd + Shard.unknown_usd + Shard.reserved
    tokens = Shard.prompt_tokens + Shard.completion_tokens + Shard.unknown_tokens + Shard.reserved_tokens
    totals = {
        name: select(func.coalesce(func.sum(column), 0)).where(Shard.job_id == job_id).scalar_subquery()
        for name, column in (("set_aside", usd), ("set_aside_tokens", tokens))
    }
    conn.execute(update(Job).where(Job.id == job_id).values(**totals))


def astray(conn: Connection) -> list[int]:
    """Open jobs with a budget of tokens whose account is not what their shards have used.

    A worker of the version before 0009, which may go on after `migrate`, counts tokens in its shards alone.
    """
    counted = func.sum(Shard.prompt_tokens + Shard.completion_tokens + Shard.unknown_tokens + Shard.reserved_tokens)
    open_ = (Job.budget_tokens.is_not(None), Job.state.in_(("queued", "running", "paused")))
    sums = select(Job.id).join(Shard, Shard.job_id == Job.id).where(*open_).group_by(Job.id, Job.set_aside_tokens)
    return list(conn.execute(sums.having(counted != Job.set_aside_tokens)).scalars())


def set_right(conn: Connection, job_id: int) -> None:
    """Work out anew what a job has used and set aside, by its bills where a worker counted nothing."""
    shards.lock_all(conn, job_id)
    unknown = (Usage.job_id == job_id, Usage.outcome == "unknown")
    estimated = select(Usage.shard_no, func.sum(Usage.prompt_tokens + Usage.completion_tokens)).where(*unknown)
    for shard_no, tokens in conn.execute(estimated.group_by(Usage.shard_no)).all():
        own = (Shard.job_id == job_id, Shard.shard_no == shard_no)
        conn.execute(update(Shard).where(*own).values(unknown_tokens=int(tokens)))
    recount(conn, job_id)
