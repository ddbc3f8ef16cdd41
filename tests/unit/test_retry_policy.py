"""When a failed call is made again, how long after, and when it is not: every branch, counting the calls."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from corpusmill.llm.errors import CallError
from corpusmill.llm.retry import LONGEST_WAIT_S, RetryLater, with_retries
from corpusmill.llm.taxonomy import CLASSES


@dataclass(frozen=True)
class Patience:
    attempts: int = 6
    min_s: float = 0.5
    max_s: float = 60.0


@dataclass
class Endpoint:
    """Fails as told, then answers; remembers calls and the waits between them."""

    failures: list[CallError]
    calls: int = 0
    waits_s: list[float] = field(default_factory=list)

    async def call(self) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "answer"

    async def sleep(self, seconds: float) -> None:
        self.waits_s.append(seconds)

    async def run(self, **patience: float) -> str:
        return await with_retries(self.call, Patience(**patience), sleep=self.sleep)  # type: ignore[arg-type]


def failing(name: str, times: int, retry_after_s: float | None = None) -> Endpoint:
    return Endpoint([CallError(name, retry_after_s=retry_after_s) for _ in range(times)])


def actions(action: str) -> list[str]:
    return [each.name for each in CLASSES.values() if each.action == action]


async def test_a_call_that_succeeds_is_made_once() -> None:
    endpoint = failing("timeout", 0)
    assert await endpoint.run() == "answer"
    assert (endpoint.calls, endpoint.waits_s) == (1, [])


@pytest.mark.parametrize("name", [*actions("fail"), *actions("pause"), *actions("stop")])
async def test_what_waiting_cannot_mend_is_called_once(name: str) -> None:
    endpoint = failing(name, 9)
    with pytest.raises(CallError) as caught:
        await endpoint.run()
    assert (endpoint.calls, endpoint.waits_s) == (1, [])
    assert (caught.value.failure_class, caught.value.attempts) == (name, 1)


@pytest.mark.parametrize("name", [name for name in actions("retry") if CLASSES[name].calls is None])
async def test_what_may_pass_is_called_as_often_as_attempts_allow(name: str) -> None:
    endpoint = failing(name, 99)
    with pytest.raises(CallError) as caught:
        await endpoint.run(attempts=6)
    assert (endpoint.calls, caught.value.attempts) == (6, 6)


@pytest.mark.parametrize("name", [name for name in actions("retry") if CLASSES[name].calls is not None])
async def test_a_paid_reply_that_is_useless_is_bought_three_times_at_most(name: str) -> None:
    endpoint = failing(name, 99)
    with pytest.raises(CallError):
        await endpoint.run(attempts=6)
    assert endpoint.calls == 3


async def test_all_kinds_of_useless_replies_share_their_three_calls() -> None:
    endpoint = Endpoint([CallError("bad_reply"), CallError("empty_reply"), CallError("bad_reply")])
    with pytest.raises(CallError):
        await endpoint.run()
    assert endpoint.calls == 3


@pytest.mark.parametrize("name", actions("retry_free"))
async def test_waiting_for_room_uses_up_no_attempts(name: str) -> None:
    endpoint = failing(name, 50)
    assert await endpoint.run(attempts=2) == "answer"
    assert endpoint.calls == 51


async def test_free_retries_between_counted_ones_do_not_give_attempts_back() -> None:
    names = ["timeout", "rate_limited", "timeout", "overloaded", "timeout", "timeout"]
    endpoint = Endpoint([CallError(name) for name in names])
    with pytest.raises(CallError) as caught:
        await endpoint.run(attempts=3)
    assert (endpoint.calls, caught.value.attempts) == (5, 3)


async def test_one_attempt_means_no_retry() -> None:
    endpoint = failing("timeout", 9)
    with pytest.raises(CallError):
        await endpoint.run(attempts=1)
    assert endpoint.calls == 1


async def test_a_retry_that_meets_a_terminal_failure_ends_with_that_one() -> None:
    endpoint = Endpoint([CallError("timeout"), CallError("context_length")])
    with pytest.raises(CallError) as caught:
        await endpoint.run()
    assert endpoint.calls == 2
    assert (caught.value.failure_class, caught.value.attempts) == ("context_length", 2)


async def test_waits_double_with_jitter_up_to_the_longest() -> None:
    endpoint = failing("timeout", 9)
    await endpoint.run(attempts=20, min_s=0.5, max_s=8.0)
    for wait_s, expected in zip(endpoint.waits_s, [0.5, 1, 2, 4, 8, 8, 8, 8, 8], strict=True):
        assert expected * 0.75 <= wait_s <= expected * 1.25
    assert len(set(endpoint.waits_s)) == 9


async def test_a_wait_is_never_below_retry_after_and_two_waiters_part() -> None:
    endpoint = failing("rate_limited", 30, retry_after_s=20.0)
    await endpoint.run(max_s=1.0)
    assert all(20.0 <= wait_s <= 22.0 for wait_s in endpoint.waits_s)
    assert any(first != second for first, second in pairwise(endpoint.waits_s))


async def test_a_short_retry_after_does_not_shorten_the_exponential_wait() -> None:
    endpoint = failing("rate_limited", 7, retry_after_s=0.001)
    await endpoint.run(min_s=0.5, max_s=60.0)
    assert endpoint.waits_s[-1] >= 0.5 * 2**6 * 0.75


@pytest.mark.parametrize("name", ["rate_limited", "unavailable"])
async def test_a_wait_that_is_too_long_gives_the_work_back(name: str) -> None:
    endpoint = failing(name, 1, retry_after_s=LONGEST_WAIT_S * 60)
    with pytest.raises(RetryLater) as caught:
        await endpoint.run()
    assert (endpoint.calls, endpoint.waits_s) == (1, [])
    assert caught.value.wait_s >= LONGEST_WAIT_S * 60
    assert caught.value.error.failure_class == name


async def test_the_last_attempt_fails_rather_than_asking_for_another_wait() -> None:
    endpoint = Endpoint([CallError("timeout"), CallError("unavailable", retry_after_s=3600)])
    with pytest.raises(CallError) as caught:
        await endpoint.run(attempts=2)
    assert caught.value.failure_class == "unavailable"


async def test_an_error_of_our_own_is_not_retried() -> None:
    calls = 0

    async def broken() -> str:
        nonlocal calls
        calls += 1
        raise KeyError("ours")

    with pytest.raises(KeyError):
        await with_retries(broken, Patience())
    assert calls == 1


async def test_a_sleep_that_raises_ends_the_retries() -> None:
    class Stopped(Exception):
        pass

    async def no_more(seconds: float) -> None:
        raise Stopped

    endpoint = failing("timeout", 9)
    with pytest.raises(Stopped):
        await with_retries(endpoint.call, Patience(), sleep=no_more)
    assert endpoint.calls == 1


async def test_a_cancelled_retry_stays_cancelled() -> None:
    endpoint = failing("timeout", 1)
    reached = asyncio.Event()

    async def hangs_the_second_time() -> str:
        if endpoint.calls:
            reached.set()
            await asyncio.Event().wait()
        return await endpoint.call()

    task = asyncio.create_task(with_retries(hangs_the_second_time, Patience(), sleep=endpoint.sleep))
    await asyncio.wait_for(reached.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert endpoint.calls == 1


async def test_thousands_of_failures_in_a_row_do_not_overflow_the_wait() -> None:
    endpoint = failing("rate_limited", 2000)
    await endpoint.run(min_s=0.001, max_s=0.002)
    assert max(endpoint.waits_s) <= 0.0025
