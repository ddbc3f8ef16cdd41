"""Filling a set: every chunk of a version gets its content key, and those without an answer become items of a job."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from corpusmill import intake
from corpusmill.ledger.collection_records import CollectionView, LackingChunk, NewVector, SetView
from corpusmill.ledger.records import JobView, NewJob
from corpusmill.mill import pricing
from corpusmill.mill.ask import Terms
from corpusmill.mill.going_on import go_on, uncapped
from corpusmill.mill.listening import Listener
from corpusmill.mill.place import Place
from corpusmill.mill.submit import SHARD_ITEMS
from corpusmill.spec import JobSpec
from corpusmill.tokens import encoding_for


def vectors(chunks: Iterable[LackingChunk], spec: JobSpec, encoding: str) -> list[NewVector]:
    """What a set of this spec is to hold of these chunks, whose tokens were counted in `encoding`."""
    own = encoding_for(spec.model)
    return [_vector(chunk, spec, chunk.tokens if own.name == encoding else None) for chunk in chunks]


def _vector(chunk: LackingChunk, spec: JobSpec, tokens: int | None) -> NewVector:
    if chunk.problem is not None:
        return NewVector(chunk.chunk_no, None, 0, chunk.problem)
    tokens = encoding_for(spec.model).count(chunk.text) if tokens is None else tokens
    if tokens > intake.EMBEDDING_LIMIT_TOKENS:
        told = f"the chunk has {tokens:,} tokens; the model takes {intake.EMBEDDING_LIMIT_TOKENS:,}"
        return NewVector(chunk.chunk_no, None, 0, ("too_long", told))
    return NewVector(chunk.chunk_no, spec.content_key(chunk.text, ""), tokens)


class Filling:
    """One set on its way to one version; `encoding` is the one in which its chunks were counted."""

    def __init__(
        self,
        place: Place,
        collection: CollectionView,
        set_: SetView,
        version: int,
        encoding: str,
        terms: Terms,
        what: str,
    ) -> None:
        self._place, self._collection, self._set, self._version = place, collection, set_, version
        self._encoding, self._terms, self._what = encoding, terms, what

    def fill(
        self, job_id: int | None, listener: Listener, link: Callable[[int], None], first_document: int = 0
    ) -> JobView | None:
        """Fill the set; the job over what has to be embedded, committed, or None when there is nothing.

        Args:
            job_id: the job of an earlier filling that was cut short.
            listener: told how many items are loaded.
            link: told the job's number once it is there.
            first_document: chunks of documents before it are known to the set.
        """
        ledger, new, items = self._place.ledger, self._new_job(), 0
        if job_id is not None and (known := ledger.job(job_id)).state == "cancelled" and known.committed_at is None:
            ledger.resume(job_id)
        for chunks in ledger.collections.lacking(self._set, self._version, first_document):
            rows = vectors(chunks, self._set.spec, self._encoding)
            count, made = ledger.collections.fill(self._set.id, rows, new)
            if made is not None and job_id is None:
                job_id = made.id
                link(job_id)
            items += count
            listener.loading(items)
        return None if job_id is None else ledger.commit_job(job_id)

    def go_on(self, job: JobView, listener: Listener) -> JobView:
        """Let a job go on that an earlier command left, as these terms say."""
        ledger = self._place.ledger
        go_on(ledger, job, self._terms, fingerprint=self._fingerprint(), note=listener.note)
        if self._terms.detach and not job.detached:
            ledger.set_detached(job.id, True)
        if self._terms.max_share not in (None, job.max_share):
            ledger.set_max_share(job.id, self._terms.max_share)
        return ledger.job(job.id)

    def _fingerprint(self) -> str:
        return self._place.settings.lane(self._set.provider, self._place.ledger.salt())[1]

    def _new_job(self) -> NewJob:
        terms, spec, name = self._terms, self._set.spec, self._collection.name
        card = pricing.card_of(self._place.settings, self._set.provider, {spec.model})
        budget = None if terms.budget_usd is None else uncapped(terms.budget_usd)
        pricing.refuse_budget(budget, spec.model, priced=card is not None)
        key = f"collection {self._collection.id} version {self._version} set {self._set.id}"
        return NewJob(
            key=hashlib.sha256(key.encode()).digest(),
            spec=spec,
            provider=self._set.provider,
            key_fingerprint=self._fingerprint(),
            shard_size=SHARD_ITEMS["embedding"],
            name=f"{self._what} {name}",
            labels={"collection": name, **terms.labels},
            priority=terms.priority,
            budget_usd=budget,
            detached=terms.detach,
            price_card=None if card is None else card.as_json(),
            max_share=terms.max_share,
            budget_tokens=terms.budget_tokens,
            collection_id=self._collection.id,
        )
