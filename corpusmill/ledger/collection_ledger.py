"""The ledger's collections as callers see them: many short transactions, each written where it is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from corpusmill.ledger import collections, set_rows, set_switches, sets, stretches, versions
from corpusmill.ledger.collection_records import (
    Aim,
    CollectionView,
    Cover,
    KnownDocument,
    KnownFile,
    LackingChunk,
    NewVector,
    OutlineRow,
    SetView,
    StoredVector,
    VectorRow,
    VersionView,
    Writing,
)
from corpusmill.ledger.database import Database
from corpusmill.ledger.records import JobView, NewJob
from corpusmill.ledger.stretches import START, Mark
from corpusmill.spec import JobSpec


class CollectionLedger:
    """Named collections. As of the ledger itself: nothing is half done when a call fails."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def make(self, name: str, shape: Mapping[str, Any], set_name: str, provider: str, spec: JobSpec) -> CollectionView:
        """The collection of that name, made empty if there is none."""
        return self._db.write(collections.make, name, shape, set_name, provider, spec)

    def begin_anew(
        self, collection_id: int, shape: Mapping[str, Any], set_name: str, provider: str, spec: JobSpec
    ) -> None:
        """Give a collection that never was complete another shape and model."""
        self._db.write(collections.begin_anew, collection_id, shape, set_name, provider, spec)

    def find(self, name: str) -> CollectionView:
        """The collection of that name.

        Raises:
            UsageError: there is none; the error names those that are near.
        """
        return self._db.read(collections.find, name)

    def named(self, name: str) -> CollectionView | None:
        """The collection of that name, if there is one."""
        return self._db.read(collections.named, name)

    def view(self, collection_id: int) -> CollectionView:
        """The collection of that number, as it is now."""
        return self._db.read(collections.by_id, collection_id)

    def every(self) -> list[CollectionView]:
        """All named collections, by name."""
        return self._db.read(collections.every)

    def history(self, collection_id: int, limit: int = 20) -> list[VersionView]:
        """Its newest versions, newest first."""
        return self._db.read(collections.history, collection_id, limit)

    # --- a version ----------------------------------------------------------------------------------------------

    def files(self, collection_id: int) -> list[KnownFile]:
        """The files that the collection was last read from."""
        return self._db.read(versions.files, collection_id)

    def documents(self, collection_id: int, place: bytes) -> Iterator[KnownDocument]:
        """The documents that it holds now of the file at `place`, in order."""
        after = b""
        while True:
            page = self._db.read(versions.documents, collection_id, place, after)
            yield from page
            if len(page) < stretches.PAGE:
                return
            after = page[-1].place

    def begin(
        self, collection_id: int, expected: int, owner: str, sources: bytes, active_set: int | None = None
    ) -> VersionView | None:
        """Begin version `expected`; None when somebody else began one since it was looked up.

        `active_set`: the set that it is to be for; None, too, when readers see another one by now.
        """
        return self._db.write(versions.begin, collection_id, expected, owner, sources, active_set)

    def version(self, collection_id: int, version_no: int) -> VersionView:
        """That version, as it stands now."""
        return self._db.read(versions.view, collection_id, version_no)

    def write(self, version: VersionView, owner: str, rows: Writing) -> None:
        """Add rows to a version that `owner` reads, and say that it lives."""
        self._db.write(versions.write, version, owner, rows)

    def read_whole(self, version: VersionView, owner: str, counts: Mapping[str, Any]) -> None:
        """The sources are read whole; `counts` are what they changed."""
        self._db.write(versions.read_whole, version, owner, counts)

    def filled(self, collection_id: int, version_no: int) -> int | None:
        """The set knows all chunks of a version, and nothing has to be embedded.

        Unless another process took chunks for a job meanwhile: then its number is given.
        """
        return self._db.write(versions.filled, collection_id, version_no)

    def complete(self, collection_id: int, version_no: int) -> bool:
        """Let readers see a version whose job is finished; whether they do now."""
        return self._db.write(versions.complete, collection_id, version_no)

    def complete_all(self) -> int:
        """Complete whatever waits for nothing but that; how many versions."""
        return self._db.write(versions.complete_all)

    def take_back(self, version: VersionView) -> None:
        """A version that will not be completed: as if it never was, but for the answers that it paid for."""
        self._db.write(versions.take_back, version)

    # --- sets ---------------------------------------------------------------------------------------------------

    def first_after(self, collection_id: int, version_no: int) -> int:
        """The first document that came after a version."""
        return self._db.read(stretches.first_after, collection_id, version_no)

    def lacking(self, set_: SetView, version_no: int, mark: Mark = START) -> Iterator[tuple[list[LackingChunk], Mark]]:
        """The chunks of a version that the set does not know, some hundred at a time; and the mark behind them.

        Where it knows all there are none, and the mark alone.
        """
        for stretch, behind in stretches.onward(self._db, set_.collection_id, version_no, mark):
            yield self._db.read(sets.lacking, set_.collection_id, set_.id, stretch), behind

    def answered(self, keys: Sequence[bytes]) -> set[bytes]:
        """Which of these content keys have an answer."""
        return self._db.read(sets.answered, keys)

    def fill(self, aim: Aim, rows: Sequence[NewVector], new_job: NewJob) -> tuple[int, JobView | None]:
        """Let the set know these chunks; what has no answer becomes items of `new_job`: how many, and the job."""
        return self._db.write(sets.fill, aim, rows, new_job)

    def forget_failures(self, set_id: int) -> int:
        """Let chunks that calls failed for be tried again; how many."""
        return self._db.write(sets.forget_failures, set_id)

    def clear_failures(self, set_id: int) -> None:
        """Chunks that calls failed for are being tried again by the job that tried them."""
        self._db.write(sets.clear_failures, set_id)

    def begin_set(self, collection_id: int, name: str, provider: str, spec: JobSpec, keep_s: float | None) -> SetView:
        """The set of this spec to build beside the active one, aimed at the last complete version.

        `keep_s`: it is activated when it is complete, and the former one kept so long; None: somebody activates it.
        """
        return self._db.write(sets.begin, collection_id, name, provider, spec, keep_s)

    def set(self, set_id: int) -> SetView:
        """That set, as it stands now."""
        return self._db.read(sets.view, set_id)

    def set_filled(self, set_id: int, version_no: int) -> int | None:
        """A set that is being built knows all chunks of a version, and nothing has to be embedded: it is complete.

        Unless another process took chunks for a job meanwhile: then its number is given.
        """
        return self._db.write(sets.filled, set_id, version_no)

    def complete_set(self, set_id: int) -> bool:
        """The set has all that it was aimed at, if its job is finished; whether it has."""
        return self._db.write(sets.complete, set_id)

    def finished_sets(self) -> list[SetView]:
        """Sets that wait for nothing but to be completed."""
        return self._db.read(sets.finished)

    def cover(self, collection_id: int, set_id: int, version_no: int) -> Cover:
        """How much of a version the set has."""
        return sets.cover(self._db, collection_id, set_id, version_no)

    def lost(self, set_: SetView, version_no: int) -> int:
        """How many chunks of a version the active set has and this one could not embed."""
        chunks = self._db.read(sets.lost, set_.collection_id, set_.id)
        return sets.still_there(self._db, set_.collection_id, version_no, chunks)

    def activate(self, set_: SetView, keep_s: float, *, behind: bool = False) -> bool:
        """Let readers see this set, at one moment; False when it has another version than the active one.

        Also when it was kept long enough: it goes bit by bit.
        """
        return self._db.write(set_switches.activate, set_.collection_id, set_.id, keep_s, behind=behind)

    def settle(self) -> int:
        """Show readers what is complete, whoever started it, and drop what was kept long enough; how much was done."""
        done = self.complete_all() + sum(self.complete_set(set_.id) for set_ in self.finished_sets())
        return done + sum(self._show(set_) for set_ in self._db.read(set_switches.unshown)) + self.drop_expired()

    def settle_set(self, set_: SetView) -> bool:
        """Complete a set, and activate it if it was asked for and has all vectors; whether it is active now."""
        return self.complete_set(set_.id) and self._show(self.set(set_.id))

    def _show(self, set_: SetView) -> bool:
        if set_.keep_s is None or set_.version is None or not self._db.read(set_switches.in_step, set_):
            return False
        if self.lost(set_, set_.version) or self.cover(set_.collection_id, set_.id, set_.version).lacking > 0:
            self._db.write(set_switches.leave_to_a_person, set_.id)
            return False
        return self.activate(set_, set_.keep_s)

    def going_on(self, collection: CollectionView) -> VersionView | None:
        """The sync under way that does not stand still, if there is one: no other set is activated before its end."""
        return set_switches.going_on(collection)

    def overtaken(self) -> list[tuple[SetView, int]]:
        """Sets that are to be activated and that a sync has overtaken, each with the version to bring it to."""
        return self._db.read(set_switches.overtaken)

    def bring(self, set_: SetView, version_no: int) -> None:
        """A set that lacks nothing of a later version has that one too."""
        self._db.write(set_switches.bring, set_.id, version_no)

    def drop_expired(self) -> int:
        """Drop a set that was kept long enough, or take some rows of a dropped one away; how much was done."""
        return self._db.write(sets.drop_expired)

    def purges(self, collection_id: int) -> tuple[int, int]:
        """The last version that a document's purge began, and the last whose document is hidden whole; 0 for none."""
        return self._db.read(collections.purges, collection_id)

    def remember_output(self, collection_id: int, path: str, digest: str) -> None:
        """Remember the digest of what was written of the collection to `path`."""
        self._db.write(collections.remember_output, collection_id, path, digest)

    def output_digest(self, collection_id: int, path: str) -> str | None:
        """The digest of what was last written of the collection to `path`; None when nothing was."""
        return self._db.read(collections.output_digest, collection_id, path)

    def rows(self, set_: SetView, version_no: int, *, failed: bool = False) -> Iterator[VectorRow]:
        """Stream the chunks of a set with their vectors, in the order of the sources; or those that failed."""
        return set_rows.rows(self._db, set_.collection_id, set_.id, version_no, failed=failed)

    def outline(self, set_: SetView, version_no: int) -> Iterator[OutlineRow]:
        """Stream the chunks of a set that have a vector, without vectors and texts."""
        return set_rows.outline(self._db, set_.collection_id, set_.id, version_no)

    def vectors(self, set_: SetView, chunk_nos: Sequence[int]) -> list[StoredVector]:
        """Texts and vectors of these chunks, in no order; those without a vector are left out."""
        return self._db.read(set_rows.vectors, set_.collection_id, set_.id, chunk_nos)

    def is_whole(self, set_: SetView) -> bool:
        """Whether nothing of the set has been taken away: one that was kept long enough goes bit by bit."""
        return self._db.read(sets.is_whole, set_.id)
