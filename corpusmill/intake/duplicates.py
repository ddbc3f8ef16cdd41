"""Find repeated ids among any number, in bounded memory.

An id is kept as 8 bytes of hash, in 64 buckets that move to disk when they grow; a hash seen twice is only
a suspicion, which a second pass over the ids settles. 50 million ids cost about 60 MB of memory and 400 MB of disk.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Collection, Iterator
from typing import IO

_BUCKETS = 64
_IN_MEMORY = 4_000_000


class IdHashes:
    """The hashes of all ids seen. Use as a context manager: it may hold temporary files."""

    def __init__(self, in_memory: int = _IN_MEMORY) -> None:
        self._buckets = [array("q") for _ in range(_BUCKETS)]
        self._files: list[IO[bytes]] = []
        self._held = 0
        self._in_memory = in_memory

    def __enter__(self) -> IdHashes:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def add(self, identifier: str) -> None:
        """Note one id."""
        self.add_all((identifier,))

    def add_all(self, identifiers: Collection[str]) -> None:
        """Note a few thousand ids at most: only then it is looked whether they still fit into memory."""
        buckets = self._buckets
        # Python's own hash: 64 bits, keyed anew in each process, so nobody can prepare ids that collide.
        for hashed in map(hash, identifiers):
            buckets[hashed % _BUCKETS].append(hashed)
        self._held += len(identifiers)
        if self._held >= self._in_memory:
            self._spill()

    def seen_twice(self) -> frozenset[int]:
        """The hashes that came more than once: of repeated ids, and very rarely of two different ones."""
        return frozenset(hashed for bucket in self._whole_buckets() for hashed in _repeated(bucket))

    def _whole_buckets(self) -> Iterator[array[int]]:
        for number, bucket in enumerate(self._buckets):
            if self._files:
                file = self._files[number]
                file.seek(0)
                whole = array("q", file.read())
                whole.extend(bucket)
                yield whole
            else:
                yield bucket

    def _spill(self) -> None:
        if not self._files:
            self._files = [tempfile.TemporaryFile(prefix="corpusmill-ids-") for _ in range(_BUCKETS)]  # noqa: SIM115
        for file, bucket in zip(self._files, self._buckets, strict=True):
            file.seek(0, 2)
            file.write(bucket.tobytes())
            del bucket[:]
        self._held = 0


def _repeated(hashes: array[int]) -> set[int]:
    seen = set(hashes)
    if len(seen) == len(hashes):
        return set()
    seen.clear()
    twice: set[int] = set()
    for hashed in hashes:
        if hashed in seen:
            twice.add(hashed)
        seen.add(hashed)
    return twice
