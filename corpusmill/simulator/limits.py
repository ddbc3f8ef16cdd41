"""Requests and tokens a minute, enforced as OpenAI does: one pair of buckets for each key and model.

A bucket holds `depth_s` seconds of its limit and refills all the time. A request that was refused for its tokens
has still used up a request: trying again blindly makes it worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

from corpusmill.simulator.durations import go_duration
from corpusmill.simulator.errors import Refused, refused
from corpusmill.simulator.options import Options

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

    def refill(self, now: float) -> None:
        """Add what has come in since the last time."""
        self.level = min(self.capacity, self.level + (now - self.at) * self.rate)
        self.at = now

    def wait_s(self, cost: float) -> float:
        """Seconds until `cost` fits; 0 now. More than the bucket holds is let through when it is full, into debt."""
        short = min(cost, self.capacity) - self.level
        return 0.0 if short <= _HAIR else short / self.rate

    def headers(self, unit: str) -> str:
        """The three header lines of this limit; `reset` is the time until the bucket is full."""
        full_in = go_duration((self.capacity - self.level) / self.rate)
        return (
            f"x-ratelimit-limit-{unit}: {self.limit}\r\n"
            f"x-ratelimit-remaining-{unit}: {max(0, int(self.level + _HAIR))}\r\n"
            f"x-ratelimit-reset-{unit}: {full_in}\r\n"
        )


@dataclass(slots=True)
class Lane:
    """The limits of one key and model."""

    model: str
    requests: Bucket | None
    tokens: Bucket | None

    def admit(self, tokens: float, now: float) -> None:
        """Take one request and `tokens`, or raise the 429 that says what is short.

        Raises:
            Refused: one of the limits is used up; nothing but the request itself was taken.
        """
        if self.requests:
            self.requests.refill(now)
        if self.tokens:
            self.tokens.refill(now)
        if self.requests:
            if wait_s := self.requests.wait_s(1):
                raise self._refusal(self.requests, "requests", 1, wait_s)
            self.requests.level -= 1
        if self.tokens:
            if tokens > self.tokens.limit:
                raise self._too_large(self.tokens.limit, tokens)
            if wait_s := self.tokens.wait_s(tokens):
                raise self._refusal(self.tokens, "tokens", tokens, wait_s)
            self.tokens.level -= tokens

    def give_back(self, tokens: float) -> None:
        """Put the charge right after the answer; negative takes more."""
        if self.tokens:
            self.tokens.level = min(self.tokens.capacity, self.tokens.level + tokens)

    def headers(self) -> bytes:
        """The `x-ratelimit-…` lines of a reply, as of the last `admit`."""
        requests = self.requests.headers("requests") if self.requests else ""
        return (requests + (self.tokens.headers("tokens") if self.tokens else "")).encode()

    def _refusal(self, bucket: Bucket, unit: Literal["requests", "tokens"], requested: float, wait_s: float) -> Refused:
        name = "requests per min (RPM)" if unit == "requests" else "tokens per min (TPM)"
        used = round(bucket.limit * (1 - max(0.0, bucket.level) / bucket.capacity))
        message = (
            f"Rate limit reached for {self.model} in organization org-simulator on {name}: Limit {bucket.limit}, "
            f"Used {used}, Requested {ceil(requested)}. Please try again in {go_duration(wait_s)}. "
            f"Visit https://platform.openai.com/account/rate-limits to learn more."
        )
        headers = self.headers() + retry_after(wait_s)
        return refused(429, unit, "rate_limit_exceeded", message, headers=headers)

    def _too_large(self, limit: int, requested: float) -> Refused:
        message = (
            f"Request too large for {self.model} in organization org-simulator on tokens per min (TPM): "
            f"Limit {limit}, Requested {ceil(requested)}. The input or output tokens must be reduced."
        )
        return refused(429, "tokens", "rate_limit_exceeded", message, headers=self.headers())


def retry_after(seconds: float) -> bytes:
    """Both spellings of the wait: whole seconds rounded up, and milliseconds."""
    return f"retry-after: {ceil(seconds)}\r\nretry-after-ms: {ceil(seconds * 1000)}\r\n".encode()


class Limits:
    """The lanes of all keys and models, made when first used."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._lanes: dict[tuple[str, str], Lane] = {}

    def lane(self, key: str, model: str, now: float) -> Lane:
        """The limits of `key` for `model`."""
        lane = self._lanes.get((key, model))
        if lane is None:
            lane = self._lanes[key, model] = self._new(model, now)
        return lane

    def _new(self, model: str, now: float) -> Lane:
        options = self._options
        requests = Bucket(options.rpm, options.depth_s, now) if options.rpm else None
        tokens = Bucket(options.tpm, options.depth_s, now) if options.tpm else None
        return Lane(model, requests, tokens)
