"""The pure parts of a worker: what is shared out, what is held, who is held back, what a message may say."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from celery.exceptions import Reject
from celery.worker.consumer.consumer import UNKNOWN_TASK_ERROR
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.virtual.base import W_NO_CONSUMERS
from pydantic import SecretStr

from corpusmill.app import PRIORITIES, SHARD_QUEUES, TakingTurns
from corpusmill.ledger.amounts import NOTHING, Amount, Budget
from corpusmill.ledger.records import ClaimedShard, JobRun, Reservation, ShardRef, WorkItem
from corpusmill.logs import Json
from corpusmill.settings import Provider, Settings
from corpusmill.shares import shares
from corpusmill.spec import COMPLETIONS_PATH, JobSpec
from tasks.messages import shard_in
from workers import logs
from workers.held import Halt, HeldShard
from workers.jobs import RunningJob
from workers.keyring import Keyring
from workers.outlets import pack_tokens
from workers.probation import Probation
from workers.purse import OverBudget, Purse
from workers.turns import Reserve, Turns

SALT = b"salt"


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10_000), min_size=1, max_size=60))
def test_shares_add_up_exactly_and_none_is_negative(total: int, weights: list[int]) -> None:
    parts = shares(total, weights)
    assert sum(parts) == total
    assert len(parts) == len(weights)
    assert min(parts) >= 0


def test_equal_weights_get_equal_shares() -> None:
    assert shares(30, [5, 5, 5]) == [10, 10, 10]
    assert sorted(shares(2, [0, 0, 0])) == [0, 1, 1]


@pytest.mark.parametrize(
    ("tpm", "share", "tokens"),
    [(None, 1.0, 300_000), (0, 0.3, 300_000), (1_000_000, 1.0, 100_000), (1_000_000, 0.3, 30_000), (1_000, 1.0, 8_192)],
)
def test_a_pack_takes_a_tenth_of_its_part_of_the_limit_but_never_less_than_the_longest_text(
    tpm: int | None, share: float, tokens: int
) -> None:
    assert pack_tokens(tpm, share) == tokens


def test_queues_of_one_priority_take_turns_and_urgent_ones_come_first() -> None:
    turns = TakingTurns()
    turns.update(reversed(SHARD_QUEUES))
    assert [queue.partition(".")[2] for queue in turns.consume(6)] == [p for p in PRIORITIES for _ in range(2)]
    first, second = turns.consume(2)
    turns.rotate(first)
    assert turns.consume(2) == [second, first]


# --- messages -------------------------------------------------------------------------------------------------------


def test_a_message_names_its_shard() -> None:
    assert shard_in({"v": 1, "job_id": 7, "shard_no": 0}) == ShardRef(7, 0)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"v": 1, "job_id": 7},
        {"v": 1, "job_id": 7, "shard_no": 0, "text": "hello"},
        {"v": 2, "job_id": 7, "shard_no": 0},
        {"v": 0, "job_id": 7, "shard_no": 0},
        {"v": 1, "job_id": "7", "shard_no": 0},
        {"v": 1, "job_id": True, "shard_no": 0},
        {"v": 1, "job_id": 7.0, "shard_no": 0},
        {"v": 1, "job_id": -7, "shard_no": 0},
        {"v": 1, "job_id": 2**64, "shard_no": 0},
        {"v": 1, "job_id": 7, "shard_no": 2**40},
    ],
)
def test_anything_else_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(Reject):
        shard_in(message)


# --- a shard that is held -------------------------------------------------------------------------------------------


def held(items: int) -> tuple[HeldShard, list[WorkItem]]:
    spec = JobSpec("completion", COMPLETIONS_PATH, "m", "http://e")
    run = JobRun(1, "j_1", spec, "p", "f", "normal", None, None)
    work = [WorkItem(number, bytes([number]), 1, "s", "text") for number in range(items)]
    shard = HeldShard(ClaimedShard(ShardRef(1, 0), 1, run, work, ()), RunningJob.of(run), None)
    shard.admit(work)
    return shard, work


async def test_a_shard_is_idle_once_every_item_is_settled() -> None:
    shard, items = held(2)
    for item in items:
        assert shard.wants(item)
        shard.take_off(item)
        shard.land(item, settled=True)
    await shard.idle()


async def test_halting_gives_up_what_waits_and_lets_land_what_flies() -> None:
    shard, (flying, waiting) = held(2)
    shard.take_off(flying)
    shard.halt("paused")
    assert not shard.wants(waiting)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await shard.idle()
    shard.land(flying, settled=False)
    await shard.idle()


def test_a_lost_lease_outdoes_every_other_reason() -> None:
    shard, _ = held(1)
    shard.halt("drain")
    shard.halt("paused")
    assert shard.halted == Halt("drain")
    shard.halt("lost")
    assert shard.halted == Halt("lost")


# --- turns ----------------------------------------------------------------------------------------------------------


async def test_one_stream_alone_may_have_the_reserve_and_another_its_own_turns_all_the_same() -> None:
    reserve = Reserve(5)
    one, other = Turns(2, reserve), Turns(2, reserve)
    held = {"one": 0, "other": 0}
    done = asyncio.Event()

    async def hold(name: str, turns: Turns) -> None:
        async with turns:
            held[name] += 1
            await done.wait()
            held[name] -= 1

    tasks = [asyncio.create_task(hold("one", one)) for _ in range(20)]
    await asyncio.sleep(0)
    assert held == {"one": 7, "other": 0}
    tasks += [asyncio.create_task(hold("other", other)) for _ in range(20)]
    await asyncio.sleep(0)
    assert held == {"one": 7, "other": 2}
    done.set()
    await asyncio.gather(*tasks)
    assert held == {"one": 0, "other": 0}


@given(st.integers(1, 3), st.integers(0, 4), st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=40))
def test_turns_are_never_too_many_and_none_is_lost_whoever_is_called_off(
    own: int, shared: int, steps: list[tuple[bool, int]]
) -> None:
    async def run() -> None:
        reserve = Reserve(shared)
        streams = [Turns(own, reserve), Turns(own, reserve)]
        held = [0, 0]

        async def hold(which: int) -> None:
            async with streams[which]:
                held[which] += 1
                assert sum(held) <= 2 * own + shared
                try:
                    await asyncio.sleep(0)
                finally:
                    held[which] -= 1

        tasks: list[asyncio.Task[None]] = []
        for begins, which in steps:
            if begins or not tasks:
                tasks.append(asyncio.create_task(hold(which % 2)))
            else:
                tasks[which % len(tasks)].cancel()
            if which % 3 == 0:
                await asyncio.sleep(0)
        tasks += [asyncio.create_task(hold(which)) for which in (0, 1) for _ in range(own + shared + 1)]
        async with asyncio.timeout(5):
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())


# --- probation and purse --------------------------------------------------------------------------------------------


async def test_at_most_five_calls_are_under_way_until_one_has_succeeded() -> None:
    probation, under_way, most = Probation(), 0, 0
    success = asyncio.Event()

    async def call() -> None:
        nonlocal under_way, most
        await probation.enter()
        under_way += 1
        most = max(most, under_way)
        await success.wait()
        under_way -= 1
        probation.leave()

    calls = [asyncio.create_task(call()) for _ in range(50)]
    await asyncio.sleep(0)
    assert most == 5
    probation.pass_()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert under_way == 50
    success.set()
    await asyncio.gather(*calls)


async def test_while_none_fails_the_few_become_more_and_a_failure_makes_them_few_again() -> None:
    probation, under_way = Probation(), 0

    async def call() -> None:
        nonlocal under_way
        await probation.enter()
        under_way += 1

    calls = [asyncio.create_task(call()) for _ in range(400)]
    await asyncio.wait_for(_until(lambda: under_way >= 40), 10)
    probation.failed()
    at_the_failure = under_way
    for _ in range(at_the_failure - 4):
        probation.leave()
    await asyncio.sleep(0.1)
    assert under_way == at_the_failure + 1
    probation.pass_()
    await asyncio.gather(*calls)


async def _until(happened: Callable[[], bool]) -> None:
    while not happened():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


class Account:
    """A job's budget as the ledger keeps it, for purses to draw on."""

    def __init__(self, usd: int, tokens: int) -> None:
        self.budget, self.spent, self.reserved = Budget(Decimal(usd), tokens), NOTHING, NOTHING

    async def reserve(self, amount: Amount) -> Reservation:
        if self.budget.covers(self.spent + self.reserved + amount):
            self.reserved += amount
            return "ok"
        return "wait" if self.budget.covers(self.spent + amount) else "over"

    async def give_back(self) -> None:
        self.reserved = NOTHING

    def charge(self, amount: Amount) -> None:
        self.reserved -= amount
        self.spent += amount


