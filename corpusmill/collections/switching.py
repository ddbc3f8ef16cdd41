"""Which set readers see: activating one that is complete, and going back to the one before."""

from __future__ import annotations

from corpusmill.errors import UsageError
from corpusmill.ledger import Ledger
from corpusmill.ledger.collection_records import CollectionView, SetView


def set_named(collection: CollectionView, name: str) -> SetView:
    """The set of that name.

    Raises:
        UsageError: there is none; the error has those that there are.
    """
    for each in collection.sets:
        if each.name == name:
            return each
    there = ", ".join(each.name for each in collection.sets)
    raise UsageError(
        f"{collection.name} has no set {name!r}; there are {there}",
        next_step=f"corpusmill collection sets {collection.name}",
    )


def activate(ledger: Ledger, collection: CollectionView, name: str, keep_s: float) -> SetView:
    """Let readers see a set that has all of the collection's last version.

    Raises:
        UsageError: it lacks some of it; the error says how many chunks.
    """
    set_ = set_named(collection, name)
    refuse_incomplete(ledger, collection, set_)
    if not ledger.collections.activate(set_, keep_s):
        raise UsageError(
            f"a sync of {collection.name} is under way, or has just completed; it goes first",
            next_step=f"corpusmill collection show {collection.name}   # then run the same command again",
        )
    return ledger.collections.set(set_.id)


def refuse_incomplete(ledger: Ledger, collection: CollectionView, set_: SetView) -> None:
    """Make sure that a set has what the active one has.

    Raises:
        UsageError: it lacks chunks, or could not embed some that the active one has.
    """
    cover = ledger.collections.cover(collection.id, set_.id, collection.version)
    lost = ledger.collections.lost(set_, collection.version)
    if set_.version == collection.version and not lost and not cover.lacking:
        return
    told = f"{cover.vectors:,} of {cover.chunks:,} chunks have a vector, {cover.failed:,} failed"
    raise UsageError(
        f"the set {set_.name} of {collection.name} is not complete: {told}",
        where=f"it stands at version {set_.version or 0}, the collection at {collection.version}",
        next_step=f"corpusmill reembed {collection.name} {_as_flags(set_)}" + (" --retry-failed" if lost else ""),
    )


def _as_flags(set_: SetView) -> str:
    """What says which set is meant: other flags would build another one."""
    length = "" if set_.spec.dimensions is None else f" --dimensions {set_.spec.dimensions}"
    return f"--model {set_.spec.model}{length} --provider {set_.provider}"


def roll_back(ledger: Ledger, collection: CollectionView, keep_s: float) -> SetView:
    """Let readers see the set again that was active before this one.

    Raises:
        UsageError: none was kept, or not for so long.
    """
    kept = [each for each in collection.sets if each.state == "kept" and each.version is not None]
    if not kept:
        raise UsageError(
            f"no earlier set of {collection.name} was kept", next_step=f"corpusmill collection sets {collection.name}"
        )
    newest = max(kept, key=lambda each: each.activated_at or 0.0)
    if not ledger.collections.activate(newest, keep_s, behind=True):
        raise UsageError(
            f"the set {newest.name} of {collection.name} was kept for as long as it was to be, and is gone",
            next_step=f"corpusmill reembed {collection.name} {_as_flags(newest)}   # its answers cost nothing again",
        )
    return ledger.collections.set(newest.id)
