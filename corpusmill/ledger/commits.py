"""The group commit: answers, results, usage, counters and leases in one transaction, safe to repeat.

Rows that are there already are left alone, and counters grow by the rows that were really inserted: a batch that is
written twice, or by two workers, counts once. A lost fence keeps a shard from being closed, never a paid reply from
being written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from sqlalchemy import Connection, delete, select

from corpusmill.errors import CorpusmillError
from corpusmill.ledger import budgets, encoding, inflight, models, shards, suspects
from corpusmill.ledger.bulk import among, insert_new
from corpusmill.ledger.clock import Now, read_clock
from corpusmill.ledger.models import Job
from corpusmill.ledger.records import Batch, CommitReport, ItemResult, JobState, ShardRef, Usage
from corpusmill.ledger.shards import LockedShard

_Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Commit:
    """One commit in progress. `mine` are the shards that the batch's worker holds."""

    conn: Connection
    batch: Batch
    locked: Mapping[ShardRef, LockedShard]
    mine: frozenset[ShardRef]
    now: Now


def commit(conn: Connection, batch: Batch, answers: Sequence[_Row], *, worker_id: str, lease_s: float) -> CommitReport:
    """Write `batch`; `answers` are its answers as `encoding.rows` made them, before the transaction began."""
    locked = shards.lock(conn, _mentioned(batch))
    mine = frozenset(ref for ref, fence in batch.fences.items() if ref in locked and locked[ref].held(fence, worker_id))
    this = _Commit(conn, batch, locked, mine, read_clock(conn))
    before = {ref: shard.set_aside for ref, shard in locked.items()}
    _write_answers(this, answers)
    _write_results(this)
    _take_back(this)
    _write_usage(this)
    _count_unpaid(this)
    closed_now = _settle_leases(this, lease_s)
    shards.save(conn, locked.values())
    budgets.adjust(conn, budgets.moved(locked, before))
    shards.closed(conn, closed_now, this.now.wall_s)
    return _report(this)


def _mentioned(batch: Batch) -> set[ShardRef]:
    refs = {*batch.fences, *batch.unpaid, *batch.known, *batch.reserved, *batch.closing, *batch.releasing}
    return refs | {result.ref for result in batch.results} | {usage.ref for usage in batch.usage}


def _write_answers(this: _Commit, answers: Sequence[_Row]) -> None:
    insert_new(this.conn, models.Answer, [{**row, "at": this.now.wall_s} for row in answers])


def _write_results(this: _Commit) -> None:
    """New results into the table, the counters and out of flight."""
    known = {(result.ref.job_id, result.item_no): result for result in reversed(this.batch.results)}
    known = {key: result for key, result in known.items() if result.ref in this.locked}
    truncated = _truncated(this, {result.key for result in known.values() if result.key is not None})
    new = insert_new(this.conn, models.Result, [_result_row(result, this.now) for result in known.values()])
    for key in cast("set[tuple[int, int]]", new):
        _count_result(this.locked[known[key].ref], known[key], truncated, this.now)
    inflight.drop_keys(this.conn, {result.key for result in known.values() if result.key is not None})
    for ref, numbers in _failed(known.values()).items():
        inflight.drop_items(this.conn, ref, numbers)


def _truncated(this: _Commit, keys: set[bytes]) -> dict[bytes, bool]:
    """Whether each answer was cut short; an answer that is not there must not become a result.

    Raises:
        CorpusmillError: a result names an answer that the ledger does not have.
    """
    found = {answer.key: answer.truncated for answer in this.batch.answers}
    for some in among(this.conn, models.Answer.key, keys - found.keys()):
        kept = select(models.Answer.key, models.Answer.truncated).where(some)
        found.update({key: truncated for key, truncated in this.conn.execute(kept)})
    if keys - found.keys():
        raise CorpusmillError(f"{len(keys - found.keys())} results name answers that were never written")
    return found


def _result_row(result: ItemResult, now: Now) -> _Row:
    failed = result.key is None
    return {
        "job_id": result.ref.job_id,
        "item_no": result.item_no,
        "cached": result.cached,
        "error_class": (result.error_class or "unknown") if failed else None,
        "error": encoding.clean(result.error) if failed and result.error else None,
        "attempts": result.attempts,
        "request_id": result.request_id,
        "at": now.wall_s,
    }


def _count_result(shard: LockedShard, result: ItemResult, truncated: Mapping[bytes, bool], now: Now) -> None:
    shard.last_at = now.wall_s
    if result.key is None:
        shard.failed += 1
        return
    shard.succeeded += 1
    shard.cached += result.cached
    shard.truncated += truncated[result.key]


