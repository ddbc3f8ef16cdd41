"""The process-local front of a bucket: many coroutines wait here, one round trip to Redis reserves for them all.

`Gate.run` is the only one that talks to Redis. It sleeps until somebody waits and may be granted something, asks for
the first few hundred waiters at once, and hands the grants out; what comes back is gathered and rides along. When
Redis does not answer, waiters are served from this process's own `Share` of the limit until it does.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from itertools import takewhile

from redis.exceptions import RedisError

from corpusmill.errors import UsageError
from corpusmill.limits.alarm import Alarm
from corpusmill.limits.bucket import Bucket, Reserved, Slowdown, Why
from corpusmill.limits.ending import end
from corpusmill.limits.headers import told_by
from corpusmill.limits.link import Link
from corpusmill.limits.refusals import Refusal, slowdown_for
from corpusmill.limits.scope import Grant, Limits, Priority, Rates, Settle
from corpusmill.limits.share import Share
from corpusmill.limits.waiting import Turn, Waiting

log = logging.getLogger(__name__)

AT_MOST = 256  # waiters a round trip: a script should not hold Redis for much longer than a millisecond
LINGER_S = 0.003  # how long a first waiter waits for others to share its round trip
SETTLE_S = 0.05  # how long what comes back is gathered
LEAST_WAIT_S = 0.01  # at 500 grants a second: five grants a round trip instead of one
LONGEST_WAIT_S = 1.0  # then ask again: the limits may have been raised meanwhile
PARK_S = 60.0
TICK_S = 0.02
RECONNECT_S = 0.25

# What each priority leaves in the bucket, in seconds of the rate and at most as a fraction of the burst: SAFETY for
# the jitter between a grant and its arrival at the endpoint, HEADROOM so that more urgent work need not wait.
SAFETY = (0.25, 1 / 4)
HEADROOM: Mapping[Priority, tuple[float, float]] = {"high": (0.0, 0.0), "normal": (0.1, 1 / 10), "low": (0.2, 1 / 5)}


class LimiterParked(Exception):
    """Nothing will be granted for `wait_s` seconds, more than a minute: give the work back instead of waiting."""

    def __init__(self, wait_s: float, why: Why) -> None:
        self.wait_s, self.why = wait_s, why
        super().__init__(f"nothing is granted for {wait_s:.0f} s ({why.name.lower().replace('_', '-')})")


class RequestTooLarge(UsageError):
    """One request needs more tokens than the limit grants in a minute, so it would wait for ever."""

    def __init__(self, *, tokens: int, tpm: int, model: str) -> None:
        self.tokens, self.tpm, self.model = tokens, tpm, model
        super().__init__(
            f"one request needs {tokens:,} tokens, but {model} is limited to {tpm:,} a minute: it would wait for ever",
            next_step="use smaller chunks or a smaller output cap, or raise CORPUSMILL_LIMITS__TPM",
        )


def floors_s(burst_s: float) -> dict[Priority, float]:
    """What each priority leaves in a bucket of `burst_s`, in seconds of the rate."""
    safety = min(SAFETY[0], burst_s * SAFETY[1])
    return {name: safety + min(most, burst_s * fraction) for name, (most, fraction) in HEADROOM.items()}


class Gate:
    """Where a process asks leave to send to one scope. Its owner runs `run` beside it; see `Limiter`."""

    def __init__(self, bucket: Bucket, limits: Limits, *, settle: Settle = "estimate") -> None:
        self._link, self._limits, self._settle = Link(bucket, limits), limits, settle
        self._model = bucket.scope.model
        self._time = asyncio.get_running_loop().time
        self._waiting, self._alarm = Waiting(), Alarm()
        self._floors_s = floors_s(limits.burst_s)
        self._blocked: dict[Priority, float] = {}
        self._cool_until = 0.0
        self._share: Share | None = None
        self._followed: Rates | None = None
        self.limited_by = Why.NOTHING

    def heed(self, limits: Limits) -> None:
        """Keep to these limits from now on, with the whole fleet; those who wait already do so under the new ones."""
        if limits == self._limits:
            return
        self._limits, self._floors_s = limits, floors_s(limits.burst_s)
        self._link.heed(limits)
        self._alarm.ring_by(self._time())

    @property
    def free(self) -> bool:
        """Whether a person has said that there is no limit at all: then a grant needs no round trip."""
        return self._limits.rpm == 0 and self._limits.tpm == 0

    @property
    def rates(self) -> Rates | None:
        """The limits that hold now; None until Redis has answered once."""
        return self._link.rates

    def wait_hint_s(self) -> float:
        """How long a waiter of normal priority has to wait at least, as far as this process knows."""
        return max(0.0, self._blocked.get("normal", 0.0) - self._time(), self._cool_until - self._time())

    async def acquire(self, job_id: int, tokens: int, *, priority: Priority = "normal", weight: float = 1.0) -> Grant:
        """Wait for leave to send one request. Cancelling is safe: what was granted by then goes back.

        Args:
            job_id: whose request it is; jobs that wait at once share the bucket by their weights.
            tokens: what the endpoint will charge, see `charge`.
            priority: lower ones leave headroom in the bucket for higher ones.
            weight: the job's part relative to other jobs of its priority.

        Raises:
            LimiterParked: nothing will be granted for more than a minute.
            RequestTooLarge: the limit never grants so many tokens.
        """
        if self.free:
            return await self._acquire_free(tokens)
        if error := self._too_large(tokens):
            raise error
        waiter = self._waiting.add(priority, job_id, weight, tokens)
        self._alarm.ring_by(max(self._time() + LINGER_S, self._blocked.get(priority, 0.0)))
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._waiting.drop(priority, job_id, waiter)
            if waiter.future.done() and not waiter.future.cancelled() and not waiter.future.exception():
                self.release(waiter.future.result())
            raise

    async def _acquire_free(self, tokens: int) -> Grant:
        while (wait := self._cool_until - self._time()) > 0:
            if wait > PARK_S:
                raise LimiterParked(wait, Why.COOL_DOWN)
            await asyncio.sleep(wait * random.uniform(1.0, 1.1))  # noqa: S311 - so that not all rush in at once
        return Grant(tokens, alone=True)

    def release(self, grant: Grant) -> None:
        """Put a grant back that no request was sent for."""
        if not grant.alone:
            self._link.tab.put_back(1, grant.tokens)
            self._alarm.ring_by(self._time() + SETTLE_S)

    def settle(self, grant: Grant, headers: Mapping[str, str] | None, used_tokens: int | None) -> None:
        """Close a grant whose request was sent.

        Args:
            grant: what `acquire` gave.
            headers: of the reply, whatever its status; None when there was none.
            used_tokens: what a paid reply says it used; None when there was no paid reply.
        """
        if self.free:
            return
        if headers is not None:
            self._link.tab.hear(told_by(headers), grant, paid=used_tokens is not None)
        if self._settle == "actual" and used_tokens is not None and not grant.alone:
            self._link.tab.put_back(0, grant.tokens - used_tokens)
        learning = self.rates is not None and self.rates.learning
        self._alarm.ring_by(self._time() + (0 if learning else SETTLE_S))

    def penalty(self, retry_after_s: float | None, kind: Refusal) -> None:
        """Slow the whole fleet down after a refusal; with `retry_after_s` nothing is granted for so long."""
        slowdown = slowdown_for(kind, retry_after_s, tpm=self.rates.tpm if self.rates else 0)
        self._cool_until = max(self._cool_until, self._time() + slowdown.cool_s)
        if self._share is not None:
            self._share.cool(slowdown.cool_s)
        if not self.free:
            self._link.slow_down(slowdown)
            self._alarm.ring_by(self._time())

    # --- serving those who wait ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the waiters until cancelled."""
        while True:
            await self._alarm.rung()
            try:
                await self._round()
            except (RedisError, OSError) as error:
                await self._alone(error)
            except Exception as error:
                # Our own fault; but who waits has to hear of it, and not wait for ever.
                log.exception("limiter failed model=%s", self._model)
                self._refuse_all(error)
            for name in self._waiting.priorities():
                self._alarm.ring_by(self._blocked.get(name, 0.0))

    def close(self) -> None:
        """Cancel everybody who waits; call it after `run` has ended."""
        self._waiting.cancel()

    async def _round(self) -> None:
        await self._link.settle()
        self._follow_rates()
        now = self._time()
        names = [name for name in self._waiting.priorities() if self._blocked.get(name, 0.0) <= now]
        turns = {name: self._waiting.turns(name, AT_MOST) for name in names}
        if turns:
            asks = {name: [turn.ask for turn in turns[name]] for name in names}
            for name, reserved in (await self._link.reserve(asks, self._floors_s)).items():
                self._hand_out(name, turns[name], reserved)
            self._follow_rates()
        await self._link.be_present()

    def _hand_out(self, priority: Priority, turns: list[Turn], reserved: Reserved) -> None:
        for turn, granted in zip(turns, reserved.granted, strict=True):
            for waiter in self._waiting.served(priority, turn, granted):
                grant = _grant(waiter.tokens, reserved)
                if waiter.future.done():
                    self.release(grant)
                else:
                    waiter.future.set_result(grant)
        self.limited_by = reserved.why
        if reserved.wait_s > PARK_S:
            self._waiting.refuse(priority, lambda _: LimiterParked(reserved.wait_s, reserved.why))
        elif reserved.wait_s > 0:
            wait = min(max(reserved.wait_s, LEAST_WAIT_S), LONGEST_WAIT_S)
            # A little more, so that the fleet's processes do not all come back in one instant.
            self._blocked[priority] = self._time() + wait + min(0.05, wait * random.uniform(0, 0.1))  # noqa: S311

    def _follow_rates(self) -> None:
        """Under new limits nobody waits as long as was said under the old ones, and some wait in vain."""
        if self.rates == self._followed:
            return
        log.info("limits rates=%s model=%s", self.rates, self._model)
        self._followed = self.rates
        self._blocked.clear()
        for name in self._waiting.priorities():
            self._waiting.refuse(name, self._too_large)

    def _refuse_all(self, error: Exception) -> None:
        for name in self._waiting.priorities():
            self._waiting.refuse(name, lambda _: error)

    def _too_large(self, tokens: int) -> RequestTooLarge | None:
        tpm = self.rates.tpm if self.rates else 0
        return RequestTooLarge(tokens=tokens, tpm=tpm, model=self._model) if 0 < tpm < tokens else None

    # --- while Redis is away ------------------------------------------------------------------------------------

    async def _alone(self, error: Exception) -> None:
        """Serve the waiters from this process's share until Redis answers again."""
        log.warning("limiter alone model=%s processes=%d: %s", self._model, self._link.processes, error)
        if self.rates is not None:
            self._share = Share(self.rates, processes=self._link.processes, burst_s=self._limits.burst_s)
        answered = asyncio.create_task(self._until_redis_answers())
        try:
            while not answered.done():
                self._serve_from_share()
                await asyncio.wait({answered}, timeout=TICK_S)
        finally:
            await end([answered])
            self._share = None
        # Each process has sent its share, which the bucket knows nothing of: it starts from empty.
        self._link.slow_down(Slowdown(drain=True))
        self._blocked.clear()
        self._alarm.ring_by(self._time())
        log.warning("limiter with the fleet again model=%s", self._model)

    async def _until_redis_answers(self) -> None:
        while True:
            try:
                return await self._link.configure()
            except (RedisError, OSError):
                await asyncio.sleep(RECONNECT_S)

    def _serve_from_share(self) -> None:
        """Grant what the share holds; with none (Redis has never answered, the limits are unknown) nobody is served."""
        if self._share is None:
            return
        for name in self._waiting.priorities():
            for turn in self._waiting.turns(name, AT_MOST):
                taken = list(takewhile(self._share.take, turn.ask.tokens))
                for waiter in self._waiting.served(name, turn, len(taken)):
                    waiter.future.set_result(Grant(waiter.tokens, alone=True))
                if len(taken) < len(turn.waiters):
                    return


def _grant(tokens: int, reserved: Reserved) -> Grant:
    return Grant(
        tokens, reserved.level_requests, reserved.level_tokens, reserved.lowered_requests, reserved.lowered_tokens
    )
