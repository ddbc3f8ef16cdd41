"""Usage rows: what one attempt may cost before it is sent, and what it did cost afterwards.

One row a job: a pack over several jobs is one attempt, its tokens are split so that the rows add up to the bill.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from corpusmill.ledger.amounts import NOTHING, Amount
from corpusmill.ledger.records import ShardRef, Usage
from corpusmill.llm.usage import Tokens
from corpusmill.shares import shares
from workers.held import Unit
from workers.jobs import RunningJob
from workers.work import Facts


@dataclass(frozen=True, slots=True)
class Bill:
    """What a reply is billed as: the model and tier that were served, tokens, and where the reply came from."""

    model: str
    tier: str | None
    tokens: Tokens
    request_id: str | None
    latency_s: float | None


def new_rows(attempt_id: bytes, units: Sequence[Unit], facts: Facts, provider: str) -> list[Usage]:
    """The rows to keep should the outcome of a call never be known: estimates, outcome `unknown`."""
    rows = []
    for job, ref, count, tokens in _by_job(units, facts.prompt_tokens):
        output = job.expected_output(facts.max_output)
        rows.append(
            Usage(
                attempt_id=attempt_id,
                ref=ref,
                provider=provider,
                model=job.run.spec.model,
                tier=None,
                items=count,
                prompt_tokens=tokens,
                cached_tokens=0,
                completion_tokens=output,
                reasoning_tokens=0,
                usd=job.estimate(tokens, output),
                outcome="unknown",
            )
        )
    return rows


def billed_rows(rows: Sequence[Usage], units: Sequence[Unit], bill: Bill) -> list[Usage]:
    """The same rows as the reply is billed: outcome `paid`."""
    jobs = {job.run.id: (job, tokens) for job, _, _, tokens in _by_job(units, bill.tokens.prompt)}
    latency_ms = None if bill.latency_s is None else round(bill.latency_s * 1000)
    return [_billed(row, *jobs[row.ref.job_id], bill, latency_ms) for row in rows]


def wasted_rows(rows: Sequence[Usage], units: Sequence[Unit]) -> list[Usage]:
    """The same rows of a reply that brought nothing, each with the item that it was asked for."""
    first = {job.run.id: item_no for job, item_no in reversed([(u.shard.job, u.item.item_no) for u in units])}
    return [replace(row, wasted=first[row.ref.job_id]) for row in rows]


def _billed(row: Usage, job: RunningJob, prompt: int, bill: Bill, latency_ms: int | None) -> Usage:
    tokens = bill.tokens if prompt == bill.tokens.prompt else replace(bill.tokens, prompt=prompt)
    return Usage(
        attempt_id=row.attempt_id,
        ref=row.ref,
        provider=row.provider,
        model=bill.model or row.model,
        tier=bill.tier,
        items=row.items,
        prompt_tokens=tokens.prompt,
        cached_tokens=tokens.cached,
        cache_write_tokens=tokens.cache_write,
        completion_tokens=tokens.completion,
        reasoning_tokens=tokens.reasoning,
        usd=job.cost(bill.tier, tokens),
        outcome="paid",
        request_id=bill.request_id,
        latency_ms=latency_ms,
    )


def total(rows: Sequence[Usage]) -> Amount:
    """What the rows take together; unpriced ones cost nothing."""
    return sum((row.amount for row in rows), NOTHING)


def _by_job(units: Sequence[Unit], tokens: int) -> Iterator[tuple[RunningJob, ShardRef, int, int]]:
    """For each job among the units: the job, the shard that stands for it, its items, and its share of `tokens`."""
    if len(units) == 1:
        yield units[0].shard.job, units[0].shard.ref, 1, tokens
        return
    jobs: dict[int, list[Unit]] = {}
    for unit in units:
        jobs.setdefault(unit.shard.job.run.id, []).append(unit)
    weights = [sum(unit.item.tokens for unit in own) for own in jobs.values()]
    for own, share in zip(jobs.values(), shares(tokens, weights), strict=True):
        yield own[0].shard.job, own[0].shard.ref, len(own), share
