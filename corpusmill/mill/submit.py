"""From an ask to a job: found again or made, with everything refused that can be refused before money is spent.

The order matters: sources are read and named first (they make the key), then the output is checked, then the
whole source is validated, and only then is a job written; it is fed when its last item is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from pathlib import Path

from corpusmill import export, intake
from corpusmill.errors import SourceError, UsageError
from corpusmill.ledger.records import JobView, Mark, NewItem, NewJob
from corpusmill.mill import names, outputs, pricing
from corpusmill.mill.ask import Ask
from corpusmill.mill.corpus import Corpus
from corpusmill.mill.going_on import go_on, uncapped
from corpusmill.mill.key import job_key
from corpusmill.mill.listening import Listener
from corpusmill.mill.loading import load
from corpusmill.mill.place import Place
from corpusmill.mill.specs import refuse_unsendable
from corpusmill.mill.texts import spooled
from corpusmill.spec import JobSpec

# A shard is one message and one claim; an embedding shard is as many items as fit into one request.
SHARD_ITEMS = {"completion": 100, "request": 100, "embedding": 2_000}


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that stands in the ledger. `requests_before`: calls sent for it before this command."""

    job: JobView
    created: bool
    requests_before: int


def submit(place: Place, ask: Ask, listener: Listener) -> Submitted:
    """Find the job that this asks for, or make it; then let it go on as far as it was asked to.

    Raises:
        UsageError: the ask, a setting or the sources have to be changed first; nothing was spent.
        Unavailable: the database, the broker or the supervisor cannot be reached.
    """
    names.check(ask.terms.name)
    if ask.terms.name is not None and (taken := place.ledger.collections.named(ask.terms.name)) is not None:
        raise UsageError(
            f"{ask.terms.name} is the name of a collection already",
            where=f"collection {taken.id}",
            next_step="choose another --name",
        )
    with spooled(ask) as readable:
        return _Submission(place, readable, listener).run()


class _Submission:
    """One submission on its way; holds what several steps need."""

    def __init__(self, place: Place, ask: Ask, listener: Listener) -> None:
        self._place, self._ask, self._listener = place, ask, listener
        self._terms = ask.terms
        self._ledger = place.ledger
        self._provider, _ = place.settings.provider(ask.terms.provider)
        self._items: Iterator[NewItem] | None = None
        self._cache = place.settings.cache if ask.terms.cache is None else ask.terms.cache

    def run(self) -> Submitted:
        refuse_unsendable(labels=dict(self._terms.labels))
        corpus = Corpus(self._ask, self._place.settings, self._provider)
        for note in corpus.notes:
            self._listener.note(note)
        key = job_key(
            corpus.spec, self._ask.shape, cache=self._cache, sources=corpus.digest, chunker=intake.CHUNKER_VERSION
        )
        existing = self._ledger.job_by_key(key)
        self._refuse_outputs(existing, corpus)
        job, created = (existing, False) if existing else self._new(corpus, key)
        before = 0 if created else self._ledger.counts(job.id).requests
        if job.committed_at is None:
            if job.state == "cancelled":
                self._ledger.resume(job.id)
            job = self._load(job, corpus, key)
        self._remember(job)
        if not created:
            go_on(self._ledger, job, self._terms, fingerprint=self._lane()[1], note=self._listener.note)
        return Submitted(self._ledger.job(job.id), created, before)

    def _refuse_outputs(self, existing: JobView | None, corpus: Corpus) -> None:
        out = self._terms.out or (Path(existing.out) if existing and existing.out else None)
        if out is None:
            if self._terms.errors_out is not None:
                raise UsageError("--errors without --out: nothing would be written", next_step="add --out FILE.jsonl")
            return
        paths = export.targets(self._ask.kind, out, self._terms.errors_out)

        def remembered(path: str) -> str | None:
            return self._ledger.output_digest(existing.id, path) if existing else None

        outputs.refuse_sources(paths, corpus.files)
        outputs.refuse(paths, remembered, force=self._terms.force)

    def _new(self, corpus: Corpus, key: bytes) -> tuple[JobView, bool]:
        for note in corpus.validate():
            self._listener.note(note)
        self._items = self._read(corpus, key)
        if (first := next(self._items, None)) is None:
            raise SourceError(
                "there is no text in the sources", path=str(self._ask.sources[0]), next_step="check what they hold"
            )
        self._items = chain([first], self._items)
        card = pricing.card_of(self._place.settings, self._provider, corpus.models)
        pricing.refuse_budget(
            self._budget(), corpus.spec.model, priced=card is not None, several=len(corpus.models) > 1
        )
        return self._ledger.submit(self._new_job(corpus.spec, key, card.as_json() if card else None))

    def _new_job(self, spec: JobSpec, key: bytes, card: dict[str, object] | None) -> NewJob:
        terms = self._terms
        return NewJob(
            key=key,
            spec=spec,
            provider=self._provider,
            key_fingerprint=self._lane()[1],
            shard_size=SHARD_ITEMS[spec.kind],
            cache=self._cache,
            name=terms.name,
            labels=terms.labels,
            priority=terms.priority,
            budget_usd=self._budget(),
            first=terms.first,
            out=str(terms.out) if terms.out else None,
            errors_out=str(terms.errors_out) if terms.errors_out else None,
            detached=terms.detach,
            price_card=card,
            flex=terms.flex,
            max_share=terms.max_share,
            budget_tokens=terms.budget_tokens,
        )

    def _load(self, job: JobView, corpus: Corpus, key: bytes) -> JobView:
        # A load that was interrupted goes on behind what it has, without counting that again.
        after = None if self._items else self._ledger.mark(job.id)
        items = self._items or self._read(corpus, key, after)
        load(self._ledger, job.id, items, self._listener.loading, start=after.items if after else 0)
        return self._ledger.commit_job(job.id)

    def _read(self, corpus: Corpus, key: bytes, after: Mark | None = None) -> Iterator[NewItem]:
        return corpus.items(after) if self._cache else corpus.private_items(key, after)

    def _remember(self, job: JobView) -> None:
        """What may change from one command to the next without making another job."""
        terms = self._terms
        if terms.out is not None and job.out != str(terms.out):
            self._ledger.set_out(job.id, str(terms.out))
        self._retune(job)
        if terms.labels and terms.labels != job.labels:
            self._listener.note(f"{job.public_id} keeps the labels it was made with")
        if terms.errors_out is not None and job.errors_out != str(terms.errors_out):
            self._ledger.set_errors_out(job.id, str(terms.errors_out))
        if terms.name is not None and job.name != terms.name:
            self._ledger.set_name(job.id, terms.name)
        if terms.detach and not job.detached:
            self._ledger.set_detached(job.id, True)

    def _retune(self, job: JobView) -> None:
        """What workers heed from the next shard on."""
        terms = self._terms
        if terms.priority not in ("normal", job.priority):
            self._ledger.set_priority(job.id, terms.priority)
        if terms.flex not in (None, job.flex):
            self._ledger.set_flex(job.id, terms.flex)
        if terms.max_share not in (None, job.max_share):
            self._ledger.set_max_share(job.id, terms.max_share)

    def _lane(self) -> tuple[str, str]:
        return self._place.settings.lane(self._provider, self._ledger.salt())

    def _budget(self) -> Decimal | None:
        return None if self._terms.budget_usd is None else uncapped(self._terms.budget_usd)
