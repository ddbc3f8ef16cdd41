"""Any order of claims, payments, commits, crashes and lapsed leases: one result an item, counters exact, one owner.

Hypothesis plays workers, endpoint and operator against a ledger; a model of who may own what runs beside it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Connection, func, select, update

from corpusmill.errors import UsageError
from corpusmill.ledger import Ledger
from corpusmill.ledger.amounts import Amount
from corpusmill.ledger.bulk import table_of
from corpusmill.ledger.jobs import OVER
from corpusmill.ledger.models import Answer, Item, Job, Result, Shard, Usage
from corpusmill.ledger.records import Answer as PaidAnswer
from corpusmill.ledger.records import Batch, ItemResult, ShardRef, WorkItem
from corpusmill.ledger.records import Usage as Bill
from tests.fixtures import jobs

WORKERS = st.sampled_from(["w1", "w2", "w3"])
PICK = st.integers(0, 10_000)
NAMES = ("aabcdefg", "cdxyzza")
_examples = itertools.count(1)


@pytest.mark.timeout(180)
def test_one_result_an_item_exact_counters_and_one_owner_whatever_happens(ledger: Ledger) -> None:
    play(ledger, examples=12, steps=30, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_the_same_over_hundreds_of_random_histories(ledger: Ledger) -> None:
    play(ledger, examples=300, steps=50, derandomize=False)


def play(ledger: Ledger, *, examples: int, steps: int, derandomize: bool) -> None:
    run_state_machine_as_test(
        cast("type[Mill]", lambda: Mill(ledger)),  # a factory will do, its type says otherwise
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            database=None,
            derandomize=derandomize,
            suppress_health_check=list(HealthCheck),
        ),
    )


@dataclass
class Paid:
    """Something that came back from the endpoint and is in no table yet."""

    answer: PaidAnswer | None
    result: ItemResult
    bill: Bill


@dataclass
class Hand:
    """A shard in a worker's hands. `tainted`: its lease lapsed once, so others may have been given its keys."""

    worker: str
    ref: ShardRef
    fence: int
    to_send: list[WorkItem]
    unsaved: list[Paid] = field(default_factory=list)
    tainted: bool = False

    def keys(self) -> set[bytes]:
        """The keys that this hand is paying for."""
        return {item.key for item in self.to_send} | {paid.answer.key for paid in self.unsaved if paid.answer}


