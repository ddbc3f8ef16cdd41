"""From sources to pieces: read, clean, cut, count; in source order and streaming."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from corpusmill.intake.chunker import Span, spans
from corpusmill.intake.clean import decoded
from corpusmill.intake.opening import opened
from corpusmill.intake.shapes import SMALLEST_CHUNK, Chunking, Findings, Piece, Reading, Record, Scan, SourceFile
from corpusmill.intake.validating import checked, id_of, validate
from corpusmill.tokens import Encoding

# A longer text file is cut part by part, so that its size does not show in memory.
_PART_CHARACTERS = 4 << 20


@dataclass(frozen=True, slots=True)
class RecordOf:
    """A record with the names that its pieces carry."""

    source: str
    id: str
    record: Record


Document = SourceFile | RecordOf


def place_of(document: Document) -> tuple[str, int | None]:
    """Where it stands: its source and, of a record, its line."""
    return document.source, None if isinstance(document, SourceFile) else document.record.line


def documents(scan: Scan, reading: Reading, findings: Findings | None = None) -> Iterator[Document]:
    """The documents of the sources in order: text files as they are, and the valid records of line files.

    Args:
        scan: what `scan` found.
        reading: as it was given to `scan`.
        findings: what `validate` gave, needed to leave out repeated ids; found anew when it is missing.
    """
    if findings is None and reading.skip_invalid:
        findings = validate(scan, reading)
    repeats = findings.repeats if findings else {}
    for number, file in enumerate(scan.files):
        left_out = repeats.get(number, frozenset())
        if file.format != "text":
            for record in checked(file, reading):
                if record.line not in left_out:
                    yield RecordOf(file.source, id_of(file, record), record)
        elif not left_out:
            yield file


def name_of(document: Document) -> tuple[str, str]:
    """The `source` and `id` that the pieces of a document carry."""
    return (document.source, document.source if isinstance(document, SourceFile) else document.id)


def digest_of(document: Document) -> bytes:
    """The digest of all that a document's pieces are made of: a file's bytes, or a record's text and metadata."""
    if isinstance(document, SourceFile):
        return document.digest
    record = document.record
    return hashlib.sha256(orjson.dumps([record.text, record.metadata], option=orjson.OPT_NON_STR_KEYS)).digest()


def line_of(document: Document) -> int:
    """The line at which a record starts; 0 for a file of text."""
    return 0 if isinstance(document, SourceFile) else document.record.line


def pieces_of(document: Document, chunking: Chunking, encoding: Encoding) -> Iterator[Piece]:
    """The pieces of one document, numbered from 0."""
    if isinstance(document, SourceFile):
        origin = _Origin(document.source, document.source, None, None)
        with opened(document) as stream:
            for number, (part, cut) in enumerate(_cut_parts(decoded(stream), chunking, encoding)):
                yield _piece(origin, number, part, cut, chunking, encoding)
        return
    record = document.record
    origin = _Origin(document.source, document.id, record.line, record.metadata)
    text = record.text or ""
    if not text or text.isspace():
        problem = ("empty_text", f"the record at {document.source}:{record.line} has no text")
        yield Piece(origin.source, origin.id, 0, 0, 0, "", 0, origin.line, origin.metadata, problem)
    for number, cut in enumerate(_cut(text, chunking, encoding)):
        yield _piece(origin, number, _Part(text, 0), cut, chunking, encoding)


@dataclass(frozen=True, slots=True)
class _Origin:
    """What all pieces of a document share."""

    source: str
    id: str
    line: int | None
    metadata: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a document's text, which starts at character `offset` of it."""

    text: str
    offset: int


def _cut_parts(blocks: Iterator[str], chunking: Chunking, encoding: Encoding) -> Iterator[tuple[_Part, Span]]:
    """The spans of a text that comes in blocks, each with the part that it lies in."""
    if chunking.whole:
        part = _Part("".join(blocks), 0)
        yield from ((part, cut) for cut in _cut(part.text, chunking, encoding))
        return
    tokens, overlap = _sizes(chunking)
    cutter = partial(spans, tokens=tokens, overlap=overlap, encoding=encoding)
    part, before, fresh = _Part("", 0), 0, 0
    for block in blocks:
        part = _Part(part.text + block, part.offset)
        if len(part.text) < _PART_CHARACTERS:
            continue
        for cut in cutter(part.text, fresh=fresh, before=before, final=False):
            yield part, cut
            before, fresh = cut.fresh, cut.end
        # The last chunk stays at hand: the next one may repeat its end.
        part, before, fresh = _Part(part.text[before:], part.offset + before), 0, fresh - before
    for cut in cutter(part.text, fresh=fresh, before=before):
        yield part, cut


def _cut(text: str, chunking: Chunking, encoding: Encoding) -> Iterator[Span]:
    """The spans of a whole text."""
    if chunking.whole and (chunking.limit_tokens is None or chunking.too_long != "split"):
        if text and not text.isspace():
            yield Span(0, len(text), encoding.count(text), 0)
    else:
        tokens, overlap = _sizes(chunking)
        yield from spans(text, tokens=tokens, overlap=overlap, encoding=encoding)


def _sizes(chunking: Chunking) -> tuple[int, int]:
    """Most tokens of a chunk and of its overlap; where pieces are split to fit, the model's limit is the most."""
    limit = max(chunking.limit_tokens or chunking.tokens, SMALLEST_CHUNK)
    if chunking.whole:
        return limit, 0
    tokens = min(chunking.tokens, limit) if chunking.too_long == "split" and chunking.limit_tokens else chunking.tokens
    return tokens, min(chunking.overlap, tokens // 2)


def _piece(origin: _Origin, number: int, part: _Part, cut: Span, chunking: Chunking, encoding: Encoding) -> Piece:
    """One piece; one above the model's limit is truncated, or has failed already."""
    text, tokens, problem = part.text[cut.start : cut.end], cut.tokens, None
    end = part.offset + cut.end
    limit = chunking.limit_tokens
    if limit is not None and tokens > limit:
        text = encoding.truncate(text, limit) if chunking.too_long == "truncate" else ""
        if text.strip():
            tokens, end = encoding.count(text), part.offset + cut.start + len(text)
        else:
            place = f"{origin.source}:{origin.line}" if origin.line else f"{origin.source}, chunk {number}"
            problem = ("too_long", f"the text at {place} has {tokens:,} tokens; the model takes {limit:,}")
            text = ""
    start = part.offset + cut.start
    return Piece(origin.source, origin.id, number, start, end, text, tokens, origin.line, origin.metadata, problem)
