"""The fleet's bucket: its Lua on Valkey and on Redis, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis

from corpusmill.limits import Priority
from corpusmill.limits.bucket import Ask, BucketUnknown, Settlement, Slowdown, Why
from tests.fixtures.still_clock import START_S, LimitsSet, Still, still_clock

Open = Callable[..., Awaitable[Still]]


@pytest.fixture
async def still(bucket_url: str) -> AsyncIterator[Open]:
    """Opens buckets, on Valkey and on Redis."""
    async with Redis.from_url(bucket_url) as redis:

        async def open_(*, full: bool = True, process: str = "p1", **limits: float | None) -> Still:
            return await Still(redis, LimitsSet(**limits), process=process).open(full=full)  # type: ignore[arg-type]

        with still_clock():
            yield open_


async def test_a_full_bucket_gives_its_burst_and_then_the_rate(still: Open) -> None:
    bucket = await still(rpm=600, tpm=0)
    first = await bucket.reserve(*[1] * 20)
    assert (first.granted, first.why) == ([10], Why.REQUESTS)
    await bucket.sleep(first.wait_s)
    assert (await bucket.reserve(1, 1)).granted == [1]


async def test_a_new_bucket_may_start_empty(still: Open) -> None:
    bucket = await still(rpm=600, tpm=0, full=False)
    assert (await bucket.reserve(1)).granted == [0]


async def test_the_opening_minute_is_there_where_the_endpoint_grants_a_whole_one(still: Open) -> None:
    bucket = await still(rpm=100, tpm=0, burst_s=60.0)
    assert (await bucket.reserve(*[1] * 200)).granted == [100]


async def test_a_bucket_is_filled_once_whoever_vouches_for_the_scope_again(still: Open) -> None:
    bucket = await still(rpm=600, tpm=0)
    await bucket.reserve(*[1] * 10)
    await bucket.bucket.configure(bucket.limits, first=True)
    assert (await bucket.reserve(1)).granted == [0]


async def test_the_first_to_use_a_scope_has_the_opening_even_if_another_has_made_the_bucket(
    still: Open,
) -> None:
    bucket = await still(rpm=600, tpm=0, full=False)
    await bucket.sleep(0.1)
    assert (await bucket.reserve(1)).granted == [1]
    await bucket.bucket.configure(bucket.limits, first=True)
    assert (await bucket.reserve(*[1] * 20)).granted == [10]


async def test_a_bucket_that_nobody_used_for_days_is_full(still: Open) -> None:
    bucket = await still(rpm=100, tpm=0, burst_s=60.0)
    await bucket.reserve(*[1] * 100)
    await bucket.sleep(3 * 86_400)
    await bucket.bucket.configure(bucket.limits, first=False)
    assert (await bucket.reserve(*[1] * 200)).granted == [100]


async def test_one_wait_is_enough_for_tokens_too(still: Open) -> None:
    bucket = await still(rpm=0, tpm=60_000)
    first = await bucket.reserve(700, 700)
    assert (first.granted, first.why) == ([1], Why.TOKENS)
    await bucket.sleep(first.wait_s)
    assert (await bucket.reserve(700)).granted == [1]


async def test_requests_and_tokens_are_taken_together_or_not_at_all(still: Open) -> None:
    bucket = await still(rpm=600, tpm=60_000)
    assert (await bucket.reserve(900, 900)).granted == [1]
    report = await bucket.reserve(50, 60)
    assert (report.granted, report.level_requests, report.level_tokens) == ([1], 8, 50)


async def test_a_request_larger_than_the_bucket_passes_when_it_is_full_and_leaves_a_debt(still: Open) -> None:
    bucket = await still(rpm=0, tpm=60_000)
    assert (await bucket.reserve(3000, 1)).granted == [1]
    await bucket.sleep(1.9)
    assert (await bucket.reserve(1)).granted == [0]
    await bucket.sleep(0.2)
    assert (await bucket.reserve(1)).granted == [1]


async def test_a_small_request_does_not_overtake_a_large_one_of_its_job(still: Open) -> None:
    bucket = await still(rpm=0, tpm=60_000)
    await bucket.reserve(800)
    assert (await bucket.reserve(900, 10)).granted == [0]


async def test_less_urgent_work_leaves_headroom_for_urgent_work(still: Open) -> None:
    bucket = await still(rpm=6000, tpm=0)
    floors = bucket.floors_s()
    low = await bucket.reserve(*[1] * 100, priority="low", floor_s=floors["low"])
    normal = await bucket.reserve(*[1] * 100, priority="normal", floor_s=floors["normal"])
    high = await bucket.reserve(*[1] * 100, priority="high", floor_s=floors["high"])
    assert (low.granted, normal.granted, high.granted) == ([55], [10], [10])


async def test_a_call_that_is_sent_twice_takes_once(still: Open) -> None:
    bucket = await still(rpm=600, tpm=0)
    asks: dict[Priority, list[Ask]] = {"normal": [Ask(1, 1.0, [1, 1, 1])]}
    first = await bucket.bucket.reserve(7, asks, {"normal": 0.0})
    assert await bucket.bucket.reserve(7, asks, {"normal": 0.0}) == first
    assert (await bucket.reserve(1)).level_requests == 6


async def test_a_settlement_that_is_sent_twice_counts_once(still: Open) -> None:
    bucket = await still(rpm=600, tpm=60_000)
    await bucket.reserve(500, 400)
    for _ in range(2):
        await bucket.bucket.settle(9, Settlement(requests=1, tokens=400))
    report = await bucket.reserve(1)
    assert (report.level_requests, report.level_tokens) == (8, 499)


async def test_another_process_numbers_its_calls_by_itself(still: Open) -> None:
    one, other = await still(rpm=600, tpm=0, process="p1"), await still(rpm=600, tpm=0, process="p2")
    await one.reserve(1)
    assert (await other.reserve(1)).level_requests == 8


async def test_scripts_that_redis_has_lost_are_loaded_again(still: Open) -> None:
    bucket = await still(rpm=600, tpm=0)
    await bucket.redis.script_flush()
    assert (await bucket.reserve(1)).granted == [1]


async def test_an_unknown_bucket_is_said_to_be_unknown(still: Open) -> None:
    bucket = await still(rpm=600, tpm=0)
    await bucket.redis.delete(bucket.bucket.scope.key("bucket"))
    with pytest.raises(BucketUnknown):
        await bucket.reserve(1)
    with pytest.raises(BucketUnknown):
        await bucket.bucket.settle(1, Settlement(requests=1))
    with pytest.raises(BucketUnknown):
        await bucket.bucket.slow_down(Slowdown(cool_s=1))


async def test_what_is_put_back_never_overfills_the_bucket(still: Open) -> None:
    bucket = await still(rpm=600, tpm=0)
    await bucket.bucket.settle(1, Settlement(requests=1000))
    assert (await bucket.reserve(*[1] * 50)).granted == [10]


async def test_tokens_used_beyond_the_grant_are_paid_off_first(still: Open) -> None:
    bucket = await still(rpm=0, tpm=60_000)
    await bucket.reserve(100)
    await bucket.bucket.settle(1, Settlement(tokens=-1900))
    await bucket.sleep(0.9)
    assert (await bucket.reserve(1)).granted == [0]
    await bucket.sleep(0.2)
    assert (await bucket.reserve(1)).granted == [1]


# --- learning ---------------------------------------------------------------------------------------------------


async def test_with_no_limit_set_one_request_a_second_goes_out_until_the_endpoint_tells_its_limits(still: Open) -> None:
    bucket = await still(rpm=None, tpm=None)
    assert (await bucket.reserve(1, 1)).granted == [1]
    await bucket.sleep(1.06)
    report = await bucket.reserve(1, 1)
    assert (report.granted, report.rates.learning) == ([1], True)
    rates = await bucket.bucket.settle(9, Settlement(told_rpm=600, told_tpm=60_000))
    assert (rates.rpm, rates.tpm, rates.learning) == (600, 60_000, False)
    await bucket.sleep(1)
    assert (await bucket.reserve(*[1] * 20)).granted == [10]


async def test_an_endpoint_that_tells_no_limits_has_none(still: Open) -> None:
    bucket = await still(rpm=None, tpm=None)
    await bucket.bucket.settle(1, Settlement(told_rpm=0, told_tpm=0))
    assert (await bucket.reserve(*[10**6] * 200)).granted == [200]


async def test_a_limit_that_a_person_set_is_lowered_by_the_endpoint_and_never_raised(still: Open) -> None:
    bucket = await still(rpm=600, tpm=60_000)
    rates = await bucket.bucket.settle(1, Settlement(told_rpm=300, told_tpm=90_000))
    assert (rates.rpm, rates.tpm) == (300, 60_000)
    assert (await bucket.reserve(*[1] * 20)).granted == [5]


async def test_a_learnt_limit_follows_the_endpoint_both_ways_but_not_into_silence(still: Open) -> None:
    bucket = await still(rpm=None, tpm=0)
    for number, (told, holds) in enumerate([(600, 600), (1200, 1200), (300, 300), (0, 300)]):
        rates = await bucket.bucket.settle(number, Settlement(told_rpm=told))
        assert rates.rpm == holds


async def test_what_the_endpoint_says_is_left_lowers_the_level_once(still: Open) -> None:
    bucket = await still(rpm=600, tpm=0)
    for number in (1, 2):
        await bucket.bucket.settle(number, Settlement(lowered_requests=4))
    assert (await bucket.reserve(*[1] * 20)).granted == [6]
    assert (await bucket.reserve(1)).lowered_requests == 4


# --- refusals, clocks, turns ------------------------------------------------------------------------------------


async def test_a_cool_down_holds_for_every_process_and_nobody_rushes_in_after_it(still: Open) -> None:
    one, other = await still(rpm=6000, tpm=0, process="p1"), await still(rpm=6000, tpm=0, process="p2")
    assert await one.bucket.slow_down(Slowdown(cool_s=2.0)) == pytest.approx(2.0)
    report = await other.reserve(*[1] * 100)
    assert (report.granted, report.why) == ([0], Why.COOL_DOWN)
    assert report.wait_s == pytest.approx(2.0)
    await one.sleep(2.05)
    assert (await one.reserve(*[1] * 100)).granted == [5]


async def test_a_longer_cool_down_is_not_cut_short_by_a_shorter_one(still: Open) -> None:
    bucket = await still(rpm=6000, tpm=0)
    await bucket.bucket.slow_down(Slowdown(cool_s=10))
    assert await bucket.bucket.slow_down(Slowdown(cool_s=1)) == pytest.approx(10)


async def test_many_refusals_within_a_second_slow_down_as_one(still: Open) -> None:
    bucket = await still(rpm=6000, tpm=0)
    for _ in range(50):
        await bucket.bucket.slow_down(Slowdown(keep=0.5, ramp=0.0))
    await bucket.sleep(1)
    assert (await bucket.reserve(*[1] * 100)).granted == [50]


async def test_a_lane_far_under_its_limit_slows_down_from_what_it_has_sent(still: Open) -> None:
    bucket = await still(rpm=60_000, tpm=0)
    for _ in range(50):  # 100 a second
        await bucket.reserve(*[1] * 10)
        await bucket.sleep(0.1)
    await bucket.bucket.slow_down(Slowdown(keep=0.5, ramp=0.0, of_traffic=True))
    await bucket.sleep(1)
    assert 45 <= (await bucket.reserve(*[1] * 200)).granted[0] <= 55
    await bucket.bucket.slow_down(Slowdown(keep=0.5, ramp=0.0, of_traffic=True))
    await bucket.sleep(1)
    assert 22 <= (await bucket.reserve(*[1] * 200)).granted[0] <= 28


async def test_a_lane_at_its_limit_slows_down_from_there(still: Open) -> None:
    bucket = await still(rpm=6000, tpm=0)
    for _ in range(50):
        await bucket.reserve(*[1] * 200)
        await bucket.sleep(0.1)
    await bucket.bucket.slow_down(Slowdown(keep=0.5, ramp=0.0, of_traffic=True))
    await bucket.sleep(1)
    assert 47 <= (await bucket.reserve(*[1] * 200)).granted[0] <= 50


async def test_a_limit_of_a_day_gives_nothing_more_until_midnight_in_utc(still: Open) -> None:
    bucket = await still(rpm=0, tpm=0, rpd=3, tpd=100)
    first = await bucket.reserve(*[10] * 5)
    assert (first.granted, first.why) == ([3], Why.DAY)
    assert (START_S + first.wait_s) % 86_400 == pytest.approx(0)
    await bucket.bucket.settle(bucket.number(), Settlement(requests=1, tokens=10))
    assert (await bucket.reserve(90)).granted == [0]
    assert (await bucket.reserve(10)).granted == [1]
    await bucket.sleep(first.wait_s + 1)
    assert (await bucket.reserve(10)).granted == [1]


async def test_a_day_ends_when_the_endpoint_says_and_then_after_a_day(still: Open) -> None:
    bucket = await still(rpm=0, tpm=0, rpd=2)
    await bucket.bucket.slow_down(Slowdown(cool_s=1000, day=True))
    await bucket.sleep(1001)
    last = await bucket.reserve(1, 1, 1)
    assert (last.granted, last.why) == ([2], Why.DAY)
    assert last.wait_s == pytest.approx(86_400 - 1, abs=0.1)


async def test_the_rate_comes_back_by_its_ramp(still: Open) -> None:
    bucket = await still(rpm=6000, tpm=0)
    await bucket.bucket.slow_down(Slowdown(keep=0.5, ramp=0.1))
    for _ in range(50):
        await bucket.sleep(0.1)
        await bucket.reserve(*[1] * 200)
    await bucket.sleep(0.5)
    assert (await bucket.reserve(*[1] * 200)).granted == [50]


@pytest.mark.fault(31)
async def test_a_clock_that_steps_back_refills_nothing_and_stops_nothing(still: Open) -> None:
    bucket = await still(rpm=600, tpm=0)
    await bucket.reserve(*[1] * 10)
    await bucket.sleep(-3600)
    assert (await bucket.reserve(1)).granted == [0]
    await bucket.sleep(0.2)
    assert (await bucket.reserve(1, 1, 1)).granted == [2]


async def test_a_cool_down_does_not_last_an_hour_longer_when_the_clock_steps_back(still: Open) -> None:
    bucket = await still(rpm=600, tpm=0)
    await bucket.bucket.slow_down(Slowdown(cool_s=5))
    await bucket.sleep(-3600)
    assert (await bucket.reserve(1)).wait_s <= 5


async def test_where_the_bucket_holds_one_request_two_keep_a_distance_beyond_the_rate(still: Open) -> None:
    bucket = await still(rpm=60, tpm=0)
    assert (await bucket.reserve(1, 1)).wait_s == pytest.approx(1.05, abs=0.01)


async def test_jobs_that_wait_at_once_share_by_their_weights(still: Open) -> None:
    bucket = await still(rpm=6000, tpm=0)
    got = {1: 0, 2: 0}
    for _ in range(200):
        await bucket.sleep(0.05)
        report = await bucket.reserve_for([Ask(1, 1.0, [1] * 20), Ask(2, 3.0, [1] * 20)])
        got = {job_id: got[job_id] + granted for job_id, granted in zip(got, report.granted, strict=True)}
    assert sum(got.values()) == pytest.approx(1000 + 95, abs=20)
    assert got[2] / got[1] == pytest.approx(3, rel=0.05)


async def test_jobs_of_two_processes_share_as_well(still: Open) -> None:
    one, other = await still(rpm=6000, tpm=0, process="p1"), await still(rpm=6000, tpm=0, process="p2")
    got = [0, 0]
    for turn in range(250):
        if turn == 50:
            got = [0, 0]  # by now both wait; who was alone at first had the burst
        await one.sleep(0.05)
        # The first asks for all there is, every time before the second does.
        got[0] += (await one.reserve(*[1] * 100, job_id=1)).granted[0]
        got[1] += (await other.reserve(*[1] * 100, job_id=2)).granted[0]
    assert got[0] / got[1] == pytest.approx(1, rel=0.15)


async def test_a_job_that_comes_late_has_saved_up_no_credit(still: Open) -> None:
    bucket = await still(rpm=6000, tpm=0)
    for _ in range(100):
        await bucket.sleep(0.1)
        await bucket.reserve(*[1] * 20, job_id=1)
    report = await bucket.reserve_for([Ask(1, 1.0, [1] * 20), Ask(2, 1.0, [1] * 20)])
    await bucket.sleep(0.2)
    report = await bucket.reserve_for([Ask(1, 1.0, [1] * 20), Ask(2, 1.0, [1] * 20)])
    assert min(report.granted) >= 5


async def test_a_large_request_is_not_overtaken_for_ever_by_small_ones_of_another_process(still: Open) -> None:
    one, other = await still(rpm=0, tpm=60_000, process="p1"), await still(rpm=0, tpm=60_000, process="p2")
    await other.reserve(1000)
    waited_s = 0.0
    while (await one.reserve(900)).granted == [0]:
        await one.sleep(0.05)
        waited_s += 0.05
        await other.reserve(*[10] * 20)
    assert waited_s <= 1


async def test_what_a_dead_process_waited_for_holds_nobody_up_for_long(still: Open) -> None:
    dead, other = await still(rpm=0, tpm=60_000, process="p1"), await still(rpm=0, tpm=60_000, process="p2")
    await dead.reserve(1000)
    assert (await dead.reserve(800, job_id=1)).granted == [0]
    await other.sleep(1.2)
    assert (await other.reserve(*[10] * 20, job_id=2)).granted == [20]


async def test_what_the_others_of_a_dead_processs_job_wait_for_is_soon_theirs(still: Open) -> None:
    dead, other = await still(rpm=6000, tpm=0, process="p1"), await still(rpm=6000, tpm=0, process="p2")
    await dead.reserve(*[1] * 200, job_id=1)
    got = 0
    for _ in range(100):
        await other.sleep(0.02)
        got += (await other.reserve(*[1] * 100, job_id=2)).granted[0]
    assert got >= 195


async def test_a_job_uses_its_part_of_the_limit_at_most_and_others_the_rest(still: Open) -> None:
    bucket = await still(rpm=6000, tpm=0)
    got = [0, 0]
    for _ in range(400):
        await bucket.sleep(0.05)
        report = await bucket.reserve_for([Ask(1, 1.0, [1] * 20, part=0.3), Ask(2, 1.0, [1] * 20)])
        got = [before + now for before, now in zip(got, report.granted, strict=True)]
    assert got[0] == pytest.approx(0.3 * (2000 + 100), rel=0.03)  # of the refill and of the burst
    assert sum(got) == pytest.approx(2000 + 95, abs=20)


async def test_a_job_held_by_its_own_part_is_told_how_long_and_waits_for_nobody(still: Open) -> None:
    bucket = await still(rpm=6000, tpm=0)
    report = await bucket.reserve_for([Ask(1, 1.0, [1] * 100, part=0.1), Ask(2, 1.0, [1] * 5)])
    assert report.granted == [10, 5]
    assert report.held_s[0] == pytest.approx(0.1, abs=0.01)
    assert (report.wait_s, report.why) == (0, Why.NOTHING)
    await bucket.sleep(report.held_s[0])
    assert (await bucket.reserve_for([Ask(1, 1.0, [1, 1], part=0.1)])).granted == [1]


async def test_a_clock_that_steps_back_does_not_hold_a_part_for_an_hour(still: Open) -> None:
    bucket = await still(rpm=6000, tpm=0)
    await bucket.reserve_for([Ask(1, 1.0, [1] * 100, part=0.5)])
    await bucket.sleep(-3600)
    assert (await bucket.reserve_for([Ask(1, 1.0, [1], part=0.5)])).held_s[0] < 130


async def test_processes_are_counted_while_they_live(still: Open) -> None:
    one, other = await still(rpm=600, tpm=0, process="p1"), await still(rpm=600, tpm=0, process="p2")
    assert [await one.bucket.present(), await other.bucket.present()] == [1, 2]
    await one.sleep(11)
    assert await one.bucket.present() == 1


async def test_every_key_of_the_limiter_goes_away_by_itself(still: Open) -> None:
    bucket = await still(rpm=600, tpm=0)
    await bucket.reserve(*[1] * 50)
    await bucket.bucket.settle(bucket.number(), Settlement(requests=1))
    await bucket.bucket.slow_down(Slowdown(cool_s=1))
    await bucket.bucket.present()
    await bucket.reserve_for([Ask(2, 1.0, [1], part=0.5)])
    keys = [key async for key in bucket.redis.scan_iter("corpusmill:*")]
    assert len(keys) == 6
    assert all([await bucket.redis.ttl(key) > 0 for key in keys])
