"""The fleet's one token bucket per scope, kept in Redis: the Python side of the scripts.

Every grant of every process goes through `reserve.lua`, which is atomic, so the sum of what they send stays under
the limit with no process talking to another. Keys, all under `corpusmill:limit:{digest of the scope}:`, all with a
time to live: `bucket` (hash, 30 days), `share:PRIORITY` and `waiting:PRIORITY` (sorted sets, an hour and 10 s),
`pace` (hash, an hour), `calls:PROCESS` (hash, ten minutes), `present` (sorted set, 10 s).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from redis.asyncio import Redis

from corpusmill.limits.scope import Limits, Priority, Rates, Scope
from corpusmill.limits.scripts import Call, run

PRESENT_S = 10.0


class Why(IntEnum):
    """What a waiter waits for, as `reserve.lua` numbers it."""

    NOTHING = 0
    REQUESTS = 1
    TOKENS = 2
    COOL_DOWN = 3
    TURN = 4
    DAY = 5


class BucketUnknown(Exception):
    """Redis knows no such bucket: it is new, has lapsed, or Redis has lost its data. Configure it again."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What one job asks for: the tokens of its waiters, in order. `part`: of the limit at most, 1 for all of it."""

    job_id: int
    weight: float
    tokens: Sequence[int]
    part: float = 1.0


@dataclass(frozen=True, slots=True)
class Reserved:
    """What was granted: a number of waiters for each `Ask`, and if any are left, how long they wait and for what.

    `held_s`: for each `Ask`, how long its own part of the limit is used up; others do not wait for that.
    """

    granted: Sequence[int]
    held_s: Sequence[float]
    wait_s: float
    why: Why
    level_requests: int
    level_tokens: int
    lowered_requests: int
    lowered_tokens: int
    rates: Rates


@dataclass(frozen=True, slots=True)
class Settlement:
    """What goes back to the bucket (negative: what it is short of), and what the endpoint's headers said.

    `lowered_*`: how much the headers ask to have been taken off in all, on the bucket's own count; None: nothing.
    `told_*`: limits a minute, 0 where the endpoint tells none; None: nothing new.
    """

    requests: int = 0
    tokens: int = 0
    lowered_requests: int | None = None
    lowered_tokens: int | None = None
    told_rpm: int | None = None
    told_tpm: int | None = None


@dataclass(frozen=True, slots=True)
class Slowdown:
    """How the fleet answers a refusal: nothing for `cool_s`, then `keep` of the rate, growing by `ramp` a second.

    `ramp`: of the whole rate; negative: of what is left of it, so that the way back takes as long from wherever it is.

    `left_s`: the seconds of the rate that the bucket holds at most when it goes on, so that nobody rushes in. `day`: a
    day is used up until then.
    `of_traffic`: keep so much of what was sent lately, be it far less than the limit.
    """

    cool_s: float = 0.0
    keep: float = 1.0
    ramp: float = 0.0
    left_s: float = 0.0
    day: bool = False
    of_traffic: bool = False


class Bucket:
    """One scope's bucket as one process sees it. A call that fails may be repeated with its number: it acts once."""

    def __init__(self, redis: Redis, scope: Scope, *, process: str) -> None:
        self.scope, self.process = scope, process
        self._redis = redis
        self._key = scope.key("bucket")
        self._calls = scope.key(f"calls:{process}")

    async def configure(self, limits: Limits, *, first: bool) -> Rates:
        """Make the bucket or tell it the limits; it starts empty unless nobody has ever drawn from it (`first`)."""
        day = (limits.rpd or 0, limits.tpd or 0)
        args = (_or_unset(limits.rpm), _or_unset(limits.tpm), limits.burst_s, int(first), *day)
        ((rpm, tpm, learning),) = await run(self._redis, [Call("configure", [self._key], args)])
        return Rates(rpm, tpm, bool(learning))

    async def reserve(
        self, number: int, asks: Mapping[Priority, Sequence[Ask]], floors_s: Mapping[Priority, float]
    ) -> dict[Priority, Reserved]:
        """Reserve for the waiters of each priority, in the order given, in one round trip.

        Args:
            number: counts this process's calls; the same number again gives the same reply and takes nothing.
            asks: at most a few hundred waiters in all.
            floors_s: what each priority has to leave in the bucket, in seconds of the rate.

        Raises:
            BucketUnknown: configure it first; nothing was granted.
        """
        calls = [self._reserve_call(number, name, asks[name], floors_s[name]) for name in asks]
        replies = await run(self._redis, calls)
        return {name: _reserved(reply) for name, reply in zip(asks, replies, strict=True)}

    def _reserve_call(self, number: int, priority: Priority, asks: Sequence[Ask], floor_s: float) -> Call:
        shares, waiting = self.scope.key(f"share:{priority}"), self.scope.key(f"waiting:{priority}")
        keys = (self._key, shares, waiting, self._calls, self.scope.key("pace"))
        args: list[str | int | float] = [number, priority, floor_s, self.process]
        for ask in asks:
            args += (ask.job_id, ask.weight, ask.part, len(ask.tokens), *ask.tokens)
        return Call("reserve", keys, args)

    async def settle(self, number: int, what: Settlement) -> Rates:
        """Apply a settlement; the same number again changes nothing.

        Raises:
            BucketUnknown: there is nothing to settle with.
        """
        args = (
            number, "settle", what.requests, what.tokens,
            _or_blank(what.lowered_requests), _or_blank(what.lowered_tokens),
            _or_unset(what.told_rpm), _or_unset(what.told_tpm),
        )  # fmt: skip
        ((known, *rest),) = await run(self._redis, [Call("settle", (self._key, self._calls), args)])
        if not known:
            raise BucketUnknown
        rpm, tpm, learning = rest
        return Rates(rpm, tpm, bool(learning))

    async def slow_down(self, what: Slowdown) -> float:
        """Slow the fleet down; returns the seconds until anything is granted again. Twice is as good as once."""
        args = (int(what.cool_s * 1e6), what.keep, what.ramp, what.left_s, int(what.day), int(what.of_traffic))
        ((known, *cool),) = await run(self._redis, [Call("cool", [self._key], args)])
        if not known:
            raise BucketUnknown
        return float(cool[0]) / 1e6

    async def present(self) -> int:
        """Say that this process draws from the bucket; returns how many do, this one included."""
        args = (self.process, int(PRESENT_S * 1000))
        (count,) = await run(self._redis, [Call("presence", [self.scope.key("present")], args)])
        return int(count)


def _reserved(reply: Sequence[int]) -> Reserved:
    if not reply[0]:
        raise BucketUnknown
    _, wait_us, why, level_r, level_t, lowered_r, lowered_t, rpm, tpm, learning, *jobs = reply
    rates, held_s = Rates(rpm, tpm, bool(learning)), [held_us / 1e6 for held_us in jobs[1::2]]
    return Reserved(jobs[::2], held_s, wait_us / 1e6, Why(why), level_r, level_t, lowered_r, lowered_t, rates)


def _or_unset(value: int | None) -> int:
    return -1 if value is None else value


def _or_blank(value: int | None) -> int | str:
    return "" if value is None else value
