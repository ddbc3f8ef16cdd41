"""The response cache of a process without a ledger: answers by content key, the least recently used leave first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from corpusmill.lightrag.tracker import Used

MAX_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer to keep: the raw reply body of a completion, little-endian float32 of a vector; `used`: its part."""

    key: bytes
    body: bytes
    used: Used = field(default_factory=Used)
    finish_reason: str | None = None


class Cache(Protocol):
    """Answers under their content keys."""

    async def found(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """The bodies of those of `keys` that have an answer."""

    async def keep(self, answers: Sequence[Kept]) -> None:
        """Keep answers; once this returns, others find them."""

    def close(self) -> None:
        """Let go of what is open."""


class Memory:
    """At most `max_bytes` of answers, shared by the threads and loops of a process."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._answers: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    async def found(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """The bodies of those of `keys` that have an answer."""
        with self._lock:
            found = {key: self._answers[key] for key in keys if key in self._answers}
            for key in found:
                self._answers.move_to_end(key)
        return found

    async def keep(self, answers: Sequence[Kept]) -> None:
        """Keep answers, and drop the least recently used ones beyond the limit."""
        with self._lock:
            for each in answers:
                self._bytes += len(each.body) - len(self._answers.pop(each.key, b""))
                self._answers[each.key] = each.body
            while self._bytes > self._max_bytes:
                self._bytes -= len(self._answers.popitem(last=False)[1])

    def close(self) -> None:
        """Nothing is open."""
