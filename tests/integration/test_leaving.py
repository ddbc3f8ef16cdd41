"""A worker that has grown too large, or that the schema has outgrown, drains and leaves; one version is no matter."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from corpusmill.errors import UsageError
from corpusmill.ledger import Ledger, migrate, schema
from corpusmill.ledger.records import JobView
from tests.fixtures.fleet import Fleet, StartFleet, wait_until
from tests.fixtures.simulator import StartSimulator

pytestmark = pytest.mark.timeout(180)

NEXT, AFTER_NEXT = (f"{schema.version(schema.HEAD) + ahead:04}" for ahead in (1, 2))


def expand(ledger: Ledger, revision: str) -> None:
    """What a later version's migration would do: add, and take nothing away."""
    column = f"of_{revision}"
    ledger._db.write(lambda conn: conn.execute(text(f"ALTER TABLE jobs ADD COLUMN {column} TEXT DEFAULT 'new'")))
    ledger._db.write(lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision}))


def test_a_worker_that_grew_too_large_lets_everything_land_and_the_next_one_goes_on(
    start_fleet: StartFleet, simulator: StartSimulator, sqlite_url: str
) -> None:
    fleet = start_fleet(simulator(latency_ms=200), sqlite_url, window=10)
    fleet.scheduler()
    job = fleet.complete([f"chunk number {number}" for number in range(150)], shard_size=10)
    leaver = fleet.worker(max_rss_mb=1)
    assert leaver.wait(30) == 75
    assert "too much memory" in fleet.log()
    counts = fleet.counts(job)
    assert 0 < counts.succeeded < 150
    assert counts.succeeded == fleet.simulator.stats()["paid_requests"]
    fleet.worker(max_rss_mb=0)
    counts = fleet.wait(job)
    assert (counts.succeeded, counts.unknown_attempts) == (150, 0)
    assert fleet.simulator.stats()["duplicates_paid"] == 0


def test_workers_go_on_under_the_next_schema_and_leave_under_the_one_after_it(
    start_fleet: StartFleet, simulator: StartSimulator, postgres_url: str
) -> None:
    fleet = start_fleet(simulator(latency_ms=50), postgres_url, window=5)
    fleet.scheduler()
    old = fleet.worker()
    expand(fleet.ledger, NEXT)
    newcomer = fleet.worker()
    assert fleet.wait(submit(fleet)).succeeded == 30
    with Ledger.open(postgres_url) as opened:
        assert len(opened.jobs()) == 1
    with pytest.raises(UsageError, match="newer corpusmill"):
        migrate(postgres_url)

    expand(fleet.ledger, AFTER_NEXT)
    with ThreadPoolExecutor() as both:
        assert list(both.map(lambda worker: worker.wait(30), (old, newcomer))) == [2, 2]
    assert fleet.log().count("the schema is too new for this worker") == 2
    wait_until(lambda: fleet.ledger.workers(60) == [])
    with pytest.raises(UsageError, match="newer corpusmill"):
        Ledger.open(postgres_url)


def submit(fleet: Fleet) -> JobView:
    return fleet.complete([f"chunk number {number}" for number in range(30)], shard_size=10)
