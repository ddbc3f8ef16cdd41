"""Check, cut and count in two processes of our own when the sources are big, in this one when they are small.

Own processes over pipes, not `multiprocessing`: a producer may be a plain script without a main guard, which spawn
would run again, or a task in a Celery worker, whose processes may have no children of that kind. Threads gave 1.5
times one core's speed on two cores, since only the encoding leaves the interpreter lock; processes give 1.9.

Two, whatever the number of cores: each is 75 MB, mostly ranks, and intake promises to stay below 300 MB.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from itertools import dropwhile, islice
from operator import attrgetter
from typing import Any, TypeVar

from corpusmill.intake.counter import Counter
from corpusmill.intake.cutting import Document, documents, pieces_of, place_of
from corpusmill.intake.shapes import Chunking, Findings, Piece, Place, Reading, Scan, SourceFile
from corpusmill.tokens import Encoding
from corpusmill.tokens import encoding as encoding_of

POOLED_FROM_BYTES = 16 << 20
"""Bytes on disk from which processes are worth the half second that they take to start."""

B = TypeVar("B")
F = TypeVar("F")

_COUNTERS = 2
_FIELDS = attrgetter(*(field.name for field in fields(Piece)))
_PIECES_A_FRAME = 200
_BATCH_CHARACTERS = 1 << 20
_BATCH_DOCUMENTS = 1_000


def pieces(
    scan: Scan,
    reading: Reading,
    chunking: Chunking,
    encoding: Encoding,
    findings: Findings | None = None,
    after: Place | None = None,
    *,
    only: Callable[[Document], bool] | None = None,
) -> Iterator[Piece]:
    """The pieces of the sources in order, made as they are asked for.

    Args:
        scan: what `scan` found.
        reading: as it was given to `scan`.
        chunking: how to cut.
        encoding: the model's; see `corpusmill.tokens.encoding_for`.
        findings: what `validate` gave; without it, and with `skip_invalid`, the sources are validated anew.
        after: the piece behind which to begin: documents before its own are neither cut nor counted.
        only: which documents to cut; None for all.

    Raises:
        SourceError: a file changed or vanished since the scan, or is not valid and was never validated.
    """
    found = documents(scan, reading, findings)
    if after is not None:
        found = dropwhile(lambda document: place_of(document) != (after.source, after.line), found)
    found = filter(only, found) if only else found
    cutting = _Cutting(chunking, encoding.name)
    for frame in in_turn(cutting, _batches(found), size=scan.size):
        for values in frame:
            piece = Piece(*values)
            if after is None or (piece.source, piece.line) != (after.source, after.line) or piece.chunk > after.chunk:
                yield piece


def in_turn(work: Callable[[B], Iterator[F]], batches: Iterator[B], *, size: int) -> Iterator[F]:
    """What `work` makes of each batch, in order. `size`: bytes of the sources, which say whether to start processes.

    Batches, what is made of them, and the work itself then go through pipes: all of it can be pickled.
    """
    if size < POOLED_FROM_BYTES or not sys.executable:
        for batch in batches:
            yield from work(batch)
    else:
        yield from _pooled(work, batches)


def _pooled(work: Callable[[B], Iterator[F]], batches: Iterator[B]) -> Iterator[F]:
    """Batches go round the counters; each gets its next one only when its last was read to the end, so no pipe jams."""
    with ExitStack() as stack:
        counters = [stack.enter_context(Counter(work)) for _ in range(_COUNTERS)]
        idle, busy = deque(counters), deque[Counter[B, F]]()
        for batch in batches:
            if not idle:
                done = busy.popleft()
                yield from done.frames()
                idle.append(done)
            counter = idle.popleft()
            counter.send(batch)
            busy.append(counter)
        for counter in busy:
            yield from counter.frames()


@dataclass(frozen=True, slots=True)
class _Cutting:
    """Cuts documents: gives the fields of their pieces, some hundred pieces at a time."""

    chunking: Chunking
    encoding: str

    def __call__(self, batch: Sequence[Document]) -> Iterator[Sequence[tuple[Any, ...]]]:
        counts = encoding_of(self.encoding)
        found = (_FIELDS(piece) for document in batch for piece in pieces_of(document, self.chunking, counts))
        while frame := list(islice(found, _PIECES_A_FRAME)):
            yield frame


def _batches(found: Iterator[Document]) -> Iterator[Sequence[Document]]:
    batch: list[Document] = []
    held = 0
    for document in found:
        batch.append(document)
        held += document.size if isinstance(document, SourceFile) else len(document.record.text or "") + 100
        if held >= _BATCH_CHARACTERS or len(batch) >= _BATCH_DOCUMENTS:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
