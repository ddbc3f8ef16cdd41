"""Waiting for leave to send: many coroutines, several processes' limiters, and a Redis that goes away."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, closing

import pytest
from redis.asyncio import Redis

from corpusmill.ledger import Ledger
from corpusmill.limits import Gate, Grant, Limiter, LimiterParked, RequestTooLarge, Scope, Settle
from corpusmill.limits.bucket import Why
from corpusmill.limits.gate import SLICE
from tests.fixtures.still_clock import LimitsSet
from tests.fixtures.valkey import Server

SCOPE = Scope("https://example.test/v1", "fingerprint", "model")
Open = Callable[..., Gate]


@pytest.fixture
async def gate(valkey_url: str) -> AsyncIterator[Open]:
    """Opens gates to one scope; each `process` is a limiter of its own, as in a process of its own."""
    async with AsyncExitStack() as stack:
        limiters = [await stack.enter_async_context(Limiter(valkey_url, never_used)) for _ in range(3)]

        def open_(rpm: int | None = 600, tpm: int | None = 0, *, process: int = 0) -> Gate:
            return limiters[process].gate(SCOPE, LimitsSet(rpm, tpm))

        yield open_


async def never_used(_scope: Scope) -> bool:
    """What the ledger says of a scope that nobody has drawn from."""
    return True


async def until(condition: Callable[[], bool], within_s: float = 60) -> None:
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.01)


async def grants(gate: Gate, n: int, *, tokens: int = 1, job_id: int = 1) -> list[Grant]:
    """`n` grants, waited for at once."""
    return await asyncio.gather(*(gate.acquire(job_id, tokens) for _ in range(n)))


async def level(gate: Gate) -> Grant:
    """How full the bucket is; what it takes to see that goes back."""
    grant = await gate.acquire(1, 1)
    gate.release(grant)
    return grant


async def test_three_processes_together_stay_within_one_limit(gate: Open) -> None:
    times: list[float] = []

    async def send(of: Gate) -> None:
        while True:
            await of.acquire(1, 1)
            times.append(time.monotonic())

    senders = [asyncio.create_task(send(gate(1200, process=process))) for process in range(3) for _ in range(20)]
    await until(lambda: len(times) >= 30)
    for sender in senders:
        sender.cancel()
    await asyncio.gather(*senders, return_exceptions=True)
    for first, begin in enumerate(times):
        for n, at in enumerate(times[first:], 1):
            # Seen from here the grants of a round trip are late by its time, hence the safety in the bucket.
            assert n <= 20 + 20 * (at - begin)


async def test_the_same_scope_has_one_gate_in_a_process(gate: Open) -> None:
    assert gate() is gate()


async def test_limits_given_anew_hold_from_then_on_also_where_there_were_none(gate: Open) -> None:
    await grants(gate(0, 0), 100)
    limited = gate(600)
    taken = (await grants(limited, 1))[0]
    assert limited.rates is not None and limited.rates.rpm == 600
    assert taken.level_requests < 600 / 60
    gate(1200)
    await grants(limited, 1)
    assert limited.rates.rpm == 1200


async def test_those_who_wait_under_a_limit_go_on_when_it_is_lifted(gate: Open) -> None:
    limited = gate(10)
    waiting = asyncio.create_task(grants(limited, 30))
    await until(lambda: limited.limited_by == Why.REQUESTS)
    gate(0, 0)
    assert len(await asyncio.wait_for(waiting, 60)) == 30


async def test_a_thousand_waiters_cost_a_few_round_trips(gate: Open, valkey_url: str) -> None:
    opened = gate(600_000, 0)
    async with Redis.from_url(valkey_url) as redis:
        await redis.config_resetstat()
        await grants(opened, 1000)
        stats = await redis.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] < 30


async def test_grants_are_handed_out_a_few_a_turn_of_the_loop_and_none_is_lost_at_the_end(gate: Open) -> None:
    of, loop, turn, begun = gate(60_000), asyncio.get_running_loop(), 0, Counter[int]()

    def count() -> None:
        nonlocal turn
        turn += 1
        ticking.append(loop.call_soon(count))

    async def take() -> None:
        await of.acquire(1, 1)
        begun[turn] += 1

    ticking = [loop.call_soon(count)]
    await asyncio.gather(*(take() for _ in range(200)))
    ticking[-1].cancel()
    assert begun.total() == 200
    assert max(begun.values()) <= SLICE


async def test_no_limit_needs_no_round_trip(gate: Open, valkey_url: str) -> None:
    await grants(gate(0, 0), 1000)
    async with Redis.from_url(valkey_url) as redis:
        assert await redis.dbsize() == 0


async def test_what_was_granted_to_those_who_are_cancelled_goes_back(valkey_url: str) -> None:
    async with Limiter(valkey_url, never_used) as limiter:
        gate = limiter.gate(SCOPE, LimitsSet(60, 0, burst_s=60))
        tasks = [asyncio.create_task(gate.acquire(1, 1)) for _ in range(30)]
        await asyncio.sleep(0)
        first, *rest = (waiter.future for waiter in gate._waiting.turns("normal", 30)[0].waiters)
        # The first one's callback runs when all thirty have their grants, and none of the others has run yet.
        first.add_done_callback(lambda _: [task.cancel() for task in tasks[1:]])
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(future.done() and not future.cancelled() for future in rest)
        assert [type(result) for result in results[1:]] == [asyncio.CancelledError] * 29
        while (await level(gate)).level_requests < 55:
            pass


async def test_a_grant_that_was_never_used_can_be_given_back(gate: Open) -> None:
    opened = gate(600, 0)
    for _ in range(5):
        for grant in await grants(opened, 6):
            opened.release(grant)
    level = (await opened.acquire(1, 1)).level_requests
    assert level >= 5


async def test_a_request_larger_than_a_minute_allows_is_refused_with_the_numbers(gate: Open) -> None:
    opened = gate(600, 6000)
    with pytest.raises(RequestTooLarge, match=r"7,000 tokens.*6,000 a minute"):
        await opened.acquire(1, 7000)


async def test_one_request_that_is_too_large_does_not_hold_up_the_others(gate: Open) -> None:
    opened = gate(600, 6000)
    large, small = await asyncio.gather(opened.acquire(1, 7000), opened.acquire(1, 10), return_exceptions=True)
    assert isinstance(large, RequestTooLarge)
    assert isinstance(small, Grant)


async def test_a_wait_of_more_than_a_minute_is_refused_so_that_the_work_can_be_parked(gate: Open) -> None:
    opened = gate(600, 0)
    await opened.acquire(1, 1)
    opened.penalty(120.0, "rate")
    with pytest.raises(LimiterParked) as parked:
        await opened.acquire(1, 1)
    assert 60 < parked.value.wait_s <= 120


async def test_a_refusal_heard_by_one_process_holds_the_others_back(gate: Open) -> None:
    one, other = gate(process=0), gate(process=1)
    await asyncio.gather(one.acquire(1, 1), other.acquire(1, 1))
    begun = time.monotonic()
    one.penalty(1.0, "rate")
    await until(lambda: one._link._slowdown is None)
    await other.acquire(1, 1)
    assert time.monotonic() - begun >= 1.0


async def test_the_limits_of_the_first_reply_hold_for_every_process(gate: Open) -> None:
    one, other = gate(None, None, process=0), gate(None, None, process=1)
    headers = {"x-ratelimit-limit-requests": "6000", "x-ratelimit-limit-tokens": "90000"}
    one.settle(await one.acquire(1, 1), headers, 10)
    await grants(other, 40)
    assert other.rates is not None
    assert (other.rates.rpm, other.rates.tpm, other.rates.learning) == (6000, 90_000, False)


async def test_an_endpoint_without_limits_in_its_headers_is_not_held_back(gate: Open) -> None:
    opened = gate(None, None)
    opened.settle(await opened.acquire(1, 1), {"content-type": "application/json"}, 10)
    await grants(opened, 500, tokens=10_000)


@pytest.mark.parametrize(("settle", "comes_back"), [("estimate", False), ("actual", True)])
async def test_tokens_that_were_not_used_come_back_only_where_used_ones_are_counted(
    valkey_url: str, settle: Settle, comes_back: bool
) -> None:
    async with Limiter(valkey_url, never_used) as limiter:
        gate = limiter.gate(SCOPE, LimitsSet(0, 600, burst_s=100), settle=settle)
        gate.settle(await gate.acquire(1, 600), {}, 100)
        gate.release(await gate.acquire(1, 1))
        await until(lambda: gate._link._unconfirmed is None and gate._link.tab.idle)
        assert ((await level(gate)).level_tokens > 800) is comes_back


# --- without Redis ----------------------------------------------------------------------------------------------


@pytest.mark.fault(8)
async def test_while_redis_is_paused_a_process_sends_its_share_and_no_more(valkey_server: Server) -> None:
    async with Limiter(valkey_server.url) as one, Limiter(valkey_server.url) as other:
        gates = [limiter.gate(SCOPE, LimitsSet(1200, 0)) for limiter in (one, other)]
        await asyncio.gather(*(gate.acquire(1, 1) for gate in gates))
        await until(lambda: all(gate._link.processes >= 1 for gate in gates))
        gates[0]._link._present_at = gates[1]._link._present_at = float("-inf")
        await asyncio.gather(*(gate.acquire(1, 1) for gate in gates))
        await until(lambda: gates[0]._link.processes == 2 or gates[1]._link.processes == 2)
        alone = next(gate for gate in gates if gate._link.processes == 2)
        valkey_server.pause()
        times: list[float] = []

        async def send() -> None:
            while True:
                grant = await alone.acquire(1, 1)
                if grant.alone:
                    times.append(time.monotonic())

        senders = [asyncio.create_task(send()) for _ in range(50)]
        try:
            await until(lambda: len(times) >= 15)
        finally:
            valkey_server.resume()
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)
        # 1,200 a minute over two processes are ten a second, and the share begins empty.
        assert len(times) - 1 <= 10 * (times[-1] - times[0]) + 1


async def test_when_redis_comes_back_without_its_data_the_bucket_starts_empty(valkey_server: Server) -> None:
    async with Limiter(valkey_server.url) as limiter:
        gate = limiter.gate(SCOPE, LimitsSet(600, 0))
        await grants(gate, 6)
        valkey_server.kill()
        valkey_server.start()
        grant = await gate.acquire(1, 1)
        while grant.alone:
            grant = await gate.acquire(1, 1)
        assert grant.level_requests <= 4


async def test_a_brand_new_process_does_not_take_a_redis_that_lost_its_data_for_a_new_one(
    valkey_server: Server, sqlite_url: str
) -> None:
    with closing(Ledger.open(sqlite_url)) as ledger:

        async def first_use(scope: Scope) -> bool:
            return await asyncio.to_thread(ledger.first_use, scope.digest)

        async with Limiter(valkey_server.url, first_use) as limiter:
            before = await limiter.gate(SCOPE, LimitsSet(600, 0, burst_s=60)).acquire(1, 1)
        valkey_server.flush()
        async with Limiter(valkey_server.url, first_use) as limiter:
            after = await limiter.gate(SCOPE, LimitsSet(600, 0, burst_s=60)).acquire(1, 1)
    assert before.level_requests == 599
    assert after.level_requests < 60


async def test_a_job_with_a_part_of_the_limit_leaves_the_rest_to_others(gate: Open) -> None:
    opened, got = gate(3000), {1: 0, 2: 0}

    async def send(job_id: int, max_share: float) -> None:
        while True:
            await opened.acquire(job_id, 1, max_share=max_share)
            got[job_id] += 1

    senders = [asyncio.create_task(send(job_id, part)) for job_id, part in ((1, 0.2), (2, 1.0)) for _ in range(20)]
    await until(lambda: sum(got.values()) >= 150)
    for sender in senders:
        sender.cancel()
    await asyncio.gather(*senders, return_exceptions=True)
    # 150 requests take two seconds: a fifth of the burst and of two seconds' rate.
    assert 10 <= got[1] <= 10 + 30 + 5


async def test_a_flushed_redis_is_told_the_learnt_limits_again(gate: Open, valkey_session: Server) -> None:
    opened = gate(None, None)
    opened.settle(await opened.acquire(1, 1), {"x-ratelimit-limit-requests": "6000"}, 10)
    await grants(opened, 5)
    valkey_session.flush()
    await grants(opened, 20)
    assert opened.rates is not None
    assert opened.rates.rpm == 6000


async def test_a_gate_that_has_never_seen_redis_lets_nothing_pass(valkey_server: Server) -> None:
    valkey_server.kill()
    async with Limiter(valkey_server.url) as limiter:
        waiting = asyncio.create_task(limiter.gate(SCOPE, LimitsSet(600, 0)).acquire(1, 1))
        done, _ = await asyncio.wait({waiting}, timeout=0.5)
        assert not done
        valkey_server.start()
        assert not (await waiting).alone


@pytest.mark.fault(10)
async def test_a_redis_that_refuses_to_write_counts_as_away(valkey_server: Server) -> None:
    async with Limiter(valkey_server.url) as limiter:
        gate = limiter.gate(SCOPE, LimitsSet(600, 0))
        await gate.acquire(1, 1)
        with valkey_server.client() as client:
            client.config_set("maxmemory", "1")
            assert (await gate.acquire(1, 1)) is not None
            while not (await gate.acquire(1, 1)).alone:
                pass
            client.config_set("maxmemory", "0")
        while (await gate.acquire(1, 1)).alone:
            pass


async def test_closing_the_limiter_cancels_those_who_wait(valkey_url: str) -> None:
    async with Limiter(valkey_url, never_used) as limiter:
        gate = limiter.gate(SCOPE, LimitsSet(60, 0))
        waiting = [asyncio.create_task(gate.acquire(1, 1)) for _ in range(5)]
        await waiting[0]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results[1:]] == [asyncio.CancelledError] * 4
