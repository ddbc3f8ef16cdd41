"""Syncs of one collection, one after the other: what becomes of a version that another one has under way."""

from __future__ import annotations

import time

from corpusmill.collections.ask import SyncAsk
from corpusmill.collections.owners import is_gone
from corpusmill.errors import UsageError
from corpusmill.ledger.collection_records import SILENT_S, CollectionView, VersionView
from corpusmill.mill.listening import Listener
from corpusmill.mill.place import Place
from corpusmill.mill.watching import looks

_LOOK_S = 0.5


class Turns:
    """The turn of one sync among others."""

    def __init__(self, place: Place, ask: SyncAsk, listener: Listener) -> None:
        self._place, self._ask, self._listener = place, ask, listener
        self._said: set[str] = set()

    def joined(self, collection: CollectionView, version: VersionView, sources: bytes) -> VersionView | None:
        """The version that is under way, if it is of the same sources; else None, when its place is free.

        Raises:
            UsageError: it goes on, and the second was to be refused.
        """
        if version.state == "building" and version.sources == sources and version.set_id == collection.active.id:
            if version.is_embedding or _is_being_written(version):
                self._refuse_second(collection, version)
            elif self._place.ledger.collections.complete(collection.id, version.version_no):
                return None
            return version
        self.free(version)
        return None

    def free(self, version: VersionView) -> None:
        """Let a version of other sources come to its end, or take it back when nobody is at it any more.

        Raises:
            UsageError: it goes on, and the second was to be refused.
        """
        ledger = self._place.ledger
        if _is_being_written(version):
            self._refuse_second(ledger.collections.view(version.collection_id), version)
            self._say_once(f"version {version.version_no} of {self._ask.name} is being written by another sync; "
                           f"one that was killed elsewhere is known by {SILENT_S:.0f} s of silence")  # fmt: skip
            time.sleep(_LOOK_S)
        elif version.is_embedding:
            self._refuse_second(ledger.collections.view(version.collection_id), version)
            self._listener.note(f"another sync of {self._ask.name} is under way, over other sources; it goes first")
            for _ in looks(self._place, version.job_id or 0):
                pass
            ledger.collections.complete(version.collection_id, version.version_no)
        elif not ledger.collections.complete(version.collection_id, version.version_no):
            ledger.collections.take_back(version)

    def _say_once(self, note: str) -> None:
        if note not in self._said:
            self._said.add(note)
            self._listener.note(note)

    def _refuse_second(self, collection: CollectionView, version: VersionView) -> None:
        if self._ask.refuse_second:
            raise UsageError(
                f"a sync of {collection.name} is under way",
                where=f"collection {collection.id}, version {version.version_no}",
                next_step=f"corpusmill collection show {collection.name}",
            )


def _is_being_written(version: VersionView) -> bool:
    return version.is_written and not version.is_silent and not is_gone(version.owner)
