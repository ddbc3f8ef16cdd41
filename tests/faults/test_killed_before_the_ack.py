"""A worker is killed between a shard's commit and its acknowledgement: the message comes again, and costs nothing."""

from __future__ import annotations

import pytest

from corpusmill.app import KEY_PREFIX
from tests.fixtures.fleet import Fleet, StartFleet, wait_until
from tests.fixtures.simulator import StartSimulator
from tests.fixtures.tcp_proxy import tcp_proxy

UNACKED, QUEUE = f"{KEY_PREFIX}unacked", f"{KEY_PREFIX}completion.normal"


def unacknowledged(fleet: Fleet) -> list[str]:
    """The tags of messages that were handed out and not acknowledged."""
    with fleet.broker.client() as redis:
        return [str(tag) for tag in redis.hkeys(UNACKED)]


def restore(fleet: Fleet) -> None:
    """Put them back on their queue, as kombu does when its visibility time-out is over."""
    with fleet.app.connection_for_write() as connection, connection.channel() as channel:
        for tag in unacknowledged(fleet):
            channel.qos.restore_by_tag(tag)


def queued(fleet: Fleet) -> int:
    """Messages that wait to be handed out."""
    with fleet.broker.client() as redis:
        return int(redis.llen(QUEUE))


@pytest.mark.fault(3)
def test_its_message_comes_again_and_nothing_is_paid_again(
    start_fleet: StartFleet, simulator: StartSimulator, postgres_url: str
) -> None:
    fleet = start_fleet(simulator(latency_ms=300), postgres_url, window=5)
    with tcp_proxy(fleet.broker.port) as link:
        worker = fleet.worker(broker_url=link.of(fleet.broker.url))
        job = fleet.complete([f"chunk number {number}" for number in range(20)])
        fleet.feed()
        wait_until(lambda: fleet.simulator.stats()["paid_requests"] > 0)
        # The acknowledgement leaves the worker and does not arrive.
        link.hold()
        fleet.wait(job)
        worker.kill()
        link.reset()
    before = fleet.simulator.stats()["requests"]
    assert len(unacknowledged(fleet)) == 1, "it was killed before its acknowledgement"

    restore(fleet)
    assert queued(fleet) == 1
    fleet.worker()
    wait_until(lambda: not queued(fleet) and not unacknowledged(fleet), what="a second delivery that is acknowledged")
    counts = fleet.wait(job)
    again = fleet.simulator.stats()["requests"] - before
    print(f"\nkilled between commit and acknowledgement: {again} of {counts.items} sent again")
    assert (counts.succeeded, counts.requests, again) == (20, before, 0)
