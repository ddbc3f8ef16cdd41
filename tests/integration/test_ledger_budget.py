"""A budget is reserved before a call, over the whole fleet, and never twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from sqlalchemy import func, select, type_coerce

from corpusmill.ledger import Ledger
from corpusmill.ledger.models import Job, Shard
from corpusmill.ledger.records import Batch, ShardRef
from corpusmill.ledger.types import Usd
from tests.fixtures import jobs
from tests.integration.test_ledger_claims import lapse

ONE = Decimal(1)


def accounts(ledger: Ledger, job_id: int) -> tuple[Decimal, Decimal]:
    """What is set aside by the job's account, and by its shards' counters."""
    spent = func.sum(Shard.usd + Shard.unknown_usd + Shard.reserved)
    total = select(type_coerce(spent, Usd)).where(Shard.job_id == job_id)
    kept = select(Job.set_aside).where(Job.id == job_id)
    return ledger._db.read(lambda conn: (conn.execute(kept).scalar_one(), conn.execute(total).scalar_one()))


def test_reservations_stop_at_the_budget_over_all_shards(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcdef", budget_usd=3 * ONE)
    one, two = jobs.claim(ledger, job, 0), jobs.claim(ledger, job, 1, worker="w2")
    assert ledger.reserve(one.ref, one.fence, 2 * ONE) == "ok"
    assert ledger.reserve(two.ref, two.fence, ONE) == "ok"
    assert ledger.reserve(two.ref, two.fence, Decimal("1e-12")) == "wait", "the others' money may come back"
    assert ledger.reserve(two.ref, two.fence, 4 * ONE) == "over"
    assert accounts(ledger, job.id) == (3 * ONE, 3 * ONE)


def test_spending_comes_out_of_what_was_reserved(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc", budget_usd=ONE)
    claimed = jobs.claim(ledger, job, 0)
    ledger.reserve(claimed.ref, claimed.fence, ONE)
    paid = [
        jobs.bill(claimed.ref, "1", usd=Decimal("0.25")),
        jobs.bill(claimed.ref, "2", usd=Decimal("0.25"), outcome="unknown"),
    ]
    batch = Batch(fences={claimed.ref: claimed.fence}, usage=paid)
    jobs.commit(ledger, batch)
    jobs.commit(ledger, batch)
    assert accounts(ledger, job.id) == (ONE, ONE)
    assert ledger.reserve(claimed.ref, claimed.fence, Decimal("0.5")) == "wait"
    assert ledger.reserve(claimed.ref, claimed.fence, Decimal("0.6")) == "over"


def test_what_a_shard_did_not_spend_comes_back_when_it_is_closed_released_or_lost(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcdefghi", budget_usd=9 * ONE)
    closing, releasing, losing = (jobs.claim(ledger, job, number) for number in range(3))
    for claimed in (closing, releasing, losing):
        assert ledger.reserve(claimed.ref, claimed.fence, 3 * ONE) == "ok"
    jobs.commit(ledger, jobs.paid(closing, closing=[closing.ref]))
    jobs.commit(ledger, Batch(fences={releasing.ref: releasing.fence}, releasing={releasing.ref: 0}))
    lapse(ledger, losing.ref)
    jobs.claim(ledger, job, 2, worker="w2")
    spent = 3 * jobs.PRICE
    assert accounts(ledger, job.id) == (spent, spent)


def test_money_that_dead_owners_hold_is_free_without_their_shards_being_claimed(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcdefghi", budget_usd=ONE)
    dead, living = jobs.claim(ledger, job, 0), jobs.claim(ledger, job, 1, worker="w2")
    ledger.reserve(dead.ref, dead.fence, ONE)
    assert ledger.reserve(living.ref, living.fence, ONE) == "wait"
    lapse(ledger, dead.ref)
    assert ledger.reserve(living.ref, living.fence, ONE) == "ok"
    assert accounts(ledger, job.id) == (ONE, ONE)


def test_a_purse_may_be_given_back_early(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc", budget_usd=ONE)
    claimed = jobs.claim(ledger, job, 0)
    ledger.reserve(claimed.ref, claimed.fence, ONE)
    jobs.commit(ledger, Batch(fences={claimed.ref: claimed.fence}, reserved={claimed.ref: Decimal(0)}))
    assert ledger.reserve(claimed.ref, claimed.fence, ONE) == "ok"


def test_a_call_dearer_than_its_estimate_uses_up_the_rest(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc", budget_usd=ONE)
    claimed = jobs.claim(ledger, job, 0)
    ledger.reserve(claimed.ref, claimed.fence, Decimal("0.1"))
    jobs.commit(ledger, Batch(fences={claimed.ref: claimed.fence}, usage=[jobs.bill(claimed.ref, "1", usd=2 * ONE)]))
    assert accounts(ledger, job.id) == (2 * ONE, 2 * ONE)
    assert ledger.reserve(claimed.ref, claimed.fence, Decimal("0.1")) == "over"


def test_a_worker_that_lost_its_shard_reserves_nothing(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc", budget_usd=ONE)
    stale = jobs.claim(ledger, job, 0)
    lapse(ledger, stale.ref)
    jobs.claim(ledger, job, 0, worker="w2")
    assert ledger.reserve(stale.ref, stale.fence, ONE) == "lost"
    assert ledger.reserve(ShardRef(job.id, 9), 1, ONE) == "lost"


def test_without_a_budget_there_is_always_room_and_no_account(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    claimed = jobs.claim(ledger, job, 0)
    assert ledger.reserve(claimed.ref, claimed.fence, 1_000_000 * ONE) == "ok"
    jobs.commit(ledger, jobs.paid(claimed))
    assert accounts(ledger, job.id) == (Decimal(0), 3 * jobs.PRICE)


def test_a_budget_given_later_counts_what_was_spent_before(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    claimed = jobs.claim(ledger, job, 0)
    jobs.commit(ledger, jobs.paid(claimed, claimed.items[:2]))
    ledger.set_budget(job.id, 2 * jobs.PRICE)
    assert ledger.reserve(claimed.ref, claimed.fence, Decimal("1e-12")) == "over"
    ledger.resume(job.id, budget=3 * jobs.PRICE)
    assert ledger.reserve(claimed.ref, claimed.fence, jobs.PRICE) == "ok"
    assert ledger.job(job.id).budget_usd == 3 * jobs.PRICE


def test_many_at_once_never_reserve_more_than_the_budget(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcdefghijkl", budget_usd=10 * ONE)
    held = [jobs.claim(ledger, job, number, worker=f"w{number}") for number in range(4)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: ledger.reserve(held[n % 4].ref, held[n % 4].fence, ONE), range(24)))
    assert sorted(answers) == ["ok"] * 10 + ["wait"] * 14
    assert accounts(ledger, job.id) == (10 * ONE, 10 * ONE)
