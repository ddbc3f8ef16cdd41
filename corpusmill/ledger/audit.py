"""The recount: does every counter of a job say what its rows say, and is every row explained by another.

All of it is read in one snapshot, so it holds while the job runs. Rows are counted by the database, a range of keys at
a time: memory grows with the job's shards, never with its items.

Of a job that was purged and kept its bill, the bill has to add up, and nothing else of it may be there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, case, func, select

from corpusmill.ledger.bulk import table_of
from corpusmill.ledger.jobs import PURGED
from corpusmill.ledger.leftovers import rows_left
from corpusmill.ledger.models import Answer, Chunk, InFlight, Item, Job, Result, Shard, Usage
from corpusmill.ledger.records import Audit, Mismatch

# Rows counted by one statement: SQLite sorts what it groups in memory.
PAGE = 50_000
_NOTHING: dict[str, Any] = {}
_BY_SHARD = dict[int, dict[str, Any]]


def audit(conn: Connection, job_id: int, most: int) -> Audit:
    """Recount a job; the first `most` mismatches are described, all are counted."""
    job = conn.execute(select(table_of(Job)).where(Job.id == job_id)).one()
    found = _Recount(job, _shards(conn, job), _rows(conn, job), _bills(conn, job))
    if job.state in PURGED:
        mismatches = [*found.mismatches_of_bill(), *_leftovers(conn, job)]
    else:
        mismatches = [*found.mismatches(), *_strays(conn, job)]
    paid = found.totals("attempts") - found.totals("unknown_attempts")
    return Audit(
        state=job.state,
        items=found.totals("items"),
        succeeded=found.totals("succeeded"),
        failed=found.totals("failed"),
        paid_attempts=paid,
        unknown_attempts=found.totals("unknown_attempts"),
        usd=_money(found.totals("usd")),
        unknown_usd=_money(found.totals("unknown_usd")),
        unpriced=found.totals("unpriced"),
        mismatch_count=len(mismatches),
        mismatches=tuple(mismatches[:most]),
    )


@dataclass(slots=True)
class _Recount:
    """A job's counters beside what its rows come to."""

    job: Row[Any]
    shards: dict[int, Row[Any]]
    rows: _BY_SHARD
    bills: _BY_SHARD
    _sums: dict[str, Any] = field(default_factory=dict)

    def totals(self, name: str) -> Any:
        """What the rows of the whole job come to."""
        return sum((counted.get(name) or 0) for part in (self.rows, self.bills) for counted in part.values())

    def mismatches(self) -> Iterator[Mismatch]:
        """Every counter that says something else, shard by shard and then those of the job."""
        for number in sorted({*self.shards, *self.rows, *self.bills}):
            shard = self.shards.get(number)
            if shard is None:
                yield Mismatch(f"shard {number}", "rows of a shard that does not exist", 0, 1)
                continue
            rows, bills = self.rows.get(number, _NOTHING), self.bills.get(number, _NOTHING)
            yield from _shard_against_rows(shard, rows, bills)
            yield from _shard_against_itself(shard)
        yield from self._of_the_job()

    def mismatches_of_bill(self) -> Iterator[Mismatch]:
        """Of a purged job: what its shards say of the bill, if it was kept. One half purged has lost some of it."""
        for number in sorted({*self.shards, *self.bills}):
            shard = self.shards.get(number)
            if shard is None:
                yield Mismatch(f"shard {number}", "bills of a shard that does not exist", 0, 1)
            elif self.job.state == "purged":
                yield from _shard_against_bills(shard, self.bills.get(number, _NOTHING))

    def _of_the_job(self) -> Iterator[Mismatch]:
        job, shards = self.job, self.shards.values()
        yield from _unless_equal("job", "items", job.items, self.totals("items"))
        yield from _unless_equal("job", "input tokens", job.input_tokens, self.totals("tokens"))
        if job.committed_at is not None:
            yield from _unless_equal("job", "open shards", job.shards_open, sum(not shard.done for shard in shards))
        if job.budget_usd is not None or job.budget_tokens is not None:
            yield from _of_the_budgets(job, shards)
        if job.state == "finished":
            ended = self.totals("succeeded") + self.totals("failed")
            yield from _unless_equal("job", "results of a finished job", self.totals("items"), ended)


