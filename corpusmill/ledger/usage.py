"""The bill: usage summed by job, model, day or label, and priced afterwards where the price was not known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Row, Select, bindparam, case, cast, func, or_, select, update

from corpusmill.errors import UsageError
from corpusmill.ledger import budgets, shards
from corpusmill.ledger.amounts import Amount
from corpusmill.ledger.bulk import table_of
from corpusmill.ledger.clock import day_of
from corpusmill.ledger.database import Database
from corpusmill.ledger.models import Job, Usage
from corpusmill.ledger.records import ShardRef, UsageTotal
from corpusmill.prices import PriceCard

CardFor = Callable[[str, str], PriceCard | None]
_DAY_S = 86_400
_PAGE = 2_000
_LABEL = "label:"


def totals(conn: Connection, what: str, since: float | None) -> list[UsageTotal]:
    """Usage by `job` (its public id), `model`, `day` (UTC) or `label:K`, from `since` (epoch seconds) on.

    Raises:
        UsageError: `what` is none of these.
    """
    if what.startswith(_LABEL):
        return _by_label(conn, what.removeprefix(_LABEL), since)
    if what == "job":
        return _by_job(conn, since)
    if what == "model":
        return [_total(row.key, [row]) for row in _sums(conn, Usage.model, since)]
    if what == "day":
        days = _sums(conn, cast(func.floor(Usage.at / _DAY_S), Integer), since)
        return [_total(day_of(int(row.key) * _DAY_S), [row]) for row in days]
    raise UsageError(f"usage cannot be grouped by {what!r}", next_step="use --by job, model, day or label:NAME")


def _by_job(conn: Connection, since: float | None) -> list[UsageTotal]:
    names = dict(conn.execute(select(Job.id, Job.public_id)).all())
    return [_total(names[row.key], [row]) for row in _sums(conn, Usage.job_id, since)]


def _by_label(conn: Connection, label: str, since: float | None) -> list[UsageTotal]:
    """Jobs without the label are summed under the empty name."""
    labels: dict[int, dict[str, str]] = dict(conn.execute(select(Job.id, Job.labels)).all())
    groups: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in _sums(conn, Usage.job_id, since):
        groups[labels[row.key].get(label, "")].append(row)
    return [_total(value, rows) for value, rows in sorted(groups.items())]


def _sums(conn: Connection, key: ColumnElement[Any], since: float | None) -> Sequence[Row[Any]]:
    """One row a group. Tokens are those of paid calls; what an unknown outcome may have cost stands apart."""
    paid = Usage.outcome == "paid"
    statement: Select[Any] = select(
        key.label("key"),
        func.sum(case((paid, 1), else_=0)).label("requests"),
        *(
            func.sum(case((paid, column), else_=0)).label(column.key)
            for column in (
                Usage.prompt_tokens,
                Usage.cached_tokens,
                Usage.completion_tokens,
                Usage.reasoning_tokens,
            )
        ),
        func.sum(case((paid, Usage.usd))).label("usd"),
        func.sum(case((~paid, Usage.usd))).label("unknown_usd"),
        func.sum(case((paid & Usage.usd.is_(None), 1), else_=0)).label("unpriced"),
    )
    if since is not None:
        statement = statement.where(Usage.at >= since)
    return conn.execute(statement.group_by(key).order_by(key)).all()


def _total(group: str, rows: Iterable[Row[Any]]) -> UsageTotal:
    rows = list(rows)
    priced = [row.usd for row in rows if row.usd is not None]
    unknown = [row.unknown_usd for row in rows if row.unknown_usd is not None]
    unpriced = sum(int(row.unpriced) for row in rows)
    return UsageTotal(
        group=group,
        requests=sum(int(row.requests) for row in rows),
        prompt_tokens=sum(int(row.prompt_tokens) for row in rows),
        cached_tokens=sum(int(row.cached_tokens) for row in rows),
        completion_tokens=sum(int(row.completion_tokens) for row in rows),
        reasoning_tokens=sum(int(row.reasoning_tokens) for row in rows),
        usd=sum(priced, Decimal(0)) if priced or not unpriced else None,
        unknown_usd=sum(unknown, Decimal(0)) if unknown or not unpriced else None,
        unpriced_requests=unpriced,
    )


def reprice(database: Database, card_for: CardFor) -> int:
    """Fill in the cost of unpriced usage with the cards that are known now; return how many rows got one."""
    priced, after = 0, (0, b"")
    while True:
        rows = database.read(_unpriced, after)
        if not rows:
            return priced
        priced += database.write(_price, rows, card_for)
        after = (rows[-1].job_id, rows[-1].attempt_id)


def _unpriced(conn: Connection, after: tuple[int, bytes]) -> Sequence[Row[Any]]:
    table = table_of(Usage)
    job_id, attempt_id = after
    later = or_(table.c.job_id > job_id, (table.c.job_id == job_id) & (table.c.attempt_id > attempt_id))
    wanted = select(table).where(table.c.usd.is_(None), later).order_by(table.c.job_id, table.c.attempt_id)
    return conn.execute(wanted.limit(_PAGE)).all()


_SET_USD = (
    update(table_of(Usage))
    .where(Usage.job_id == bindparam("in_job"), Usage.attempt_id == bindparam("of_attempt"), Usage.usd.is_(None))
    .values(usd=bindparam("new_usd"))
)


def _price(conn: Connection, rows: Sequence[Row[Any]], card_for: CardFor) -> int:
    """Price a page: the usage rows, their shards' counters, their jobs' cards and budgets."""
    locked = shards.lock(conn, {ShardRef(row.job_id, row.shard_no) for row in rows})
    before = {ref: shard.set_aside for ref, shard in locked.items()}
    priced: list[dict[str, Any]] = []
    cards: dict[int, PriceCard] = {}
    for row in rows:
        card = card_for(row.model, row.provider)
        usd = None if card is None else _cost(card, row)
        if card is None or usd is None:
            continue
        # One by one: only a row that is still unpriced counts, and drivers give no count a row for many.
        values = {"in_job": row.job_id, "of_attempt": row.attempt_id, "new_usd": usd}
        if conn.execute(_SET_USD, values).rowcount:
            shard = locked[ShardRef(row.job_id, row.shard_no)]
            shard.charge(Amount(usd), unknown=row.outcome == "unknown")
            shard.unpriced -= 1
            cards.setdefault(row.job_id, card)
            priced.append(values)
    shards.save(conn, locked.values())
    for job_id, card in sorted(cards.items()):
        unpriced_job = (Job.id == job_id, Job.price_card.is_(None))
        conn.execute(update(Job).where(*unpriced_job).values(price_card=card.as_json()))
    budgets.adjust(conn, budgets.moved(locked, before))
    return len(priced)


def _cost(card: PriceCard, row: Row[Any]) -> Decimal | None:
    return card.cost(
        row.tier,
        prompt=row.prompt_tokens,
        cached=row.cached_tokens,
        cache_write=row.cache_write_tokens,
        completion=row.completion_tokens,
    )
