"""Limits of a day, and a flex tier without capacity: work is parked or goes on elsewhere, and nothing is lost."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from corpusmill.cli.times import hour
from corpusmill.mill import Mill
from corpusmill.prices import PriceCard, Rates
from corpusmill.spec import COMPLETIONS_PATH, JobSpec
from tests.fixtures.bench import Bench, StartBench
from tests.fixtures.fleet import chunks, completions, lines
from tests.fixtures.simulator import StartSimulator

CARD = PriceCard(
    "gpt-6-luna",
    "test",
    "2026-11-01",
    {
        tier: Rates(((0, Decimal(price)),), ((0, Decimal(price)),))
        for tier, price in {"default": 1000, "flex": 500}.items()
    },
).as_json()


DAY_S = 86_400


def texts(count: int) -> list[str]:
    return [f"chunk number {number}" for number in range(count)]


def parked_for_s(b: Bench, job_id: int) -> float:
    until = b.ledger.counts(job_id).parked_until
    assert until is not None
    return until - time.time()


# --- limits of a day ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [{"rpd": 10}, {"tpd": 60}])
async def test_a_limit_of_a_day_parks_the_shards_until_its_reset_and_shows_the_hour(
    bench: StartBench, simulator: StartSimulator, flags: dict[str, int]
) -> None:
    endpoint = simulator(**flags, day_s=7200, latency_ms=5)
    async with bench(endpoint.base_url, limits={}, window=20) as b:
        job = b.complete(texts(200))
        reports = await b.run(job)
        assert {report.outcome for report in reports} == {"parked"}
        assert 7000 < parked_for_s(b, job.id) < 8000
        with Mill(b.settings) as mill:
            summary = mill.job(job.public_id).summary()
        assert summary.parked_until is not None
        assert hour(summary.parked_until) == hour(b.ledger.counts(job.id).parked_until or 0)
        paid = endpoint.stats()["paid_requests"]
        assert b.counts(job).succeeded == paid
        refused = endpoint.stats()["answered_429"]
        # Whoever claims a shard now asks nobody: the fleet's bucket knows.
        b.ledger.resume(job.id)
        await b.run(job)
        assert endpoint.stats()["answered_429"] <= refused + 1


@pytest.mark.parametrize(("told", "expected_s"), [("none", 3600), ("date", 7200)])
async def test_an_endpoint_that_tells_no_reset_is_asked_again_after_an_hour(
    bench: StartBench, simulator: StartSimulator, told: str, expected_s: int
) -> None:
    endpoint = simulator(fault="rate_limit_day:7200=1", retry_after=told)
    async with bench(endpoint.base_url) as b:
        job = b.complete(texts(3))
        (report,) = await b.run(job)
        assert report.outcome == "parked"
        assert expected_s * 0.99 < parked_for_s(b, job.id) < 7200 * 1.15


@pytest.mark.parametrize("flags", [{"rpd": 10}, {"tpd": 60}])
async def test_a_limit_of_a_day_that_the_user_told_is_kept_without_a_refusal_and_one_that_is_raised_goes_on(
    bench: StartBench, simulator: StartSimulator, flags: dict[str, int]
) -> None:
    endpoint = simulator(**flags, latency_ms=5)
    async with bench(endpoint.base_url, limits={"rpm": 0, "tpm": 0, **flags}, window=20) as b:
        job = b.complete(texts(60))
        reports = await b.run(job)
        assert {report.outcome for report in reports} == {"parked"}
        midnight = (time.time() // DAY_S + 1) * DAY_S
        assert abs(time.time() + parked_for_s(b, job.id) - midnight) < 0.15 * DAY_S
        # Those that were granted and not sent yet when their shard was parked go out with the next look.
        b.ledger.resume(job.id)
        await b.run(job)
        assert 1 <= b.counts(job).succeeded <= 10
        assert endpoint.stats()["answered_429"] == 0
        (stream,) = b.runtime.runner.routes.streams()
        (door,) = stream.lane.members[0].doors.values()
        door.gate.heed(b.settings.limits.model_copy(update={name: 2 * limit for name, limit in flags.items()}))
        b.ledger.resume(job.id)
        await b.run(job)
        assert endpoint.stats()["answered_429"] > 0


async def test_after_the_reset_the_rest_is_done(bench: StartBench, simulator: StartSimulator) -> None:
    endpoint = simulator(rpd=10, day_s=2, latency_ms=5)
    async with bench(endpoint.base_url) as b:
        job = b.complete(texts(15))
        await b.run(job)
        assert b.counts(job).succeeded == 15
    assert endpoint.stats()["duplicates_paid"] == 0


# --- flex -----------------------------------------------------------------------------------------------------------


def flex_job(b: Bench, count: int, **fields: object) -> int:
    spec = completions(b.endpoint, service_tier="flex")
    return b.submit(spec, chunks(spec, texts(count)), price_card=CARD, **fields).id


async def test_a_job_that_spills_goes_on_at_the_usual_tier_and_pays_what_was_served(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator(fault="flex_unavailable@tier:flex")
    async with bench(endpoint.base_url) as b:
        job = b.ledger.job(flex_job(b, 20, flex="spill"))
        await b.run(job)
        assert b.counts(job).succeeded == 20
        (usage,) = b.ledger.usage_by("job")
        counts = b.counts(job)
        assert counts.usd == Decimal(counts.prompt_tokens + counts.completion_tokens) * 1000 / 1_000_000
        assert usage.requests >= 20
        # What was asked for is what the answers are kept under: the same job again buys nothing.
        again = b.ledger.job(flex_job(b, 20))
        assert again.id != job.id
        await b.run(again)
        assert b.counts(again).cached == 20
    assert endpoint.stats()["paid_requests"] == 20
    # The first few found out; nobody was slowed down for it.
    assert endpoint.stats()["answered_429"] <= 20


async def test_a_job_that_waits_is_served_by_flex_once_it_has_capacity_and_pays_half(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator(fault="flex_unavailable@1-5", latency_ms=5)
    async with bench(endpoint.base_url) as b:
        job = b.ledger.job(flex_job(b, 60))
        await b.run(job)
        counts = b.counts(job)
        assert counts.succeeded == 60
        assert counts.usd == Decimal(counts.prompt_tokens + counts.completion_tokens) * 500 / 1_000_000
    assert endpoint.stats()["answered_429"] == 5
    assert {request["body"]["service_tier"] for request in endpoint.requests(60)} == {"flex"}


async def test_waiting_for_flex_grows_long_and_gives_the_work_back_without_asking_for_each_item(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator(fault="flex_unavailable=1", latency_ms=5)
    async with bench(endpoint.base_url, retry={"min_s": 3.0, "max_s": 3.1}) as b:
        job = b.ledger.job(flex_job(b, 300))
        reports = await b.run(job)
        assert {report.outcome for report in reports} == {"parked"}
        assert parked_for_s(b, job.id) > 60
    assert endpoint.stats()["requests"] <= 20


async def test_lines_of_a_request_file_spill_too(bench: StartBench, simulator: StartSimulator) -> None:
    endpoint = simulator(fault="flex_unavailable@tier:flex")
    async with bench(endpoint.base_url) as b:
        body = {"model": "gpt-6-luna", "service_tier": "flex", "messages": [{"role": "user", "content": "Hello."}]}
        spec = JobSpec("request", COMPLETIONS_PATH, "gpt-6-luna", b.endpoint)
        job = b.submit(spec, lines(spec, [body]), flex="spill")
        await b.run(job)
        assert b.counts(job).succeeded == 1
    asked = [request["body"] for request in endpoint.requests(2)]
    assert [each["service_tier"] for each in asked] == ["flex", "auto"]
    assert asked[1] == {**asked[0], "service_tier": "auto"}
