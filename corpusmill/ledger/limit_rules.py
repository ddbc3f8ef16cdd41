"""Limits that a person has set while workers run: rows that are only added, of which the newest holds."""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, select

from corpusmill.ledger.bulk import table_of
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.models import LimitRule
from corpusmill.ledger.records import LimitRule as Rule

_SAID = ("rpm", "tpm", "rpd", "tpd", "burst_s")


def version(conn: Connection) -> int:
    """The number of the newest row, 0 without any: what it says changes only with it."""
    return int(conn.execute(select(func.max(LimitRule.id))).scalar_one() or 0)


def in_force(conn: Connection) -> list[Rule]:
    """The rules that hold, by provider and model."""
    table = table_of(LimitRule)
    newest = select(func.max(table.c.id)).group_by(table.c.provider, table.c.model)
    rows = conn.execute(select(table).where(table.c.id.in_(newest)).order_by(table.c.provider, table.c.model))
    return [
        Rule(row.provider, row.model, **{name: getattr(row, name) for name in _SAID}, version=row.id)
        for row in rows
        if not row.removed
    ]


def set_(conn: Connection, rule: Rule) -> Rule:
    """Let `rule` hold; what it leaves open stays as an earlier rule of the same provider and model says."""
    before = _found(conn, rule.provider, rule.model)
    said = {**(before.said() if before else {}), **rule.said()}
    _add(conn, rule.provider, rule.model, said, removed=False)
    made = _found(conn, rule.provider, rule.model)
    assert made is not None  # noqa: S101 - it was added just now
    return made


def unset(conn: Connection, provider: str, model: str) -> bool:
    """Let no rule hold for exactly this provider and model; whether there was one."""
    if _found(conn, provider, model) is None:
        return False
    _add(conn, provider, model, {}, removed=True)
    return True


def _found(conn: Connection, provider: str, model: str) -> Rule | None:
    return next((rule for rule in in_force(conn) if (rule.provider, rule.model) == (provider, model)), None)


def _add(conn: Connection, provider: str, model: str, said: dict[str, int | float], *, removed: bool) -> None:
    row = {"provider": provider, "model": model, "removed": removed, "at": read_clock(conn).wall_s}
    conn.execute(insert(LimitRule).values(**row, **said))
