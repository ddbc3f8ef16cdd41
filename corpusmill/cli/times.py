"""Moments as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def hour(at: float) -> str:
    """The hour here, and the day when it is another: `14:05`, `Tue 00:00`."""
    then, now = datetime.fromtimestamp(at).astimezone(), datetime.now().astimezone()
    return f"{then:%H:%M}" if then.date() == now.date() else f"{then:%a %H:%M}"


def minute(at: float) -> str:
    """The date and minute, UTC: `2026-11-23 14:05`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
