"""How fast the simulator is: `python -m benchmarks.simulator`. No measurement of a client may measure its other end.

Simulator on one core, load generator on another, limits on, faults off, the paid file written. The figure that
counts is requests a second of the simulator's CPU: it holds also where the generator is the slower of the two.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import httptools
import psutil

from benchmarks.machine import cores, cpu_s, pinned
from benchmarks.report import Bar, Section, Table

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


def drive(base_url: str, load: Load, connections: int, seconds: float, core: int | None) -> None:
    """Send `load` over `connections` for `seconds`. Runs in a process of its own."""
    import uvloop

    with pinned(core):
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
def simulator(core: int | None, *flags: str) -> Iterator[tuple[str, psutil.Process]]:
    """A simulator on a core of its own; gives its base URL and its process."""
    command = [sys.executable, "-m", "corpusmill.simulator", "--port", "0", *flags]
    environment = {**os.environ, "CORPUSMILL_CHILD": "1"}
    with pinned(core):
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    with child:
        assert child.stdout is not None
        try:
            yield child.stdout.readline().strip(), psutil.Process(child.pid)
        finally:
            child.kill()


def measure(seconds: float, connections: int = 64) -> Section:
    """All loads, so long each."""
    found = [_measured(load, connections=connections, seconds=seconds) for load in LOADS]
    return Section(
        "The other end: the simulator",
        f"{connections} connections that send as fast as they can, from a core of their own; limits on, faults off, "
        "the paid file written. What counts is requests a second of the simulator's CPU: it holds also where the "
        "generator is the slower of the two.",
        [_table(found)],
        [Bar("simulator, requests a CPU second, chat", 10_000, _a_cpu_second(found[1]), at_least=True)],
    )


def _measured(load: Load, *, connections: int, seconds: float) -> Measured:
    """One load: half a second to get warm, then `seconds` that count."""
    on, no_limit = cores(), ("--rpm", "1000000000", "--tpm", "1000000000000")
    with (
        tempfile.TemporaryDirectory() as folder,
        simulator(on.rest, *no_limit, "--paid", str(Path(folder) / "paid.jsonl")) as (base_url, process),
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as generator,
    ):
        generator.submit(drive, base_url, load, connections, 0.5, on.measured).result()
        before, cpu_before, began = stats(base_url), cpu_s([process]), time.perf_counter()
        generator.submit(drive, base_url, load, connections, seconds, on.measured).result()
        took, spent_s, after = time.perf_counter() - began, cpu_s([process]) - cpu_before, stats(base_url)
    requests = after["paid_requests"] - before["paid_requests"]
    return Measured(load.name, requests, requests * load.inputs, took, spent_s, after["answered_429"])


def _a_cpu_second(one: Measured) -> float:
    return one.requests / one.simulator_cpu_s


def _table(found: Sequence[Measured]) -> Table:
    rows = [
        [
            one.load, f"{one.requests / one.seconds:,.0f}", f"{_a_cpu_second(one):,.0f}",
            f"{one.inputs / one.simulator_cpu_s:,.0f}", f"{one.simulator_cpu_s / one.requests * 1000:.3f}",
        ]
        for one in found
    ]  # fmt: skip
    head = ("load", "requests/s", "requests a CPU-s", "inputs a CPU-s", "CPU-s per 1,000 requests")
    return Table("The simulator on one core", head, rows)


def tell(base_url: str, what: str, body: dict[str, object]) -> None:
    """Change the `faults` or the `limits` of a running simulator."""
    address = f"{base_url.removesuffix('/v1')}/simulator/{what}"
    request = Request(address, json.dumps(body).encode(), {"content-type": "application/json"})
    with _OPENER.open(request, timeout=10):
        pass


def stats(base_url: str) -> dict[str, int]:
    """What the simulator has counted."""
    with _OPENER.open(base_url.removesuffix("/v1") + "/simulator/stats", timeout=10) as reply:
        found: dict[str, int] = json.load(reply)
        return found


def main() -> None:
    """Measure all loads and print the table."""
    parser = argparse.ArgumentParser(description="Measure the simulator.")
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds a load (default 4)")
    parser.add_argument("--connections", type=int, default=64, help="connections at once (default 64)")
    given = parser.parse_args()
    print(measure(given.seconds, given.connections).as_markdown())


if __name__ == "__main__":
    main()
