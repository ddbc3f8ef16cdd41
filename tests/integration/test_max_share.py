"""A job that may use a part of the limit only: it leaves the rest to others, and they use all of it."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.fixtures.bench import StartBench
from tests.fixtures.simulator import StartSimulator

RPM = 1_800
WATCHED_S = 5.0


@pytest.mark.parametrize("priority", ["low", "normal"])
async def test_a_scheduled_job_with_a_share_leaves_the_rest_to_a_live_one_and_all_is_used(
    bench: StartBench, simulator: StartSimulator, priority: str
) -> None:
    endpoint = simulator(rpm=RPM, latency_ms=30)
    async with bench(endpoint.base_url, limits={"rpm": RPM, "tpm": 0}) as b:
        live = b.complete([f"live {number}" for number in range(600)])
        scheduled = b.complete([f"scheduled {number}" for number in range(600)], priority=priority, max_share=0.3)
        running = [asyncio.create_task(b.run(job)) for job in (scheduled, live)]
        await asyncio.sleep(1)
        before, started = endpoint.stats()["paid_requests"], time.monotonic()
        first = [b.counts(job).requests for job in (live, scheduled)]
        await asyncio.sleep(WATCHED_S)
        sent, took = endpoint.stats()["paid_requests"] - before, time.monotonic() - started
        lives, others = (b.counts(job).requests - n for job, n in zip((live, scheduled), first, strict=True))
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    assert lives >= 0.65 * (lives + others)
    assert sent >= 0.9 * RPM / 60 * took


async def test_a_job_alone_uses_no_more_than_its_share(bench: StartBench, simulator: StartSimulator) -> None:
    endpoint = simulator(rpm=RPM, latency_ms=30)
    async with bench(endpoint.base_url, limits={"rpm": RPM, "tpm": 0}) as b:
        job = b.complete([f"alone {number}" for number in range(600)], priority="low", max_share=0.3)
        task = asyncio.create_task(b.run(job))
        await asyncio.sleep(1)
        before, started = endpoint.stats()["requests"], time.monotonic()
        await asyncio.sleep(WATCHED_S)
        sent, took = endpoint.stats()["requests"] - before, time.monotonic() - started
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert 0.2 * RPM / 60 * took <= sent <= 0.33 * RPM / 60 * took
