"""Real worker and scheduler processes, a real broker, a real ledger, and the simulator at the other end."""

from __future__ import annotations

from tests.fixtures.fleet import StartFleet, chunks, embeddings
from tests.fixtures.simulator import StartSimulator


def test_completions_and_embeddings_run_whole(
    start_fleet: StartFleet, simulator: StartSimulator, database_url: str
) -> None:
    fleet = start_fleet(simulator(), database_url)
    spec = embeddings(fleet.endpoint)
    fleet.scheduler()
    fleet.worker()
    completing = fleet.complete([f"chunk number {number}" for number in range(250)])
    embedding = fleet.submit(spec, chunks(spec, [f"text {number}" for number in range(300)]), shard_size=200)
    for job, items in ((completing, 250), (embedding, 300)):
        counts = fleet.wait(job)
        assert (counts.items, counts.succeeded, counts.failed, counts.cached) == (items, items, 0, 0)
    assert fleet.simulator.stats()["paid_inputs"] == 550
    assert fleet.simulator.stats()["duplicates_paid"] == 0
    assert len({row.item_no for row in fleet.results(completing)}) == 250
    assert all(row.body is not None and len(row.body) == 4 * 8 for row in fleet.results(embedding))
