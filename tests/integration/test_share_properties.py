"""What holds for those who share a bucket: several processes and jobs, whatever they ask for, and however they end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from corpusmill.limits import Gate, Grant, Scope
from corpusmill.limits.bucket import Ask
from corpusmill.limits.ending import end
from corpusmill.limits.link import Link
from tests.fixtures.still_clock import LimitsSet, Still, still_clock
from tests.fixtures.valkey import Server

LIMITS = LimitsSet(rpm=0, tpm=60_000)  # 1,000 tokens a second, and a bucket of 1,000
LONGEST_S = 1.0  # then a process asks again, whatever it was told


@dataclass
class Process:
    """One of several that draw from the bucket, with the tokens of its waiters by job."""

    still: Still
    waiting: dict[int, deque[int]]
    wakes_s: float = 0.0
    asks: int = field(default=0)


async def served(url: str, queues: Sequence[dict[int, list[int]]]) -> float:
    """Let processes wait as long as they are told to, until all are served; gives the seconds that took."""
    async with Redis.from_url(url) as redis:
        first = await Still(redis, LIMITS, process="p0").open()
        begun = first.now_s
        processes = [
            Process(
                Still(redis, LIMITS, process=f"p{number}"), {job: deque(line) for job, line in queue.items()}, begun
            )
            for number, queue in enumerate(queues)
        ]
        while left := [one for one in processes if any(one.waiting.values())]:
            turn = min(left, key=lambda one: one.wakes_s)
            await first.sleep(max(0.0, turn.wakes_s - first.now_s))
            turn.asks += 1
            assert turn.asks < 1000, "they are told to come back again and again"
            jobs = [job for job, line in turn.waiting.items() if line]
            report = await turn.still.reserve_for([Ask(job, 1.0, list(turn.waiting[job])) for job in jobs])
            for job, granted in zip(jobs, report.granted, strict=True):
                for _ in range(granted):
                    turn.waiting[job].popleft()
            turn.wakes_s = first.now_s + min(report.wait_s, LONGEST_S)
        return first.now_s - begun


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.integers(1, 3), st.lists(st.integers(1, 2500), min_size=1, max_size=6), min_size=1),
        min_size=1,
        max_size=3,
    )
)
def test_processes_that_wait_as_they_are_told_are_never_stalled_with_budget_left(
    valkey_session: Server, queues: list[dict[int, list[int]]]
) -> None:
    valkey_session.flush()
    with still_clock():
        took_s = asyncio.run(served(valkey_session.url, queues))
    tokens = sum(sum(line) for queue in queues for line in queue.values())
    requests = sum(len(line) for queue in queues for line in queue.values())
    # One larger than the bucket waits until that is full, also from the debt of the one before. And whoever is told
    # to come back comes to the minute, not to the microsecond: 25 ms for each turn.
    assert took_s <= tokens / 1000 + 1 + 0.05 * requests


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.5, 1.0, 2.0, 4.0]), st.integers(0, 1)), min_size=2, max_size=4))
def test_hungry_jobs_share_by_their_weights_whichever_process_runs_them(
    valkey_session: Server, jobs: list[tuple[float, int]]
) -> None:
    async def shares() -> Counter[int]:
        got: Counter[int] = Counter()
        async with Redis.from_url(valkey_session.url) as redis:
            limits = LimitsSet(rpm=6000, tpm=0)
            processes = [await Still(redis, limits, process=f"p{number}").open() for number in range(2)]
            for turn in range(160):
                if turn == 60:
                    got.clear()  # by now all of them wait
                await processes[0].sleep(0.05)
                for number, process in enumerate(processes):
                    asks = [Ask(job, weight, [1] * 30) for job, (weight, where) in enumerate(jobs) if where == number]
                    if asks:
                        report = await process.reserve_for(asks)
                        got.update(dict(zip([ask.job_id for ask in asks], report.granted, strict=True)))
        return got

    valkey_session.flush()
    with still_clock():
        got = asyncio.run(shares())
    assert 480 <= got.total() <= 530  # 100 turns of 50 ms at 100 a second
    for job, (weight, _) in enumerate(jobs):
        fair = got.total() * weight / sum(weight for weight, _ in jobs)
        assert abs(got[job] - fair) <= 0.25 * 100 + 0.1 * fair  # a turn is a quarter of a second


@settings(max_examples=25, deadline=None)
@given(
    st.floats(0.05, 0.95),
    st.lists(
        st.tuples(st.floats(0, 2), st.lists(st.integers(1, 400), min_size=1, max_size=20)), min_size=1, max_size=12
    ),
)
def test_a_job_never_uses_more_than_its_part_of_burst_and_rate(
    valkey_session: Server, part: float, steps: list[tuple[float, list[int]]]
) -> None:
    async def tokens_granted() -> None:
        async with Redis.from_url(valkey_session.url) as redis:
            still, total, last = await Still(redis, LIMITS).open(), 0.0, 0
            begun = still.now_s
            for pause_s, tokens in steps:
                await still.sleep(pause_s)
                report = await still.reserve_for([Ask(1, 1.0, tokens, part=part)])
                granted = tokens[: report.granted[0]]
                total, last = total + sum(granted), granted[-1] if granted else last
                # One that is larger than the part's burst passes when that is full.
                assert total <= part * 1000 * (1 + still.now_s - begun) + max(tokens) + 1

    valkey_session.flush()
    with still_clock():
        asyncio.run(tokens_granted())


@dataclass(frozen=True)
class Fate:
    """What becomes of one who waits: he uses his grant, gives it back, or is cancelled after some turns of the loop."""

    tokens: int
    end: str
    turns: int


fates = st.lists(
    st.builds(Fate, st.integers(1, 50), st.sampled_from(["use", "release", "cancel"]), st.integers(0, 30)),
    min_size=1,
    max_size=25,
)


async def lived(url: str, fates: Sequence[Fate]) -> tuple[list[Grant], int, int]:
    """Live through the fates; gives the grants that were used, and the requests and tokens left in the bucket."""
    limits = LimitsSet(rpm=6000, tpm=600_000, burst_s=10)
    async with Redis.from_url(url) as redis:
        still = await Still(redis, limits).open()
        gate = Gate(Link(still.bucket, limits, not_first), limits, model="model")
        serving = asyncio.create_task(gate.run())
        used = [grant for grant in await asyncio.gather(*(_live(gate, fate) for fate in fates)) if grant]
        await until(lambda: gate._link.tab.idle and gate._link._unconfirmed is None)
        left = await Still(redis, limits, process="p2").bucket.reserve(1, {"normal": []}, {"normal": 0.0})
        await end([serving])
    return used, left["normal"].level_requests, left["normal"].level_tokens


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.002)


async def not_first(_scope: Scope) -> bool:
    return False


async def _live(gate: Gate, fate: Fate) -> Grant | None:
    waiting = asyncio.create_task(gate.acquire(1, fate.tokens))
    if fate.end == "cancel":
        for _ in range(fate.turns):
            await asyncio.sleep(0.0005)
        waiting.cancel()
    grant = (await asyncio.gather(waiting, return_exceptions=True))[0]
    if isinstance(grant, BaseException):
        return None
    if fate.end == "release":
        gate.release(grant)
        return None
    return grant


@settings(max_examples=15, deadline=None)
@given(fates)
def test_every_grant_is_used_or_returned(valkey_session: Server, fates: list[Fate]) -> None:
    valkey_session.flush()
    with still_clock():
        used, requests, tokens = asyncio.run(lived(valkey_session.url, fates))
    assert requests == 1000 - len(used)
    assert tokens == 100_000 - sum(grant.tokens for grant in used)
