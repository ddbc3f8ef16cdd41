"""Another model for a collection: a set of its own beside the active one, from the stored texts, then a switch.

The sources are not read again. A sync that completes meanwhile moves the aim: then what it changed is embedded too,
before the switch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from corpusmill.collections import names
from corpusmill.collections.filling import Filling
from corpusmill.errors import UsageError
from corpusmill.ledger.collection_records import CollectionView, Cover, SetView
from corpusmill.ledger.records import JobView
from corpusmill.mill import Job
from corpusmill.mill.ask import Ask, Terms
from corpusmill.mill.listening import Listener
from corpusmill.mill.place import Place
from corpusmill.mill.specs import embedding_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class ReembedAsk:
    """Build the vectors of a collection by another model.

    `keep_s`: activate them when all are there, and keep the former set for so many seconds; None: somebody activates.
    """

    name: str
    model: str
    dimensions: int | None = None
    keep_s: float | None = None
    terms: Terms = field(default_factory=Terms)


@dataclass(frozen=True, slots=True)
class SetReport:
    """A set that is being built, as it stands."""

    collection: str
    set: str
    state: str
    active: str
    version: int | None
    cover: Cover
    job: str | None
    summary: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The object of `--json`."""
        return {
            "collection": self.collection,
            "set": self.set,
            "state": self.state,
            "active": self.active,
            "version": self.version,
            "chunks": self.cover.chunks,
            "vectors": self.cover.vectors,
            "failed": self.cover.failed,
            "usd": self.summary.get("usd"),
            "requests": self.summary.get("requests", 0),
            "job": self.job,
        }


class Reembedding:
    """One set on its way; `start` it, follow its `job`, if there is one, and `finish` it, until it is not `behind`."""

    def __init__(self, place: Place, ask: ReembedAsk, listener: Listener) -> None:
        self._place, self._ask, self._listener = place, ask, listener
        self._provider, _ = place.settings.provider(ask.terms.provider)
        asked = Ask(kind="embedding", model=ask.model, dimensions=ask.dimensions)
        self._spec = embedding_spec(asked, place.settings, self._provider)
        self._set: SetView | None = None
        self.job: Job | None = None

    def start(self) -> None:
        """Find or make the set, and send what it lacks on its way; nothing, when the active one is of this kind.

        Raises:
            UsageError: the collection is not complete yet.
        """
        found = self._place.ledger.collections.find(self._ask.name)
        if found.active.spec == self._spec:
            self._set, self.job = found.active, None
            return
        if found.active.version is None:
            raise UsageError(f"{found.name} was never complete", next_step=f"corpusmill sync {found.name} SOURCE…")
        collections = self._place.ledger.collections
        self._set = collections.begin_set(
            found.id, names.set_name(self._spec), self._provider, self._spec, self._ask.keep_s
        )
        self._embed(found, self._set)

    def _embed(self, found: CollectionView, set_: SetView) -> None:
        ledger, target = self._place.ledger, set_.target or found.version
        filling = Filling(self._place, found, set_, target, found.shape["encoding"], self._ask.terms, "reembed")
        if set_.job_id is not None and (job := ledger.job(set_.job_id)).committed_at is not None:
            if self._ask.terms.retry_failed:
                ledger.collections.clear_failures(set_.id)
            made: JobView | None = filling.go_on(job, self._listener)
        else:
            if self._ask.terms.retry_failed:
                ledger.collections.forget_failures(set_.id)
            made = filling.fill(
                set_.job_id, self._listener, lambda job_id: ledger.collections.set_job_of_set(set_.id, job_id)
            )
        self.job = None if made is None else Job(self._place, made)
        if self.job is not None:
            self.job.start()

    @property
    def behind(self) -> bool:
        """Whether the collection has a newer version than the one that this set was brought to."""
        if self._set is None or self._ask.terms.detach:
            return False
        found = self._place.ledger.collections.view(self._set.collection_id)
        set_ = self._place.ledger.collections.set(self._set.id)
        return set_.state == "ready" and set_.version != found.version

    def finish(self) -> SetReport:
        """Complete the set and activate it, as far as that can be; and how it stands."""
        if self._set is None:
            raise ValueError("it was not started")
        ledger = self._place.ledger
        ledger.collections.settle_set(ledger.collections.set(self._set.id))
        set_ = ledger.collections.set(self._set.id)
        found = ledger.collections.view(set_.collection_id)
        target = set_.version or set_.target or found.version
        return SetReport(
            collection=found.name,
            set=set_.name,
            state=set_.state,
            active=found.active.name,
            version=set_.version,
            cover=ledger.collections.cover(found.id, set_.id, target),
            job=self.job.id if self.job else None,
            summary=self.job.summary().as_dict() if self.job else {},
        )
