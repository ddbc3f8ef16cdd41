"""Stops that cost nothing: what concerns a whole lane is found out by the calls in flight, and by hardly one more."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from corpusmill.settings import Provider
from tests.fixtures.fleet import KEY, StartFleet, wait_until
from tests.fixtures.simulator import StartSimulator
from tests.fixtures.valkey import free_port

WINDOW = 20
AT = 200


@pytest.mark.parametrize(
    ("fault", "state"), [("credit_balance_exhausted", "paused:billing"), ("invalid_key", "paused:key")]
)
def test_two_workers_send_no_more_than_what_was_in_flight_and_one_after_the_first_refusal(
    fault: str, state: str, start_fleet: StartFleet, simulator: StartSimulator, postgres_url: str
) -> None:
    fleet = start_fleet(simulator(latency_ms=100, fault=[f"{fault}@{AT}-"]), postgres_url, window=WINDOW)
    fleet.worker()
    fleet.worker()
    jobs = [fleet.complete([f"{name} {number}" for number in range(300)], shard_size=25) for name in "ab"]
    fleet.scheduler()
    for job in jobs:
        fleet.wait(job, state)
    wait_until(lambda: not any(fleet.ledger.held(job.id) for job in jobs), what="the end of the calls in flight")
    stats = fleet.simulator.stats()
    refused = stats["requests"] - stats["paid_requests"]
    print(f"in flight {stats['peak_in_flight']}, refused {refused}")
    assert stats["paid_requests"] == AT - 1
    assert 1 <= refused <= 2 * WINDOW + 1
    assert sum(fleet.counts(job).failed for job in jobs) == 0

    fleet.simulator.set_faults()
    for job in jobs:
        fleet.ledger.resume(job.id)
    for job in jobs:
        assert fleet.wait(job).succeeded == 300
    assert fleet.simulator.stats()["duplicates_paid"] == 0


def test_an_endpoint_that_comes_back_is_found_by_a_free_question_and_its_jobs_go_on(
    start_fleet: StartFleet, simulator: StartSimulator, postgres_url: str
) -> None:
    port = free_port()
    nobody = {"sim": Provider(base_url=f"http://127.0.0.1:{port}/v1", api_key=SecretStr(KEY))}
    fleet = start_fleet(simulator(), postgres_url, providers=nobody, lease_s=2.0)
    fleet.scheduler()
    fleet.worker()
    job = fleet.complete([f"chunk number {number}" for number in range(30)])
    fleet.wait(job, "paused:endpoint")
    assert fleet.counts(job).failed == 0
    back = simulator(port=port)
    assert fleet.wait(job).succeeded == 30
    assert back.stats()["paid_requests"] == 30
    assert [line["jobs"] for line in fleet.events("the endpoint answers again")] == [1]