CALL, COST = Amount(Decimal(3), 30), Amount(Decimal(1), 10)


@pytest.mark.parametrize("account", [Account(10, 1_000), Account(100, 100)], ids=["dollars", "tokens"])
async def test_a_budget_is_used_to_the_last_call_that_fits_and_no_further(account: Account) -> None:
    purse = Purse(account.reserve, account.give_back)
    with pytest.raises(OverBudget):
        while True:
            await purse.take(CALL)
            account.charge(COST)
            purse.settle(CALL, cost=COST)
    assert account.spent == COST * 8


async def test_a_call_that_costs_nothing_leaves_its_amount_to_the_next() -> None:
    account = Account(3, 30)
    purse = Purse(account.reserve, account.give_back)
    for _ in range(5):
        await purse.take(CALL)
        purse.settle(CALL, cost=NOTHING)
    assert account.spent == NOTHING


# --- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hostile", ["http://169.254.169.254/latest", "http://127.0.0.1:6379", "http://e@169.254.169.254/v1", "file:///etc"]
)
def test_an_address_that_a_job_names_is_called_only_if_it_is_a_providers(hostile: str) -> None:
    settings = Settings(providers={"own": Provider(base_url="http://e/v1", api_key=SecretStr("sk-own-1234"))})
    keyring = Keyring(settings, SALT)
    (own,) = keyring.holds()
    assert keyring.endpoints((hostile, own[1])) == ()
    assert keyring.endpoints((own[0], "0" * 16)) == ()
    assert [endpoint.base_url for endpoint in keyring.endpoints(own)] == ["http://e/v1"]


