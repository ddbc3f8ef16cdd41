"""Claims: one owner at a time, and never a second payment for a key in flight."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from sqlalchemy import update

from corpusmill.ledger import Ledger
from corpusmill.ledger.models import Shard
from corpusmill.ledger.records import Batch, ClaimedShard, JobView, ShardRef, WorkItem
from tests.fixtures import jobs


def lapse(ledger: Ledger, ref: ShardRef) -> None:
    """Let the lease be over, as if its owner had been silent for so long."""
    row = (Shard.job_id == ref.job_id, Shard.shard_no == ref.shard_no)
    ledger._db.write(lambda conn: conn.execute(update(Shard).where(*row).values(lease_until=0)))


def numbers(work: Sequence[WorkItem]) -> list[int]:
    return [item.item_no for item in work]


def test_a_claimed_shard_brings_its_items_and_what_shapes_their_requests(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcd", priority="high")
    claimed = jobs.claim(ledger, job, 1)
    assert claimed.ref == ShardRef(job.id, 1)
    assert [(item.item_no, item.key, item.text, item.body, item.source, item.tokens) for item in claimed.items] == [
        (3, jobs.key("d"), "d", None, "corpus.jsonl", 7)
    ]
    assert (claimed.job.public_id, claimed.job.spec, claimed.job.priority) == (job.public_id, job.spec, "high")
    assert ledger.job(job.id).state == "running"


def test_a_request_item_brings_its_raw_body(ledger: Ledger) -> None:
    body = b'{"model": "m",  "messages": []}\xff'
    given = jobs.items("a")[0]
    raw = type(given)(id="c-1", source="r.jsonl", key=given.key, tokens=3, body=body, line=1)
    job = jobs.submit_items(ledger, [raw])
    (item,) = jobs.claim(ledger, job, 0).items
    assert (item.body, item.text) == (body, None)


def test_a_shard_has_one_owner_until_its_lease_is_over(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    first = jobs.claim(ledger, job, 0, worker="w1")
    assert jobs.try_claim(ledger, job, 0, worker="w2") is None
    assert jobs.try_claim(ledger, job, 0, worker="w1") is None, "a wake-up that came twice"
    lapse(ledger, first.ref)
    second = jobs.claim(ledger, job, 0, worker="w2")
    assert second.fence == first.fence + 1
    assert numbers(second.items) == [0, 1, 2]


def test_shards_count_as_held_until_they_are_given_back_or_their_lease_is_over(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcdefghi")
    one, two, _ = (jobs.claim(ledger, job, number) for number in range(3))
    assert ledger.held(job.id) == 3
    lapse(ledger, one.ref)
    jobs.commit(ledger, Batch(fences={two.ref: two.fence}, releasing={two.ref: 0}))
    assert ledger.held(job.id) == 1


def test_a_worker_claims_only_what_it_can_serve(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    ref = ShardRef(job.id, 0)
    for holds in (set(), {(jobs.ENDPOINT, "other")}, {("https://other/v1", jobs.FINGERPRINT)}):
        assert ledger.claim(ref, worker_id="w", lease_s=60, holds=holds) is None


@pytest.mark.parametrize(
    "end", [Ledger.cancel, lambda ledger, n: ledger.pause(n, "user"), lambda ledger, n: ledger.stop(n, "no such model")]
)
def test_no_shard_of_a_job_that_does_not_run_is_claimed(ledger: Ledger, end: Callable[[Ledger, int], JobView]) -> None:
    job = jobs.submit(ledger, "abc")
    end(ledger, job.id)
    assert jobs.try_claim(ledger, job, 0) is None
    ledger.resume(job.id)
    assert jobs.try_claim(ledger, job, 0) is not None


def test_a_wake_up_for_a_shard_or_job_that_is_not_there_is_dropped(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    assert jobs.try_claim(ledger, job, 9) is None
    assert ledger.claim(ShardRef(10_000, 0), worker_id="w", lease_s=60, holds={jobs.LANE}) is None


def test_a_parked_shard_is_not_claimed_before_its_time(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    claimed = jobs.claim(ledger, job, 0)
    jobs.commit(ledger, Batch(fences={claimed.ref: claimed.fence}, releasing={claimed.ref: 3_600.0}))
    assert jobs.try_claim(ledger, job, 0) is None
    ledger.pause(job.id, "user")
    ledger.resume(job.id)
    assert jobs.try_claim(ledger, job, 0) is not None, "resuming does not wait for parked shards"


def test_a_released_shard_can_be_claimed_at_once(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    claimed = jobs.claim(ledger, job, 0)
    jobs.commit(ledger, jobs.paid(claimed, claimed.items[:1], releasing={claimed.ref: 0.0}))
    assert numbers(jobs.claim(ledger, job, 0, worker="w2").items) == [1, 2]


def test_what_was_paid_for_by_another_job_is_settled_by_the_claim(ledger: Ledger) -> None:
    earlier = jobs.submit(ledger, "ab")
    jobs.work_off(ledger, earlier)
    job = jobs.submit(ledger, "bca")
    claimed = jobs.claim(ledger, job, 0)
    assert numbers(claimed.items) == [1]
    counts = ledger.counts(job.id)
    assert (counts.succeeded, counts.cached, counts.requests) == (2, 2, 0)
    assert counts.usd == 0


def test_a_shard_with_every_answer_there_is_closed_by_its_claim(ledger: Ledger) -> None:
    jobs.work_off(ledger, jobs.submit(ledger, "abc"))
    job = jobs.submit(ledger, "cab")
    claimed = jobs.claim(ledger, job, 0)
    assert (claimed.items, claimed.awaited) == ([], [])
    assert ledger.job(job.id).state == "finished"
    assert ledger.counts(job.id).cached == 3
    report = jobs.commit(ledger, Batch(fences={claimed.ref: claimed.fence}, closing=[claimed.ref]))
    assert report.closed == {claimed.ref}


def test_a_truncated_answer_counts_as_truncated_wherever_it_is_used(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "ab")
    claimed = jobs.claim(ledger, job, 0)
    cut = [jobs.reply(item.key, truncated=True) for item in claimed.items]
    jobs.commit(ledger, jobs.paid(claimed, answers=cut, closing=[claimed.ref]))
    cached = jobs.submit(ledger, "a")
    jobs.claim(ledger, cached, 0)
    assert [ledger.counts(each.id).truncated for each in (job, cached)] == [2, 1]


# --- keys in flight ---------------------------------------------------------------------------------------------


def settle(ledger: Ledger, claimed: ClaimedShard, worker: str = "w1") -> None:
    jobs.commit(ledger, jobs.paid(claimed, closing=[claimed.ref]), worker=worker)


def test_a_key_in_flight_elsewhere_is_awaited_not_sent(ledger: Ledger) -> None:
    one, two = jobs.submit(ledger, "ab"), jobs.submit(ledger, "bc")
    paying = jobs.claim(ledger, one, 0)
    waiting = jobs.claim(ledger, two, 0, worker="w2")
    assert (numbers(waiting.items), numbers(waiting.awaited)) == ([1], [0])
    assert numbers(ledger.awaited(waiting.ref, waiting.fence).waiting) == [0]
    settle(ledger, paying)
    report = ledger.awaited(waiting.ref, waiting.fence)
    assert (report.settled, report.items, report.waiting) == (1, [], [])
    settle(ledger, waiting, "w2")
    assert ledger.job(two.id).state == "finished"
    assert ledger.counts(two.id).cached == 1


def test_a_duplicate_text_within_a_shard_waits_for_the_first(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "aab")
    claimed = jobs.claim(ledger, job, 0)
    assert (numbers(claimed.items), numbers(claimed.awaited)) == ([0, 2], [1])
    assert numbers(ledger.awaited(claimed.ref, claimed.fence).waiting) == [1]
    jobs.commit(ledger, jobs.paid(claimed))
    assert ledger.awaited(claimed.ref, claimed.fence).settled == 1
    assert jobs.commit(ledger, Batch(fences={claimed.ref: claimed.fence}, closing=[claimed.ref])).closed


def test_an_awaited_key_is_taken_over_when_its_payer_fails(ledger: Ledger) -> None:
    one, two = jobs.submit(ledger, "a"), jobs.submit(ledger, "aa")
    paying = jobs.claim(ledger, one, 0)
    waiting = jobs.claim(ledger, two, 0, worker="w2")
    assert numbers(waiting.awaited) == [0, 1]
    jobs.commit(ledger, Batch(fences={paying.ref: paying.fence}, results=jobs.failed(paying, paying.items)))
    report = ledger.awaited(waiting.ref, waiting.fence)
    assert (numbers(report.items), numbers(report.waiting)) == ([0], [1])
    again = ledger.awaited(waiting.ref, waiting.fence)
    assert (again.items, numbers(again.waiting)) == ([], [1]), "handed over once"
    jobs.commit(
        ledger, Batch(fences={waiting.ref: waiting.fence}, results=jobs.failed(waiting, report.items)), worker="w2"
    )
    assert numbers(ledger.awaited(waiting.ref, waiting.fence).items) == [1], (
        "a duplicate of a failed item is tried itself"
    )


@pytest.mark.parametrize("how", ["lapsed", "released", "closed"])
def test_an_awaited_key_is_taken_over_when_its_payer_let_go_of_it(ledger: Ledger, how: str) -> None:
    one, two = jobs.submit(ledger, "a"), jobs.submit(ledger, "a")
    paying = jobs.claim(ledger, one, 0)
    waiting = jobs.claim(ledger, two, 0, worker="w2")
    if how == "lapsed":
        lapse(ledger, paying.ref)
    elif how == "released":
        jobs.commit(ledger, Batch(fences={paying.ref: paying.fence}, releasing={paying.ref: 0}))
    else:
        jobs.commit(ledger, Batch(fences={paying.ref: paying.fence}, closing=[paying.ref]))
    assert numbers(ledger.awaited(waiting.ref, waiting.fence).items) == [0]


def test_a_shard_claimed_again_takes_its_own_keys_back(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "ab")
    lapse(ledger, jobs.claim(ledger, job, 0).ref)
    assert numbers(jobs.claim(ledger, job, 0, worker="w2").items) == [0, 1]


def test_without_the_cache_every_item_is_paid_for(ledger: Ledger) -> None:
    jobs.work_off(ledger, jobs.submit(ledger, "ab"))
    private = jobs.submit(ledger, ["a of its own", "b of its own"], cache=False)
    claimed = jobs.claim(ledger, private, 0)
    assert numbers(claimed.items) == [0, 1]
    assert ledger.awaited(claimed.ref, claimed.fence).items == ()


def test_awaiting_under_a_lost_fence_settles_nothing(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "aa")
    stale = jobs.claim(ledger, job, 0)
    lapse(ledger, stale.ref)
    jobs.claim(ledger, job, 0, worker="w2")
    report = ledger.awaited(stale.ref, stale.fence)
    assert (report.settled, report.items, report.waiting) == (0, (), ())


def test_keys_of_dead_holders_are_swept_away_and_those_of_living_ones_stay(ledger: Ledger) -> None:
    dead, living = jobs.submit(ledger, "abc"), jobs.submit(ledger, "def")
    lapse(ledger, jobs.claim(ledger, dead, 0).ref)
    jobs.claim(ledger, living, 0)
    assert ledger.sweep() == 3
    assert ledger.sweep() == 0
