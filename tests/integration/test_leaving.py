"""A worker that has grown too large, or that the schema has outgrown, drains and leaves; one version is no matter."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from corpusmill.errors import UsageError
from corpusmill.ledger import Ledger, migrate, schema
from tests.fixtures.fleet import Fleet, StartFleet, wait_until
from tests.fixtures.simulator import StartSimulator

pytestmark = pytest.mark.timeout(180)

NEXT, AFTER_NEXT = (f"{schema.version(schema.HEAD) + ahead:04}" for ahead in (1, 2))


REVISION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "{revision}", "{before}"


def upgrade():
    op.add_column("jobs", sa.Column("of_{revision}", sa.Text(), server_default="new"))
    op.create_table("things_of_{revision}", sa.Column("id", sa.Integer(), primary_key=True))
    op.create_index("answers_of_{revision}", "answers", ["model"])
"""


def upgrade(ledger: Ledger, folder: Path, revision: str, before: str) -> None:
    """What a later version's `migrate` would do: add, and take nothing away."""
    (folder / f"of_{revision}.py").write_text(REVISION.format(revision=revision, before=before))
    config = Config()
    config.set_main_option("script_location", str(schema.migrations_dir()))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", f"{schema.migrations_dir() / 'versions'}:{folder}")

    def run(conn: Connection) -> None:
        config.attributes["connection"] = conn
        command.upgrade(config, revision)

    ledger._db.write(run)


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


@pytest.mark.fault(35)
def test_workers_go_on_while_and_after_the_schema_becomes_the_next_and_leave_under_the_one_after_it(
    start_fleet: StartFleet, simulator: StartSimulator, postgres_url: str, tmp_path: Path
) -> None:
    fleet = start_fleet(simulator(latency_ms=200), postgres_url, window=5)
    fleet.scheduler()
    old = fleet.worker()
    job = fleet.complete([f"chunk number {number}" for number in range(300)], shard_size=10)
    goes_on(fleet)
    upgrade(fleet.ledger, tmp_path, NEXT, schema.HEAD)
    newcomer = fleet.worker()
    goes_on(fleet)
    with Ledger.open(postgres_url) as opened:
        assert len(opened.jobs()) == 1
    with pytest.raises(UsageError, match="newer corpusmill"):
        migrate(postgres_url)

    upgrade(fleet.ledger, tmp_path, AFTER_NEXT, NEXT)
    with ThreadPoolExecutor() as both:
        assert list(both.map(lambda worker: worker.wait(30), (old, newcomer))) == [2, 2]
    assert fleet.log().count("the schema is too new for this worker") == 2
    assert "Traceback" not in fleet.log()
    wait_until(lambda: fleet.ledger.workers(60) == [])
    counts = fleet.counts(job)
    assert (counts.succeeded, counts.unknown_attempts) == (fleet.simulator.stats()["paid_requests"], 0)
    assert fleet.state(job) == "running"
    with pytest.raises(UsageError, match="newer corpusmill"):
        Ledger.open(postgres_url)


def goes_on(fleet: Fleet) -> None:
    """Wait until more is paid for."""
    before = fleet.simulator.stats()["paid_requests"]
    wait_until(lambda: fleet.simulator.stats()["paid_requests"] > before + 10)
