"""Embedding what a set lacks of a version, as a command does it: one job, made by its terms, found again by its key."""

from __future__ import annotations

from dataclasses import dataclass

from corpusmill.collections.filling import Filling, job_key
from corpusmill.ledger.collection_records import Aim, CollectionView, SetView
from corpusmill.ledger.records import JobView, NewJob
from corpusmill.ledger.stretches import Mark
from corpusmill.mill import Job, pricing
from corpusmill.mill.ask import Terms
from corpusmill.mill.going_on import go_on, uncapped
from corpusmill.mill.listening import Listener
from corpusmill.mill.place import Place
from corpusmill.mill.submit import SHARD_ITEMS


@dataclass(frozen=True, slots=True)
class Embedding:
    """What one command embeds; `encoding` is the one in which the chunks of the version were counted.

    `owner`: of a sync, who makes the version; None: it is there, and another set is brought to it.
    """

    place: Place
    collection: CollectionView
    set: SetView
    version_no: int
    encoding: str
    terms: Terms
    owner: str | None = None

    def start(self, job_id: int | None, listener: Listener, first_document: int = 0) -> Job | None:
        """The job on its way; None when nothing has to be embedded.

        Args:
            job_id: the job that an earlier command made for it.
            listener: told how many items are loaded.
            first_document: chunks of documents before it are known to the set.
        """
        known = None if job_id is None else self.place.ledger.job(job_id)
        if known is not None and known.committed_at is not None:
            made: JobView | None = self._go_on(known, listener)
        else:
            made = self._filled(known, listener, first_document)
        if made is None:
            return None
        job = Job(self.place, made)
        job.start()
        return job

    def _filled(self, known: JobView | None, listener: Listener, first_document: int) -> JobView | None:
        ledger = self.place.ledger
        if known is not None and known.state == "cancelled":
            ledger.resume(known.id)
        aim = Aim(self.collection.id, self.set.id, self.version_no, self.owner)
        filling = Filling(ledger, self.set, aim, self.encoding, self._new_job(aim))
        job_id, _ = filling.fill(None if known is None else known.id, Mark(first_document), loading=listener.loading)
        if job_id is None:
            # Another process that fills the same may have taken what is lacking for a job, which is ours too then.
            job_id = self._note_filled()
        return None if job_id is None else ledger.commit_job(job_id)

    def _note_filled(self) -> int | None:
        collections = self.place.ledger.collections
        if self.owner is None:
            return collections.set_filled(self.set.id, self.version_no)
        return collections.filled(self.collection.id, self.version_no)

    def _go_on(self, job: JobView, listener: Listener) -> JobView:
        """Let a job go on that an earlier command left, as these terms say."""
        ledger = self.place.ledger
        go_on(ledger, job, self.terms, fingerprint=self._fingerprint(), note=listener.note)
        if self.terms.detach and not job.detached:
            ledger.set_detached(job.id, True)
        if self.terms.max_share not in (None, job.max_share):
            ledger.set_max_share(job.id, self.terms.max_share)
        return ledger.job(job.id)

    def _fingerprint(self) -> str:
        return self.place.settings.lane(self.set.provider, self.place.ledger.salt())[1]

    def _new_job(self, aim: Aim) -> NewJob:
        terms, spec, name = self.terms, self.set.spec, self.collection.name
        card = pricing.card_of(self.place.settings, self.set.provider, {spec.model})
        budget = None if terms.budget_usd is None else uncapped(terms.budget_usd)
        pricing.refuse_budget(budget, spec.model, priced=card is not None)
        return NewJob(
            key=job_key(aim),
            spec=spec,
            provider=self.set.provider,
            key_fingerprint=self._fingerprint(),
            shard_size=SHARD_ITEMS["embedding"],
            name=f"{'reembed' if self.owner is None else 'sync'} {name}",
            labels={"collection": name, **terms.labels},
            priority=terms.priority,
            budget_usd=budget,
            detached=terms.detach,
            price_card=None if card is None else card.as_json(),
            max_share=terms.max_share,
            budget_tokens=terms.budget_tokens,
            collection_id=self.collection.id,
        )
