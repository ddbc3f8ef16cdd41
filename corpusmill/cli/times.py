"""Moments as people read them."""

from __future__ import annotations

from datetime import datetime


def hour(at: float) -> str:
    """The hour here, and the day when it is another: `14:05`, `Tue 00:00`."""
    then, now = datetime.fromtimestamp(at).astimezone(), datetime.now().astimezone()
    return f"{then:%H:%M}" if then.date() == now.date() else f"{then:%a %H:%M}"
