"""How fast the simulator is: `python -m benchmarks.simulator`. No measurement of a client may measure its other end.

Simulator on one core, load generator on another, limits on, faults off, the paid file written. The figure that
counts is requests a second of the simulator's CPU: it holds also where the generator is the slower of the two.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import httptools
import psutil

_WORD = "word "
_OPENER = build_opener(ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: `body` is one request's, with `%d` where its number goes."""

    name: str
    path: str
    body: str
    inputs: int = 1


def _chat(text: str) -> str:
    return json.dumps({"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Summarise %d:\n\n" + text}]})


LOADS = (
    Load("chat, short", "/chat/completions", _chat("one line of a document")),
    Load("chat, 300 tokens", "/chat/completions", _chat(_WORD * 240)),
    Load("chat, 300 tokens, streamed", "/chat/completions", _chat(_WORD * 240)[:-1] + ', "stream": true}'),
    Load(
        "embeddings, 100 x 200 tokens, 1,536 in base64",
        "/embeddings",
        json.dumps(
            {
                "model": "text-embedding-3-small",
                "encoding_format": "base64",
                "input": [f"%d {i} " + _WORD * 160 for i in range(100)],
            }
        ),
        inputs=100,
    ),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One load's figures over `seconds` of wall clock."""

    load: str
    requests: int
    inputs: int
    seconds: float
    simulator_cpu_s: float
    answered_429: int


class _Driver(asyncio.Protocol):
    """One connection that sends the next request as soon as it has the reply."""

    def __init__(self, load: Load, numbers: Iterator[int]) -> None:
        self._load, self._numbers = load, numbers
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._send()

    def _send(self) -> None:
        body = self._load.body.replace("%d", str(next(self._numbers))).encode()
        head = f"POST /v1{self._load.path} HTTP/1.1\r\nhost: here\r\nauthorization: Bearer sk-bench\r\n"
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


def drive(base_url: str, load: Load, connections: int, seconds: float, cpu: int | None) -> None:
    """Send `load` over `connections` for `seconds`. Runs in a process of its own."""
    _pin(os.getpid(), cpu)
    import uvloop

    uvloop.run(_drive(base_url, load, connections, seconds))


async def _drive(base_url: str, load: Load, connections: int, seconds: float) -> None:
    loop, where, numbers = asyncio.get_running_loop(), urlsplit(base_url), count()
    opened = [
        await loop.create_connection(lambda: _Driver(load, numbers), where.hostname or "", where.port or 0)
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds)
    for transport, _ in opened:
        transport.abort()


@contextmanager
def simulator(cpu: int | None, *flags: str) -> Iterator[tuple[str, psutil.Process]]:
    """A simulator on a core of its own; gives its base URL and its process."""
    command = [sys.executable, "-m", "corpusmill.simulator", "--port", "0", *flags]
    environment = {**os.environ, "CORPUSMILL_CHILD": "1"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        try:
            base_url = child.stdout.readline().strip()
            _pin(child.pid, cpu)
            yield base_url, psutil.Process(child.pid)
        finally:
            child.kill()


def measure(load: Load, *, connections: int, seconds: float) -> Measured:
    """One turn: half a second to get warm, then `seconds` that count."""
    cpus = _cpus()
    with (
        tempfile.TemporaryDirectory() as folder,
        simulator(
            cpus[0], "--rpm", "1000000000", "--tpm", "1000000000000", "--paid", str(Path(folder) / "paid.jsonl")
        ) as (base_url, process),
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as generator,
    ):
        generator.submit(drive, base_url, load, connections, 0.5, cpus[-1]).result()
        before, cpu_before, began = _stats(base_url), _cpu_s(process), time.perf_counter()
        generator.submit(drive, base_url, load, connections, seconds, cpus[-1]).result()
        took, cpu_s, after = time.perf_counter() - began, _cpu_s(process) - cpu_before, _stats(base_url)
    requests = after["paid_requests"] - before["paid_requests"]
    return Measured(load.name, requests, requests * load.inputs, took, cpu_s, after["answered_429"])


def report(found: list[Measured]) -> str:
    """The figures as a table, with the machine and the date."""
    head = f"{'load':<46}{'requests/s':>12}{'per CPU-s':>12}{'inputs per CPU-s':>18}{'CPU-s per 1,000':>17}{'429s':>6}"
    lines = [
        f"{one.load:<46}{one.requests / one.seconds:>12,.0f}{one.requests / one.simulator_cpu_s:>12,.0f}"
        f"{one.inputs / one.simulator_cpu_s:>18,.0f}{one.simulator_cpu_s / one.requests * 1000:>17.3f}"
        f"{one.answered_429:>6}"
        for one in found
    ]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return "\n".join([head, *lines, f"{machine}, {datetime.now(UTC):%d %B %Y}"])


def _stats(base_url: str) -> dict[str, int]:
    with _OPENER.open(base_url.removesuffix("/v1") + "/simulator/stats", timeout=10) as reply:
        found: dict[str, int] = json.load(reply)
        return found


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _cpus() -> list[int | None]:
    return list(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None]


def _pin(pid: int, cpu: int | None) -> None:
    if cpu is not None:
        os.sched_setaffinity(pid, {cpu})


def main() -> None:
    """Measure all loads and print the table."""
    parser = argparse.ArgumentParser(description="Measure the simulator.")
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds a load (default 4)")
    parser.add_argument("--connections", type=int, default=64, help="connections at once (default 64)")
    given = parser.parse_args()
    print(report([measure(load, connections=given.connections, seconds=given.seconds) for load in LOADS]))


if __name__ == "__main__":
    main()
