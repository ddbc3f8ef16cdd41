"""Writing what differs into a version: rows in batches, documents whole, nothing seen by a reader yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby

from corpusmill import intake
from corpusmill.collections.differing import Difference
from corpusmill.collections.known import format_of, path_of, stamps
from corpusmill.collections.matching import Found
from corpusmill.ledger import Ledger
from corpusmill.ledger.collection_records import VersionView, Writing
from corpusmill.tokens import Encoding

_ROWS = 5_000
_BYTES = 4 << 20

Cut = tuple[Found, Iterator[intake.Piece]]


class Writer:
    """Numbers the rows of one version and writes them, some thousand at a time."""

    def __init__(self, ledger: Ledger, version: VersionView, owner: str) -> None:
        self._ledger, self._version, self._owner = ledger, version, owner
        self._file = version.first_file
        self._document = version.first_document
        self._chunk = version.first_chunk
        self._rows = Writing()
        self._held = self._size = 0

    def write(self, difference: Difference, cut: Iterable[Cut], scanned_ns: int) -> None:
        """Write all that differs; `cut` are the new and changed documents with their pieces."""
        self._rows.ended_files = list(difference.ended_files)
        self._rows.restamped = list(difference.restamped)
        for ended in difference.documents.ended():
            self._rows.ended_documents.append(ended)
            self._grown(0)
        for file in difference.touched:
            number, self._file = self._file, self._file + 1
            times = stamps(file, scanned_ns)
            count = difference.documents_of[file.source]
            facts = (file.source, path_of(file), file.place, format_of(file), file.digest, file.size)
            self._rows.files.append((number, *facts, *times, count))
            self._grown(0)
        for old, found in difference.documents.placed():
            number = self._add(found, None, old.first_chunk, old.chunks)
            self._rows.copies[number] = old.document_no
            self._grown(0)
        for found, pieces in cut:
            self._cut(found, pieces)
        self._flush()

    def _cut(self, found: Found, pieces: Iterator[intake.Piece]) -> None:
        """A document's row comes after its chunks, which may be more than one transaction takes."""
        number, first, metadata = self._document, self._chunk, None
        for piece in pieces:
            chunk, self._chunk, metadata = self._chunk, self._chunk + 1, piece.metadata
            facts = (number, piece.chunk, piece.start, piece.end, piece.text, piece.tokens, piece.problem)
            self._rows.chunks.append((chunk, *facts))
            self._grown(len(piece.text))
        self._add(found, None if metadata is None else dict(metadata), first, self._chunk - first)
        self._grown(0)

    def _add(self, found: Found, metadata: dict[str, object] | None, first: int, chunks: int) -> int:
        number, self._document = self._document, self._document + 1
        facts = (found.source, found.id, found.line, metadata, found.place, found.digest, first, chunks)
        self._rows.documents.append((number, *facts))
        return number

    def _grown(self, size: int) -> None:
        self._held, self._size = self._held + 1, self._size + size
        if self._held >= _ROWS or self._size >= _BYTES:
            self._flush()

    def _flush(self) -> None:
        self._ledger.collections.write(self._version, self._owner, self._rows)
        self._rows, self._held, self._size = Writing(), 0, 0


def cut_documents(
    scan: intake.Scan,
    difference: Difference,
    reading: intake.Reading,
    chunking: intake.Chunking,
    encoding: Encoding,
) -> Iterator[Cut]:
    """The new and changed documents in the order of the sources, each with its pieces.

    A document without any text has no pieces. Read each one's pieces before the next document.
    """
    waiting: deque[Found] = deque()
    ahead = difference.documents.cut()
    following = next(ahead, None)

    def wanted(document: intake.Document) -> bool:
        nonlocal following
        # Both come in the order of the sources.
        if following is None or intake.name_of(document) != (following.source, following.id):
            return False
        waiting.append(following)
        following = next(ahead, None)
        return True

    pieces = intake.pieces(scan, reading, chunking, encoding, difference.findings, only=wanted)
    for name, some in groupby(pieces, key=lambda piece: (piece.source, piece.id)):
        while (found := waiting.popleft()) and (found.source, found.id) != name:
            yield found, iter(())
        yield found, some
    yield from ((found, iter(())) for found in waiting)
