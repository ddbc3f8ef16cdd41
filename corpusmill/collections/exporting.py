"""Reading a collection back: one set at its last complete version, written as `embed` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corpusmill import export as exports
from corpusmill.collections import names
from corpusmill.collections.switching import set_named
from corpusmill.errors import UsageError
from corpusmill.ledger import Ledger
from corpusmill.ledger.collection_records import CollectionView, SetView, VectorRow
from corpusmill.mill import outputs
from corpusmill.mill.place import Place


@dataclass(frozen=True, slots=True)
class Chosen:
    """A set at the version at which it is read: what a reader keeps to, whatever happens meanwhile.

    `purged`: the last purge of a document that readers see nothing of from here on; a later one takes away from what
    is read.
    """

    collection: CollectionView
    set: SetView
    version: int
    purged: int

    @property
    def name(self) -> str:
        """As it is written: COLLECTION@SET."""
        return f"{self.collection.name}@{self.set.name}"

    def rows(self, ledger: Ledger) -> Iterator[VectorRow]:
        """The chunks with their vectors, in the order of the sources.

        Raises:
            UsageError: the set was dropped, or a document purged, meanwhile: what was read may be a part of it.
        """
        yield from ledger.collections.rows(self.set, self.version)
        self.refuse_gone(ledger)

    def refuse_gone(self, ledger: Ledger) -> None:
        """See that all of the set is still there: one that was kept long enough is taken away bit by bit.

        So is a document that is purged, from every version.

        Raises:
            UsageError: it is not.
        """
        if ledger.collections.purges(self.collection.id)[0] > self.purged:
            raise UsageError(
                f"a document of {self.collection.name} was purged while it was read; nothing was changed",
                next_step="run the same command again; if the purge was cut short, that one first",
            )
        if not ledger.collections.is_whole(self.set):
            raise UsageError(
                f"{self.name} was dropped while it was read; nothing was changed",
                next_step=f"corpusmill collection sets {self.collection.name}",
            )

    def failures(self, ledger: Ledger) -> Iterator[VectorRow]:
        """The chunks without one, each with the reason."""
        return ledger.collections.rows(self.set, self.version, failed=True)


def choose(ledger: Ledger, ref: str) -> Chosen | None:
    """The set that `COLLECTION` or `COLLECTION@SET` means; None when there is no such collection.

    Raises:
        UsageError: the collection has no such set or no complete version, or a job goes by its name as well.
    """
    name, set_name = names.parted(ref)
    collection = ledger.collections.named(name)
    if collection is None:
        if set_name is not None:
            ledger.collections.find(name)
        return None
    if set_name is None:
        names.refuse_shared(ledger, name)
    set_ = collection.active if set_name is None else set_named(collection, set_name)
    if set_.version is None:
        raise UsageError(
            f"{name}@{set_.name} has no complete version yet",
            next_step=f"corpusmill collection show {name}",
        )
    return Chosen(collection, set_, set_.version, ledger.collections.purges(collection.id)[1])


def export(place: Place, chosen: Chosen, out: Path, *, force: bool = False) -> exports.Written:
    """Write the vectors of a set to `out`; a file that was written of this collection is replaced.

    Raises:
        OutputExists: a file is there that was not; `force` replaces it.
        UsageError: it cannot be written there, or the set was dropped while it was read.
    """
    ledger, number = place.ledger, chosen.collection.id
    path = outputs.absolute(out) or out
    targets = exports.targets("embedding", path)
    outputs.refuse(targets, lambda name: ledger.collections.output_digest(number, name), force=force)
    return exports.write(
        exports.Job(chosen.name, "embedding", chosen.set.spec.dimensions),
        path,
        succeeded=chosen.rows(ledger),
        ready=lambda place, digest: ledger.collections.remember_output(number, str(place), digest),
    )
