"""Endpoints that send no limit headers: what they bear at once is found out by trying."""

from __future__ import annotations

from typing import Any

from tests.fixtures.bench import Bench, StartBench
from tests.fixtures.simulator import StartSimulator

UNSET: dict[str, Any] = {}


def texts(count: int) -> list[str]:
    return [f"chunk number {number}" for number in range(count)]


def window(b: Bench) -> int:
    (lane,) = {stream.lane for stream in b.runtime.runner.routes.streams()}
    (door,) = lane.members[0].doors.values()
    return door.room.limit


async def test_calls_at_once_settle_near_what_the_endpoint_serves_side_by_side(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator(latency_ms=60, capacity=20)
    async with bench(endpoint.base_url, limits=UNSET) as b:
        job = b.complete(texts(1000))
        await b.run(job)
        assert b.counts(job).succeeded == 1000
        assert 10 <= window(b) <= 90
    stats = endpoint.stats()
    assert stats["peak_in_flight"] >= 20
    assert stats["duplicates_paid"] == 0


async def test_an_endpoint_that_bears_everything_is_used_more_and_more(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator(latency_ms=60)
    async with bench(endpoint.base_url, limits=UNSET) as b:
        job = b.complete(texts(1000))
        await b.run(job)
        assert window(b) > 60


async def test_overload_answers_shrink_the_window_and_lose_nothing(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator(latency_ms=20, fault="overloaded@60-63")
    async with bench(endpoint.base_url, limits=UNSET) as b:
        job = b.complete(texts(300))
        await b.run(job)
        assert b.counts(job).succeeded == 300
        assert window(b) < 100
    assert endpoint.stats()["duplicates_paid"] == 0


async def test_a_limit_set_to_zero_means_none_at_all(bench: StartBench, simulator: StartSimulator) -> None:
    endpoint = simulator(latency_ms=200, capacity=20)
    async with bench(endpoint.base_url, limits={"rpm": 0, "tpm": 0}) as b:
        job = b.complete(texts(400))
        await b.run(job)
    assert endpoint.stats()["peak_in_flight"] >= 300


async def test_limits_that_are_told_are_kept_to_and_not_the_window(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator(rpm=60_000, tpm=60_000_000, latency_ms=300, depth_s=1)
    async with bench(endpoint.base_url, limits=UNSET) as b:
        job = b.complete(texts(300))
        await b.run(job)
        assert b.counts(job).succeeded == 300
    assert endpoint.stats()["peak_in_flight"] > 100