def test_a_tick_that_comes_while_a_scheduler_ends_is_no_line_in_the_log() -> None:
    def record(message: str) -> logging.LogRecord:
        return logging.LogRecord("kombu", logging.WARNING, "", 0, message, ("control",), None)

    assert not logs.worth_a_line(record(W_NO_CONSUMERS))
    assert logs.worth_a_line(record("Restoring %r unacknowledged message(s)"))


def celery_says(name: str, message: str, *args: object) -> logging.LogRecord:
    error = OSError("connection refused")
    return logging.LogRecord(name, logging.ERROR, "", 0, message, args, (type(error), error, None))


def test_that_the_broker_is_away_is_told_once_in_one_line_and_once_more_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    away = logs.BrokerAway()
    lost = celery_says(logs.CONSUMER, "%s (%r)", "consumer: Connection to broker lost. Trying…", OSError("gone"))
    missed = celery_says(logs.BEAT, "Message Error: %s\n%s", "connection refused", ["stack"])
    back = celery_says(logs.CONNECTED, "Connected to %s", "redis://")
    seen = [away(record) for record in (back, lost, missed, missed, back, celery_says(logs.BEAT, "something else"))]
    assert seen == [False, False, False, False, False, True]
    begin, end = caplog.messages
    assert begin.startswith("the broker is away, trying on: consumer: Connection to broker lost.")
    assert re.fullmatch(r"the broker is away no longer after_s=0 times=3", end)


def test_of_a_foreign_message_it_is_told_what_is_wrong_and_nothing_that_it_says() -> None:
    record = celery_says(logs.CONSUMER, UNKNOWN_TASK_ERROR, "their.task", "their words", {}, {})
    assert logs.without_its_words(record)
    assert Json().format(record).endswith('"event":"message dropped","wrong":"task"}')


def provider(base_url: str, key: str) -> Provider:
    return Provider(base_url=base_url, api_key=SecretStr(key))


def test_a_provider_that_is_replaced_is_still_served() -> None:
    keyring = Keyring(Settings(providers={"openai": provider("http://one/v1", "sk-1")}), SALT)
    (before,) = keyring.holds()
    keyring.add({"provider": "openai", **provider("http://two/v1", "sk-2").as_message()})
    assert keyring.refresh() == []
    assert len(keyring.holds()) == 2
    assert [endpoint.base_url for endpoint in keyring.endpoints(before)] == ["http://one/v1"]
    assert {endpoint.api_key for lane in keyring.holds() for endpoint in keyring.endpoints(lane)} == {"sk-1", "sk-2"}


def test_a_command_that_sets_no_limit_lifts_none_of_an_earlier_one() -> None:
    keyring = Keyring(Settings(), SALT)
    message = {"provider": "openai", **provider("http://one/v1", "sk-1").as_message()}
    keyring.add({**message, "limits": {"rpm": 60}})
    keyring.add({**message, "limits": {"tpm": 9_000}})
    (lane,) = keyring.holds()
    (endpoint,) = keyring.endpoints(lane)
    assert (endpoint.limits.rpm, endpoint.limits.tpm) == (60, 9_000)
    keyring.add({**message, "limits": {"rpm": 0, "tpm": 0}})
    (endpoint,) = keyring.endpoints(lane)
    assert (endpoint.limits.rpm, endpoint.limits.tpm) == (0, 0)


def test_what_is_no_provider_is_refused_without_showing_it() -> None:
    keyring = Keyring(Settings(), SALT)
    with pytest.raises(Exception, match="no provider") as refused:
        keyring.add({"provider": "x", "api_key": "sk-canary", "surprise": 1})
    assert "canary" not in str(refused.value)
