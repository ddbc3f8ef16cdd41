"""The response cache of a process without a ledger: answers by content key, the least recently used leave first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol

MAX_BYTES = 256 * 1024 * 1024


class Cache(Protocol):
    """Answers under their content keys: raw reply bodies of completions, little-endian float32 of vectors."""

    async def found(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Those of `keys` that have an answer."""

    async def keep(self, answers: Mapping[bytes, bytes]) -> None:
        """Keep answers."""


class Memory:
    """At most `max_bytes` of answers, shared by the threads and loops of a process."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._answers: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    async def found(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Those of `keys` that have an answer."""
        with self._lock:
            found = {key: self._answers[key] for key in keys if key in self._answers}
            for key in found:
                self._answers.move_to_end(key)
        return found

    async def keep(self, answers: Mapping[bytes, bytes]) -> None:
        """Keep answers, and drop the least recently used ones beyond the limit."""
        with self._lock:
            for key, body in answers.items():
                self._bytes += len(body) - len(self._answers.pop(key, b""))
                self._answers[key] = body
            while self._bytes > self._max_bytes:
                self._bytes -= len(self._answers.popitem(last=False)[1])
