"""The process-local front of a bucket: many coroutines wait here, one round trip to Redis reserves for them all.

`Gate.run` is the only one that talks to Redis. It sleeps until somebody waits and may be granted something, asks for
the first few hundred waiters at once, and hands the grants out; what comes back is gathered and rides along. While
Redis does not answer, `Alone` takes the bucket's place.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping

from redis.exceptions import RedisError

from corpusmill.limits.alarm import Alarm
from corpusmill.limits.alone import Alone
from corpusmill.limits.bucket import Reserved, Why
from corpusmill.limits.errors import LimiterParked, RequestTooLarge
from corpusmill.limits.headers import told_by
from corpusmill.limits.headroom import floors_s
from corpusmill.limits.link import Link
from corpusmill.limits.outlook import Outlook
from corpusmill.limits.refusals import Refusal, slowdown_for
from corpusmill.limits.scope import Grant, Limits, Priority, Rates, Settle
from corpusmill.limits.waiting import Turn, Waiter, Waiting

log = logging.getLogger(__name__)

AT_MOST = 256  # waiters a round trip: a script should not hold Redis for much longer than a millisecond
SLICE = 32  # grants a turn of the loop: each begins a call, and a turn should be over within 20 ms
LINGER_S = 0.003  # how long a first waiter waits for others to share its round trip
SETTLE_S = 0.05  # how long what comes back is gathered
LEAST_WAIT_S = 0.01  # at 500 grants a second: five grants a round trip instead of one
LONGEST_WAIT_S = 1.0  # then ask again: the limits may have been raised meanwhile
SPREAD_S = 0.04  # at most how far apart the fleet's processes come back, so that they do not in one instant
PARK_S = 60.0


class Gate:
    """Where a process asks leave to send to one scope. Its owner runs `run` beside it; see `Limiter`."""

    def __init__(self, link: Link, limits: Limits, *, model: str, settle: Settle = "estimate") -> None:
        self._link, self._limits, self._model, self._settle = link, limits, model, settle
        self._time = asyncio.get_running_loop().time
        self._waiting, self._alarm = Waiting(), Alarm()
        self._floors_s = floors_s(limits.burst_s)
        self._blocked: dict[Priority, float] = {}
        self._cool_until = 0.0
        self._alone = Alone(link, self._waiting, model=model)
        self._outlook = Outlook()
        self._followed: Rates | None = None
        self.limited_by = Why.NOTHING
        self.sent_requests = self.sent_tokens = 0

    def heed(self, limits: Limits) -> None:
        """Keep to these limits from now on, with the whole fleet; those who wait already do so under the new ones."""
        if limits == self._limits:
            return
        self._limits, self._floors_s = limits, floors_s(limits.burst_s)
        self._link.heed(limits)
        self._outlook = Outlook()
        self._alarm.ring_by(self._time())

    @property
    def free(self) -> bool:
        """Whether a person has said that there is no limit at all: then a grant needs no round trip."""
        limits = self._limits
        return limits.rpm == 0 and limits.tpm == 0 and not (limits.rpd or limits.tpd)

    @property
    def rates(self) -> Rates | None:
        """The limits that hold now; None until Redis has answered once."""
        return self._link.rates

    @property
    def unlimited(self) -> bool:
        """Whether nobody knows of any limit: none is set, and the endpoint tells none."""
        told = self.rates is not None and not (self.rates.learning or self.rates.rpm or self.rates.tpm)
        return told and self._limits.rpm is None and self._limits.tpm is None

    @property
    def waiting(self) -> int:
        """How many requests wait for leave here."""
        return self._waiting.queue().requests

    def expected_wait_s(self, tokens: int) -> float:
        """How long one more request would wait, as far as this process knows; infinite: the limit never grants it."""
        now, rates, burst_s = self._time(), self.rates, self._limits.burst_s
        count = self._link.processes
        part = rates and Rates(-(-rates.rpm // count), -(-rates.tpm // count), rates.learning)
        queue, floor_s = self._waiting.queue(), self._floors_s["normal"]
        wait_s = self._outlook.wait_s(part, tokens, queue, now, burst_s=burst_s, floor_s=floor_s)
        return max(wait_s, self._cool_until - now)

    async def acquire(
        self,
        job_id: int,
        tokens: int,
        *,
        priority: Priority = "normal",
        weight: float = 1.0,
        max_share: float = 1.0,
    ) -> Grant:
        """Wait for leave to send one request. Cancelling is safe: what was granted by then goes back.

        Args:
            job_id: whose request it is; jobs that wait at once share the bucket by their weights.
            tokens: what the endpoint will charge, see `charge`.
            priority: lower ones leave headroom in the bucket for higher ones.
            weight: the job's part relative to other jobs of its priority.
            max_share: the part of the limit that the job uses at most, over 0 to 1; others use what it leaves.

        Raises:
            LimiterParked: nothing will be granted for more than a minute.
            RequestTooLarge: the limit never grants so many tokens.
        """
        if self.free:
            return await self._acquire_free(tokens)
        if error := self._too_large(tokens):
            raise error
        waiter = self._waiting.add(priority, job_id, tokens, weight=weight, part=max_share)
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
        self.sent_requests += 1
        self.sent_tokens += grant.tokens
        if self.free:
            return
        if headers is not None:
            self._link.tab.hear(told_by(headers, self._limits.requests_window_s), grant, paid=used_tokens is not None)
        if self._settle == "actual" and used_tokens is not None and not grant.alone:
            self._link.tab.put_back(0, grant.tokens - used_tokens)
        learning = self.rates is not None and self.rates.learning
        self._alarm.ring_by(self._time() + (0 if learning else SETTLE_S))

    def penalty(self, retry_after_s: float | None, kind: Refusal) -> None:
        """Slow the whole fleet down after a refusal; with `retry_after_s` nothing is granted for so long."""
        tpm = self.rates.tpm if self.rates else 0
        slowdown = slowdown_for(kind, retry_after_s, tpm=tpm, floor_s=self._floors_s["normal"])
        self._cool_until = max(self._cool_until, self._time() + slowdown.cool_s)
        self._alone.cool(slowdown.cool_s)
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
                await self._alone.serve(error, burst_s=self._limits.burst_s)
                self._blocked.clear()
                self._alarm.ring_by(self._time())
            except Exception as error:
                # Our own fault; but who waits has to hear of it, and not wait for ever.
                log.exception("limiter failed model=%s", self._model)
                self._refuse_all(error)
            for name in self._waiting.priorities():
                self._alarm.ring_by(max(self._blocked.get(name, 0.0), self._waiting.due(name)))

    def close(self) -> None:
        """Cancel everybody who waits; call it after `run` has ended."""
        self._waiting.cancel()

    async def _round(self) -> None:
        await self._link.settle()
        self._follow_rates()
        now = self._time()
        names = [name for name in self._waiting.priorities() if self._blocked.get(name, 0.0) <= now]
        turns = {name: found for name in names if (found := self._waiting.turns(name, AT_MOST, now))}
        if turns:
            asks = {name: [turn.ask for turn in found] for name, found in turns.items()}
            for name, reserved in (await self._link.reserve(asks, self._floors_s)).items():
                await self._hand_out(name, turns[name], reserved)
            self._follow_rates()
        await self._link.be_present()

    async def _hand_out(self, priority: Priority, turns: list[Turn], reserved: Reserved) -> None:
        pairs = zip(turns, reserved.granted, strict=True)
        served = [waiter for turn, granted in pairs for waiter in self._waiting.served(priority, turn, granted)]
        self._note(priority, turns, reserved)
        given = 0
        try:
            for given, waiter in enumerate(served):
                if given and given % SLICE == 0:
                    await asyncio.sleep(0)
                self._give(waiter, reserved)
        except asyncio.CancelledError:
            # They stand in no line any more, so `close` would not find them.
            for waiter in served[given:]:
                waiter.future.cancel()
            raise

    def _give(self, waiter: Waiter, reserved: Reserved) -> None:
        grant = _grant(waiter.tokens, reserved, self._time())
        if waiter.future.done():
            self.release(grant)
        else:
            waiter.future.set_result(grant)

    def _note(self, priority: Priority, turns: list[Turn], reserved: Reserved) -> None:
        """What was said of those who still wait."""
        self._hold_back(priority, turns, reserved)
        self.limited_by = reserved.why
        self._outlook.note(reserved, self._time())
        if reserved.wait_s > PARK_S:
            self._waiting.refuse(priority, _parked(reserved.wait_s, reserved.why))
        elif reserved.wait_s > 0:
            wait = min(max(reserved.wait_s, LEAST_WAIT_S), LONGEST_WAIT_S)
            self._blocked[priority] = self._time() + wait + min(SPREAD_S, wait * random.uniform(0, 0.1))  # noqa: S311

    def _hold_back(self, priority: Priority, turns: list[Turn], reserved: Reserved) -> None:
        """Who has used up his own part of the limit is not asked for until there is room in it."""
        for turn, held_s in zip(turns, reserved.held_s, strict=True):
            if held_s > PARK_S:
                self._waiting.refuse(priority, _parked(held_s), only=turn.ask.job_id)
            elif held_s > 0:
                until = self._time() + min(max(held_s, LEAST_WAIT_S), LONGEST_WAIT_S)
                self._waiting.hold(priority, turn.ask.job_id, until)

    def _follow_rates(self) -> None:
        """Under new limits nobody waits as long as was said under the old ones, and some wait in vain."""
        if self.rates == self._followed:
            return
        log.info("limits rates=%s model=%s", self.rates, self._model)
        self._followed = self.rates
        self._blocked.clear()
        self._waiting.let_go()
        for name in self._waiting.priorities():
            self._waiting.refuse(name, self._too_large)

    def _refuse_all(self, error: Exception) -> None:
        for name in self._waiting.priorities():
            self._waiting.refuse(name, lambda _: error)

    def _too_large(self, tokens: int) -> RequestTooLarge | None:
        tpm = self.rates.tpm if self.rates else 0
        return RequestTooLarge(tokens=tokens, tpm=tpm, model=self._model) if 0 < tpm < tokens else None


def _grant(tokens: int, reserved: Reserved, at: float) -> Grant:
    return Grant(
        tokens,
        reserved.level_requests,
        reserved.level_tokens,
        reserved.lowered_requests,
        reserved.lowered_tokens,
        at,
    )


def _parked(wait_s: float, why: Why = Why.TURN) -> Callable[[int], LimiterParked]:
    return lambda _: LimiterParked(wait_s, why)
