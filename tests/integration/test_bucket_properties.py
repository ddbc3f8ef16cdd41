"""What holds for a bucket whatever is asked of it and whenever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from corpusmill.limits import Priority
from corpusmill.limits.bucket import Settlement
from tests.fixtures.still_clock import LimitsSet, Still, still_clock
from tests.fixtures.valkey import Server


@dataclass(frozen=True)
class Step:
    """Wait, ask for some requests, and put some of those back that were granted and never sent."""

    pause_s: float
    tokens: tuple[int, ...]
    unused: int
    priority: Priority


limits = st.builds(
    LimitsSet,
    rpm=st.sampled_from([0, 60, 90, 600, 6000]),
    tpm=st.sampled_from([0, 600, 60_000]),
    burst_s=st.sampled_from([0.1, 1.0, 2.0, 10.0]),
)
steps = st.lists(
    st.builds(
        Step,
        pause_s=st.floats(0, 3),
        tokens=st.lists(st.integers(1, 3000), min_size=1, max_size=30).map(tuple),
        unused=st.integers(0, 3),
        priority=st.sampled_from(["high", "normal", "low"]),
    ),
    min_size=1,
    max_size=15,
)


async def sent(url: str, limits: LimitsSet, steps: Sequence[Step]) -> list[tuple[float, int]]:
    """When requests were granted that were then sent, and their tokens."""
    log: list[tuple[float, int]] = []
    async with Redis.from_url(url) as redis:
        still = await Still(redis, limits).open()
        for step in steps:
            await still.sleep(step.pause_s)
            floor_s = still.floors_s()[step.priority]
            report = await still.reserve(*step.tokens, priority=step.priority, floor_s=floor_s)
            granted = step.tokens[: report.granted[0]]
            kept = max(0, len(granted) - step.unused)
            used, unused = granted[:kept], granted[kept:]
            log += [(still.now_s, tokens) for tokens in used]
            await still.bucket.settle(still.number(), Settlement(requests=len(unused), tokens=sum(unused)))
    return log


def assert_within(amounts: Sequence[tuple[float, float]], rate: float, burst: float) -> None:
    """In every window at most burst + rate x window; the last one of a window may be larger than the bucket."""
    for first, (begin, _) in enumerate(amounts):
        total = 0.0
        for at, amount in amounts[first:]:
            assert total + min(amount, burst) <= burst + rate * (at - begin) + 1e-3 * max(1, rate)
            total += amount


@settings(max_examples=60)
@given(limits=limits, steps=steps)
def test_in_any_window_of_w_seconds_at_most_burst_plus_rate_times_w(
    valkey_session: Server, limits: LimitsSet, steps: list[Step]
) -> None:
    valkey_session.flush()
    with still_clock():
        log = asyncio.run(sent(valkey_session.url, limits, steps))
    if limits.rpm:
        rate = limits.rpm / 60
        assert_within([(at, 1) for at, _ in log], rate, max(1, rate * limits.burst_s))
    if limits.tpm:
        rate = limits.tpm / 60
        assert_within(log, rate, max(1, rate * limits.burst_s))


@settings(max_examples=40)
@given(limits=limits, tokens=st.lists(st.integers(1, 600), min_size=1, max_size=20))
def test_with_budget_left_nobody_waits_longer_than_he_is_told(
    valkey_session: Server, limits: LimitsSet, tokens: list[int]
) -> None:
    async def waits() -> None:
        async with Redis.from_url(valkey_session.url) as redis:
            still = await Still(redis, limits).open()
            left = list(tokens)
            while left:
                report = await still.reserve(*left, floor_s=still.floors_s()["normal"])
                assert report.granted[0] or report.wait_s > 0
                del left[: report.granted[0]]
                if left:
                    await still.sleep(report.wait_s)
                    assert (await still.reserve(left.pop(0), floor_s=still.floors_s()["normal"])).granted == [1]

    valkey_session.flush()
    with still_clock():
        asyncio.run(waits())
