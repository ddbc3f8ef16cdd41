"""LightRAG's retry policies: three calls, four seconds and more between them, and a `RetryError` at the end.

Unlike LightRAG's, a wait is never shorter than the endpoint's Retry-After, and one too long to sit out ends the tries.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential, wait_random

from corpusmill.lightrag.failures import is_worth_retrying
from corpusmill.llm.retry_after import retry_after_s

T = TypeVar("T")
CALLS = 3
LONGEST_WAIT_S = 60.0


def _policy(longest_s: float) -> AsyncRetrying:
    own = wait_exponential(multiplier=1, min=4, max=longest_s) + wait_random(0, 1)
    return AsyncRetrying(
        retry=retry_if_exception(is_worth_retrying),
        stop=_is_over,
        wait=lambda state: max(own(state), _asked_wait_s(state)),
    )


def _asked_wait_s(state: RetryCallState) -> float:
    """The least wait that the endpoint asked for, in seconds."""
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, openai.APIStatusError) or error.response is None:
        return 0.0
    return retry_after_s(error.response.headers, str(error)) or 0.0


def _is_over(state: RetryCallState) -> bool:
    return state.attempt_number >= CALLS or _asked_wait_s(state) > LONGEST_WAIT_S


COMPLETION = _policy(10)
EMBEDDING = _policy(60)


async def with_retries(call: Callable[[], Awaitable[T]], policy: AsyncRetrying) -> T:
    """`call()`, again as the policy allows.

    Raises:
        tenacity.RetryError: the tries are used up; its `last_attempt` holds the last error.
        Exception: what `call` raised, if another call would not help.
    """
    try:
        return await call()
    except Exception as error:
        if not is_worth_retrying(error):
            raise
        return await _retried(error, call, policy)


async def _retried(first: Exception, call: Callable[[], Awaitable[T]], policy: AsyncRetrying) -> T:
    """Let tenacity go on from a first failure that it has not seen: most calls never need it."""
    unseen = [first]

    async def next_try() -> T:
        if unseen:
            raise unseen.pop()
        return await call()

    return await policy.copy()(next_try)
