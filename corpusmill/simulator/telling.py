"""How an endpoint tells of its limits: the header names and spellings that are in use, and none at all."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from time import time
from typing import Literal, NamedTuple
from wsgiref.handlers import format_date_time

from corpusmill.simulator.durations import go_duration

Dialect = Literal["openai", "project", "azure", "mistral", "none"]
RetryAfter = Literal["both", "seconds", "ms", "date", "none"]

# Azure tells the requests of a window of ten seconds, under the name that others use for a minute's.
AZURE_WINDOW_S = 10


class Level(NamedTuple):
    """One limit as it stands. `limit` is a minute's or, where `daily`, a day's."""

    unit: Literal["requests", "tokens"]
    limit: int
    left: int
    full_in_s: float
    daily: bool = False


def _openai(level: Level) -> str:
    return _lines(level.unit, level.limit, level.left, go_duration(level.full_in_s))


def _project(level: Level) -> str:
    """The organisation has four times as much; what binds is the project's."""
    if level.unit == "requests":
        return _openai(level)
    whole = _lines("tokens", level.limit * 4, level.limit * 3 + level.left, go_duration(level.full_in_s))
    return whole + _lines("project-tokens", level.limit, level.left, go_duration(level.full_in_s))


def _azure(level: Level) -> str:
    """Whole seconds; requests by windows of ten seconds, and -1 for what it does not know."""
    if level.unit == "requests":
        part = AZURE_WINDOW_S / 60
        return _lines("requests", round(level.limit * part), int(level.left * part), "-1")
    return _lines("tokens", level.limit, level.left, str(ceil(level.full_in_s)))


def _mistral(level: Level) -> str:
    return _lines(f"{level.unit}-minute", level.limit, level.left, str(ceil(level.full_in_s)))


_DIALECTS: dict[Dialect, Callable[[Level], str]] = {
    "openai": _openai,
    "project": _project,
    "azure": _azure,
    "mistral": _mistral,
    "none": lambda _level: "",
}


def told(dialect: Dialect, level: Level) -> str:
    """The header lines of one limit."""
    return _DIALECTS[dialect](level)


def _lines(name: str, limit: int, left: int, reset: str) -> str:
    return (
        f"x-ratelimit-limit-{name}: {limit}\r\n"
        f"x-ratelimit-remaining-{name}: {left}\r\n"
        f"x-ratelimit-reset-{name}: {reset}\r\n"
    )


def retry_after(seconds: float, form: RetryAfter = "both") -> bytes:
    """The wait: whole seconds rounded up, milliseconds, both, as a date, or not at all."""
    whole, ms = f"retry-after: {ceil(seconds)}\r\n", f"retry-after-ms: {ceil(seconds * 1000)}\r\n"
    # A date is whole seconds: rounded up, or it would be over too early.
    date = f"retry-after: {format_date_time(ceil(time() + seconds))}\r\n"
    return {"both": whole + ms, "seconds": whole, "ms": ms, "date": date, "none": ""}[form].encode()
