"""How exactly a fleet keeps to a 429 with Retry-After that one of its processes has heard."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import servers
from benchmarks.report import Bar, Table
from corpusmill.endpoint import Limits
from corpusmill.limits import Gate, Limiter, Scope

PROCESSES, WAITERS, ROUNDS = 4, 50, 10
RPM = 30_000
RETRY_AFTER_S, BETWEEN_S, AIM_MS = 1.0, 0.5, 50.0


@dataclass(frozen=True, slots=True)
class Kept:
    """Of one cool-down, milliseconds: until the last grant of anybody's after it was heard, and from its end until
    the first; and how many were granted in the 50 ms after its end, where the limit has 25."""

    stopped_ms: float
    resumed_ms: float
    rushed: int


def measure() -> list[Kept]:
    """Cool-downs one after the other, among limiters that always have requests waiting."""
    with tempfile.TemporaryDirectory() as folder, servers.valkey(Path(folder), None) as broker:
        return asyncio.run(_rounds(broker.url))


def table(found: list[Kept]) -> Table:
    """The middle and the worst of all rounds."""
    rows = [
        ["from the 429 to the last grant, ms", *_both([each.stopped_ms for each in found])],
        ["from the end of Retry-After to the first grant, ms", *_both([each.resumed_ms for each in found])],
        ["grants in the first 50 ms (the limit has 25)", *_both([each.rushed for each in found])],
    ]
    title = f"A 429 with Retry-After, heard by one of {PROCESSES} processes that share {RPM:,} RPM; {ROUNDS} times"
    return Table(title, ("", "middle", "worst"), rows)


def bars(found: list[Kept]) -> list[Bar]:
    """Honoured within 50 ms: nobody sends for longer, and nobody waits for longer."""
    return [
        Bar("Retry-After is heard by all, worst", AIM_MS, max(each.stopped_ms for each in found), " ms"),
        Bar("work goes on after Retry-After, worst", AIM_MS, max(each.resumed_ms for each in found), " ms"),
    ]


def _both(values: list[float]) -> list[str]:
    return [f"{median(values):.0f}", f"{max(values):.0f}"]


async def _rounds(url: str) -> list[Kept]:
    granted: list[float] = []
    async with _hungry(url, granted) as gates:
        found = []
        for number in range(ROUNDS):
            await asyncio.sleep(BETWEEN_S)
            heard = time.monotonic()
            gates[number % PROCESSES].penalty(RETRY_AFTER_S, "rate")
            await asyncio.sleep(RETRY_AFTER_S + BETWEEN_S)
            found.append(_kept(granted, heard))
    return found


def _kept(granted: list[float], heard: float) -> Kept:
    ends = heard + RETRY_AFTER_S
    # Half of the cool-down tells those that were under way from those of afterwards.
    last = max((at for at in granted if heard < at < heard + RETRY_AFTER_S / 2), default=heard)
    first = min(at for at in granted if at > heard + RETRY_AFTER_S / 2)
    return Kept((last - heard) * 1e3, (first - ends) * 1e3, sum(ends <= at < ends + 0.05 for at in granted))


@asynccontextmanager
async def _hungry(url: str, granted: list[float]) -> AsyncIterator[list[Gate]]:
    async with AsyncExitStack() as stack:
        limiters = [await stack.enter_async_context(Limiter(url)) for _ in range(PROCESSES)]
        scope, limits = Scope("https://example.test/v1", "fingerprint", "model"), Limits(rpm=RPM, tpm=0)
        gates = [limiter.gate(scope, limits) for limiter in limiters]
        tasks = [asyncio.create_task(_take(gate, granted)) for gate in gates for _ in range(WAITERS)]
        try:
            yield gates
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _take(gate: Gate, granted: list[float]) -> None:
    while True:
        await gate.acquire(1, 1)
        granted.append(time.monotonic())
