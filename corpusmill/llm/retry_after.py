"""How long the endpoint asks to wait, in every spelling that is in use."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import mktime_tz, parsedate_tz

# OpenAI writes it into the message where a gateway has dropped the header: "Please try again in 1m2.5s".
_TRY_AGAIN = re.compile(r"try again in ((?:\d+(?:\.\d+)?(?:ms|h|m|s))+)", re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)", re.IGNORECASE)
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def retry_after_s(headers: Mapping[str, str], message: str = "") -> float | None:
    """The least wait in seconds, or None where nothing usable is said. Negative and garbled values count as nothing."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None:
        return seconds
    dated = _until(value, headers.get("date")) if value else None
    return dated if dated is not None else _told(message)


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _until(value: str, now: str | None) -> float | None:
    """Seconds until an HTTP date, by the endpoint's own clock where it shows it."""
    then, start = _instant(value), _instant(now or "")
    if then is None:
        return None
    return max(0.0, then - (start if start is not None else time.time()))


def _instant(value: str) -> float | None:
    try:
        parsed = parsedate_tz(value)
        return float(mktime_tz(parsed)) if parsed else None
    except (TypeError, ValueError, OverflowError):
        return None


def _told(message: str) -> float | None:
    found = _TRY_AGAIN.search(message)
    if found is None:
        return None
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in _PART.findall(found.group(1)))
