"""The bare floor: aiohttp and orjson, and nothing else. No limiter, no retry, no ledger, no journal, no queue.

python -m benchmarks.floor BASE_URL chat|embeddings COUNT IN_FLIGHT     prints one JSON object
"""

from __future__ import annotations

import argparse
import asyncio
import binascii
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import aiohttp
import numpy as np
import orjson
import uvloop

from benchmarks.loads import CHAT, EMBEDDINGS, Load
from benchmarks.peers.work import peak_rss

LOADS = {"chat": CHAT, "embeddings": EMBEDDINGS}
WARM_UP = 200


@dataclass(frozen=True, slots=True)
class Floor:
    """What it took; imports and a warm-up left out. `rss` is the most memory that was resident, in bytes."""

    count: int
    cpu_s: float
    wall_s: float
    rss: int


async def measure(base_url: str, load: Load, count: int, in_flight: int) -> Floor:
    """Send `count` chunks, `in_flight` requests at once."""
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector, headers={"Authorization": "Bearer sk-bench"}) as session:
        await _drain(session, base_url, load, load.bodies(WARM_UP, "warm-up"), in_flight)
        wall, cpu = time.perf_counter(), time.process_time()
        await _drain(session, base_url, load, load.bodies(count, "floor"), in_flight)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Floor(count, cpu, wall, peak_rss())


async def _drain(
    session: aiohttp.ClientSession, base_url: str, load: Load, bodies: Iterator[bytes], in_flight: int
) -> None:
    async def one_after_the_other() -> None:
        for body in bodies:
            async with session.post(base_url + load.path, data=body) as response:
                reply = orjson.loads(await response.read())
            assert response.status == 200
            _vectors(reply) if load.kind == "embedding" else reply["choices"][0]["message"]["content"]

    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))


def _vectors(reply: dict[str, list[dict[str, str]]]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    rows = [binascii.a2b_base64(each["embedding"]) for each in reply["data"]]
    return np.frombuffer(b"".join(rows), dtype="<f4").reshape(len(rows), -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base_url")
    parser.add_argument("load", choices=LOADS)
    parser.add_argument("count", type=int)
    parser.add_argument("in_flight", type=int)
    asked = parser.parse_args()
    print(json.dumps(asdict(uvloop.run(measure(asked.base_url, LOADS[asked.load], asked.count, asked.in_flight)))))


if __name__ == "__main__":
    main()