def _failed(results: Iterable[ItemResult]) -> dict[ShardRef, list[int]]:
    failed: dict[ShardRef, list[int]] = defaultdict(list)
    for result in results:
        if result.key is None:
            failed[result.ref].append(result.item_no)
    return failed


def _take_back(this: _Commit) -> None:
    """Rows of unknown outcome that is known by now, and what they counted."""
    row = models.Usage
    for ref, attempts in this.batch.known.items():
        for some in among(this.conn, row.attempt_id, attempts):
            unknown = delete(row).where(row.job_id == ref.job_id, row.outcome == "unknown", some)
            for usd, prompt, completion in this.conn.execute(
                unknown.returning(row.usd, row.prompt_tokens, row.completion_tokens)
            ):
                shard = this.locked[ref]
                shard.unknown_usd -= usd or Decimal(0)
                # A worker of the version before 0009 may have counted none.
                shard.unknown_tokens = max(0, shard.unknown_tokens - prompt - completion)
                shard.unpriced -= usd is None
                shard.requests -= 1
                shard.unknown_attempts -= 1


def _write_usage(this: _Commit) -> None:
    known = {(usage.ref.job_id, usage.attempt_id): usage for usage in reversed(this.batch.usage)}
    known = {key: usage for key, usage in known.items() if usage.ref in this.locked}
    new = insert_new(this.conn, models.Usage, [_usage_row(usage, this.now) for usage in known.values()])
    for key in cast("set[tuple[int, bytes]]", new):
        _count_usage(this.locked[known[key].ref], known[key])


def _usage_row(usage: Usage, now: Now) -> _Row:
    return {
        "job_id": usage.ref.job_id,
        "attempt_id": usage.attempt_id,
        "shard_no": usage.ref.shard_no,
        "provider": usage.provider,
        "model": usage.model,
        "tier": usage.tier,
        "items": usage.items,
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "completion_tokens": usage.completion_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "usd": usage.usd,
        "outcome": usage.outcome,
        "request_id": usage.request_id,
        "latency_ms": usage.latency_ms,
        "item_no": usage.wasted,
        "at": now.wall_s,
    }


def _count_usage(shard: LockedShard, usage: Usage) -> None:
    """Tokens count when they were paid for; those of an unknown outcome are estimates, and a budget's only."""
    unknown = usage.outcome == "unknown"
    shard.charge(usage.amount.rounded(), unknown=unknown)
    shard.unpriced += usage.usd is None
    shard.requests += 1
    if unknown:
        shard.unknown_attempts += 1
        return
    shard.prompt_tokens += usage.prompt_tokens
    shard.completion_tokens += usage.completion_tokens
    shard.max_completion = max(shard.max_completion, usage.completion_tokens)


def _count_unpaid(this: _Commit) -> None:
    for ref, count in this.batch.unpaid.items():
        if ref in this.locked:
            this.locked[ref].requests += count


def _settle_leases(this: _Commit, lease_s: float) -> list[ShardRef]:
    """Renew, set what is reserved, close and release: only shards that are ours. Returns those that were closed."""
    batch, closed_now = this.batch, []
    for ref in sorted(this.mine):
        shard = this.locked[ref]
        shard.reserve = batch.reserved.get(ref, shard.reserve).rounded()
        if batch.renew:
            shard.lease_until = this.now.lease_s + lease_s
        if ref in batch.closing and shard.complete:
            if not shard.done:  # a border set meanwhile may have closed it
                closed_now.append(ref)
            shard.close()
        elif ref in batch.closing or ref in batch.releasing:
            delay_s = batch.releasing.get(ref, 0)
            shard.let_go(not_before=this.now.lease_s + delay_s if delay_s > 0 else None)
        else:
            continue
        suspects.ended_in_order(this.conn, shard)
        inflight.drop_shard(this.conn, ref)
    return closed_now


def _report(this: _Commit) -> CommitReport:
    """A shard that an earlier try of the same batch closed counts as closed, not as lost."""
    closed = {
        ref
        for ref, fence in this.batch.fences.items()
        if ref in this.locked and this.locked[ref].done and this.locked[ref].fence == fence
    }
    found = select(Job.id, Job.state).where(Job.id.in_({ref.job_id for ref in _mentioned(this.batch)}))
    states = dict(this.conn.execute(found).all())
    return CommitReport(
        lost=frozenset(this.batch.fences.keys() - this.mine - closed),
        closed=frozenset(closed),
        job_states=cast("dict[int, JobState]", states),
    )
