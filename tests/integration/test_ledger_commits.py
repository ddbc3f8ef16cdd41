"""Group commits: written twice they count once, and a lost fence never loses what was paid."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from corpusmill.errors import CorpusmillError
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Answer, Batch, ItemResult, ShardRef
from tests.fixtures import jobs
from tests.integration.test_ledger_claims import lapse


def test_a_job_worked_off_is_finished_with_exact_counters(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcdefgh")
    assert jobs.work_off(ledger, job) == 8
    counts, finished = ledger.counts(job.id), ledger.job(job.id)
    assert (counts.items, counts.succeeded, counts.failed, counts.open, counts.cached) == (8, 8, 0, 0, 0)
    assert (counts.prompt_tokens, counts.completion_tokens, counts.requests) == (88, 40, 8)
    assert counts.usd == 8 * jobs.PRICE
    assert finished.state == "finished"
    committed_at, last_at = ledger.first_and_last(job.id)
    assert committed_at is not None
    assert last_at is not None
    assert finished.committed_at == committed_at <= last_at <= (finished.finished_at or 0)


def test_the_same_batch_twice_counts_once(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    claimed = jobs.claim(ledger, job, 0)
    batch = jobs.paid(claimed, closing=[claimed.ref])
    first, second = jobs.commit(ledger, batch), jobs.commit(ledger, batch)
    assert first == second
    assert first.closed == {claimed.ref}
    counts = ledger.counts(job.id)
    assert (counts.succeeded, counts.usd, counts.prompt_tokens, counts.requests) == (3, 3 * jobs.PRICE, 33, 3)


def test_what_is_known_of_an_attempt_takes_the_place_of_its_unknown_outcome(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    claimed = jobs.claim(ledger, job, 0)
    fences = {claimed.ref: claimed.fence}
    maybe = [jobs.bill(claimed.ref, name, outcome="unknown") for name in ("paid", "unpaid", "unpriced", "never known")]
    maybe[2] = replace(maybe[2], usd=None)
    jobs.commit(ledger, Batch(fences=fences, usage=maybe))
    assert ledger.counts(job.id).unknown_attempts == 4
    known = {claimed.ref: [row.attempt_id for row in maybe[:3]]}
    batch = Batch(fences=fences, usage=[jobs.bill(claimed.ref, "paid")], known=known)
    for _ in range(2):
        jobs.commit(ledger, batch)
        counts = ledger.counts(job.id)
        assert (counts.requests, counts.unknown_attempts, counts.prompt_tokens) == (2, 1, 11)
        assert (counts.usd, counts.unknown_usd) == (jobs.PRICE, jobs.PRICE)
        assert ledger.audit(job.id).adds_up


def test_an_item_given_twice_in_one_batch_ends_once(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "a")
    claimed = jobs.claim(ledger, job, 0)
    batch = jobs.paid(claimed)
    jobs.commit(ledger, Batch(batch.fences, [*batch.answers] * 2, [*batch.results] * 2, [*batch.usage] * 2))
    counts = ledger.counts(job.id)
    assert (counts.succeeded, counts.usd) == (1, jobs.PRICE)


def test_a_stale_workers_paid_replies_are_kept_and_its_shard_stays_the_new_owners(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    stale = jobs.claim(ledger, job, 0)
    lapse(ledger, stale.ref)
    owner = jobs.claim(ledger, job, 0, worker="w2")
    report = jobs.commit(ledger, jobs.paid(stale, closing=[stale.ref], renew=True))
    assert report.lost == {stale.ref}
    assert not report.closed
    assert ledger.counts(job.id).succeeded == 3
    assert ledger.job(job.id).state == "running", "only the owner closes"
    assert jobs.commit(ledger, jobs.paid(owner, closing=[owner.ref]), worker="w2").closed == {owner.ref}
    counts = ledger.counts(job.id)
    assert (counts.succeeded, counts.usd) == (3, 6 * jobs.PRICE), "three results, and six calls on the bill"
    assert ledger.job(job.id).state == "finished"


def test_an_old_lease_that_nobody_took_is_renewed(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    claimed = jobs.claim(ledger, job, 0)
    lapse(ledger, claimed.ref)
    assert jobs.commit(ledger, Batch(fences={claimed.ref: claimed.fence}, renew=True)).lost == frozenset()
    assert jobs.try_claim(ledger, job, 0, worker="w2") is None


def test_another_workers_name_does_not_hold_the_shard(ledger: Ledger) -> None:
    claimed = jobs.claim(ledger, jobs.submit(ledger, "abc"), 0, worker="w1")
    assert jobs.commit(ledger, Batch(fences={claimed.ref: claimed.fence}), worker="w2").lost == {claimed.ref}


def test_an_adopted_journal_is_written_without_any_fence(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    crashed = jobs.claim(ledger, job, 0)
    ledger.commit(jobs.paid(crashed, fences={}), worker_id="adopter", lease_s=60)
    lapse(ledger, crashed.ref)
    assert jobs.claim(ledger, job, 0, worker="w2").items == []
    assert ledger.job(job.id).state == "finished"
    assert ledger.counts(job.id).cached == 0, "its own answers are not cached ones"
    assert ledger.counts(job.id).requests == 3


def test_a_shard_that_is_not_complete_is_released_instead_of_closed(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    claimed = jobs.claim(ledger, job, 0)
    report = jobs.commit(ledger, jobs.paid(claimed, claimed.items[:2], closing=[claimed.ref]))
    assert report.closed == frozenset()
    assert [item.item_no for item in jobs.claim(ledger, job, 0, worker="w2").items] == [2]


def test_one_attempt_over_two_jobs_is_billed_to_each_once(ledger: Ledger) -> None:
    one, two = (jobs.claim(ledger, jobs.submit(ledger, keys), 0) for keys in ("a", "b"))
    half = [jobs.bill(each.ref, "pack", usd=jobs.PRICE / 2, items=1, prompt_tokens=5) for each in (one, two)]
    batch = Batch(
        fences={one.ref: one.fence, two.ref: two.fence},
        answers=[jobs.reply(each.items[0].key) for each in (one, two)],
        results=[ItemResult(each.ref, 0, each.items[0].key) for each in (one, two)],
        usage=half,
        closing=[one.ref, two.ref],
    )
    assert jobs.commit(ledger, batch).closed == {one.ref, two.ref}
    assert [ledger.counts(each.ref.job_id).prompt_tokens for each in (one, two)] == [5, 5]
    assert {ledger.job(each.ref.job_id).state for each in (one, two)} == {"finished"}


def test_a_call_of_unknown_outcome_costs_apart_and_its_tokens_do_not_count(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "a")
    claimed = jobs.claim(ledger, job, 0)
    lost = jobs.bill(claimed.ref, "lost", usd=Decimal("0.5"), outcome="unknown")
    jobs.commit(ledger, Batch(usage=[lost]))
    counts = ledger.counts(job.id)
    assert counts.usd == 0
    assert (counts.unknown_usd, counts.unknown_attempts) == (Decimal("0.5"), 1)
    assert (counts.prompt_tokens, counts.requests) == (0, 1)


def test_money_is_null_while_any_call_is_unpriced(ledger: Ledger) -> None:
    unpriced = jobs.submit(ledger, "a", price_card=None)
    assert (ledger.counts(unpriced.id).usd, ledger.counts(unpriced.id).unknown_usd) == (None, None)
    priced = jobs.submit(ledger, "ab")
    claimed = jobs.claim(ledger, priced, 0)
    odd = [jobs.bill(claimed.ref, "odd-tier", usd=None), jobs.bill(claimed.ref, "even")]
    jobs.commit(ledger, jobs.paid(claimed, usage=odd))
    assert ledger.counts(priced.id).usd is None


def test_failures_keep_their_class_and_a_text_without_nul_or_lone_surrogates(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "ab")
    claimed = jobs.claim(ledger, job, 0)
    worse = ItemResult(
        claimed.ref, 1, None, error_class="server_error", error="5\0 00 \ud800", request_id="r", attempts=6
    )
    jobs.commit(
        ledger, Batch(fences={claimed.ref: claimed.fence}, results=[*jobs.failed(claimed, claimed.items[:1]), worse])
    )
    first, second = ledger.failures(job.id)
    assert (first.error_class, first.error, first.body) == ("content_policy", "refused", None)
    assert (second.error, second.request_id, second.attempts) == ("5\ufffd 00 ?", "r", 6)
    assert ledger.counts(job.id).failed_by_class == {"content_policy": 1, "server_error": 1}


def test_bodies_and_vectors_come_back_byte_for_byte(ledger: Ledger) -> None:
    vector = np.array([0.25, -1.0, 2.8e-45, 123.0], dtype="<f4").tobytes()
    odd = np.frombuffer(b'{"a ', dtype="<f4").tobytes()
    text = b'{"choices":[{"message":{"content":"caf\\u00e9 \\u0000 \\ud83d"}}]}'
    job = jobs.submit(ledger, "abc")
    claimed = jobs.claim(ledger, job, 0)
    bodies = [vector, odd, text]
    answers = [Answer(i.key, body, "m", None, None, 1, 0) for i, body in zip(claimed.items, bodies, strict=True)]
    jobs.commit(ledger, jobs.paid(claimed, answers=answers))
    assert [row.body for row in ledger.results(job.id)] == bodies


def test_a_result_whose_answer_was_never_written_is_refused_whole(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "ab")
    claimed = jobs.claim(ledger, job, 0)
    with pytest.raises(CorpusmillError, match="never written"):
        jobs.commit(ledger, jobs.paid(claimed, answers=[jobs.reply(claimed.items[0].key)]))
    assert ledger.counts(job.id).succeeded == 0


def test_a_duplicate_may_be_settled_by_an_answer_that_is_there_already(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "aa")
    claimed = jobs.claim(ledger, job, 0)
    jobs.commit(ledger, jobs.paid(claimed))
    twin = ItemResult(claimed.ref, 1, claimed.items[0].key, cached=True)
    jobs.commit(ledger, Batch(fences={claimed.ref: claimed.fence}, results=[twin], closing=[claimed.ref]))
    assert ledger.counts(job.id).cached == 1
    assert ledger.job(job.id).state == "finished"


def test_the_first_answer_under_a_key_stays(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "a")
    claimed = jobs.claim(ledger, job, 0)
    for text in ("first", "second"):
        jobs.commit(ledger, jobs.paid(claimed, answers=[jobs.reply(claimed.items[0].key, text)]))
    (row,) = ledger.results(job.id)
    assert b"first" in (row.body or b"")


def test_every_commit_tells_the_states_of_the_jobs_it_mentions(ledger: Ledger) -> None:
    one, two = (jobs.submit(ledger, keys) for keys in ("a", "b"))
    held = {each.ref: each.fence for each in (jobs.claim(ledger, one, 0), jobs.claim(ledger, two, 0))}
    ledger.pause(one.id, "user")
    assert jobs.commit(ledger, Batch(fences=held, renew=True)).job_states == {one.id: "paused", two.id: "running"}


def test_a_batch_for_a_shard_that_is_not_there_is_reported_lost(ledger: Ledger) -> None:
    ghost = ShardRef(10_000, 0)
    report = jobs.commit(ledger, Batch(fences={ghost: 1}, usage=[jobs.bill(ghost, "x")], unpaid={ghost: 1}))
    assert report.lost == {ghost}


def test_an_empty_batch_changes_nothing(ledger: Ledger) -> None:
    report = jobs.commit(ledger, Batch())
    assert (report.lost, report.closed, report.job_states) == (frozenset(), frozenset(), {})
