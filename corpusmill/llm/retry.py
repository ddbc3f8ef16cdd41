"""When a failed call is made again, and how long after: tenacity decides, from the taxonomy's data.

The life of a failing call:
1. The first try is plain: most calls succeed, and tenacity costs time on every one it watches.
2. A failure whose action is neither `retry` nor `retry_free` goes straight up.
3. Otherwise it waits: exponentially longer with each failure in a row, with jitter, never less than Retry-After.
4. `retry` uses up an attempt, and bad replies have fewer of them, since each one was paid for. `retry_free`
   (rate limits, overload, no connection) uses up none.
5. A wait above `LONGEST_WAIT_S` is not sat out: `RetryLater` tells the caller to park the work instead.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from corpusmill.llm.errors import CallError

T = TypeVar("T")
LONGEST_WAIT_S = 60.0
_JITTER = 0.25


class RetryLimits(Protocol):
    """How often and how patiently; `corpusmill.settings.Retry` is one."""

    @property
    def attempts(self) -> int:
        """Calls that may count, the first one included."""

    @property
    def min_s(self) -> float:
        """The first wait."""

    @property
    def max_s(self) -> float:
        """The longest wait of our own choosing; Retry-After may ask for more."""


class RetryLater(Exception):
    """The endpoint asks for a wait too long to sit out: give the work back for `wait_s` seconds."""

    def __init__(self, wait_s: float, error: CallError) -> None:
        self.wait_s, self.error = wait_s, error
        super().__init__(f"to be tried again in {wait_s:.0f} s: {error.message}")


class Tries:
    """What one item's calls have used up so far."""

    def __init__(self, limits: RetryLimits) -> None:
        self._limits = limits
        self._failed: Counter[str] = Counter()
        self.in_a_row = 0
        self.counted = 0

    def note(self, error: CallError) -> None:
        """Count a failure."""
        self.in_a_row += 1
        self._failed[error.failure_class] += 1
        if error.action != "retry_free":
            self.counted += 1
        error.attempts = max(1, self.counted)

    def used_up(self, error: CallError) -> bool:
        """Whether this was the last one."""
        if error.action == "retry_free":
            return False
        calls = error.failure.calls
        return self.counted >= self._limits.attempts or (calls is not None and self._bad_replies() >= calls)

    def wait_s(self, error: CallError) -> float:
        """Seconds until the next call."""
        own = min(self._limits.max_s, self._limits.min_s * 2.0 ** min(self.in_a_row - 1, 30))
        # Around our own choice, so that a thousand waiters part; above the endpoint's, since that is a minimum.
        own *= random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  # no secret
        asked = error.retry_after_s
        if asked is None:
            return own
        return max(own, asked * random.uniform(1.0, 1.1))  # noqa: S311

    def _bad_replies(self) -> int:
        """All kinds of paid and useless replies share one allowance."""
        return self._failed["bad_reply"] + self._failed["empty_reply"]


def is_worth_retrying(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    return isinstance(error, CallError) and error.action in ("retry", "retry_free")


def policy(tries: Tries, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> AsyncRetrying:
    """The retry policy for one call: it raises the last error itself once `tries` are used up."""
    return AsyncRetrying(
        retry=retry_if_exception(is_worth_retrying),
        stop=lambda state: tries.used_up(_error_of(state)),
        wait=lambda state: _next_wait_s(tries, _error_of(state)),
        sleep=sleep,
        reraise=True,
    )


async def with_retries(
    call: Callable[[], Awaitable[T]],
    limits: RetryLimits,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """`call()`, again and again as the policy allows.

    `call` makes everything that belongs to one try: the wait at the limiter, the call, reading the reply.
    `sleep` is how waits are sat out; one that raises ends the retries.

    Raises:
        CallError: not worth retrying, or the attempts are used up; its `attempts` are those that counted.
        RetryLater: the next try is too far away to wait for.
    """
    try:
        return await call()
    except CallError as error:
        if not is_worth_retrying(error):
            raise
        return await _retried(error, call, limits, sleep)


async def _retried(
    first: CallError,
    call: Callable[[], Awaitable[T]],
    limits: RetryLimits,
    sleep: Callable[[float], Awaitable[None]],
) -> T:
    """Let tenacity go on from a first failure that it has not seen."""
    unseen, tries = [first], Tries(limits)

    async def counted() -> T:
        try:
            if unseen:
                raise unseen.pop()
            return await call()
        except CallError as error:
            tries.note(error)
            raise

    return await policy(tries, sleep=sleep)(counted)


def _next_wait_s(tries: Tries, error: CallError) -> float:
    wait_s = tries.wait_s(error)
    # tenacity asks for the wait before it asks whether to stop.
    if (error.retry_after_s or 0.0) > LONGEST_WAIT_S and not tries.used_up(error):
        raise RetryLater(wait_s, error)
    return wait_s


def _error_of(state: RetryCallState) -> CallError:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, CallError)  # noqa: S101  # the policy retries nothing else
    return error
