"""Ending a task for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

AGAIN_S = 0.05


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they are done, whatever became of them.

    Once is not enough for one that talks to Redis: redis-py 8.1 sends under `asyncio.wait_for`, which in Python 3.11
    swallows a cancellation that comes in the moment in which it is done (python/cpython#86296).
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)
