"""The same command again: what becomes of a job that is there already."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from corpusmill.ledger import Ledger
from corpusmill.ledger.records import JobView
from corpusmill.mill.ask import NO_CAP, Terms
from corpusmill.mill.pricing import refuse_budget


def go_on(ledger: Ledger, job: JobView, terms: Terms, *, fingerprint: str, note: Callable[[str], None]) -> None:
    """Let an existing job go on as `terms` say: attach, resume, or retry what failed.

    Args:
        ledger: where the job stands.
        job: the job as it was found.
        terms: what was asked for now.
        fingerprint: of the key that is set now; the job is bound to it.
        note: told when something asked for has no effect.
    """
    bind(ledger, job, fingerprint)
    if terms.budget_usd is not None:
        budget = uncapped(terms.budget_usd)
        refuse_budget(budget, job.model, priced=job.price_card is not None)
        ledger.set_budget(job.id, budget)
    if terms.budget_tokens is not None:
        ledger.set_budget_tokens(job.id, terms.budget_tokens)
    if terms.retry_failed and ledger.counts(job.id).failed:
        ledger.reopen_failed(job.id)
        job = ledger.job(job.id)
    if job.state in ("queued", "running"):
        _attach(ledger, job, terms, note)
    elif job.state in ("paused", "stopped", "cancelled") and not _first_is_done(job, terms):
        ledger.resume(job.id, first=terms.first)


def bind(ledger: Ledger, job: JobView, fingerprint: str) -> None:
    """Bind the job to the key with this fingerprint, if it is not."""
    if fingerprint != job.key_fingerprint:
        ledger.bind_key(job.id, fingerprint)


def uncapped(budget_usd: Decimal) -> Decimal | None:
    """A budget as the ledger takes it: None for `NO_CAP`."""
    return None if budget_usd == NO_CAP else budget_usd


def _attach(ledger: Ledger, job: JobView, terms: Terms, note: Callable[[str], None]) -> None:
    if terms.first == job.first:
        return
    if terms.first is None or (job.first is not None and terms.first > job.first):
        ledger.set_first(job.id, terms.first)
    else:
        note(f"{job.public_id} runs already, further than --first {terms.first}; it goes on")


def _first_is_done(job: JobView, terms: Terms) -> bool:
    """Whether `--first N` asks for no more than what the job was paused after."""
    if job.state != "paused" or job.reason != "first" or terms.first is None or job.first is None:
        return False
    return terms.first <= job.first
