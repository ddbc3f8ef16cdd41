"""What the endpoint has counted, looked at every so often while something runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from benchmarks.simulator import stats


@dataclass(slots=True)
class Watch:
    """Samples of the simulator's counters while a `with` block runs: `(seconds since it began, counters)`."""

    base_url: str
    every_s: float = 0.1
    seen: list[tuple[float, Mapping[str, int]]] = field(default_factory=list)
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

    def reached(self, counter: str, value: int) -> float:
        """When a counter was first seen at `value` or above."""
        return next(at_s for at_s, counted in self.seen if counted[counter] >= value)

    def _watch(self) -> None:
        began = time.monotonic()
        while True:
            self.seen.append((time.monotonic() - began, stats(self.base_url)))
            if self._ended.wait(self.every_s):
                self.seen.append((time.monotonic() - began, stats(self.base_url)))
                return