class Mill(RuleBasedStateMachine):
    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        run = next(_examples)
        budgets = [Decimal(1), None]
        self.jobs = [
            jobs.submit(ledger, [f"{run} {name}" for name in NAMES[n]], budget_usd=budgets[n]) for n in range(2)
        ]
        self.refs = [ShardRef(job.id, number) for job in self.jobs for number in range(3)]
        self.hands: list[Hand] = []
        self.living: dict[ShardRef, str] = {}
        self.journals: list[Paid] = []
        self.written: dict[bytes, Bill] = {}
        self.attempts = itertools.count(1)
        self.run = run

    # --- workers ------------------------------------------------------------------------------------------------

    @rule(worker=WORKERS, pick=PICK)
    def claim(self, worker: str, pick: int) -> None:
        ref = self.refs[pick % len(self.refs)]
        job = self.ledger.job(ref.job_id)
        claimed = jobs.try_claim(self.ledger, job, ref.shard_no, worker=worker)
        if claimed is None:
            done = self.row(ref).done
            assert ref in self.living or done or job.state not in ("queued", "running"), "a free shard was refused"
            return
        assert ref not in self.living, "two owners"
        self.hands = [hand for hand in self.hands if (hand.worker, hand.ref) != (worker, ref)]
        if claimed.items or claimed.awaited:
            self.hand_out(list(claimed.items))
            self.hands.append(Hand(worker, ref, claimed.fence, list(claimed.items)))
            self.living[ref] = worker
        assert self.row(ref).fence == claimed.fence

    @precondition(lambda self: self.hands)
    @rule(pick=PICK, works=st.integers(0, 3), count=st.integers(1, 3))
    def send(self, pick: int, works: int, count: int) -> None:
        hand = self.hands[pick % len(self.hands)]
        for _ in range(min(count, len(hand.to_send))):
            hand.unsaved.append(self.call(hand.ref, hand.to_send.pop(0), works=works > 0))

    @precondition(lambda self: self.hands)
    @rule(pick=PICK, twice=st.booleans(), renew=st.booleans(), end=st.sampled_from(["go on", "close", "release"]))
    def commit(self, pick: int, twice: bool, renew: bool, end: str) -> None:
        hand = self.hands[pick % len(self.hands)]
        owns = self.row(hand.ref).owner == hand.worker and self.row(hand.ref).fence == hand.fence
        batch = self.batch(
            hand.unsaved,
            fences={hand.ref: hand.fence},
            renew=renew,
            closing=[hand.ref] if end == "close" else [],
            releasing={hand.ref: 0.0} if end == "release" else {},
        )
        report = jobs.commit(self.ledger, batch, worker=hand.worker)
        if twice:
            jobs.commit(self.ledger, batch, worker=hand.worker)
        hand.unsaved = []
        assert (hand.ref in report.lost) == (not owns)
        if not owns or end != "go on":
            self.hands.remove(hand)
            if self.living.get(hand.ref) == hand.worker and owns:
                del self.living[hand.ref]
        elif renew:
            self.living[hand.ref] = hand.worker

    @precondition(lambda self: self.hands)
    @rule(pick=PICK)
    def ask_for_awaited(self, pick: int) -> None:
        hand = self.hands[pick % len(self.hands)]
        report = self.ledger.awaited(hand.ref, hand.fence)
        self.hand_out(list(report.items))
        hand.to_send.extend(report.items)

    @precondition(lambda self: self.hands)
    @rule(worker=WORKERS)
    def crash(self, worker: str) -> None:
        for hand in [hand for hand in self.hands if hand.worker == worker]:
            self.journals.extend(hand.unsaved)
            self.hands.remove(hand)

    @precondition(lambda self: self.journals)
    @rule()
    def adopt(self) -> None:
        self.ledger.commit(self.batch(self.journals), worker_id="adopter", lease_s=1)
        self.journals = []

    @precondition(lambda self: self.living)
    @rule(pick=PICK)
    def lapse(self, pick: int) -> None:
        ref = sorted(self.living)[pick % len(self.living)]
        self.lapse_all([ref])

    # --- people -------------------------------------------------------------------------------------------------

    @rule(pick=PICK, what=st.sampled_from(["pause", "cancel", "stop"]))
    def hold_up(self, pick: int, what: str) -> None:
        job_id = self.jobs[pick % 2].id
        if what == "pause":
            self.ledger.pause(job_id, "user")
        elif what == "cancel":
            self.ledger.cancel(job_id)
        else:
            self.ledger.stop(job_id, "every item fails")

    @rule(pick=PICK, first=st.sampled_from([None, 1, 2, 4, 6, ...]))
    def resume(self, pick: int, first: Any) -> None:
        self.ledger.resume(self.jobs[pick % 2].id, first=first)

    @rule(pick=PICK)
    def reopen(self, pick: int) -> None:
        self.ledger.reopen_failed(self.jobs[pick % 2].id)

    @precondition(lambda self: self.hands)
    @rule(pick=PICK)
    def reserve(self, pick: int) -> None:
        hand = self.hands[pick % len(self.hands)]
        row = self.row(hand.ref)
        answer = self.ledger.reserve(hand.ref, hand.fence, Amount(Decimal("0.3"), 30))
        assert (answer == "lost") == (row.fence != hand.fence or row.owner is None)

    @rule(pick=PICK)
    def purge(self, pick: int) -> None:
        number = pick % 2
        job = self.ledger.job(self.jobs[number].id)
        if job.state not in OVER or any(ref.job_id == job.id for ref in self.living):
            with pytest.raises(UsageError):
                self.ledger.purging.jobs([job.id])
            return
        self.ledger.purging.jobs([job.id])
        # Workers that lost their leases long ago may still come with what they paid for.
        for hand in [hand for hand in self.hands if hand.ref.job_id == job.id]:
            self.journals.extend(hand.unsaved)
            self.hands.remove(hand)
        self.written = {key: bill for key, bill in self.written.items() if bill.ref.job_id != job.id}
        self.jobs[number] = jobs.submit(self.ledger, [f"{self.run} {name}" for name in NAMES[number]])
        self.refs = [ShardRef(each.id, shard) for each in self.jobs for shard in range(3)]

    @rule(pick=PICK)
    def verify(self, pick: int) -> None:
        self.assert_adds_up(self.jobs[pick % 2].id)

    # --- what must hold -----------------------------------------------------------------------------------------

    @invariant()
    def counters_are_what_the_rows_say(self) -> None:
        self.ledger._db.read(self.check)

    def check(self, conn: Connection) -> None:
        ids = [job.id for job in self.jobs]
        shards = conn.execute(select(table_of(Shard)).where(Shard.job_id.in_(ids))).all()
        results = conn.execute(
            select(Result.job_id, Result.item_no, Result.error_class).where(Result.job_id.in_(ids))
        ).all()
        usage = conn.execute(select(Usage.attempt_id, Usage.usd).where(Usage.job_id.in_(ids))).all()
        assert {row.attempt_id: row.usd for row in usage} == {key: bill.usd for key, bill in self.written.items()}
        for shard in shards:
            self.check_shard(shard, results)
        for job in conn.execute(select(table_of(Job)).where(Job.id.in_(ids))).all():
            self.check_job(job, [shard for shard in shards if shard.job_id == job.id])
        unanswered = (
            select(func.count())
            .select_from(Result)
            .join(Item, (Item.job_id == Result.job_id) & (Item.item_no == Result.item_no))
            .outerjoin(Answer, Answer.key == Item.key)
            .where(Result.job_id.in_(ids), Result.error_class.is_(None), Answer.key.is_(None))
        )
        assert conn.execute(unanswered).scalar_one() == 0, "a success without its answer"

    def check_shard(self, shard: Any, results: Sequence[Any]) -> None:
        ended = [r.error_class for r in results if (r.job_id, r.item_no // 3) == (shard.job_id, shard.shard_no)]
        assert shard.succeeded == ended.count(None)
        assert shard.failed == len(ended) - ended.count(None)
        assert shard.succeeded + shard.failed >= shard.goal or not shard.done
        bills = [bill for bill in self.written.values() if bill.ref == ShardRef(shard.job_id, shard.shard_no)]
        assert shard.usd == sum((bill.usd or Decimal(0) for bill in bills), Decimal(0))
        assert shard.prompt_tokens == sum(bill.prompt_tokens for bill in bills)

    def check_job(self, job: Any, shards: Sequence[Any]) -> None:
        assert job.shards_open == sum(not shard.done for shard in shards)
        budgeted = job.budget_usd is not None or job.budget_tokens is not None
        usd = sum((shard.usd + shard.unknown_usd + shard.reserved for shard in shards), Decimal(0))
        assert job.set_aside == (usd if budgeted else 0)
        counters = ("prompt_tokens", "completion_tokens", "unknown_tokens", "reserved_tokens")
        tokens = sum(getattr(shard, name) for shard in shards for name in counters)
        assert job.set_aside_tokens == (tokens if budgeted else 0)
        if job.state == "finished":
            assert sum(shard.succeeded + shard.failed for shard in shards) == job.items
        if job.shards_open == 0:
            assert job.state not in ("queued", "running")

    def assert_adds_up(self, job_id: int) -> None:
        audit = self.ledger.audit(job_id)
        assert audit.adds_up, [str(each) for each in audit.mismatches]

    def teardown(self) -> None:
        """Whatever happened: when everybody comes back, every job ends with one result an item."""
        self.ledger.commit(self.batch(self.journals), worker_id="adopter", lease_s=1)
        self.lapse_all(self.refs)
        for job in self.jobs:
            self.ledger.resume(job.id, first=None)
        for ref in self.refs:
            self.work_off(ref)
        self.ledger._db.read(self.check)
        for job in self.jobs:
            counts = self.ledger.counts(job.id)
            assert (self.ledger.job(job.id).state, counts.open) == ("finished", 0)
            ended = [row.item_no for row in self.ledger.results(job.id, states=("succeeded", "failed"))]
            assert ended == list(range(counts.items))
            assert counts.succeeded - counts.cached <= counts.requests + len(self.written)
            self.assert_adds_up(job.id)

    # --- how the endpoint and the workers behave ----------------------------------------------------------------

    def hand_out(self, items: list[WorkItem]) -> None:
        """Nothing that is given out to be paid for is being paid for by anybody whose lease never lapsed."""
        given = Counter(item.key for item in items)
        assert set(given.values()) <= {1}
        for hand in self.hands:
            if not hand.tainted and self.living.get(hand.ref) == hand.worker:
                assert not given.keys() & hand.keys(), "one key, paid for by two"

    def call(self, ref: ShardRef, item: WorkItem, *, works: bool) -> Paid:
        bill = jobs.bill(ref, f"{self.run}-{next(self.attempts)}")
        if works:
            return Paid(jobs.reply(item.key), ItemResult(ref, item.item_no, item.key), bill)
        return Paid(None, ItemResult(ref, item.item_no, None, error_class="content_filter", error="x"), bill)

    def batch(self, paid: list[Paid], **changes: Any) -> Batch:
        there = {job.id for job in self.jobs}
        self.written.update({each.bill.attempt_id: each.bill for each in paid if each.bill.ref.job_id in there})
        return Batch(
            answers=[each.answer for each in paid if each.answer],
            results=[each.result for each in paid],
            usage=[each.bill for each in paid],
            **changes,
        )

    def work_off(self, ref: ShardRef) -> None:
        """Claim and pay until it is done; on trial it is handed out in parts."""
        while (
            claimed := jobs.try_claim(self.ledger, self.ledger.job(ref.job_id), ref.shard_no, worker="last")
        ) is not None:
            work = list(claimed.items)
            while work:
                paid = [self.call(ref, item, works=True) for item in work]
                jobs.commit(self.ledger, self.batch(paid, fences={ref: claimed.fence}), worker="last")
                work = list(self.ledger.awaited(ref, claimed.fence).items)
            jobs.commit(self.ledger, Batch(fences={ref: claimed.fence}, closing=[ref]), worker="last")
        assert self.row(ref).done

    def lapse_all(self, refs: list[ShardRef]) -> None:
        for ref in refs:
            row = (Shard.job_id == ref.job_id, Shard.shard_no == ref.shard_no)
            self.ledger._db.write(Connection.execute, update(Shard).where(*row).values(lease_until=0))
            self.living.pop(ref, None)
            for hand in self.hands:
                hand.tainted |= hand.ref == ref

    def row(self, ref: ShardRef) -> Any:
        asked = select(table_of(Shard)).where(Shard.job_id == ref.job_id, Shard.shard_no == ref.shard_no)
        return self.ledger._db.read(lambda conn: conn.execute(asked).one())
