"""Pausing, resuming, stopping, `--first`, and trying failed items again."""

from __future__ import annotations

import pytest

from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Batch, NewItem
from tests.fixtures import jobs


def test_a_pause_says_why_and_resuming_forgets_it(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    paused = ledger.pause(job.id, "billing", "the provider's credit is used up\0")
    assert (paused.state, paused.reason, paused.note) == ("paused", "billing", "the provider's credit is used up\ufffd")
    again = ledger.pause(job.id, "user")
    assert again.reason == "billing", "the first reason stays"
    resumed = ledger.resume(job.id)
    assert (resumed.state, resumed.reason, resumed.note) == ("queued", None, None)


def test_a_dead_endpoint_pauses_every_running_job_of_its_lane_and_no_other(ledger: Ledger) -> None:
    here, there = jobs.submit(ledger, "a"), jobs.submit(ledger, "b")
    other_key = jobs.submit(ledger, "c", key_fingerprint="beef")
    ledger.cancel(there.id)
    assert ledger.pause_lane(*jobs.LANE, "endpoint", "ten connections failed") == [here.id]
    assert [ledger.job(job.id).state for job in (here, there, other_key)] == ["paused", "cancelled", "queued"]


def test_a_stopped_job_says_why_every_item_fails(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "a")
    stopped = ledger.stop(job.id, "no such model")
    assert (stopped.state, stopped.reason, stopped.note) == ("stopped", None, "no such model")
    assert ledger.resume(job.id).state == "queued"


def test_a_finished_job_is_not_moved_by_anything(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "a")
    jobs.work_off(ledger, job)
    ledger.pause(job.id, "user")
    ledger.cancel(job.id)
    ledger.stop(job.id, "late")
    ledger.set_first(job.id, 0)
    assert ledger.resume(job.id).state == "finished"
    assert ledger.unfinished() == []


def test_a_cancelled_job_goes_on_with_its_open_items(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcdef")
    claimed = jobs.claim(ledger, job, 0)
    ledger.cancel(job.id)
    report = jobs.commit(ledger, jobs.paid(claimed, closing=[claimed.ref]))
    assert report.job_states == {job.id: "cancelled"}
    assert ledger.counts(job.id).succeeded == 3, "what was in flight is kept"
    assert [each.id for each in ledger.unfinished()] == []
    ledger.resume(job.id)
    assert [each.id for each in ledger.unfinished()] == [job.id]
    assert jobs.work_off(ledger, job) == 3
    assert ledger.job(job.id).state == "finished"


def test_a_cancelled_job_whose_last_items_were_in_flight_is_finished_by_resuming(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    claimed = jobs.claim(ledger, job, 0)
    ledger.cancel(job.id)
    jobs.commit(ledger, jobs.paid(claimed, closing=[claimed.ref]))
    assert ledger.job(job.id).state == "cancelled"
    assert ledger.resume(job.id).state == "finished"


def test_a_paused_job_whose_last_items_were_in_flight_finishes(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    claimed = jobs.claim(ledger, job, 0)
    ledger.pause(job.id, "user")
    jobs.commit(ledger, jobs.paid(claimed, closing=[claimed.ref]))
    assert ledger.job(job.id).state == "finished"


# --- the first N items ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [1, 2, 3, 4, 6, 7])
def test_the_first_items_are_done_and_then_the_job_is_paused(ledger: Ledger, first: int) -> None:
    job = jobs.submit(ledger, "abcdefgh", first=first)
    assert jobs.work_off(ledger, job) == first
    seen = ledger.job(job.id)
    assert (seen.state, seen.reason) == ("paused", "first")
    assert [row.item_no for row in ledger.results(job.id)] == list(range(first))
    assert ledger.counts(job.id).open == 8 - first


def test_the_full_run_goes_on_from_where_the_first_items_ended(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcdefgh", first=4)
    jobs.work_off(ledger, job)
    assert ledger.resume(job.id, first=None).state == "queued"
    assert jobs.work_off(ledger, job) == 4
    assert ledger.job(job.id).state == "finished"


def test_resuming_a_job_at_its_border_lifts_it(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcdefgh", first=4)
    jobs.work_off(ledger, job)
    resumed = ledger.resume(job.id)
    assert (resumed.state, resumed.first) == ("queued", None)


def test_resuming_a_job_before_its_border_keeps_it(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcdefgh", first=4)
    ledger.pause(job.id, "user")
    assert ledger.resume(job.id).first == 4
    assert jobs.work_off(ledger, job) == 4


def test_a_larger_border_goes_on_and_a_smaller_one_is_reached_already(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcdefgh", first=4)
    jobs.work_off(ledger, job)
    assert ledger.resume(job.id, first=2).reason == "first"
    ledger.resume(job.id, first=7)
    assert jobs.work_off(ledger, job) == 3
    assert ledger.job(job.id).reason == "first"


def test_a_border_at_or_behind_the_end_is_the_end(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc", first=3)
    jobs.work_off(ledger, job)
    assert ledger.job(job.id).state == "finished"


def test_items_that_failed_at_intake_behind_the_border_do_not_reach_it(ledger: Ledger) -> None:
    given = jobs.items("abc")
    given[2] = NewItem("id-2", "corpus.jsonl", None, 0, problem=("empty_text", "empty"))
    job = jobs.submit_items(ledger, given, first=2)
    claimed = jobs.claim(ledger, job, 0)
    assert [item.item_no for item in claimed.items] == [0, 1]
    jobs.commit(ledger, jobs.paid(claimed, claimed.items[:1], closing=[claimed.ref]))
    assert ledger.job(job.id).state == "running"
    jobs.work_off(ledger, job)
    assert ledger.job(job.id).state == "finished"


def test_a_border_lifted_under_a_running_worker_leaves_the_rest_to_the_next(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc", first=2)
    claimed = jobs.claim(ledger, job, 0)
    ledger.set_first(job.id, None)
    report = jobs.commit(ledger, jobs.paid(claimed, closing=[claimed.ref]))
    assert not report.closed
    assert [item.item_no for item in jobs.claim(ledger, job, 0, worker="w2").items] == [2]


def test_a_shard_that_a_border_closed_under_its_worker_is_not_counted_as_closed_again(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcdefghi")
    behind = jobs.claim(ledger, job, 2)
    ledger.set_first(job.id, 3)
    assert jobs.commit(ledger, jobs.paid(behind, closing=[behind.ref])).closed == {behind.ref}
    assert ledger.job(job.id).state == "running", "the first three items are still open"
    jobs.work_off(ledger, job)
    assert ledger.job(job.id).reason == "first"
    ledger.resume(job.id)
    jobs.work_off(ledger, job)
    assert ledger.job(job.id).state == "finished"


# --- trying failed items again ----------------------------------------------------------------------------------


def test_failed_items_are_tried_again_and_only_those(ledger: Ledger) -> None:
    given = jobs.items("abcdefg")
    given[6] = NewItem("id-6", "corpus.jsonl", None, 0, problem=("empty_text", "empty"))
    job = jobs.submit_items(ledger, given)
    for shard_no, error_class in ((0, "content_policy"), (1, "server_error")):
        claimed = jobs.claim(ledger, job, shard_no)
        failures = jobs.failed(claimed, claimed.items[:2], error_class)
        done = jobs.paid(claimed, claimed.items[2:], closing=[claimed.ref])
        jobs.commit(
            ledger, Batch(done.fences, done.answers, [*done.results, *failures], done.usage, closing=done.closing)
        )
    assert ledger.job(job.id).state == "finished"
    assert ledger.reopen_failed(job.id, ["server_error"]) == 2
    assert ledger.job(job.id).state == "queued"
    assert ledger.counts(job.id).failed_by_class == {"content_policy": 2, "empty_text": 1}
    assert ledger.reopen_failed(job.id) == 2
    assert jobs.work_off(ledger, job) == 4
    counts = ledger.counts(job.id)
    assert (counts.succeeded, counts.failed, counts.open) == (6, 1, 0)
    assert ledger.job(job.id).state == "finished"


def test_without_failures_nothing_is_reopened(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "a")
    jobs.work_off(ledger, job)
    assert ledger.reopen_failed(job.id) == 0
    assert ledger.job(job.id).state == "finished"
