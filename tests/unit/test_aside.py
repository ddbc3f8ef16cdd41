"""What would hold the loop up is done aside, to its end; what holds it up all the same is counted."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from workers.aside import Aside, Room
from workers.metrics import Metrics
from workers.watchdog import Watchdog


async def test_work_aside_runs_in_order_in_another_thread_and_gives_back_what_it_returns_or_raises() -> None:
    aside, order = Aside(), list[int]()

    def work(number: int) -> int:
        order.append(number)
        return threading.get_ident()

    threads = await asyncio.gather(*(aside.do(work, number) for number in range(20)))
    assert order == list(range(20))
    assert set(threads).isdisjoint({threading.get_ident()})
    with pytest.raises(ZeroDivisionError):
        await aside.do(divmod, 1, 0)
    aside.close()


async def test_a_caller_that_is_cancelled_has_the_outcome_first() -> None:
    aside, begun, go, kept = Aside(), threading.Event(), threading.Event(), list[str]()

    def work() -> str:
        begun.set()
        go.wait(10)
        return "what was paid for"

    async def call() -> None:
        kept.append(await aside.do(work))
        await asyncio.sleep(0)
        kept.append("went on")

    task = asyncio.create_task(call())
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert kept == ["what was paid for"]
    aside.close()


async def test_a_loop_that_is_held_up_is_noticed_with_its_duration(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    metrics.departed()
    watchdog = Watchdog(metrics)
    watchdog.start()
    await asyncio.sleep(0.05)
    before = metrics.loop_held_up
    time.sleep(0.3)  # noqa: ASYNC251 - this is what must not happen
    await asyncio.sleep(0.05)
    watchdog.stop()
    assert metrics.loop_held_up > before
    assert metrics.longest_hold_up_ms >= 250
    assert "the event loop was held up" in caplog.text


async def test_replies_take_no_more_room_than_there_is_and_have_it_in_turn() -> None:
    room, held, most, order = Room(100), 0, 0, list[int]()

    async def reply(number: int, size: int) -> None:
        nonlocal held, most
        seat = room.seat(size)
        await seat.take()
        held += min(size, 100)
        most = max(most, held)
        order.append(number)
        await asyncio.sleep(0)
        held -= min(size, 100)
        seat.leave()

    sizes = [30, 60, 500, 10, 0, 90, 40]
    await asyncio.wait_for(asyncio.gather(*(reply(number, size) for number, size in enumerate(sizes))), 5)
    assert most <= 100
    assert [number for number in order if sizes[number]] == [0, 1, 2, 3, 5, 6]


async def test_one_that_waits_for_room_and_is_cancelled_keeps_none_from_the_others() -> None:
    room = Room(100)
    first, last = room.seat(80), room.seat(100)
    await first.take()
    too_early = asyncio.create_task(room.seat(50).take())
    last_one = asyncio.create_task(last.take())
    given = asyncio.create_task(room.seat(20).take())
    await asyncio.sleep(0)
    too_early.cancel()
    await asyncio.sleep(0)
    first.leave()
    given.cancel()
    await asyncio.wait_for(last_one, 5)
    last.leave()
    await asyncio.wait_for(room.seat(100).take(), 5)
    assert too_early.cancelled()
    assert given.cancelled()
