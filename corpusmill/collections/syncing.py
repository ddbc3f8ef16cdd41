"""Bringing a collection to the state of its sources.

Sources are read and compared first; nothing is written until it is known what differs, and nobody sees what is written
until all of it has its vectors. The same sync again goes on where the last one stopped; one whose sources have changed
since takes it back and starts from them, with every answer that was paid for.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import orjson

from corpusmill import intake
from corpusmill.collections import differing, names, shapes
from corpusmill.collections.ask import SyncAsk
from corpusmill.collections.differing import Difference
from corpusmill.collections.filling import Filling
from corpusmill.collections.known import Files
from corpusmill.collections.rehearsing import Rehearsal
from corpusmill.collections.report import COUNTS, Report, usd_of
from corpusmill.collections.writing import Cut, Writer, cut_documents
from corpusmill.errors import SourceChanged, UsageError
from corpusmill.ledger.collection_records import CollectionView, VersionView
from corpusmill.ledger.records import JobView
from corpusmill.mill import Job
from corpusmill.mill.ask import Ask
from corpusmill.mill.listening import Listener
from corpusmill.mill.loading import chunking_of, reading_of
from corpusmill.mill.place import Place
from corpusmill.mill.specs import embedding_spec, refuse_unsendable
from corpusmill.mill.watching import looks
from corpusmill.tokens import encoding, encoding_for

# A process that reads sources says so with every few thousand rows; one that was silent for so long is gone.
_SILENT_S = 60.0
_LOOK_S = 0.5
_READ_TWICE = 2


class Syncing:
    """One sync on its way; `start` it, follow its `job`, if there is one, and `finish` it."""

    def __init__(self, place: Place, ask: SyncAsk, listener: Listener) -> None:
        self._place, self._ask, self._listener = place, ask, listener
        names.check(ask.name)
        refuse_unsendable(labels=dict(ask.terms.labels))
        if not ask.sources:
            raise UsageError("no source is given", next_step="name a folder or a file")
        self._provider, _ = place.settings.provider(ask.terms.provider)
        self._owner = secrets.token_hex(8)
        self._changed: Counter[str] = Counter()
        self._left: frozenset[str] = frozenset()
        self._taken = 0
        self._version: VersionView | None = None
        self._collection: CollectionView | None = None
        self.job: Job | None = None

    def rehearse(self) -> Report:
        """What it would change and take; writes nothing.

        Raises:
            UsageError: the sources cannot be read, or the collection is another one.
        """
        found = self._find() if self._place.has_ledger else None
        _, scan, difference = self._compare(found)
        self._refuse_mass_delete(difference)
        rehearsal = Rehearsal(self._place, self._spec, self._provider)
        rehearsal.count(self._cut(scan, difference))
        counts = Counter(difference.counts)
        counts.update(reused=rehearsal.reused, embedded=rehearsal.embedded, failed=rehearsal.failed)
        set_name = found.active.name if found else names.set_name(self._spec)
        return Report(self._ask.name, set_name, None, "dry run", counts, rehearsal.usd, 0, None, self._taken)

    def start(self) -> None:
        """Find out what differs, write it, and send what has to be embedded on its way.

        Raises:
            UsageError: the sources cannot be read, most of them are gone, or the collection is another one.
        """
        while self._version is None:
            try:
                self._version = self._begun()
            except SourceChanged as error:
                self._note_changed(error)
        self._embed()

    def finish(self) -> Report:
        """Let readers see the new version, if it is whole; and how the sync stands."""
        version, collection = self._known()
        self._place.ledger.collections.complete(version.collection_id, version.version_no)
        version = self._place.ledger.collections.version(version.collection_id, version.version_no)
        counts = {name: version.counts.get(name, 0) for name in COUNTS}
        summary = self.job.summary() if self.job else None
        return Report(
            collection=collection.name,
            set=collection.active.name,
            version=version.version_no,
            state=version.state,
            counts=counts,
            usd=usd_of(version.counts) if "usd" in version.counts else summary.usd if summary else None,
            requests=summary.requests if summary else 0,
            job=self.job.id if self.job else None,
            taken_as_unchanged=self._taken,
        )

    # --- reading ------------------------------------------------------------------------------------------------

    def _begun(self) -> VersionView | None:
        """The version to embed: written now, or left by an earlier sync of the same; None to look again."""
        collections = self._place.ledger.collections
        found = self._find()
        scanned_ns, scan, difference = self._compare(found)
        collection = self._made(found)
        if collection is None:
            return None
        sources = self._digest(scan)
        if collection.under_way is not None:
            return self._joined(collection, collection.under_way, sources)
        self._refuse_mass_delete(difference)
        version = collections.begin(collection.id, collection.next_version, self._owner, sources)
        if version is None:
            return None
        try:
            Writer(self._place.ledger, version, self._owner).write(difference, self._cut(scan, difference), scanned_ns)
        except BaseException:
            collections.take_back(version)
            raise
        whole = self._forget_failures(collection) or collection.active.version != collection.version
        counts = {name: difference.counts[name] for name in ("added", "changed", "moved", "unchanged", "deleted")}
        collections.read_whole(version, self._owner, {**counts, "whole": whole, "shape": self._shape})
        return collections.version(collection.id, version.version_no)

    def _find(self) -> CollectionView | None:
        """The collection as it stands, and what this sync makes of its chunks."""
        found = self._place.ledger.collections.named(self._ask.name)
        if found is None:
            names.refuse_shared(self._place.ledger, self._ask.name)
        return found

    def _compare(self, found: CollectionView | None) -> tuple[int, intake.Scan, Difference]:
        self._settle_terms(found)
        ledger_files = self._place.ledger.collections.files(found.id) if found else []
        same_reading = found is not None and found.shape == self._shape and not self._ask.checksum
        known = Files(ledger_files if same_reading else ())
        scanned_ns = time.time_ns()
        scan = intake.scan(self._ask.sources, self._reading, known=known, empty_ok=self._ask.allow_mass_delete)
        self._taken = known.taken
        for note in scan.notes:
            self._listener.note(note)
        left = frozenset(file.source for file in scan.files if str(file.path) in self._left)
        difference, old_files = differing.part(scan, ledger_files, recut=self._recut, scanned_ns=scanned_ns, left=left)
        old = [
            document
            for file in old_files
            for document in self._place.ledger.collections.documents(found.id if found else 0, file.place)
        ]
        new = differing.documents_in(scan, difference, self._reading)
        differing.match(difference, old, new, recut=self._recut)
        for note in difference.findings.notes:
            self._listener.note(note)
        return scanned_ns, scan, difference

    def _settle_terms(self, found: CollectionView | None) -> None:
        """Model, spec and chunking: as asked for, and as the collection has them."""
        ask, settings = self._ask, self._place.settings
        model = ask.model or (found.active.spec.model if found else None)
        if model is None:
            raise UsageError(
                f"there is no collection {ask.name} yet, so its model has to be said", next_step="add --model M"
            )
        dimensions = ask.dimensions
        if found and dimensions is None and model == found.active.spec.model:
            dimensions = found.active.spec.dimensions
        asked = Ask(kind="embedding", model=model, dimensions=dimensions, shape=ask.shape)
        self._spec = embedding_spec(asked, settings, self._provider)
        fresh = found is None or found.version == 0
        name = encoding_for(model).name if fresh or found is None or ask.recut else found.shape["encoding"]
        self._encoding = encoding(name)
        self._shape = shapes.remembered(ask.shape, name)
        self._reading, self._chunking = reading_of(ask.shape), chunking_of(ask.shape, self._spec)
        self._recut = False
        if found is not None and not fresh:
            self._refuse_other_set(found)
            self._recut = shapes.refuse_other_cut(ask.name, found.shape, self._shape, recut=ask.recut)

    def _refuse_other_set(self, found: CollectionView) -> None:
        spec, active = self._spec, found.active.spec
        if spec == active:
            return
        said = {name: getattr(spec, name) for name in ("model", "dimensions", "endpoint")}
        other = ", ".join(
            f"{name} {getattr(active, name)}, not {value}"
            for name, value in said.items()
            if getattr(active, name) != value
        )
        raise UsageError(
            f"the vectors of {found.name} are of another kind: {other}",
            where=f"collection {found.id}, set {found.active.name}",
            next_step=f"corpusmill reembed {found.name} --model {spec.model}   # builds a set of it beside this one",
        )

    def _refuse_mass_delete(self, difference: Difference) -> None:
        deleted, before = difference.counts["deleted"], difference.before
        if deleted * 2 > before and not self._ask.allow_mass_delete:
            raise UsageError(
                f"{deleted:,} of the {before:,} documents of {self._ask.name} are gone from the sources",
                where=", ".join(map(str, self._ask.sources)),
                next_step="check the sources; if they are right, add --allow-mass-delete",
            )

    def _cut(self, scan: intake.Scan, difference: Difference) -> Iterator[Cut]:
        touched = replace(scan, files=difference.touched)
        return cut_documents(touched, difference, self._reading, self._chunking, self._encoding)

    def _note_changed(self, error: SourceChanged) -> None:
        """A file that changes under our eyes is read once more, and then left as the collection has it."""
        self._changed[error.path] += 1
        if self._changed[error.path] >= _READ_TWICE:
            self._left |= {error.path}
            self._listener.note(f"{error.path} changes while it is read; it is left as it was in the collection")

    # --- versions -----------------------------------------------------------------------------------------------

    def _made(self, found: CollectionView | None) -> CollectionView | None:
        """The collection, made if need be; None to look again."""
        collections = self._place.ledger.collections
        facts = (self._shape, names.set_name(self._spec), self._provider, self._spec)
        if found is None:
            return collections.make(self._ask.name, *facts)
        if found.version == 0 and (found.active.spec != self._spec or found.shape != self._shape):
            if found.under_way is not None:
                self._wait_or_take_back(found.under_way)
                return None
            collections.begin_anew(found.id, *facts)
            return collections.view(found.id)
        return found

    def _joined(self, collection: CollectionView, version: VersionView, sources: bytes) -> VersionView | None:
        """What becomes of a version that is under way: it is this one, or it goes first, or it is taken back."""
        ledger = self._place.ledger
        if version.state == "building" and version.sources == sources:
            if version.job_id is not None and ledger.job(version.job_id).state in ("queued", "running"):
                self._refuse_second(collection, version)
            elif ledger.collections.complete(collection.id, version.version_no):
                return None
            return version
        self._wait_or_take_back(version)
        return None

    def _wait_or_take_back(self, version: VersionView) -> None:
        ledger = self._place.ledger
        if version.state == "reading":
            if version.seen_s_ago is not None and version.seen_s_ago < _SILENT_S:
                self._refuse_second(ledger.collections.view(version.collection_id), version)
                time.sleep(_LOOK_S)
            else:
                ledger.collections.take_back(version)
        elif version.job_id is not None and ledger.job(version.job_id).state in ("queued", "running"):
            self._refuse_second(ledger.collections.view(version.collection_id), version)
            self._listener.note(f"another sync of {self._ask.name} is under way, over other sources; it goes first")
            for _ in looks(self._place, version.job_id):
                pass
            ledger.collections.complete(version.collection_id, version.version_no)
        elif not ledger.collections.complete(version.collection_id, version.version_no):
            ledger.collections.take_back(version)

    def _refuse_second(self, collection: CollectionView, version: VersionView) -> None:
        if self._ask.refuse_second:
            raise UsageError(
                f"a sync of {collection.name} is under way",
                where=f"collection {collection.id}, version {version.version_no}",
                next_step=f"corpusmill collection show {collection.name}",
            )

    def _forget_failures(self, collection: CollectionView) -> bool:
        if not self._ask.terms.retry_failed:
            return False
        return self._place.ledger.collections.forget_failures(collection.active.id) > 0

    def _digest(self, scan: intake.Scan) -> bytes:
        """Over all that makes the version what it is."""
        facts = {**self._shape, "places": [file.place.hex() for file in scan.files]}
        told = orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(intake.digests_key(scan) + told + "\n".join(sorted(self._left)).encode()).digest()

    # --- embedding ----------------------------------------------------------------------------------------------

    def _embed(self) -> None:
        version, collection = self._known()
        ledger = self._place.ledger
        if version.job_id is not None and (job := ledger.job(version.job_id)).committed_at is not None:
            made: JobView | None = self._filling(collection, version).go_on(job, self._listener)
        else:
            first = 0 if version.counts.get("whole") else version.first_document
            made = self._filling(collection, version).fill(
                version.job_id,
                self._listener,
                lambda job_id: ledger.collections.set_job_of_version(version, job_id),
                first,
            )
        if made is not None:
            self.job = Job(self._place, made)
            self.job.start()

    def _filling(self, collection: CollectionView, version: VersionView) -> Filling:
        set_ = self._place.ledger.collections.set(version.set_id)
        code = version.counts["shape"]["encoding"]
        return Filling(self._place, collection, set_, version.version_no, code, self._ask.terms, "sync")

    def _known(self) -> tuple[VersionView, CollectionView]:
        if self._version is None:
            raise ValueError("the sync was not started")
        return self._version, self._place.ledger.collections.view(self._version.collection_id)
