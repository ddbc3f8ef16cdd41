"""The order in which coroutines are served, and what becomes of those that go away."""

from __future__ import annotations

import pytest

from corpusmill.limits.waiting import Waiting


async def test_within_a_job_who_came_first_is_asked_for_first() -> None:
    waiting = Waiting()
    waiters = [waiting.add("normal", 1, tokens) for tokens in (10, 20, 30)]
    (turn,) = waiting.turns("normal", 2)
    assert turn.ask.tokens == [10, 20]
    assert list(waiting.served("normal", turn, 2)) == waiters[:2]
    assert waiting.turns("normal", 9)[0].ask.tokens == [30]


async def test_every_job_is_asked_for_even_when_there_are_more_jobs_than_places() -> None:
    waiting = Waiting()
    for job_id in range(10):
        waiting.add("normal", job_id, 1)
    assert {turn.ask.job_id for turn in waiting.turns("normal", 4)} == set(range(10))


async def test_more_urgent_priorities_come_first() -> None:
    waiting = Waiting()
    waiting.add("low", 1, 1)
    waiting.add("high", 2, 1)
    assert waiting.priorities() == ["high", "low"]


async def test_one_who_went_away_is_asked_for_no_more() -> None:
    waiting = Waiting()
    gone, stays = waiting.add("normal", 1, 10), waiting.add("normal", 1, 20)
    waiting.drop("normal", 1, gone)
    (turn,) = waiting.turns("normal", 9)
    assert turn.waiters == (stays,)


async def test_one_who_goes_away_while_redis_is_asked_leaves_the_others_their_grants() -> None:
    waiting = Waiting()
    gone, stays = waiting.add("normal", 1, 10), waiting.add("normal", 1, 20)
    (turn,) = waiting.turns("normal", 9)
    gone.future.cancel()
    waiting.drop("normal", 1, gone)
    assert list(waiting.served("normal", turn, 2)) == [gone, stays]
    assert waiting.priorities() == []


async def test_refusing_fails_those_it_means_and_keeps_the_rest() -> None:
    waiting = Waiting()
    large, small = waiting.add("normal", 1, 100), waiting.add("normal", 1, 1)
    waiting.refuse("normal", lambda tokens: ValueError("too large") if tokens > 50 else None)
    with pytest.raises(ValueError, match="too large"):
        await large.future
    assert waiting.turns("normal", 9)[0].waiters == (small,)


async def test_a_job_that_is_held_back_is_not_asked_for_until_then() -> None:
    waiting = Waiting()
    waiting.add("normal", 1, 10, part=0.5)
    waiting.add("normal", 2, 10)
    waiting.hold("normal", 1, until=100.0)
    assert [turn.ask.job_id for turn in waiting.turns("normal", 9, now=99.0)] == [2]
    assert waiting.due("normal") == 0.0
    assert [turn.ask.job_id for turn in waiting.turns("normal", 9, now=100.0)] == [1, 2]
    waiting.let_go()
    assert len(waiting.turns("normal", 9, now=0.0)) == 2


async def test_one_job_alone_can_be_refused() -> None:
    waiting = Waiting()
    waiting.add("normal", 1, 10).future.add_done_callback(lambda future: future.exception())
    waiting.add("normal", 2, 10)
    waiting.refuse("normal", lambda _: ValueError("parked"), only=1)
    assert [turn.ask.job_id for turn in waiting.turns("normal", 9)] == [2]
