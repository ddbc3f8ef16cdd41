"""Bringing a collection to the state of its sources.

Sources are read and compared first; nothing is written until it is known what differs, and nobody sees what is written
until all of it has its vectors. The same sync again goes on where the last one stopped; one whose sources have changed
since takes it back and starts from them, with every answer that was paid for.
"""

from __future__ import annotations

from collections import Counter

from corpusmill.collections import names
from corpusmill.collections.ask import SyncAsk
from corpusmill.collections.comparing import Comparison, Sources
from corpusmill.collections.cutting import Cutting, cutting_of
from corpusmill.collections.embedding import Embedding
from corpusmill.collections.owners import new_owner
from corpusmill.collections.rehearsing import Rehearsal
from corpusmill.collections.report import COUNTS, Report, usd_of
from corpusmill.collections.turns import Turns
from corpusmill.collections.writing import Writer
from corpusmill.errors import SourceChanged, UsageError
from corpusmill.ledger.collection_records import CollectionView, VersionView
from corpusmill.mill import Job
from corpusmill.mill.listening import Listener
from corpusmill.mill.place import Place
from corpusmill.mill.specs import refuse_unsendable

_DOCUMENTS = ("added", "changed", "moved", "unchanged", "deleted")


class Syncing:
    """One sync on its way; `start` it, follow its `job`, if there is one, and `finish` it."""

    def __init__(self, place: Place, ask: SyncAsk, listener: Listener) -> None:
        self._place, self._ask, self._listener = place, ask, listener
        names.check(ask.name)
        refuse_unsendable(labels=dict(ask.terms.labels))
        if not ask.sources:
            raise UsageError("no source is given", next_step="name a folder or a file")
        self._provider, _ = place.settings.provider(ask.terms.provider)
        self._sources, self._turns = Sources(place, ask, listener), Turns(place, ask, listener)
        self._owner = new_owner()
        self._taken = 0
        self._version: VersionView | None = None
        self.job: Job | None = None

    def rehearse(self) -> Report:
        """What it would change and take; writes nothing.

        Raises:
            UsageError: the sources cannot be read, or the collection is another one.
        """
        found = self._find() if self._place.has_ledger else None
        compared = self._compare(found)
        compared.refuse_mass_delete(self._ask)
        spec = compared.cutting.spec
        rehearsal = Rehearsal(self._place, spec, self._provider)
        rehearsal.count(compared.cut())
        counts = Counter(compared.difference.counts)
        counts.update(reused=rehearsal.reused, embedded=rehearsal.embedded, failed=rehearsal.failed)
        set_name = found.active.name if found else names.set_name(spec)
        return Report(self._ask.name, set_name, None, "dry run", counts, rehearsal.usd, 0, None, self._taken)

    def start(self) -> None:
        """Find out what differs, write it, and send what has to be embedded on its way.

        Raises:
            UsageError: the sources cannot be read, most of them are gone, or the collection is another one.
        """
        version: VersionView | None = None
        while version is None:
            try:
                version = self._begun()
            except SourceChanged as error:
                self._sources.note_changed(error)
        self._version = version
        self._embed(version)

    def finish(self) -> Report:
        """Let readers see the new version, if it is whole; and how the sync stands.

        Raises:
            UsageError: readers see another set by now than the one that was brought to the sources, or another sync
                took this one back.
        """
        if self._version is None:
            raise ValueError("the sync was not started")
        known, number = self._version.collection_id, self._version.version_no
        collections = self._place.ledger.collections
        collections.complete(known, number)
        version, collection = collections.version(known, number), collections.view(known)
        if version.state == "failed":
            raise _taken_back(collection, version)
        summary = self.job.summary() if self.job else None
        return Report(
            collection=collection.name,
            set=collection.active.name,
            version=number,
            state=version.state,
            counts={name: version.counts.get(name, 0) for name in COUNTS},
            usd=usd_of(version.counts) if "usd" in version.counts else summary.usd if summary else None,
            requests=summary.requests if summary else 0,
            job=self.job.id if self.job else None,
            taken_as_unchanged=self._taken,
        )

    def _find(self) -> CollectionView | None:
        found = self._place.ledger.collections.named(self._ask.name)
        if found is None:
            names.refuse_shared(self._place.ledger, self._ask.name)
        return found

    def _compare(self, found: CollectionView | None) -> Comparison:
        compared = self._sources.compare(found, cutting_of(self._place.settings, self._provider, self._ask, found))
        self._taken = compared.taken
        return compared

    # --- versions -----------------------------------------------------------------------------------------------

    def _begun(self) -> VersionView | None:
        """The version to embed: written now, or left by an earlier sync of the same; None to look again."""
        found = self._find()
        compared = self._compare(found)
        collection = self._made(found, compared.cutting)
        if collection is None:
            return None
        if collection.under_way is not None:
            return self._turns.joined(collection, collection.under_way, compared.digest())
        compared.refuse_mass_delete(self._ask)
        return self._written(collection, compared)

    def _written(self, collection: CollectionView, compared: Comparison) -> VersionView | None:
        collections, difference = self._place.ledger.collections, compared.difference
        # For the set that was compared: another that became active meanwhile may lack chunks that this one has.
        looked_at = (collection.next_version, self._owner, compared.digest(), collection.active.id)
        version = collections.begin(collection.id, *looked_at)
        if version is None:
            return None
        try:
            writer = Writer(self._place.ledger, version, self._owner)
            writer.write(difference, compared.cut(), compared.scanned_ns)
        except BaseException:
            collections.take_back(version)
            raise
        whole = self._forget_failures(collection) or not _has_all_before(collection)
        counts = {name: difference.counts[name] for name in _DOCUMENTS}
        collections.read_whole(version, self._owner, {**counts, "whole": whole, "shape": compared.cutting.shape})
        return collections.version(collection.id, version.version_no)

    def _made(self, found: CollectionView | None, cutting: Cutting) -> CollectionView | None:
        """The collection, made if need be; None to look again."""
        collections = self._place.ledger.collections
        facts = (cutting.shape, names.set_name(cutting.spec), self._provider, cutting.spec)
        if found is None:
            return collections.make(self._ask.name, *facts)
        if found.version == 0 and (found.active.spec != cutting.spec or found.shape != cutting.shape):
            if found.under_way is not None:
                self._turns.free(found.under_way)
                return None
            collections.begin_anew(found.id, *facts)
            return collections.view(found.id)
        return found

    def _forget_failures(self, collection: CollectionView) -> bool:
        if not self._ask.terms.retry_failed:
            return False
        return self._place.ledger.collections.forget_failures(collection.active.id) > 0

    def _embed(self, version: VersionView) -> None:
        collections = self._place.ledger.collections
        collection, set_ = collections.view(version.collection_id), collections.set(version.set_id)
        code = version.counts["shape"]["encoding"]
        embedding = Embedding(self._place, collection, set_, version.version_no, code, self._ask.terms, self._owner)
        first = 0 if version.counts.get("whole") else version.first_document
        self.job = embedding.start(version.job_id, self._listener, first)


def _taken_back(collection: CollectionView, version: VersionView) -> UsageError:
    if collection.active.id == version.set_id:
        return UsageError(
            f"another sync of {collection.name}, over other sources, took this one back",
            next_step="run the same command again; what was paid for is kept",
        )
    return UsageError(
        f"another set of {collection.name} became active during this sync, which was taken back",
        where=f"readers see {collection.name}@{collection.active.name}",
        next_step="run the same command again, with the model of that set; what was paid for is kept",
    )


def _has_all_before(collection: CollectionView) -> bool:
    """Whether the active set knows all chunks of the last version, so that only new ones have to be looked at.

    A version that was taken back may have let it forget some that failed, to try them again.
    """
    in_step = collection.active.version == collection.version
    return in_step and collection.next_version == collection.version + 1
