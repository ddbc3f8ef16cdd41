"""PostgreSQL restarts, stands still or is cut off: what was paid for is written, and nothing is bought again."""

from __future__ import annotations

import pytest

from corpusmill.ledger import Ledger
from corpusmill.ledger.clock import RESTART_S
from corpusmill.ledger.records import ShardRef
from tests.fixtures import jobs
from tests.fixtures.fleet import wait_until
from tests.fixtures.postgres import Postgres

pytestmark = [pytest.mark.xdist_group("postgres-away"), pytest.mark.timeout(180)]


@pytest.mark.fault(12)
def test_leases_that_ran_out_while_it_was_away_are_not_over_until_their_owners_had_time_to_come_back(
    own_postgres: Postgres,
) -> None:
    with Ledger.open(own_postgres.url) as ledger:
        job = jobs.submit(ledger, ["a", "b"])
        ref = ShardRef(job.id, 0)
        claimed = ledger.claim(ref, worker_id="w1", lease_s=0.1, holds={jobs.LANE})
        assert claimed is not None
        own_postgres.stop()
        own_postgres.start()
        wait_until(lambda: answers(ledger))
        assert jobs.try_claim(ledger, job, 0, worker="w2") is None
        report = jobs.commit(ledger, jobs.paid(claimed), worker="w1")
        assert not report.lost
        wait_until(lambda: jobs.try_claim(ledger, job, 0, worker="w2") is not None, RESTART_S + 5)


def answers(ledger: Ledger) -> bool:
    """Whether the ledger has a connection again."""
    try:
        ledger.now_s()
    except Exception:
        return False
    return True
