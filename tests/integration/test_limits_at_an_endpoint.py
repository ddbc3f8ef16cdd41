"""Two processes' limiters against an endpoint that enforces its limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from corpusmill.limits import Gate, Limiter, Scope, charge
from tests.fixtures.simulator import Simulator, StartSimulator
from tests.fixtures.still_clock import LimitsSet

TEXT = "x" * 400
KEY = {"authorization": "Bearer key"}


@asynccontextmanager
async def two_gates(redis_url: str, endpoint: Simulator, limits: LimitsSet) -> AsyncIterator[list[Gate]]:
    """Gates of two limiters to the endpoint's one bucket."""
    async with Limiter(redis_url) as one, Limiter(redis_url) as other:
        scope = Scope(endpoint.base_url, "fingerprint", "gpt-6-luna")
        yield [limiter.gate(scope, limits) for limiter in (one, other)]


async def send(gates: list[Gate], endpoint: Simulator, count: int, *, at_once: int = 40) -> None:
    """Send as fast as the gates let pass, until so many have been answered."""
    answered = 0
    enough = asyncio.Event()
    body = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": TEXT}]}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def sender(gate: Gate) -> None:
            nonlocal answered
            while True:
                grant = await gate.acquire(1, charge("openai", max_output=None, chars=len(TEXT)))
                async with session.post(f"{endpoint.base_url}/chat/completions", json=body, headers=KEY) as reply:
                    answer = await reply.json()
                paid = reply.status == 200
                gate.settle(grant, reply.headers, answer["usage"]["total_tokens"] if paid else None)
                if not paid:
                    gate.penalty(float(reply.headers.get("retry-after", 0)), "rate")
                answered += 1
                if answered >= count:
                    enough.set()

        senders = [asyncio.create_task(sender(gate)) for gate in gates for _ in range(at_once)]
        try:
            async with asyncio.timeout(20):
                await enough.wait()
        finally:
            for each in senders:
                each.cancel()
            await asyncio.gather(*senders, return_exceptions=True)


def assert_few_refusals(endpoint: Simulator) -> None:
    """At most one in a thousand."""
    stats = endpoint.stats()
    assert stats["answered_429"] <= 1 + stats["requests"] / 1000


async def test_two_processes_use_the_limit_and_are_not_refused(simulator: StartSimulator, valkey_url: str) -> None:
    endpoint = simulator(rpm=3000, depth_s=1, latency_ms="100:0.5")
    async with two_gates(valkey_url, endpoint, LimitsSet(3000, 0)) as gates:
        await send(gates, endpoint, 90)
    assert_few_refusals(endpoint)


async def test_limits_that_nobody_set_are_learnt_without_a_refusal(simulator: StartSimulator, valkey_url: str) -> None:
    endpoint = simulator(rpm=3000, tpm=600_000, depth_s=1, latency_ms="100:0.5")
    async with two_gates(valkey_url, endpoint, LimitsSet()) as gates:
        await send(gates, endpoint, 90)
        assert gates[0].rates is not None
        assert (gates[0].rates.rpm, gates[0].rates.tpm) == (3000, 600_000)
    assert_few_refusals(endpoint)


async def test_an_endpoint_that_charges_more_than_the_formula_is_believed(
    simulator: StartSimulator, valkey_url: str
) -> None:
    endpoint = simulator(tpm=300_000, rpm=60_000, depth_s=1, latency_ms="100:0.5", charge_factor=1.1)
    async with two_gates(valkey_url, endpoint, LimitsSet(60_000, 300_000)) as gates:
        await send(gates, endpoint, 90)
    assert_few_refusals(endpoint)


async def test_a_limit_set_too_high_is_corrected_by_the_endpoints_word(
    simulator: StartSimulator, valkey_url: str
) -> None:
    endpoint = simulator(rpm=600, depth_s=2, latency_ms="50")
    async with two_gates(valkey_url, endpoint, LimitsSet(6000, 0)) as gates:
        await send(gates, endpoint, 15)
        assert gates[0].rates is not None
        assert gates[0].rates.rpm == 600
        refused = endpoint.stats()["answered_429"]
        await send(gates, endpoint, 20)
    assert endpoint.stats()["answered_429"] <= refused + 1
