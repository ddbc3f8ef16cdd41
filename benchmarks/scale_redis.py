"""What the limiter asks of Redis: by the script, and by a hundred workers' limiters on one bucket."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import uvloop
from redis.asyncio import Redis

from benchmarks import servers
from benchmarks.machine import Cores, Meter, pinned
from corpusmill.endpoint import Limits
from corpusmill.limits import Gate, Limiter, Scope
from corpusmill.limits.bucket import Ask, Bucket, Settlement

SCOPE = Scope("https://scale.test/v1", "fingerprint", "model")
BATCHES = (1, 10, 100)
WORKERS, WAITERS = 100, 20
SETTLE_S = 5.0
UNLIMITED = Limits(rpm=10**9, tpm=10**12)


@dataclass(frozen=True, slots=True)
class Load:
    """What a stretch of work asked of a server. `done` of what the row is about, in `calls` round trips."""

    done: int
    calls: int
    seconds: float
    cpu_s: float
    bytes_in: int
    bytes_out: int

    @property
    def cpu_us(self) -> float:
        """The server's CPU for one of what was done, in microseconds."""
        return self.cpu_s / self.done * 1e6

    @property
    def wire_bytes(self) -> float:
        """Bytes to and fro for one of what was done."""
        return (self.bytes_in + self.bytes_out) / self.done


@contextmanager
def each_server(core: int | None) -> Iterator[dict[str, servers.Server]]:
    """The Valkey that we bring, and a Redis if there is one on the path."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = {"Valkey": stack.enter_context(servers.valkey(home, core))}
        if program := shutil.which("redis-server"):
            found["Redis"] = stack.enter_context(_redis(program, home, core))
        yield found


@contextmanager
def _redis(program: str, home: Path, core: int | None) -> Iterator[servers.Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (home / "redis").mkdir()
    options = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(home / "redis"), "--save", "")
    with pinned(core):
        process = subprocess.Popen([program, *options, "--appendonly", "yes"], stdout=subprocess.DEVNULL)
    try:
        servers.until_it_answers(port)
        yield servers.Server(f"redis://127.0.0.1:{port}/0", process.pid)
    finally:
        process.kill()
        process.wait()


def scripts(server: servers.Server, seconds: float, on: Cores) -> dict[str, Load]:
    """`reserve` with batches of several sizes, and `settle`, one call after the other for so long each."""
    with pinned(on.measured):
        found = {f"reserve, {size} a call": uvloop.run(_reserving(server, size, seconds)) for size in BATCHES}
        return {**found, "settle": uvloop.run(_settling(server, seconds))}


def hundred_workers(server: servers.Server, rpm: int, tpm: int, seconds: float, on: Cores) -> Load:
    """The limiters of 100 workers, each with requests waiting all the time, on one bucket."""
    with pinned(on.measured):
        return uvloop.run(_hundred(server, Limits(rpm=rpm, tpm=tpm), tpm // rpm, seconds))


async def _reserving(server: servers.Server, size: int, seconds: float) -> Load:
    async with _bucket(server) as (redis, bucket):
        asks = {"normal": [Ask(1, 1.0, [300] * size)]}

        async def call(number: int) -> int:
            return sum((await bucket.reserve(number, asks, {"normal": 0.0}))["normal"].granted)  # type: ignore[arg-type]

        return await _measured(server, redis, call, seconds)


async def _settling(server: servers.Server, seconds: float) -> Load:
    async with _bucket(server) as (redis, bucket):

        async def call(number: int) -> int:
            await bucket.settle(number, Settlement(requests=0, tokens=10))
            return 1

        return await _measured(server, redis, call, seconds)


@asynccontextmanager
async def _bucket(server: servers.Server) -> AsyncIterator[tuple[Redis, Bucket]]:
    redis = Redis.from_url(server.url)
    bucket = Bucket(redis, SCOPE, process="scale")
    await redis.flushall()
    await bucket.configure(UNLIMITED, first=True)
    try:
        yield redis, bucket
    finally:
        await redis.aclose()


async def _measured(server: servers.Server, redis: Redis, call: Callable[[int], object], seconds: float) -> Load:
    ends, calls, done = time.perf_counter() + seconds, 0, 0
    before = await redis.info("stats")
    with Meter({"server": [psutil.Process(server.pid)]}) as meter:
        while time.perf_counter() < ends:
            calls += 1
            done += await call(calls)  # type: ignore[misc]
    return _load(done, calls, meter, before, await redis.info("stats"))


async def _hundred(server: servers.Server, limits: Limits, tokens: int, seconds: float) -> Load:
    redis = Redis.from_url(server.url)
    await redis.flushall()
    granted = 0

    async def wait_again_and_again(gate: Gate) -> None:
        nonlocal granted
        while True:
            await gate.acquire(1, tokens)
            granted += 1

    async with AsyncExitStack() as stack:
        limiters = [await stack.enter_async_context(Limiter(server.url)) for _ in range(WORKERS)]
        gates = [limiter.gate(SCOPE, limits) for limiter in limiters]
        waiters = [asyncio.create_task(wait_again_and_again(gate)) for gate in gates for _ in range(WAITERS)]
        await asyncio.sleep(SETTLE_S)  # the opening bucket is used up, and every worker knows of the others
        before, first = await redis.info("all"), granted
        with Meter({"server": [psutil.Process(server.pid)]}) as meter:
            await asyncio.sleep(seconds)
        after = await redis.info("all")
        calls = scripts_run(after) - scripts_run(before)
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
    await redis.aclose()
    return _load(granted - first, calls, meter, before, after)


def scripts_run(info: dict[str, Any]) -> int:
    """How many scripts a server has run, out of its `INFO all`; what they call inside counts as commands too."""
    return int(info.get("cmdstat_evalsha", {}).get("calls", 0))


def _load(done: int, calls: int, meter: Meter, before: dict[str, Any], after: dict[str, Any]) -> Load:
    sent, got = (after[name] - before[name] for name in ("total_net_input_bytes", "total_net_output_bytes"))
    return Load(done, calls, meter.wall_s, meter.cpu_s["server"], sent, got)
