"""A backup taken while work runs, restored as the operations page says: it costs what was answered after it."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from corpusmill.ledger import Ledger
from tests.fixtures.fleet import StartFleet, wait_until
from tests.fixtures.shell import PATIENCE_S
from tests.fixtures.simulator import StartSimulator

ITEMS = 200


def backup(ledger: Path, to: Path) -> None:
    with closing(sqlite3.connect(ledger)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def restore(ledger: Path, backup: Path) -> None:
    for path in ledger.parent.glob(f"{ledger.name}*"):
        path.unlink()
    backup.rename(ledger)


@pytest.mark.slow
def test_after_a_restore_with_an_empty_queue_all_goes_on_from_the_backup(
    start_fleet: StartFleet, simulator: StartSimulator, sqlite_url: str, tmp_path: Path
) -> None:
    fleet = start_fleet(simulator(latency_ms=100), sqlite_url, window=10)
    ledger, kept = tmp_path / "ledger.db", tmp_path / "kept.db"
    job = fleet.complete([f"chunk number {number}" for number in range(ITEMS)], shard_size=20)
    staff = [fleet.scheduler(), fleet.worker()]
    wait_until(lambda: fleet.counts(job).succeeded > 30)
    backup(ledger, kept)
    wait_until(lambda: fleet.counts(job).succeeded > 90)
    for process in staff:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(PATIENCE_S) for process in staff] == [0, 0]
    paid = fleet.simulator.stats()["paid_requests"]
    assert paid == fleet.counts(job).succeeded < ITEMS

    fleet.ledger.close()
    restore(ledger, kept)
    fleet.broker.flush()
    fleet.ledger = Ledger.open(sqlite_url)
    before = fleet.counts(job).succeeded
    assert 30 < before < paid
    fleet.scheduler()
    fleet.worker()
    assert fleet.wait(job).succeeded == ITEMS
    assert fleet.simulator.stats()["duplicates_paid"] == paid - before