def _of_the_budgets(job: Row[Any], shards: Collection[Row[Any]]) -> Iterator[Mismatch]:
    usd = sum((shard.usd + shard.unknown_usd + shard.reserved for shard in shards), Decimal(0))
    yield from _unless_equal("job", "USD set aside", job.set_aside, usd)
    counters = ("prompt_tokens", "completion_tokens", "unknown_tokens", "reserved_tokens")
    tokens = sum(getattr(shard, name) for shard in shards for name in counters)
    yield from _unless_equal("job", "tokens set aside", job.set_aside_tokens, tokens)


def _shard_against_rows(shard: Row[Any], rows: dict[str, Any], bills: dict[str, Any]) -> Iterator[Mismatch]:
    where = f"shard {shard.shard_no}"
    yield from _unless_equal(where, "items", shard.size, rows.get("items", 0))
    for name in ("succeeded", "failed", "cached", "truncated"):
        yield from _unless_equal(where, name, getattr(shard, name), rows.get(name) or 0)
    yield from _shard_against_bills(shard, bills)
    for name in (
        "results without an item",
        "successes without an answer",
        "failures without a class",
        "items without a text",
    ):
        yield from _unless_equal(where, name, 0, rows.get(name) or 0)


_BILLED = ("prompt_tokens", "completion_tokens", "max_completion", "unknown_tokens", "unknown_attempts", "unpriced")


def _shard_against_bills(shard: Row[Any], bills: dict[str, Any]) -> Iterator[Mismatch]:
    where = f"shard {shard.shard_no}"
    for name in _BILLED:
        yield from _unless_equal(where, name.replace("_", " "), getattr(shard, name), bills.get(name) or 0)
    for name in ("usd", "unknown_usd"):
        yield from _unless_equal(where, name.replace("_", " "), getattr(shard, name), _money(bills.get(name)))
    if shard.requests < (bills.get("attempts") or 0):
        yield Mismatch(where, "requests, fewer than its bills", shard.requests, bills["attempts"])


def _shard_against_itself(shard: Row[Any]) -> Iterator[Mismatch]:
    """What a shard's state has to be by its own counters."""
    where, ended = f"shard {shard.shard_no}", shard.succeeded + shard.failed
    if shard.done and ended < shard.goal:
        yield Mismatch(where, "done before its items are", shard.goal, ended)
    if shard.goal > shard.size:
        yield Mismatch(where, "goal, more than its items", shard.goal, shard.size)
    if shard.owner is None and shard.reserved:
        yield Mismatch(where, "USD reserved by nobody", shard.reserved, Decimal(0))
    if shard.owner is None and shard.reserved_tokens:
        yield Mismatch(where, "tokens reserved by nobody", shard.reserved_tokens, 0)


def _unless_equal(where: str, what: str, said: Any, found: Any) -> Iterator[Mismatch]:
    if said != found:
        yield Mismatch(where, what, said, found)


def _shards(conn: Connection, job: Row[Any]) -> dict[int, Row[Any]]:
    of_job = select(table_of(Shard)).where(Shard.job_id == job.id).order_by(Shard.shard_no)
    return {row.shard_no: row for row in conn.execute(of_job)}


