"""What endpoints tell of their limits, in every dialect, and how long they ask to wait."""

from __future__ import annotations

import asyncio
import time
from email.utils import parsedate_to_datetime

import pytest

from corpusmill.limits import Limiter, Scope
from tests.fixtures.bench import StartBench
from tests.fixtures.simulator import StartSimulator
from tests.fixtures.still_clock import LimitsSet


@pytest.mark.parametrize(
    ("tell", "limits"),
    [("openai", {}), ("project", {}), ("mistral", {}), ("azure", {"requests_window_s": 10})],
)
async def test_limits_are_learnt_from_the_first_reply_in_every_dialect(
    bench: StartBench, simulator: StartSimulator, tell: str, limits: dict[str, float]
) -> None:
    endpoint = simulator(rpm=6000, tpm=600_000, tell=tell, depth_s=1)
    async with bench(endpoint.base_url, limits=limits) as b:
        job = b.complete([f"chunk {number}" for number in range(5)])
        await b.run(job)
        (stream,) = b.runtime.runner.routes.streams()
        (door,) = stream.lane.members[0].doors.values()
        assert door.gate.rates is not None
        assert (door.gate.rates.rpm, door.gate.rates.tpm) == (6000, 600_000)
        assert stream.lane.tpm(stream.model) == 600_000  # what packs keep to


async def test_a_cool_down_heard_by_one_process_holds_for_the_fleet_to_within_50_ms_of_its_end(valkey_url: str) -> None:
    async with Limiter(valkey_url) as one, Limiter(valkey_url) as other:
        scope = Scope("https://cool.test/v1", "fingerprint", "model")
        gates = [limiter.gate(scope, LimitsSet(600_000, 0)) for limiter in (one, other)]
        for gate in gates:
            await gate.acquire(1, 1)
        started = time.monotonic()
        gates[0].penalty(1.0, "rate")
        await asyncio.sleep(0.05)
        admitted: list[float] = []

        async def take() -> None:
            await gates[1].acquire(1, 1)
            admitted.append(time.monotonic() - started)

        await asyncio.gather(*(take() for _ in range(200)))
    assert min(admitted) >= 1.0
    # An empty bucket, not a herd.
    assert sum(at < 1.005 for at in admitted) < 100


@pytest.mark.parametrize("form", ["both", "seconds", "ms", "date"])
def test_the_simulator_writes_the_wait_in_every_form(simulator: StartSimulator, form: str) -> None:
    endpoint = simulator(rpm=1, depth_s=1, retry_after=form)
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello."}]}
    endpoint.post("/v1/chat/completions", body)
    _, _, headers = endpoint.refused("/v1/chat/completions", body)
    assert ("retry-after-ms" in headers) == (form in ("both", "ms"))
    if form == "date":
        assert 50 < parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time() < 62
