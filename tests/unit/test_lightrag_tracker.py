"""The token tracker: what it counts, for whom, and what it costs."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal

import pytest

from corpusmill.lightrag.tracker import TokenTracker, Used, listening

LUNA = Used(prompt=1_000_000, completion=0, total=1_000_000, model="gpt-6-luna")


def test_it_counts_by_lightrags_names() -> None:
    tracker = TokenTracker()
    tracker.add_usage({"prompt_tokens": 3, "completion_tokens": 4})
    tracker.add_usage({"prompt_tokens": 1, "total_tokens": 9})
    assert tracker.get_usage() == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 16, "call_count": 2}
    assert str(tracker) == "LLM call count: 2, Prompt tokens: 4, Completion tokens: 4, Total tokens: 16"


def test_the_block_starts_from_zero_and_prints_the_sums(capsys: pytest.CaptureFixture[str]) -> None:
    tracker = TokenTracker()
    tracker.add_usage({"prompt_tokens": 3})
    with tracker as same:
        assert same is tracker
        assert tracker.call_count == 0
    assert capsys.readouterr().out.startswith("LLM call count: 0")


def test_a_million_small_prompts_are_priced_by_the_step_of_each_not_of_their_sum() -> None:
    tracker = TokenTracker()
    for _ in range(400):
        tracker.count(Used(prompt=1_000, completion=100, total=1_100, model="gpt-6-luna"))
    assert tracker.usd == Decimal("0.04") + Decimal("0.02")


def test_a_prompt_beyond_the_step_pays_its_rate() -> None:
    tracker = TokenTracker()
    tracker.count(LUNA)
    assert tracker.usd == Decimal("0.20")


def test_what_has_no_price_makes_the_sum_unknown_rather_than_too_small() -> None:
    tracker = TokenTracker()
    tracker.count(LUNA)
    tracker.count(Used(prompt=1, model="nobody-knows-it"))
    assert tracker.usd is None


def test_cached_and_reasoning_tokens_and_hits_are_counted_apart() -> None:
    tracker = TokenTracker()
    tracker.count(Used(prompt=10, cached=8, completion=5, reasoning=4, total=15))
    tracker.count_hit()
    assert (tracker.cached_tokens, tracker.reasoning_tokens, tracker.cached_count, tracker.call_count) == (8, 4, 1, 1)


def test_threads_lose_no_count() -> None:
    tracker = TokenTracker()

    def count() -> None:
        for _ in range(2_000):
            tracker.count(Used(prompt=1, total=1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tracker.get_usage()["prompt_tokens"] == 8_000


async def test_two_tasks_with_a_block_each_count_their_own() -> None:
    async def inside() -> list[TokenTracker]:
        with TokenTracker() as tracker:
            await asyncio.sleep(0)
            found = listening()
            assert found == [tracker]
            await asyncio.sleep(0)
            return found

    first, second = await asyncio.gather(inside(), inside())
    assert first[0] is not second[0]


async def test_a_task_that_is_older_than_the_block_is_counted() -> None:
    ask, done = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def worker() -> None:
        await ask.wait()
        done.set_result(listening())

    task = asyncio.create_task(worker())
    await asyncio.sleep(0)
    with TokenTracker() as tracker:
        ask.set()
        assert await done == [tracker]
    await task
    assert listening() == []


async def test_a_worker_started_in_one_inner_block_is_counted_by_the_next() -> None:
    requests: asyncio.Queue[asyncio.Future[list[TokenTracker]]] = asyncio.Queue()

    async def worker() -> None:
        while True:
            (await requests.get()).set_result(listening())

    async def through_the_worker() -> set[TokenTracker]:
        answer: asyncio.Future[list[TokenTracker]] = asyncio.get_running_loop().create_future()
        await requests.put(answer)
        return set(await answer)

    with TokenTracker() as total:
        with TokenTracker() as first:
            task = asyncio.create_task(worker())
            assert await through_the_worker() == {total, first}
        with TokenTracker() as second:
            assert await through_the_worker() == {total, second}
    task.cancel()
