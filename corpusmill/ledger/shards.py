"""Shards under lock: read, changed in Python, written back.

Whoever changes a shard or its items' results first locks the shard here, in order, and jobs after shards. So counters
are plain sums, results of an item are never inserted by two transactions at once, and nothing deadlocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, fields
from decimal import Decimal

from sqlalchemy import Connection, bindparam, func, select, update

from corpusmill.ledger.amounts import NOTHING, Amount
from corpusmill.ledger.bulk import table_of, with_keys
from corpusmill.ledger.models import Job, Shard
from corpusmill.ledger.records import ShardRef


@dataclass(slots=True)
class LockedShard:
    """A shard's row while we hold its lock; `save` writes what was changed."""

    job_id: int
    shard_no: int
    size: int
    goal: int
    done: bool
    owner: str | None
    fence: int
    lease_until: float | None
    sent_at: float | None
    not_before: float | None
    succeeded: int
    failed: int
    cached: int
    truncated: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    max_completion: int
    usd: Decimal
    unknown_usd: Decimal
    unknown_tokens: int
    unknown_attempts: int
    unpriced: int
    reserved: Decimal
    reserved_tokens: int
    last_at: float | None
    deaths: int

    @property
    def ref(self) -> ShardRef:
        """Its name."""
        return ShardRef(self.job_id, self.shard_no)

    @property
    def complete(self) -> bool:
        """Whether every item that is wanted by now has its result."""
        return self.succeeded + self.failed >= self.goal

    @property
    def set_aside(self) -> Amount:
        """What a budget has to cover for this shard: spent, perhaps spent and reserved."""
        tokens = self.prompt_tokens + self.completion_tokens + self.unknown_tokens
        return Amount(self.usd + self.unknown_usd, tokens) + self.reserve

    @property
    def reserve(self) -> Amount:
        """What is reserved for calls of it."""
        return Amount(self.reserved, self.reserved_tokens)

    @reserve.setter
    def reserve(self, amount: Amount) -> None:
        self.reserved, self.reserved_tokens = amount.usd, amount.tokens

    def held(self, fence: int, worker_id: str | None = None) -> bool:
        """Whether the shard is held under that fence (by that worker). An old lease that nobody took is still one."""
        return self.owner is not None and self.fence == fence and worker_id in (None, self.owner)

    def let_go(self, *, not_before: float | None = None) -> None:
        """Give it back: nobody owns it, nothing is reserved, and the feeder may send it from `not_before` on."""
        self.owner = self.lease_until = self.sent_at = None
        self.not_before = not_before
        self.reserve = NOTHING

    def close(self) -> None:
        """Nothing is left to do in it."""
        self.let_go()
        self.done = True

    def charge(self, amount: Amount, *, unknown: bool) -> None:
        """Count an amount as spent (or perhaps spent), first of all what was reserved for it.

        Of tokens that were spent the caller counts prompt and completion.
        """
        if unknown:
            self.unknown_usd += amount.usd
            self.unknown_tokens += amount.tokens
        else:
            self.usd += amount.usd
        self.reserve = self.reserve.beyond(amount)


KEY = (Shard.job_id, Shard.shard_no)
_NAMES = [field.name for field in fields(LockedShard)]
_CHANGING = [name for name in _NAMES if name not in ("job_id", "shard_no", "size", "goal")]
_SAVE = (
    update(table_of(Shard))
    .where(Shard.job_id == bindparam("in_job"), Shard.shard_no == bindparam("is_no"))
    .values({name: bindparam(f"new_{name}") for name in _CHANGING})
)


def lock(conn: Connection, refs: Collection[ShardRef]) -> dict[ShardRef, LockedShard]:
    """Lock the shards of these names; those that do not exist are left out."""
    if not refs:
        return {}
    columns = [table_of(Shard).c[name] for name in _NAMES]
    wanted = with_keys(KEY, ((ref.job_id, ref.shard_no) for ref in refs))
    rows = conn.execute(select(*columns).where(wanted).order_by(Shard.job_id, Shard.shard_no).with_for_update())
    locked = (LockedShard(*row) for row in rows)
    return {shard.ref: shard for shard in locked}


def lock_all(conn: Connection, job_id: int) -> None:
    """Lock every shard of a job, so that no counter of it moves until we commit."""
    conn.execute(select(Shard.shard_no).where(Shard.job_id == job_id).order_by(Shard.shard_no).with_for_update())


def save(conn: Connection, shards: Iterable[LockedShard]) -> None:
    """Write locked shards back."""
    rows = []
    for shard in shards:
        values = {f"new_{name}": value for name, value in asdict(shard).items() if name in _CHANGING}
        rows.append({"in_job": shard.job_id, "is_no": shard.shard_no, **values})
    if rows:
        conn.execute(_SAVE, rows)


def closed(conn: Connection, refs: Iterable[ShardRef], wall_s: float) -> None:
    """Take newly closed shards off their jobs; a job with none left is finished, or paused where `first` ends."""
    for job_id, count in sorted(Counter(ref.job_id for ref in refs).items()):
        left = update(Job).where(Job.id == job_id).values(shards_open=Job.shards_open - count)
        if conn.execute(left.returning(Job.shards_open)).scalar_one() == 0:
            finish(conn, job_id, wall_s)


def finish(conn: Connection, job_id: int, wall_s: float) -> None:
    """A job with no open shard has reached its end, or that of its `first` items while others are still open."""
    going = (Job.id == job_id, Job.state.in_(("queued", "running", "paused")))
    job = conn.execute(select(Job.first, Job.items).where(*going)).one_or_none()
    if job is None:  # cancelled or stopped: it stays so until somebody resumes it
        return
    if job.first is not None and _terminal(conn, job_id) < job.items:
        end: dict[str, object] = {"state": "paused", "reason": "first"}
    else:
        end = {"state": "finished", "reason": None, "finished_at": wall_s}
    conn.execute(update(Job).where(*going).values(note=None, **end))


def _terminal(conn: Connection, job_id: int) -> int:
    terminal = select(func.sum(Shard.succeeded + Shard.failed)).where(Shard.job_id == job_id)
    return int(conn.execute(terminal).scalar_one() or 0)
