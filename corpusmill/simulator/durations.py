"""Durations in the spelling of Go, which OpenAI's limit headers use."""

from __future__ import annotations


def go_duration(seconds: float) -> str:
    """Write a duration as Go does, to the millisecond: `0s`, `86ms`, `1.5s`, `6m0s`, `1h2m3.5s`."""
    ms = max(0, round(seconds * 1000))
    if ms < 1000:
        return f"{ms}ms" if ms else "0s"
    minutes, ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
