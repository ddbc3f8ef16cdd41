"""The sources of a sync held against what the collection has: read, compared, and what changed meanwhile left alone."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import orjson

from corpusmill import intake
from corpusmill.collections import differing
from corpusmill.collections.ask import SyncAsk
from corpusmill.collections.cutting import Cutting
from corpusmill.collections.differing import Difference
from corpusmill.collections.known import Files
from corpusmill.collections.writing import Cut, cut_documents
from corpusmill.errors import SourceChanged, UsageError
from corpusmill.ledger.collection_records import CollectionView
from corpusmill.mill.listening import Listener
from corpusmill.mill.place import Place

_READ_TWICE = 2


@dataclass(frozen=True, slots=True)
class Comparison:
    """The sources as they were found at `scanned_ns` (epoch), and what differs. `taken`: files that were not read."""

    cutting: Cutting
    scan: intake.Scan
    difference: Difference
    scanned_ns: int
    taken: int
    left: frozenset[str]

    def cut(self) -> Iterator[Cut]:
        """The new and changed documents with their pieces.

        Raises:
            SourceChanged: a file is not any more what it was when it was compared.
        """
        touched, cutting = replace(self.scan, files=self.difference.touched), self.cutting
        return cut_documents(touched, self.difference, cutting.reading, cutting.chunking, cutting.encoding)

    def digest(self) -> bytes:
        """32 bytes over all that makes the version what it is."""
        facts = {**self.cutting.shape, "places": [file.place.hex() for file in self.scan.files]}
        told = orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)
        left = "\n".join(sorted(self.left)).encode()
        return hashlib.sha256(intake.digests_key(self.scan) + told + left).digest()

    def refuse_mass_delete(self, ask: SyncAsk) -> None:
        """Refuse to delete more than half of the documents, unless it was asked for.

        Raises:
            UsageError: with both numbers.
        """
        deleted, before = self.difference.counts["deleted"], self.difference.before
        if deleted * 2 > before and not ask.allow_mass_delete:
            raise UsageError(
                f"{deleted:,} of the {before:,} documents of {ask.name} are gone from the sources",
                where=", ".join(map(str, ask.sources)),
                next_step="check the sources; if they are right, add --allow-mass-delete",
            )


class Sources:
    """The sources of one sync, which may be looked at more than once."""

    def __init__(self, place: Place, ask: SyncAsk, listener: Listener) -> None:
        self._place, self._ask, self._listener = place, ask, listener
        self._changed: Counter[str] = Counter()
        self._left: frozenset[str] = frozenset()

    def compare(self, found: CollectionView | None, cutting: Cutting) -> Comparison:
        """Read what may have changed, and compare; `found` is None while there is no collection.

        Raises:
            UsageError: the sources cannot be read.
        """
        collections = self._place.ledger.collections if found else None
        files = collections.files(found.id) if collections and found else []
        same_reading = found is not None and found.shape == cutting.shape and not self._ask.checksum
        known = Files(files if same_reading else ())
        scanned_ns = time.time_ns()
        scan = intake.scan(self._ask.sources, cutting.reading, known=known, empty_ok=self._ask.allow_mass_delete)
        for note in scan.notes:
            self._listener.note(note)
        left = frozenset(file.source for file in scan.files if str(file.path) in self._left)
        difference, old_files = differing.part(scan, files, recut=cutting.recut, scanned_ns=scanned_ns, left=left)
        old = (collections.documents(found.id, file.place) for file in old_files if collections and found)
        differing.match(difference, old, differing.documents_in(scan, difference, cutting.reading), recut=cutting.recut)
        for note in difference.findings.notes:
            self._listener.note(note)
        return Comparison(cutting, scan, difference, scanned_ns, known.taken, self._left)

    def note_changed(self, error: SourceChanged) -> None:
        """A file that changes under our eyes is read once more, and then left as the collection has it."""
        self._changed[error.path] += 1
        if self._changed[error.path] >= _READ_TWICE:
            self._left |= {error.path}
            self._listener.note(f"{error.path} changes while it is read; it is left as it was in the collection")
