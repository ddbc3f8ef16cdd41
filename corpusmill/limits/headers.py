"""What an endpoint's reply headers say about its limits, in all the dialects we have met.

OpenAI: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, resets as Go durations, and `…-project-tokens`.
Azure: whole seconds, and -1 or 0 where it does not know. Mistral and Cerebras: `…-tokens-minute`. Groq and small
OpenAI accounts: the requests of a *day* under the very same name. vLLM, Ollama, DeepSeek: nothing.
So every header is optional, and what makes no sense counts as absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple


class Names(NamedTuple):
    """The headers that speak of one limit."""

    limit: str
    remaining: str
    reset: str


def _names(*whose: str) -> tuple[Names, ...]:
    return tuple(Names(*(f"x-ratelimit-{what}-{each}" for what in Names._fields)) for each in whose)


REQUESTS = _names("requests", "project-requests", "requests-minute")
TOKENS = _names("tokens", "project-tokens", "tokens-minute")
MINUTE_S, DAY_S = 60.0, 86_400
LONG_S = 300  # a minute's limit is whole again long before
LARGEST = 10**12  # more than any endpoint grants: garbage

NUMBER = re.compile(r"\d{1,13}(?:\.\d*)?", re.ASCII)
DURATION = re.compile(r"(?:\d+(?:\.\d*)?(?:h|ms|m|us|µs|ns|s))+", re.ASCII)
PART = re.compile(r"(\d+(?:\.\d*)?)(h|ms|m|us|µs|ns|s)", re.ASCII)
SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, slots=True)
class Told:
    """Limits a minute and what is left of them now; None where the headers do not say."""

    rpm: int | None = None
    tpm: int | None = None
    requests_left: int | None = None
    tokens_left: int | None = None


def told_by(headers: Mapping[str, str], requests_window_s: float = MINUTE_S) -> Told:
    """Read the limits from a reply's headers, in a mapping that finds them in any case, as HTTP libraries have it.

    `requests_window_s`: what the limit of requests is counted over; Azure tells that of ten seconds.
    """
    rpm, requests_left = _lowest(headers, REQUESTS)
    tpm, tokens_left = _lowest(headers, TOKENS)
    if rpm is not None and requests_window_s != MINUTE_S:
        rpm = max(1, int(rpm * MINUTE_S / requests_window_s))
    return Told(rpm, tpm, requests_left, tokens_left)


def day_over_s(headers: Mapping[str, str]) -> float | None:
    """Seconds until a limit that is used up, and takes long to come back, is whole again; None where none is told."""
    resets = [duration_s(headers.get(each.reset, "")) for each in (*REQUESTS, *TOKENS) if _used_up(headers, each)]
    return max((reset_s for reset_s in resets if reset_s is not None and reset_s > LONG_S), default=None)


def _used_up(headers: Mapping[str, str], names: Names) -> bool:
    return bool(_count(headers.get(names.limit))) and _count(headers.get(names.remaining)) == 0


@lru_cache(maxsize=1024)  # every reply has some, and mostly the same ones
def duration_s(text: str) -> float | None:
    """Seconds of a Go duration (`1s`, `6m0s`, `86ms`, `1h2m3.5s`) or of a plain number; None for anything else."""
    text = text.strip()
    if NUMBER.fullmatch(text):
        return float(text)
    if not DURATION.fullmatch(text):
        return None
    return sum(float(number) * SECONDS[unit] for number, unit in PART.findall(text))


def _lowest(headers: Mapping[str, str], names: tuple[Names, ...]) -> tuple[int | None, int | None]:
    """The lowest limit, and what is left, of those headers that speak of a minute."""
    readings = [reading for each in names if (reading := _minute(headers, each)) is not None]
    left = [remaining for _, remaining in readings if remaining is not None]
    return min((limit for limit, _ in readings), default=None), min(left, default=None)


def _minute(headers: Mapping[str, str], names: Names) -> tuple[int, int | None] | None:
    limit = _count(headers.get(names.limit))
    if not limit:  # 0 and -1 are Azure's "unknown"; what is left then means nothing either
        return None
    remaining, reset_s = _count(headers.get(names.remaining)), duration_s(headers.get(names.reset, ""))
    return None if _is_daily(limit, remaining, reset_s) else (limit, remaining)


def _is_daily(limit: int, remaining: int | None, reset_s: float | None) -> bool:
    """Whether a limit is of a day: it takes minutes to refill, or refills in the very time that a day's would."""
    if reset_s is None or remaining is None or remaining >= limit:
        return False
    return reset_s > LONG_S or abs(reset_s * limit / (limit - remaining) / DAY_S - 1) < 0.02


def _count(text: str | None) -> int | None:
    if text is None or not NUMBER.fullmatch(text.strip()):
        return None
    value = int(float(text))
    return value if value <= LARGEST else None
