"""A budget is reserved before a call, over the whole fleet, and never twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from sqlalchemy import func, select, type_coerce, update

from corpusmill.ledger import Ledger
from corpusmill.ledger.amounts import NOTHING, Amount
from corpusmill.ledger.models import Job, Shard
from corpusmill.ledger.records import Batch, ClaimedShard, Reservation, ShardRef
from corpusmill.ledger.types import Usd
from tests.fixtures import jobs
from tests.integration.test_ledger_claims import lapse

ONE = Decimal(1)
MOTE = Decimal("1e-12")


def accounts(ledger: Ledger, job_id: int) -> tuple[Decimal, Decimal]:
    """What is set aside by the job's account, and by its shards' counters."""
    spent = func.sum(Shard.usd + Shard.unknown_usd + Shard.reserved)
    total = select(type_coerce(spent, Usd)).where(Shard.job_id == job_id)
    kept = select(Job.set_aside).where(Job.id == job_id)
    return ledger._db.read(lambda conn: (conn.execute(kept).scalar_one(), conn.execute(total).scalar_one()))


def reserve(ledger: Ledger, claimed: ClaimedShard, usd: Decimal, tokens: int = 0) -> Reservation:
    """Ask for an amount for a shard that was claimed."""
    return ledger.reserve(claimed.ref, claimed.fence, Amount(usd, tokens))


def test_reservations_stop_at_the_budget_over_all_shards(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcdef", budget_usd=3 * ONE)
    one, two = jobs.claim(ledger, job, 0), jobs.claim(ledger, job, 1, worker="w2")
    assert reserve(ledger, one, 2 * ONE) == "ok"
    assert reserve(ledger, two, ONE) == "ok"
    assert reserve(ledger, two, MOTE) == "wait", "the others' money may come back"
    assert reserve(ledger, two, 4 * ONE) == "over"
    assert accounts(ledger, job.id) == (3 * ONE, 3 * ONE)


def test_spending_comes_out_of_what_was_reserved(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc", budget_usd=ONE)
    claimed = jobs.claim(ledger, job, 0)
    reserve(ledger, claimed, ONE)
    paid = [
        jobs.bill(claimed.ref, "1", usd=Decimal("0.25")),
        jobs.bill(claimed.ref, "2", usd=Decimal("0.25"), outcome="unknown"),
    ]
    batch = Batch(fences={claimed.ref: claimed.fence}, usage=paid)
    jobs.commit(ledger, batch)
    jobs.commit(ledger, batch)
    assert accounts(ledger, job.id) == (ONE, ONE)
    assert reserve(ledger, claimed, Decimal("0.5")) == "wait"
    assert reserve(ledger, claimed, Decimal("0.6")) == "over"


def test_what_a_shard_did_not_spend_comes_back_when_it_is_closed_released_or_lost(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcdefghi", budget_usd=9 * ONE)
    closing, releasing, losing = (jobs.claim(ledger, job, number) for number in range(3))
    for claimed in (closing, releasing, losing):
        assert reserve(ledger, claimed, 3 * ONE) == "ok"
    jobs.commit(ledger, jobs.paid(closing, closing=[closing.ref]))
    jobs.commit(ledger, Batch(fences={releasing.ref: releasing.fence}, releasing={releasing.ref: 0}))
    lapse(ledger, losing.ref)
    jobs.claim(ledger, job, 2, worker="w2")
    spent = 3 * jobs.PRICE
    assert accounts(ledger, job.id) == (spent, spent)


def test_money_that_dead_owners_hold_is_free_without_their_shards_being_claimed(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcdefghi", budget_usd=ONE)
    dead, living = jobs.claim(ledger, job, 0), jobs.claim(ledger, job, 1, worker="w2")
    reserve(ledger, dead, ONE)
    assert reserve(ledger, living, ONE) == "wait"
    lapse(ledger, dead.ref)
    assert reserve(ledger, living, ONE) == "ok"
    assert accounts(ledger, job.id) == (ONE, ONE)


def test_a_purse_may_be_given_back_early(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc", budget_usd=ONE)
    claimed = jobs.claim(ledger, job, 0)
    reserve(ledger, claimed, ONE)
    jobs.commit(ledger, Batch(fences={claimed.ref: claimed.fence}, reserved={claimed.ref: NOTHING}))
    assert reserve(ledger, claimed, ONE) == "ok"


def test_a_call_dearer_than_its_estimate_uses_up_the_rest(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc", budget_usd=ONE)
    claimed = jobs.claim(ledger, job, 0)
    reserve(ledger, claimed, Decimal("0.1"))
    jobs.commit(ledger, Batch(fences={claimed.ref: claimed.fence}, usage=[jobs.bill(claimed.ref, "1", usd=2 * ONE)]))
    assert accounts(ledger, job.id) == (2 * ONE, 2 * ONE)
    assert reserve(ledger, claimed, Decimal("0.1")) == "over"


def test_a_worker_that_lost_its_shard_reserves_nothing(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc", budget_usd=ONE)
    stale = jobs.claim(ledger, job, 0)
    lapse(ledger, stale.ref)
    jobs.claim(ledger, job, 0, worker="w2")
    assert reserve(ledger, stale, ONE) == "lost"
    assert ledger.reserve(ShardRef(job.id, 9), 1, Amount(ONE)) == "lost"


def test_without_a_budget_there_is_always_room_and_no_account(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    claimed = jobs.claim(ledger, job, 0)
    assert reserve(ledger, claimed, 1_000_000 * ONE) == "ok"
    jobs.commit(ledger, jobs.paid(claimed))
    assert accounts(ledger, job.id) == (Decimal(0), 3 * jobs.PRICE)


def test_a_budget_given_later_counts_what_was_spent_before(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    claimed = jobs.claim(ledger, job, 0)
    jobs.commit(ledger, jobs.paid(claimed, claimed.items[:2]))
    ledger.set_budget(job.id, 2 * jobs.PRICE)
    assert reserve(ledger, claimed, MOTE) == "over"
    ledger.resume(job.id, budget=3 * jobs.PRICE)
    assert reserve(ledger, claimed, jobs.PRICE) == "ok"
    assert ledger.job(job.id).budget_usd == 3 * jobs.PRICE


def test_many_at_once_never_reserve_more_than_the_budget(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcdefghijkl", budget_usd=10 * ONE)
    held = [jobs.claim(ledger, job, number, worker=f"w{number}") for number in range(4)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: reserve(ledger, held[n % 4], ONE), range(24)))
    assert sorted(answers) == ["ok"] * 10 + ["wait"] * 14
    assert accounts(ledger, job.id) == (10 * ONE, 10 * ONE)


# --- tokens ---------------------------------------------------------------------------------------------------------


def test_tokens_are_reserved_spent_and_given_back_as_dollars_are(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcdef", budget_tokens=100)
    one, two = jobs.claim(ledger, job, 0), jobs.claim(ledger, job, 1, worker="w2")
    assert reserve(ledger, one, 9 * ONE, 60) == "ok", "of dollars there is no budget"
    assert reserve(ledger, two, ONE, 41) == "wait"
    assert reserve(ledger, two, ONE, 101) == "over"
    paid = [jobs.bill(one.ref, "1"), jobs.bill(one.ref, "2", outcome="unknown")]
    jobs.commit(ledger, Batch(fences={one.ref: one.fence}, usage=paid))
    assert ledger.spent(job.id) == Amount(2 * jobs.PRICE, 2 * 16)
    assert reserve(ledger, two, ONE, 40) == "ok"
    assert reserve(ledger, two, ONE, 28) == "wait"
    assert reserve(ledger, two, ONE, 69) == "over"
    jobs.commit(ledger, Batch(fences={one.ref: one.fence}, releasing={one.ref: 0}))
    assert reserve(ledger, two, ONE, 28) == "ok"
    audit = ledger.audit(job.id)
    assert audit.adds_up, [str(each) for each in audit.mismatches]


def test_a_budget_of_tokens_given_later_counts_those_used_before_and_what_became_known(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    claimed = jobs.claim(ledger, job, 0)
    lost = jobs.bill(claimed.ref, "lost", outcome="unknown")
    jobs.commit(ledger, Batch(fences={claimed.ref: claimed.fence}, usage=[jobs.bill(claimed.ref, "1"), lost]))
    ledger.set_budget_tokens(job.id, 40)
    assert reserve(ledger, claimed, ONE, 9) == "over"
    found = Batch(fences={claimed.ref: claimed.fence}, known={claimed.ref: [lost.attempt_id]})
    jobs.commit(ledger, found)
    assert reserve(ledger, claimed, ONE, 24) == "ok"


def test_tokens_that_a_worker_of_the_version_before_counted_in_its_shard_alone_come_out_of_the_budget(
    ledger: Ledger,
) -> None:
    job = jobs.submit(ledger, "abcdef", budget_tokens=100)
    one, two = jobs.claim(ledger, job, 0), jobs.claim(ledger, job, 1, worker="w2")
    assert ledger.set_budgets_right() == 0
    lost = jobs.bill(one.ref, "lost", outcome="unknown")
    jobs.commit(ledger, Batch(fences={one.ref: one.fence}, usage=[jobs.bill(one.ref, "1"), lost]))
    # Such a worker knows neither the job's account of tokens nor the shard's counter of those perhaps spent.
    ledger._db.write(lambda conn: conn.execute(update(Shard).values(unknown_tokens=0)))
    ledger._db.write(lambda conn: conn.execute(update(Job).values(set_aside_tokens=0)))

    assert ledger.set_budgets_right() == 1

    assert ledger.spent(job.id).tokens == 32
    assert reserve(ledger, two, ONE, 69) == "over"
    assert reserve(ledger, two, ONE, 68) == "ok"
    assert ledger.set_budgets_right() == 0
    assert ledger.audit(job.id).adds_up


def test_what_became_known_of_a_call_that_was_not_counted_leaves_no_counter_below_nothing(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc", budget_tokens=100)
    claimed = jobs.claim(ledger, job, 0)
    lost = jobs.bill(claimed.ref, "lost", outcome="unknown")
    jobs.commit(ledger, Batch(fences={claimed.ref: claimed.fence}, usage=[lost]))
    ledger._db.write(lambda conn: conn.execute(update(Shard).values(unknown_tokens=0)))
    ledger._db.write(lambda conn: conn.execute(update(Job).values(set_aside_tokens=0)))

    jobs.commit(ledger, Batch(fences={claimed.ref: claimed.fence}, known={claimed.ref: [lost.attempt_id]}))

    assert ledger.spent(job.id) == NOTHING
    assert reserve(ledger, claimed, ONE, 101) == "over"


def test_of_two_budgets_the_tighter_holds(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc", budget_usd=ONE, budget_tokens=100)
    claimed = jobs.claim(ledger, job, 0)
    assert reserve(ledger, claimed, 2 * ONE, 10) == "over"
    assert reserve(ledger, claimed, ONE, 101) == "over"
    assert reserve(ledger, claimed, ONE, 100) == "ok"
