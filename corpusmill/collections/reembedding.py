"""Another model for a collection: a set of its own beside the active one, from the stored texts, then a switch.

The sources are not read again. A sync that goes on goes first, and one that has completed meanwhile moves the aim: what
it changed is embedded too, before the switch. Of a command that nobody waits for, the scheduler does this.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from corpusmill.collections import names
from corpusmill.collections.embedding import Embedding
from corpusmill.errors import UsageError
from corpusmill.ledger.amounts import NOTHING
from corpusmill.ledger.collection_records import CollectionView, Cover, SetView
from corpusmill.mill import Job
from corpusmill.mill.ask import NO_CAP, Ask, Terms
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
        self._before: set[int] = set()
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
        name = names.set_name(self._spec)
        self._set = self._place.ledger.collections.begin_set(
            found.id, name, self._provider, self._spec, self._ask.keep_s
        )
        self._embed(found, self._set)

    def _embed(self, found: CollectionView, set_: SetView) -> None:
        collections, terms = self._place.ledger.collections, self._left()
        embedding = Embedding(self._place, found, set_, set_.target or found.version, found.shape["encoding"], terms)
        if terms.retry_failed:
            # A job that was sent tries them itself; else they are taken anew.
            sent = set_.job_id is not None and self._place.ledger.job(set_.job_id).committed_at is not None
            (collections.clear_failures if sent else collections.forget_failures)(set_.id)
        self.job = embedding.start(set_.job_id, self._listener)

    def _left(self) -> Terms:
        """The terms for the next job: what those before it have used is off the budget, which is of the command."""
        if self.job is not None:
            self._before.add(self.job.view.id)
        terms, spent = self._ask.terms, NOTHING
        for job_id in self._before:
            spent += self._place.ledger.spent(job_id)
        usd, tokens = terms.budget_usd, terms.budget_tokens
        if usd is not None and usd != NO_CAP:
            usd = max(Decimal(0), usd - spent.usd)
        return replace(terms, budget_usd=usd, budget_tokens=None if tokens is None else max(0, tokens - spent.tokens))

    @property
    def behind(self) -> bool:
        """Whether the collection has a newer version than the one that this set was brought to."""
        if self._set is None or self._left_to_others:
            return False
        found, set_ = self._now(self._set)
        return set_.state == "ready" and set_.version != found.version

    @property
    def held_up(self) -> bool:
        """Whether the set waits for nothing but the end of a sync, after which it is behind."""
        if self._set is None or self._left_to_others:
            return False
        found, set_ = self._now(self._set)
        to_be_shown = set_.state == "ready" and set_.keep_s is not None
        return to_be_shown and self._place.ledger.collections.going_on(found) is not None

    @property
    def _left_to_others(self) -> bool:
        """Whether the job goes on without this command: the scheduler does the rest."""
        return self._ask.terms.detach and self.job is not None

    def _now(self, set_: SetView) -> tuple[CollectionView, SetView]:
        collections = self._place.ledger.collections
        return collections.view(set_.collection_id), collections.set(set_.id)

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
