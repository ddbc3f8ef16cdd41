"""Sources become items, and items become rows: streamed, in order, and from where an interrupted load stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from corpusmill import intake
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Mark, NewItem
from corpusmill.mill.ask import Shape
from corpusmill.spec import JobSpec, private_key
from corpusmill.tokens import encoding_for

# A transaction stays short, and one batch of 10 MB records does not fill the memory.
BATCH_ROWS = 5_000
BATCH_BYTES = 4 << 20

EMBEDDING_INPUT_TOKENS = 8_192

Progress = Callable[[int], None]


def load(ledger: Ledger, job_id: int, items: Iterable[NewItem], progress: Progress, start: int = 0) -> int:
    """Append `items` to a job that is loading; two processes may do so at once, each row is written once.

    Args:
        ledger: where the rows go.
        job_id: the job; what it holds already is left out.
        items: all items of the job, from number `start` on, which it must hold already.
        progress: told the number of items loaded after each batch.
        start: the number of the first of `items`.

    Returns:
        The number of items the job has.
    """
    loaded, position = ledger.loaded(job_id), start
    for batch in batches(items):
        while loaded < position + len(batch):
            # Another process may have come first: then this writes nothing and says how far the other is.
            loaded = ledger.load(job_id, batch[loaded - position :], after=loaded)
            progress(loaded)
        position += len(batch)
    return loaded


def batches(items: Iterable[NewItem]) -> Iterator[list[NewItem]]:
    """Neighbours together, at most `BATCH_ROWS` of them and about `BATCH_BYTES` of text."""
    batch: list[NewItem] = []
    size = 0
    for item in items:
        batch.append(item)
        size += len(item.text or "") + len(item.body or b"")
        if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def chunk_items(
    scan: intake.Scan, shape: Shape, spec: JobSpec, findings: intake.Findings | None, after: Mark | None = None
) -> Iterator[NewItem]:
    """The items of a completion or embedding job: one a chunk, with its content key; those `after` a place alone.

    `findings` of an earlier look at the whole source, if there was one, say which lines are left out.
    """
    chunking = chunking_of(shape, spec)
    place = intake.Place(after.source, after.line, after.chunk) if after else None
    for piece in intake.pieces(scan, reading_of(shape), chunking, encoding_for(spec.model), findings, place):
        yield NewItem(
            id=piece.id,
            source=piece.source,
            key=None if piece.problem else spec.content_key(piece.text, piece.source),
            tokens=piece.tokens,
            chunk=piece.chunk,
            start=piece.start,
            end=piece.end,
            text=piece.text,
            line=piece.line,
            metadata=piece.metadata,
            problem=piece.problem,
        )


def request_items(lines: Iterable[intake.RequestLine], source: str) -> Iterator[NewItem]:
    """The items of a request file: one a line, its body as it stands."""
    for line in lines:
        yield NewItem(
            id=line.custom_id,
            source=source,
            key=line.key,
            tokens=line.tokens,
            body=line.body,
            line=line.line,
        )


def privately(items: Iterable[NewItem], job_key: bytes, start: int) -> Iterator[NewItem]:
    """The same items, the first of them number `start`, under keys that no other item and no other job has."""
    for number, item in enumerate(items, start):
        key = None if item.key is None else private_key(item.key, job_key=job_key.hex(), item_no=number)
        yield replace(item, key=key)


def reading_of(shape: Shape) -> intake.Reading:
    """How intake reads the sources."""
    return intake.Reading(
        text_field=shape.text_field,
        id_field=shape.id_field,
        include=shape.include,
        exclude=shape.exclude,
        on_bad_text=shape.on_bad_text,
        skip_invalid=shape.skip_invalid,
    )


def chunking_of(shape: Shape, spec: JobSpec) -> intake.Chunking:
    """How intake cuts the texts."""
    return intake.Chunking(
        tokens=shape.chunk_tokens,
        overlap=shape.overlap,
        whole=not shape.chunk,
        too_long=shape.too_long,
        limit_tokens=EMBEDDING_INPUT_TOKENS if spec.kind == "embedding" else None,
    )
