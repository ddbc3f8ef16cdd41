"""What this process has done, counted since it started; logged once a minute while it does something."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any


@dataclass(slots=True)
class Metrics:
    """Counters of one worker process; numbers only, no ids and no texts."""

    shards: int = 0
    sent: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    succeeded: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    answered_429: int = 0
    usd: Decimal = Decimal(0)
    unknown_usd: Decimal = Decimal(0)
    loop_held_up: int = 0
    held_up_s: float = 0.0
    longest_hold_up_ms: float = 0.0

    def departed(self) -> None:
        """A call has begun."""
        self.sent += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def returned(self) -> None:
        """A call is over."""
        self.in_flight -= 1

    def held_up(self, seconds: float) -> None:
        """The loop stood still for so long."""
        self.loop_held_up += 1
        self.held_up_s += seconds
        self.longest_hold_up_ms = max(self.longest_hold_up_ms, round(seconds * 1000, 1))

    def as_json(self) -> dict[str, Any]:
        """By name."""
        return {
            "shards": self.shards,
            "sent": self.sent,
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak_in_flight,
            "succeeded": self.succeeded,
            "failed": dict(self.failed),
            "calls_failed": dict(self.refused),
            "answered_429": self.answered_429,
            "usd": float(self.usd),
            "unknown_usd": float(self.unknown_usd),
            "loop_held_up": self.loop_held_up,
            "longest_hold_up_ms": self.longest_hold_up_ms,
        }
