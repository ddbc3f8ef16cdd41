"""SIGTERM under load, fifty times over: every worker is gone within its grace, and nothing is paid twice."""

from __future__ import annotations

import signal
import time
from statistics import median

import pytest

from tests.fixtures.fleet import StartFleet, wait_until
from tests.fixtures.simulator import StartSimulator

DRAINS = 50
GRACE_S = 10.0
WINDOW = 20
ITEMS = 4_000


@pytest.mark.slow
@pytest.mark.fault(4)
@pytest.mark.xdist_group("drains")
@pytest.mark.timeout(1_200)
def test_fifty_workers_drain_within_their_grace_one_after_the_other(
    start_fleet: StartFleet, simulator: StartSimulator, postgres_url: str
) -> None:
    fleet = start_fleet(simulator(latency_ms="300:0.4"), postgres_url, window=WINDOW, grace_s=GRACE_S)
    fleet.scheduler()
    job = fleet.complete([f"chunk number {number}" for number in range(ITEMS)], shard_size=25)
    took_s = []
    for _ in range(DRAINS):
        worker = fleet.worker()
        before = fleet.simulator.stats()["paid_requests"]
        wait_until(lambda before=before: fleet.simulator.stats()["paid_requests"] > before + WINDOW)  # type: ignore[misc]
        told = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(GRACE_S + 60) == 0, fleet.log()[-3_000:]
        took_s.append(time.monotonic() - told)
        counts = fleet.counts(job)
        assert (counts.succeeded, counts.unknown_attempts) == (fleet.simulator.stats()["paid_requests"], 0)
        assert fleet.state(job) == "running", "every drain is one under load"
    within = sum(each <= GRACE_S for each in took_s)
    fleet.worker(window=500)
    assert fleet.wait(job).succeeded == ITEMS
    twice = fleet.simulator.stats()["duplicates_paid"]
    print(
        f"\n{within} of {DRAINS} within {GRACE_S:.0f} s of grace (median {median(took_s):.1f} s, longest "
        f"{max(took_s):.1f}), {twice} paid twice"
    )
    assert (within, twice) == (DRAINS, 0)
