"""Replies that come at once are spread over turns of the loop."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from workers.slices import Slices


class Turns:
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.number = 0
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._count)

    def _count(self) -> None:
        self.number += 1
        self._handle = self._loop.call_soon(self._count)

    def stop(self) -> None:
        self._handle.cancel()


async def test_no_turn_of_the_loop_has_more_than_its_share_and_all_have_theirs() -> None:
    slices, turns, seen = Slices(size=8), Turns(), Counter[int]()

    async def reply() -> None:
        await slices.enter()
        seen[turns.number] += 1

    await asyncio.gather(*(reply() for _ in range(100)))
    turns.stop()
    assert seen.total() == 100
    assert max(seen.values()) <= 8
    assert len(seen) == 13  # none is left half empty


async def test_who_is_cancelled_meanwhile_does_what_is_paid_for_first() -> None:
    slices, done = Slices(size=1), []

    async def reply(number: int) -> None:
        await slices.enter()
        done.append(number)
        await asyncio.sleep(0)
        done.append(-number)

    first, second = asyncio.create_task(reply(1)), asyncio.create_task(reply(2))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await first
    assert sorted(done) == [-1, 1, 2]
