"""The window towards an endpoint that tells no limits."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.limits.concurrency import START, Concurrency, Ending, Place


async def rounds(room: Concurrency, count: int, ending: Ending = "answered", latency_s: float = 0.2) -> None:
    """`count` times as many calls as the window holds, at once."""
    for _ in range(count):
        places = [await room.enter() for _ in range(room.limit)]
        for place in places:
            room.leave(place, ending, latency_s)


async def test_it_starts_small_and_doubles_while_calls_stay_quick() -> None:
    room = Concurrency()
    assert room.limit == START
    await rounds(room, 6)
    assert room.limit > 10 * START


async def test_a_window_that_is_not_used_does_not_grow() -> None:
    room = Concurrency()
    await rounds(room, 3)
    wide = room.limit
    for _ in range(200):
        room.leave(await room.enter(), "answered", 0.2)
    # The round in which it was used up last still counts.
    assert room.limit <= 2 * wide


async def test_calls_that_wait_for_each_other_shrink_it_and_then_it_grows_slowly() -> None:
    room = Concurrency()
    await rounds(room, 6)
    await rounds(room, 2, latency_s=1.0)
    wide = room.limit
    await rounds(room, 3, latency_s=1.0)
    assert room.limit < wide
    narrow = room.limit
    await rounds(room, 1)
    assert room.limit <= narrow + 2


async def test_calls_that_take_longer_by_themselves_are_found_out_in_a_small_window() -> None:
    room = Concurrency()
    await rounds(room, 4)
    shrunk = False
    for _ in range(100):
        await rounds(room, 1, latency_s=2.0)
        shrunk = shrunk or room.limit <= 2 * START
        if shrunk and room.limit > 10 * START:
            return
    raise AssertionError("it stays small")


async def test_a_refusal_halves_it_once_however_many_were_sent_with_it() -> None:
    room = Concurrency()
    await rounds(room, 6)
    wide = room.limit
    places = [await room.enter() for _ in range(wide)]
    for place in places:
        room.leave(place, "refused")
    assert 1 <= room.limit <= START
    await rounds(room, 16)
    # Quickly back to half of what it was, then a step a round.
    assert wide // 2 <= room.limit <= wide // 2 + 16


async def test_it_never_falls_below_one() -> None:
    room = Concurrency()
    await rounds(room, 50, "refused")
    assert room.limit == 1
    await rounds(room, 50, latency_s=5.0)
    assert room.limit >= 1


async def test_who_is_cancelled_while_waiting_takes_no_place() -> None:
    room = Concurrency()
    held = [await room.enter() for _ in range(room.limit)]
    waiting = [asyncio.create_task(room.enter()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    room.leave(held.pop(), "untold")
    waiting[1].cancel()
    await asyncio.gather(*waiting[:2], return_exceptions=True)
    held.append(await waiting[2])
    for place in held:
        room.leave(place, "untold")
    assert room.waiting == 0
    assert len([await room.enter() for _ in range(room.limit)]) == START


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["enter", "answered", "refused", "untold"]), st.floats(0, 10)), max_size=300))
def test_never_more_under_way_than_the_window_held_when_they_entered_and_all_are_served(
    steps: list[tuple[str, float]],
) -> None:
    async def walk() -> None:
        room, inside, waiting = Concurrency(), list[Place](), list[asyncio.Task[Place]]()

        async def settle() -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for task in [task for task in waiting if task.done()]:
                waiting.remove(task)
                inside.append(task.result())

        for step, latency_s in steps:
            before = len(inside)
            if step == "enter":
                waiting.append(asyncio.create_task(room.enter()))
            elif inside:
                room.leave(inside.pop(0), step, latency_s)  # type: ignore[arg-type]  # the steps that are endings
            await settle()
            assert room.limit >= 1
            assert len(inside) <= max(room.limit, before)
        while inside or waiting:
            assert inside, "somebody waits and nobody is inside"
            room.leave(inside.pop(0), "untold")
            await settle()

    asyncio.run(walk())
