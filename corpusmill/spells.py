"""Something that is away now and then, told in three kinds of lines: that it began, that it lasts, that it is over.

What is tried every second would otherwise be told every second, for as long as somebody sleeps.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

EVERY_S = 60.0


class Spell:
    """One such thing, as several parts of a process suffer from it; safe to use from any thread.

    `what` stands in front of each line. It is over when none of those who suffered does any more.
    """

    def __init__(self, log: logging.Logger, what: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._what, self._clock = log, what, clock
        self._lock = threading.Lock()
        self._suffering: set[str] = set()
        self._began_at = self._told_at = self._last_at = 0.0
        self._times = 0

    def trouble(self, who: str, why: str) -> None:
        """It failed for `who` just now."""
        now = self._clock()
        with self._lock:
            # Who suffered and has not tried since: of him nobody will hear that it is over.
            began = not self._suffering or now - self._last_at > EVERY_S
            if began:
                self._suffering, self._times = set(), 0
                self._began_at, self._told_at = now, float("-inf")
            self._suffering.add(who)
            self._times += 1
            self._last_at = now
            if now - self._told_at < EVERY_S:
                return
            self._told_at = now
            times, lasted_s = self._times, now - self._began_at
        if began:
            self._log.warning("%s, trying on: %s", self._what, why)
        else:
            self._log.warning("%s, still trying for_s=%.0f times=%d: %s", self._what, lasted_s, times, why)

    def over(self, who: str) -> None:
        """It worked for `who` just now."""
        if not self._suffering:
            return
        with self._lock:
            if who not in self._suffering:
                return
            self._suffering.discard(who)
            if self._suffering:
                return
            times, self._times = self._times, 0
            lasted_s = self._clock() - self._began_at
        self._log.warning("%s no longer after_s=%.0f times=%d", self._what, lasted_s, times)
