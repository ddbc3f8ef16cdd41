"""What an endpoint lets through over time, read from its counters."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from benchmarks.simulator import stats

SAMPLE_S = 0.1


class Seen(NamedTuple):
    """The counters at a moment: requests that were let through, and answers 429."""

    at: float
    passed: int
    answered_429: int


@dataclass(slots=True)
class Watch:
    """Samples the counters while a `with` block runs. Times are seconds since the first request passed."""

    base_url: str
    seen: list[Seen] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def began(self) -> float:
        """The clock when the first request passed: the sample before it."""
        first = next(number for number, one in enumerate(self.seen) if one.passed)
        return self.seen[max(0, first - 1)].at

    def since(self) -> float:
        """Seconds since the first request; -1 before it."""
        return time.monotonic() - self.began if self.seen and self.seen[-1].passed else -1.0

    def passed(self, at: float) -> float:
        """The requests that had passed by then, between the samples as if evenly."""
        at += self.began
        after = min(bisect_left(self.seen, at, key=lambda one: one.at), len(self.seen) - 1)
        if after == 0:
            return self.seen[0].passed
        one, other = self.seen[after - 1], self.seen[after]
        part = min(1.0, (at - one.at) / (other.at - one.at))
        return one.passed + part * (other.passed - one.passed)

    def rate(self, start: float, end: float) -> float:
        """Requests a second that passed between two times."""
        return (self.passed(end) - self.passed(start)) / (end - start)

    def last(self) -> float:
        """When the last request passed."""
        final = self.seen[-1].passed
        return next(one.at for one in self.seen if one.passed == final) - self.began

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            found = stats(self.base_url)
            self.seen.append(Seen(time.monotonic(), found["requests"] - found["refused"], found["answered_429"]))
