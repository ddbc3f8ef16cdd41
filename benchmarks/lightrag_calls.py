"""LightRAG's functions or ours, so many in flight, on whatever core this process was started on.

python -m benchmarks.lightrag_calls lightrag|corpusmill chat|embeddings BASE_URL COUNT IN_FLIGHT   prints JSON
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import logging
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

MODULES = {"lightrag": "lightrag.llm.openai", "corpusmill": "corpusmill.lightrag.openai"}
# As LightRAG sends them: `EMBEDDING_BATCH_NUM` is 10.
TEXTS_A_CALL = 10
WARM_UP = 20
_FILL = "The harbour of Orlen was dug where the river meets the grey sea, and forty lamps stand on its mole. " * 20


@dataclass(frozen=True, slots=True)
class Calls:
    """What `count` calls took; imports and a warm-up left out."""

    count: int
    cpu_s: float
    wall_s: float


async def measure(client: str, task: str, base_url: str, count: int, in_flight: int) -> Calls:
    """Make `count` calls, no two alike."""
    call = _call(importlib.import_module(MODULES[client]), task, base_url)
    await _drain(call, iter(range(-WARM_UP, 0)), in_flight)
    wall, cpu = time.perf_counter(), time.process_time()
    await _drain(call, iter(range(count)), in_flight)
    return Calls(count, time.process_time() - cpu, time.perf_counter() - wall)


def _call(module: Any, task: str, base_url: str) -> Callable[[int], Awaitable[Any]]:
    where = {"base_url": base_url, "api_key": "sk-bench"}
    if task == "chat":
        return lambda number: module.openai_complete_if_cache(
            "gpt-6-luna", f"{number} {_FILL}", system_prompt="Name what is told.", **where
        )
    return lambda number: module.openai_embed.func(
        [f"{number} {part} {_FILL}" for part in range(TEXTS_A_CALL)], **where
    )


async def _drain(call: Callable[[int], Awaitable[Any]], numbers: Iterator[int], in_flight: int) -> None:
    async def one_after_the_other() -> None:
        for number in numbers:
            await call(number)

    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))


def main() -> None:
    """Measure one client."""
    parser = argparse.ArgumentParser()
    parser.add_argument("client", choices=MODULES)
    parser.add_argument("task", choices=("chat", "embeddings"))
    parser.add_argument("base_url")
    parser.add_argument("count", type=int)
    parser.add_argument("in_flight", type=int)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    found = asyncio.run(measure(**vars(asked)))
    json.dump(asdict(found), sys.stdout)


if __name__ == "__main__":
    main()
