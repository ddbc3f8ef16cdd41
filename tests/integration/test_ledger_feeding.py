"""Feeding: fair, in order, bounded, and no wake-up lost for good."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Batch, JobView, ShardRef
from tests.fixtures import jobs
from tests.integration.test_ledger_claims import lapse


def alive(ledger: Ledger, *, worker: str = "w1", slots: int = 4, lease_s: float = 60) -> None:
    ledger.worker_beat(worker, host="h", pid=7, boot_id="b", slots=slots, holds={jobs.LANE}, lease_s=lease_s)


def send(ledger: Ledger, room: int) -> list[ShardRef]:
    return ledger.sendable("completion", "normal", room=room)


def refs(job: JobView, *numbers: int) -> list[ShardRef]:
    return [ShardRef(job.id, number) for number in numbers]


def test_shards_are_sent_in_order_once_and_no_more_than_there_is_room(ledger: Ledger) -> None:
    alive(ledger)
    job = jobs.submit(ledger, "abcdefghijkl")
    assert send(ledger, 0) == []
    assert send(ledger, 3) == refs(job, 0, 1, 2)
    assert send(ledger, 3) == refs(job, 3)
    assert send(ledger, 3) == []
    assert ledger.outstanding("completion", "normal") == 4


def test_only_the_queue_asked_for_is_fed(ledger: Ledger) -> None:
    alive(ledger)
    job = jobs.submit(ledger, "abc", kind="embedding", priority="high")
    assert send(ledger, 5) == []
    assert ledger.sendable("embedding", "normal", room=5) == []
    assert ledger.sendable("embedding", "high", room=5) == refs(job, 0)


def test_two_jobs_share_the_places_and_a_latecomer_catches_up(ledger: Ledger) -> None:
    alive(ledger)
    early = jobs.submit(ledger, [f"e{n}" for n in range(30)])
    assert len(send(ledger, 4)) == 4
    late = jobs.submit(ledger, [f"l{n}" for n in range(30)])
    sent = send(ledger, 6)
    assert sent[:4] == refs(late, 0, 1, 2, 3)
    assert Counter(ref.job_id for ref in sent) == {late.id: 5, early.id: 1}


def test_what_a_small_job_leaves_goes_to_the_others(ledger: Ledger) -> None:
    alive(ledger)
    small, large = jobs.submit(ledger, "a"), jobs.submit(ledger, [f"l{n}" for n in range(30)])
    assert Counter(ref.job_id for ref in send(ledger, 8)) == {small.id: 1, large.id: 7}


def test_a_job_that_no_live_worker_can_serve_is_not_fed(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    assert send(ledger, 5) == []
    assert not ledger.serving(*jobs.LANE)
    alive(ledger, lease_s=-1)
    assert send(ledger, 5) == [], "its heartbeat is too old"
    alive(ledger)
    assert ledger.serving(*jobs.LANE)
    assert send(ledger, 5) == refs(job, 0)
    ledger.worker_gone("w1")
    assert not ledger.serving(*jobs.LANE)


def test_paused_jobs_are_neither_fed_nor_counted_and_fed_again_when_resumed(ledger: Ledger) -> None:
    alive(ledger)
    job = jobs.submit(ledger, "abcdef")
    send(ledger, 1)
    ledger.pause(job.id, "user")
    assert send(ledger, 5) == []
    assert ledger.outstanding("completion", "normal") == 0
    ledger.resume(job.id)
    assert send(ledger, 5) == refs(job, 0, 1), "the wake-up sent before the pause was dropped"


def test_a_shard_whose_lease_lapsed_is_sent_again_first(ledger: Ledger) -> None:
    alive(ledger)
    job = jobs.submit(ledger, "abcdefghi")
    send(ledger, 2)
    lapse(ledger, jobs.claim(ledger, job, 1).ref)
    assert send(ledger, 2) == refs(job, 1, 2)
    assert jobs.try_claim(ledger, job, 1, worker="w2") is not None


def test_what_a_dead_worker_left_is_sent_again_once_whatever_room_there_is(ledger: Ledger) -> None:
    alive(ledger)
    job = jobs.submit(ledger, "abcdefghi")
    send(ledger, 3)
    lapse(ledger, jobs.claim(ledger, job, 1).ref)
    jobs.claim(ledger, job, 2)
    with ThreadPoolExecutor(2) as feeders:
        found = list(feeders.map(lambda _: ledger.left_behind("completion", most=8), range(2)))
    assert sorted(found) == [[], refs(job, 1)]
    assert ledger.left_behind("embedding", most=8) == []


def test_a_claimed_shard_is_not_sent_again_while_its_lease_lasts(ledger: Ledger) -> None:
    alive(ledger)
    job = jobs.submit(ledger, "abc")
    send(ledger, 1)
    jobs.claim(ledger, job, 0)
    assert ledger.unmark_sent(0) == 0
    assert send(ledger, 5) == []
    assert (ledger.outstanding("completion", "normal"), ledger.unclaimed("completion", "normal")) == (1, 0)


def test_a_wake_up_that_nobody_claimed_is_taken_for_lost_after_a_while(ledger: Ledger) -> None:
    alive(ledger)
    job = jobs.submit(ledger, "abc")
    send(ledger, 1)
    assert ledger.unclaimed("completion", "normal") == 1
    assert ledger.unmark_sent(60) == 0
    assert ledger.unmark_sent(0, queue_kind="embedding") == 0
    assert ledger.unmark_sent(0, queue_kind="completion", priority="high") == 0
    assert ledger.unmark_sent(0, queue_kind="completion", priority="normal") == 1
    assert send(ledger, 1) == refs(job, 0)


def test_a_released_shard_is_sent_again_and_a_parked_one_later(ledger: Ledger) -> None:
    alive(ledger)
    job = jobs.submit(ledger, "abcdef")
    send(ledger, 2)
    now, later = jobs.claim(ledger, job, 0), jobs.claim(ledger, job, 1)
    held = {now.ref: now.fence, later.ref: later.fence}
    jobs.commit(ledger, Batch(fences=held, releasing={now.ref: 0.0, later.ref: 3_600.0}))
    assert send(ledger, 5) == refs(job, 0)


def test_shards_behind_the_first_items_are_not_fed(ledger: Ledger) -> None:
    alive(ledger)
    job = jobs.submit(ledger, "abcdefghi", first=4)
    assert send(ledger, 9) == refs(job, 0, 1)


def test_done_shards_are_not_outstanding(ledger: Ledger) -> None:
    alive(ledger)
    job = jobs.submit(ledger, "abcdef")
    send(ledger, 2)
    claimed = jobs.claim(ledger, job, 0)
    jobs.commit(ledger, jobs.paid(claimed, closing=[claimed.ref]))
    assert ledger.outstanding("completion", "normal") == 1


def test_workers_are_seen_with_what_they_hold_until_they_are_gone(ledger: Ledger) -> None:
    alive(ledger, worker="a", slots=3)
    alive(ledger, worker="b")
    alive(ledger, worker="a", slots=5)
    first, second = ledger.workers(60)
    assert (first.id, first.host, first.pid, first.slots, first.holds) == ("a", "h", 7, 5, frozenset({jobs.LANE}))
    assert 0 <= second.seen_s_ago < 60
    ledger.worker_gone("a")
    assert [worker.id for worker in ledger.workers(60)] == ["b"]


def test_the_lease_clock_goes_forward(ledger: Ledger) -> None:
    assert ledger.now_s() <= ledger.now_s()


def test_a_wake_up_that_reached_a_worker_without_the_key_is_sent_again_at_once(ledger: Ledger) -> None:
    alive(ledger)
    job = jobs.submit(ledger, "abcdef")
    assert send(ledger, 2) == refs(job, 0, 1)
    stranger = {(jobs.ENDPOINT, "of another key")}
    assert ledger.claim(ShardRef(job.id, 0), worker_id="w2", lease_s=60, holds=stranger) is None
    assert send(ledger, 2) == refs(job, 0)
