"""Requests and tokens a minute and a day, enforced as OpenAI does: buckets for each key and model.

A bucket holds `depth_s` seconds of its limit and refills all the time. A request that was refused for its tokens
has still used up a request: trying again blindly makes it worse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

from corpusmill.simulator.durations import go_duration
from corpusmill.simulator.errors import ERROR_KINDS, Refused, refusal, refused
from corpusmill.simulator.options import Options
from corpusmill.simulator.telling import Level, retry_after, told

Unit = Literal["requests", "tokens"]

# Sums of small refills may end a hair below a whole request.
_HAIR = 1e-6


class Bucket:
    """`per_minute` units a minute, at most `depth_s` seconds of them at once. Times are seconds of one clock."""

    __slots__ = ("at", "capacity", "level", "limit", "rate")

    def __init__(self, per_minute: int, depth_s: float, now: float) -> None:
        self.limit = per_minute
        self.rate = per_minute / 60
        self.capacity = max(1.0, self.rate * depth_s)
        self.level = self.capacity
        self.at = now

    def go_on_from(self, before: Bucket, now: float) -> None:
        """Take the place of one with another limit: what is in it stays, as far as it fits."""
        before.refill(now)
        self.level = min(self.capacity, before.level)

    def refill(self, now: float) -> None:
        """Add what has come in since the last time."""
        self.level = min(self.capacity, self.level + (now - self.at) * self.rate)
        self.at = now

    def wait_s(self, cost: float) -> float:
        """Seconds until `cost` fits; 0 now. More than the bucket holds is let through when it is full, into debt."""
        short = min(cost, self.capacity) - self.level
        return 0.0 if short <= _HAIR else short / self.rate

    def level_as(self, unit: Unit, *, daily: bool = False) -> Level:
        """How it stands, to be told."""
        left = max(0, int(self.level + _HAIR))
        return Level(unit, self.limit, left, (self.capacity - self.level) / self.rate, daily)


class Day(Bucket):
    """`per_day` units a day, used up at any pace, all back `reset_s` after the first of them was used."""

    __slots__ = ("began", "reset_s")

    def __init__(self, per_day: int, reset_s: float, now: float) -> None:
        super().__init__(per_day, 60.0, now)
        self.reset_s, self.began = reset_s, now

    def refill(self, now: float) -> None:
        """A new day begins with all of it."""
        self.at = now
        if now - self.began >= self.reset_s:
            self.level, self.began = self.capacity, now

    def wait_s(self, cost: float) -> float:
        """Seconds until the next day, unless `cost` fits into this one."""
        return 0.0 if self.level + _HAIR >= min(cost, self.capacity) else self.began + self.reset_s - self.at

    def level_as(self, unit: Unit, *, daily: bool = True) -> Level:
        """How it stands; the reset is the day's end."""
        left = max(0, int(self.level + _HAIR))
        return Level(unit, self.limit, left, self.began + self.reset_s - self.at, daily)


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of a lane, and how a refusal names it."""

    unit: Unit
    name: str
    bucket: Bucket


class Lane:
    """The limits of one key and model."""

    def __init__(self, model: str, options: Options, now: float) -> None:
        self.model, self._options = model, options
        self.growth = Growth(options.growth, now) if options.growth else None
        self.limits = _limits(options, now)

    def change(self, options: Options, now: float) -> None:
        """Other limits from now on."""
        before = {limit.name: limit.bucket for limit in self.limits}
        self._options, self.limits = options, _limits(options, now)
        for limit in self.limits:
            if limit.name in before:
                limit.bucket.go_on_from(before[limit.name], now)

    def admit(self, tokens: float, now: float) -> None:
        """Take one request and `tokens`, or raise the 429 that says what is short.

        Raises:
            Refused: one of the limits is used up; nothing but the request itself was taken.
        """
        for limit in self.limits:
            limit.bucket.refill(now)
        if self.growth and self.growth.too_fast(now):
            headers = self.headers() + retry_after(1.0, self._options.retry_after)
            raise refusal(ERROR_KINDS["slow_down"], headers=headers, model=self.model)
        self._take("requests", 1)
        if tokens > min((limit.bucket.limit for limit in self.limits if limit.unit == "tokens"), default=tokens):
            raise self._too_large(tokens)
        self._take("tokens", tokens)

    def _take(self, unit: Unit, cost: float) -> None:
        mine = [limit for limit in self.limits if limit.unit == unit]
        for limit in mine:
            if wait_s := limit.bucket.wait_s(cost):
                raise self._refusal(limit, cost, wait_s)
        for limit in mine:
            limit.bucket.level -= cost

    def give_back(self, tokens: float) -> None:
        """Put the charge right after the answer; negative takes more."""
        for limit in self.limits:
            if limit.unit == "tokens":
                limit.bucket.level = min(limit.bucket.capacity, limit.bucket.level + tokens)

    def headers(self) -> bytes:
        """The `x-ratelimit-…` lines of a reply, as of the last `admit`: of a minute's limits, and a day's once spent.

        Both go by one name, as OpenAI has it: whichever is told, the reader has to find out which it is.
        """
        lines = {}
        for limit in self.limits:
            level = limit.bucket.level_as(limit.unit)
            if not level.daily or level.left == 0 or limit.unit not in lines:
                lines[limit.unit] = told(self._options.tell, level)
        return "".join(lines.values()).encode()

    def _refusal(self, limit: Limit, requested: float, wait_s: float) -> Refused:
        bucket = limit.bucket
        used = round(bucket.limit * (1 - max(0.0, bucket.level) / bucket.capacity))
        message = (
            f"Rate limit reached for {self.model} in organization org-simulator on {limit.name}: Limit {bucket.limit}, "
            f"Used {used}, Requested {ceil(requested)}. Please try again in {go_duration(wait_s)}. "
            f"Visit https://platform.openai.com/account/rate-limits to learn more."
        )
        headers = self.headers() + retry_after(wait_s, self._options.retry_after)
        return refused(429, limit.unit, "rate_limit_exceeded", message, headers=headers)

    def _too_large(self, requested: float) -> Refused:
        limit = min(limit.bucket.limit for limit in self.limits if limit.unit == "tokens")
        message = (
            f"Request too large for {self.model} in organization org-simulator on tokens per min (TPM): "
            f"Limit {limit}, Requested {ceil(requested)}. The input or output tokens must be reduced."
        )
        return refused(429, "tokens", "rate_limit_exceeded", message, headers=self.headers())


def _limits(options: Options, now: float) -> list[Limit]:
    return [Limit(unit, name, made) for unit, name, made in _buckets(options, now) if made is not None]


def _buckets(options: Options, now: float) -> list[tuple[Unit, str, Bucket | None]]:
    depth_s, reset_s = options.depth_s, options.day_s
    return [
        ("requests", "requests per min (RPM)", Bucket(options.rpm, depth_s, now) if options.rpm else None),
        ("tokens", "tokens per min (TPM)", Bucket(options.tpm, depth_s, now) if options.tpm else None),
        ("requests", "requests per day (RPD)", Day(options.rpd, reset_s, now) if options.rpd else None),
        ("tokens", "tokens per day (TPD)", Day(options.tpd, reset_s, now) if options.tpd else None),
    ]


class Growth:
    """Whether traffic grows too fast: each second at most `1 + share` times the one before, from `FREE` on."""

    FREE = 20

    def __init__(self, share: float, now: float) -> None:
        self._share, self._second = share, int(now)
        self._before, self._count = 0, 0

    def too_fast(self, now: float) -> bool:
        """Count a request in; True when it is one too many."""
        if int(now) != self._second:
            self._before = self._count if int(now) == self._second + 1 else 0
            self._second, self._count = int(now), 0
        if self._count >= max(self.FREE, self._before * (1 + self._share)):
            return True
        self._count += 1
        return False


class Limits:
    """The lanes of all keys and models, made when first used."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._lanes: dict[tuple[str, str], Lane] = {}

    def change(self, rpm: int | None, tpm: int | None, now: float) -> None:
        """Other limits a minute for all lanes from now on; None: none."""
        self._options = replace(self._options, rpm=rpm, tpm=tpm)
        for lane in self._lanes.values():
            lane.change(self._options, now)

    def lane(self, key: str, model: str, now: float) -> Lane:
        """The limits of `key` for `model`."""
        lane = self._lanes.get((key, model))
        if lane is None:
            lane = self._lanes[key, model] = Lane(model, self._options, now)
        return lane