def _rows(conn: Connection, job: Row[Any]) -> _BY_SHARD:
    """Items and results by shard, and those that lack what belongs to them."""
    counted: _BY_SHARD = {}
    last = max(
        (conn.execute(select(func.max(table.item_no)).where(table.job_id == job.id)).scalar_one() or 0)
        for table in (Item, Result)
    )
    step = max(1, PAGE // job.shard_size) * job.shard_size
    for start in range(0, last + 1, step):
        for statement in (_items(job, start, start + step), _results(job, start, start + step)):
            for row in conn.execute(statement).mappings():
                counted.setdefault(int(row["shard_no"]), {}).update(row)
    return counted


def _items(job: Row[Any], start: int, end: int) -> Any:
    text = and_(Chunk.collection_id == job.collection_id, Chunk.chunk_no == Item.chunk_no)
    number = (Item.item_no // job.shard_size).label("shard_no")
    return (
        select(
            number,
            func.count().label("items"),
            func.sum(Item.tokens).label("tokens"),
            _count_if(Chunk.chunk_no.is_(None)).label("items without a text"),
        )
        .select_from(Item)
        .outerjoin(Chunk, text)
        .where(Item.job_id == job.id, Item.item_no >= start, Item.item_no < end)
        .group_by(number)
    )


def _results(job: Row[Any], start: int, end: int) -> Any:
    item = and_(Item.job_id == Result.job_id, Item.item_no == Result.item_no)
    answer = and_(Answer.key == Item.key, Result.error_class.is_(None))
    number = (Result.item_no // job.shard_size).label("shard_no")
    good = Result.error_class.is_(None)
    return (
        select(
            number,
            _count_if(good).label("succeeded"),
            _count_if(~good).label("failed"),
            _count_if(and_(good, Result.cached)).label("cached"),
            _count_if(and_(good, Answer.truncated)).label("truncated"),
            _count_if(Item.item_no.is_(None)).label("results without an item"),
            _count_if(and_(good, Answer.key.is_(None))).label("successes without an answer"),
            _count_if(Result.error_class == "").label("failures without a class"),
        )
        .select_from(Result)
        .outerjoin(Item, item)
        .outerjoin(Answer, answer)
        .where(Result.job_id == job.id, Result.item_no >= start, Result.item_no < end)
        .group_by(number)
    )


def _bills(conn: Connection, job: Row[Any]) -> _BY_SHARD:
    """Usage by shard. Tokens count when they were paid for; those of an unknown outcome are estimates."""
    counted: _BY_SHARD = {}
    paid = Usage.outcome == "paid"
    columns = (
        func.count().label("attempts"),
        _count_if(~paid).label("unknown_attempts"),
        _count_if(Usage.usd.is_(None)).label("unpriced"),
        func.sum(case((paid, Usage.prompt_tokens), else_=0)).label("prompt_tokens"),
        func.sum(case((paid, Usage.completion_tokens), else_=0)).label("completion_tokens"),
        func.max(case((paid, Usage.completion_tokens), else_=0)).label("max_completion"),
        func.sum(case((paid, Usage.usd))).label("usd"),
        func.sum(case((~paid, Usage.usd))).label("unknown_usd"),
        func.sum(case((~paid, Usage.prompt_tokens + Usage.completion_tokens), else_=0)).label("unknown_tokens"),
    )
    for within in _pages(conn, job):
        for row in conn.execute(select(Usage.shard_no, *columns).where(*within).group_by(Usage.shard_no)).mappings():
            _add(counted.setdefault(int(row["shard_no"]), {}), row)
    return counted


def _pages(conn: Connection, job: Row[Any]) -> Iterator[Sequence[ColumnElement[bool]]]:
    """Conditions on `Usage` that hold for `PAGE` bills of the job each, together for all."""
    start: bytes | None = b""
    while start is not None:
        within = (Usage.job_id == job.id, Usage.attempt_id >= start)
        border = select(Usage.attempt_id).where(*within).order_by(Usage.attempt_id).offset(PAGE).limit(1)
        start = conn.execute(border).scalar_one_or_none()
        yield within if start is None else (*within, Usage.attempt_id < start)


def _add(total: dict[str, Any], part: Any) -> None:
    for name, value in part.items():
        if name == "max_completion":
            total[name] = max(total.get(name, 0), value)
        elif name != "shard_no" and value is not None:
            total[name] = total.get(name, 0) + value


def _leftovers(conn: Connection, job: Row[Any]) -> Iterator[Mismatch]:
    """Rows of a purged job that are there: the purge was cut short, or a journal was adopted after it."""
    for table, count in sorted(rows_left(conn, job.id).items()):
        yield Mismatch("job", f"{table} of a purged job", 0, count)


def _strays(conn: Connection, job: Row[Any]) -> Iterator[Mismatch]:
    """Content keys that still count as being paid for, in shards that are done: others would wait for them."""
    shard = and_(Shard.job_id == InFlight.job_id, Shard.shard_no == InFlight.shard_no)
    over = Shard.shard_no.is_(None) | and_(Shard.done, Shard.owner.is_(None))
    left = (
        select(InFlight.shard_no, func.count())
        .outerjoin(Shard, shard)
        .where(InFlight.job_id == job.id, over)
        .group_by(InFlight.shard_no)
        .order_by(InFlight.shard_no)
    )
    for number, count in conn.execute(left):
        yield Mismatch(f"shard {number}", "keys in flight of a shard that is done", 0, count)


def _count_if(condition: ColumnElement[bool]) -> Any:
    return func.sum(case((condition, 1), else_=0))


def _money(total: Any) -> Decimal:
    return Decimal(0) if total is None else Decimal(total)
