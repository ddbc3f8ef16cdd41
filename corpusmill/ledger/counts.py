"""A job's numbers, as sums over its shards."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, and_, case, func, select

from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.models import Job, Result, Shard, Usage
from corpusmill.ledger.records import Counts

_SUMMED = (
    Shard.succeeded,
    Shard.cached,
    Shard.truncated,
    Shard.failed,
    Shard.prompt_tokens,
    Shard.completion_tokens,
    Shard.usd,
    Shard.unknown_usd,
    Shard.unknown_attempts,
    Shard.unpriced,
    Shard.requests,
)


def counts(conn: Connection, job_id: int) -> Counts:
    """The job's numbers at one moment."""
    job = conn.execute(select(Job.items, Job.price_card.is_not(None).label("priced")).where(Job.id == job_id)).one()
    sums = _sums(conn, job_id)
    priced = job.priced and not sums.unpriced
    return Counts(
        items=job.items,
        succeeded=int(sums.succeeded or 0),
        cached=int(sums.cached or 0),
        truncated=int(sums.truncated or 0),
        failed=int(sums.failed or 0),
        prompt_tokens=int(sums.prompt_tokens or 0),
        completion_tokens=int(sums.completion_tokens or 0),
        usd=(sums.usd or Decimal(0)) if priced else None,
        unknown_usd=(sums.unknown_usd or Decimal(0)) if priced else None,
        unknown_attempts=int(sums.unknown_attempts or 0),
        requests=int(sums.requests or 0),
        failed_by_class=_failed_by_class(conn, job_id) if sums.failed else {},
        parked_until=_parked_until(conn, sums),
    )


_OPEN = and_(Shard.done.is_(False), Shard.succeeded + Shard.failed < Shard.goal)
_GOING = func.count(case((and_(_OPEN, Shard.not_before.is_(None)), 1))).label("going")
_PARKED = func.min(case((_OPEN, Shard.not_before))).label("not_before")


def _parked_until(conn: Connection, sums: Any) -> float | None:
    """When the first of the open shards may be sent, if none may be now; in epoch seconds."""
    if sums.going or sums.not_before is None:
        return None
    now = read_clock(conn)
    return now.wall_s + sums.not_before - now.lease_s if sums.not_before > now.lease_s else None


def _sums(conn: Connection, job_id: int) -> Any:
    columns = [_GOING, _PARKED, *(func.sum(column).label(column.key) for column in _SUMMED)]
    statement = select(*columns).where(Shard.job_id == job_id)
    return conn.execute(statement).one()


def _failed_by_class(conn: Connection, job_id: int) -> dict[str, int]:
    failed = (Result.job_id == job_id, Result.error_class.is_not(None))
    by_class = select(Result.error_class, func.count()).where(*failed).group_by(Result.error_class)
    return {name or "": count for name, count in conn.execute(by_class.order_by(Result.error_class))}


def items(conn: Connection, job_id: int) -> int:
    """How many items the job holds by now."""
    return conn.execute(select(Job.items).where(Job.id == job_id)).scalar_one()


def span(conn: Connection, job_id: int) -> tuple[float | None, float | None]:
    """When the job was committed and when its newest result came, in epoch seconds."""
    last = select(func.max(Shard.last_at)).where(Shard.job_id == job_id).scalar_subquery()
    row = conn.execute(select(Job.committed_at, last).where(Job.id == job_id)).one()
    return row[0], row[1]


def latencies(conn: Connection, job_id: int) -> tuple[float, float] | None:
    """The median and the 95th percentile of the latency of paid calls, in milliseconds; None without any."""
    paid = (Usage.job_id == job_id, Usage.outcome == "paid", Usage.latency_ms.is_not(None))
    counted = select(Usage.latency_ms, func.count()).where(*paid).group_by(Usage.latency_ms).order_by(Usage.latency_ms)
    found = [(float(ms or 0), n) for ms, n in conn.execute(counted)]
    if not found:
        return None
    return _percentile(found, 0.5), _percentile(found, 0.95)


def _percentile(counted: list[tuple[float, int]], share: float) -> float:
    """The smallest value that `share` of all are not above; `counted` are (value, how many), in order."""
    wanted = share * sum(n for _, n in counted)
    below = 0
    for value, n in counted:
        below += n
        if below >= wanted:
            return value
    return counted[-1][0]


def mean_output(conn: Connection, job_id: int) -> float | None:
    """Completion tokens a paid answer of the job; None before the first."""
    paid = func.sum(Shard.succeeded - Shard.cached)
    row = conn.execute(select(func.sum(Shard.completion_tokens), paid).where(Shard.job_id == job_id)).one()
    return float(row[0]) / float(row[1]) if row[1] else None


def max_output(conn: Connection, job_id: int) -> int | None:
    """The most completion tokens that one call of the job took; None before the first."""
    largest = conn.execute(select(func.max(Shard.max_completion)).where(Shard.job_id == job_id)).scalar_one()
    return largest or None


def input_tokens(conn: Connection, job_id: int) -> int:
    """All input tokens of the job's items, as counted at intake."""
    return conn.execute(select(Job.input_tokens).where(Job.id == job_id)).scalar_one()
