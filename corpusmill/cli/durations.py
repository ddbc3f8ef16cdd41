"""Spans of time as people write them: `90s`, `12h`, `7d`."""

from __future__ import annotations

import re

from corpusmill.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def seconds(value: str, *, flag: str) -> float:
    """The seconds in `7d`.

    Raises:
        UsageError: it is no number with s, m, h, d or w after it.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", value.strip().lower())
    if found is None:
        raise UsageError(f"{flag} {value} is no span of time", next_step=f"for example {flag} 7d, or 12h")
    return float(found[1]) * _UNITS[found[2]]
