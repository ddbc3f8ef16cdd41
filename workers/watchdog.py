"""Watches that nothing holds the loop up: while it is held up, no reply is read and no lease of ours renewed.

It asks to be called every hundredth of a second while calls are under way, and sees by how much it is late. What the
machine owes us is taken off: the time in which the thread could have run and another process had the core. Which
callback it was is told by asyncio's own debug mode (`PYTHONASYNCIODEBUG=1`), which is too dear to be always on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress

from workers.metrics import Metrics

log = logging.getLogger(__name__)

LONGEST_S = 0.02
BEAT_S = 0.01
IDLE_S = 0.25
WARN_EVERY_S = 10.0
# Linux alone says how long a thread has waited for a core, in nanoseconds, as the second of three numbers.
QUEUED = "/proc/thread-self/schedstat"


class Watchdog:
    """Counts in `metrics` how often the loop was held up for longer than `LONGEST_S`, and warns."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._warned_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._queue = -1

    def start(self) -> None:
        """Begin; on the loop that is watched."""
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = LONGEST_S
        with suppress(OSError):
            self._queue = os.open(QUEUED, os.O_RDONLY | os.O_CLOEXEC)
        self._wait(loop)

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
        if self._queue >= 0:
            os.close(self._queue)
            self._queue = -1

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        beat_s = BEAT_S if self._metrics.in_flight else IDLE_S
        due, queued_s = time.monotonic() + beat_s, self._queued_s()
        self._timer = loop.call_later(beat_s, self._look, loop, due, queued_s)

    def _look(self, loop: asyncio.AbstractEventLoop, due: float, queued_s: float) -> None:
        late_s = time.monotonic() - due
        if late_s > LONGEST_S and self._metrics.in_flight:
            self._note(late_s - (self._queued_s() - queued_s))
        self._wait(loop)

    def _note(self, held_up_s: float) -> None:
        if held_up_s <= LONGEST_S:
            return
        self._metrics.held_up(held_up_s)
        now = time.monotonic()
        if now - self._warned_at >= WARN_EVERY_S:
            self._warned_at = now
            log.warning(
                "the event loop was held up held_up_ms=%.0f times=%d in_flight=%d",
                held_up_s * 1000, self._metrics.loop_held_up, self._metrics.in_flight,
            )  # fmt: skip

    def _queued_s(self) -> float:
        """Seconds for which this thread has waited for a core so far; 0 where nobody says."""
        if self._queue < 0:
            return 0.0
        return int(os.pread(self._queue, 64, 0).split()[1]) / 1e9
