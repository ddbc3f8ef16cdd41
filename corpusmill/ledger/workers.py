"""Who is alive, and which endpoints and keys they can serve."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, delete, select

from corpusmill.ledger.bulk import table_of, upsert
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.models import Worker
from corpusmill.ledger.records import WorkerView

# A worker that has not been heard of for so long is not counted upon.
LIVE_S = 60.0
# Rows of workers that vanished without a word are kept this long, for `doctor` and the curious.
_FORGOTTEN_S = 86_400


def beat(conn: Connection, row: dict[str, Any], holds: Collection[tuple[str, str]]) -> None:
    """Say that a worker lives; its row is made or brought up to date."""
    now_s = read_clock(conn).lease_s
    values = {**row, "holds": sorted([list(pair) for pair in holds]), "seen_at": now_s}
    statement = upsert(conn, Worker).values(values)
    newer = {name: statement.excluded[name] for name in values if name != "id"}
    conn.execute(statement.on_conflict_do_update(index_elements=["id"], set_=newer))
    conn.execute(delete(Worker).where(Worker.seen_at < now_s - _FORGOTTEN_S))


def gone(conn: Connection, worker_id: str) -> None:
    """Forget a worker that ended in order. Its leases stay: what it paid for may still lie in its journal."""
    conn.execute(delete(Worker).where(Worker.id == worker_id))


def seen(conn: Connection, max_age_s: float) -> list[WorkerView]:
    """Workers that were heard of in the last `max_age_s` seconds."""
    now_s = read_clock(conn).lease_s
    rows = conn.execute(select(table_of(Worker)).where(Worker.seen_at >= now_s - max_age_s).order_by(Worker.id))
    return [
        WorkerView(row.id, row.host, row.pid, row.slots, _pairs(row.holds), max(0.0, now_s - row.seen_at))
        for row in rows
    ]


def held_by_living(conn: Connection) -> set[tuple[str, str]]:
    """Every (endpoint, key fingerprint) that some live worker can serve."""
    living = Worker.seen_at + Worker.lease_s > read_clock(conn).lease_s
    found = conn.execute(select(Worker.holds).where(living)).scalars().all()
    return {pair for holds in found for pair in _pairs(holds)}


def _pairs(holds: list[list[str]]) -> frozenset[tuple[str, str]]:
    return frozenset((endpoint, fingerprint) for endpoint, fingerprint in holds)
