"""Links from a worker that are cut, reset or half-open: it finds out and goes on, and pays for nothing twice."""

from __future__ import annotations

import asyncio
import time

import pytest
from pydantic import SecretStr

from corpusmill.endpoint import Endpoint
from corpusmill.ledger.records import JobView
from corpusmill.llm import client
from corpusmill.llm.errors import CallError
from corpusmill.llm.pool import ClientPool
from corpusmill.settings import Provider
from tests.fixtures.fleet import KEY, Fleet, StartFleet, wait_until
from tests.fixtures.postgres import Postgres
from tests.fixtures.simulator import StartSimulator
from tests.fixtures.tcp_proxy import TcpProxy, tcp_proxy
from tests.fixtures.wire import wire

ITEMS = 400
WINDOW = 10


# --- one connection -------------------------------------------------------------------------------------------------


async def test_a_call_whose_other_end_has_vanished_is_given_up_long_before_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "ASK_S", 1)
    monkeypatch.setattr(client, "SILENT_S", 2)

    async def think(_: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with wire(think) as server, ClientPool() as pool:
        with tcp_proxy(server.port) as link:
            asked = pool.client(Endpoint("x", link.of(server.url), "sk-test"))
            calling = asyncio.create_task(asked.call("/chat/completions", b"{}", timeout_s=50))
            while not server.seen:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            link.vanish()
            with pytest.raises(CallError) as lost:
                await asyncio.wait_for(calling, 20)
            assert (lost.value.failure_class, lost.value.outcome) == ("connection_lost", "unknown")


# --- a whole fleet --------------------------------------------------------------------------------------------------


def job_in_the_middle(fleet: Fleet) -> JobView:
    job = fleet.complete([f"chunk number {number}" for number in range(ITEMS)], shard_size=5)
    goes_on(fleet)
    return job


def goes_on(fleet: Fleet, calls: int = 2 * WINDOW) -> None:
    """Wait until so much more is paid for."""
    before = fleet.simulator.stats()["paid_requests"]
    wait_until(lambda: fleet.simulator.stats()["paid_requests"] > before + calls)


def stood_still_s(fleet: Fleet, job: JobView) -> float:
    """The longest time, until the job is finished, in which nothing was paid for."""
    longest, paid, since = 0.0, 0, time.monotonic()
    while fleet.state(job) != "finished":
        now = fleet.simulator.stats()["paid_requests"]
        if now != paid:
            paid, since = now, time.monotonic()
        longest = max(longest, time.monotonic() - since)
        assert longest < 100, fleet.log()[-3_000:]
        time.sleep(0.05)
    return longest


@pytest.mark.slow
@pytest.mark.fault(9)
@pytest.mark.xdist_group("links")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("which", ["queue", "ledger"])
def test_a_worker_whose_connections_are_half_open_goes_on_within_a_minute_and_nothing_is_paid_twice(
    which: str, start_fleet: StartFleet, simulator: StartSimulator, own_postgres: Postgres
) -> None:
    fleet = start_fleet(simulator(latency_ms=200), own_postgres.url, window=WINDOW, lease_s=30.0)
    fleet.scheduler()
    with tcp_proxy(fleet.broker.port) as queue, tcp_proxy(own_postgres.port) as ledger:
        fleet.worker(broker_url=queue.of(fleet.broker.url), database_url=ledger.of(own_postgres.url))
        job = job_in_the_middle(fleet)
        link: TcpProxy = {"queue": queue, "ledger": ledger}[which]
        for cut in (link.cut, link.reset):
            cut()
            goes_on(fleet)
        link.vanish()
        still_s = stood_still_s(fleet, job)
    assert fleet.wait(job).succeeded == ITEMS
    twice = fleet.simulator.stats()["duplicates_paid"]
    print(f"\nlinks to the {which} cut, reset, then half-open: stood still for {still_s:.1f} s; {twice} paid twice")
    assert still_s < 60
    assert twice == 0


@pytest.mark.slow
@pytest.mark.xdist_group("links")
@pytest.mark.timeout(300)
def test_an_endpoint_whose_connections_break_is_called_again_and_only_what_was_in_flight_is_paid_twice(
    start_fleet: StartFleet, simulator: StartSimulator, postgres_url: str
) -> None:
    endpoint = simulator(latency_ms=200)
    with tcp_proxy(endpoint.port) as link:
        by_link = {"sim": Provider(base_url=link.of(endpoint.base_url), api_key=SecretStr(KEY))}
        fleet = start_fleet(endpoint, postgres_url, providers=by_link, window=WINDOW)
        fleet.scheduler()
        fleet.worker()
        job = job_in_the_middle(fleet)
        for cut in (link.cut, link.reset, link.vanish):
            cut()
            goes_on(fleet)
        still_s = stood_still_s(fleet, job)
        counts = fleet.wait(job)
    twice = endpoint.stats()["duplicates_paid"]
    print(
        f"\nlinks to the endpoint cut, reset, half-open: stood still for {still_s:.1f} s; {twice} paid twice, "
        f"{counts.unknown_attempts} of unknown outcome"
    )
    assert counts.succeeded == ITEMS
    assert twice <= counts.unknown_attempts <= 3 * WINDOW
