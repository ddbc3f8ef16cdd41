"""The path of a shard through a worker's runtime, against the simulator's faults."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr

from corpusmill.ledger.records import ShardRef
from corpusmill.prices import PriceCard, Rates
from corpusmill.settings import Limits, Provider
from corpusmill.spec import COMPLETIONS_PATH, JobSpec
from tests.fixtures.bench import StartBench
from tests.fixtures.fleet import KEY, chunks, completions, embeddings, lines, submit
from tests.fixtures.simulator import StartSimulator
from tests.fixtures.valkey import free_port
from workers import upkeep
from workers.embeddings import Embeddings
from workers.held import Unit
from workers.journal import Journal, Reply
from workers.work import Reading

CARD = PriceCard(
    "gpt-6-luna", "test", "2026-11-01", {"default": Rates(((0, Decimal(1)),), ((0, Decimal(1000)),))}
).as_json()


def texts(count: int, what: str = "chunk") -> list[str]:
    return [f"{what} number {number}" for number in range(count)]


async def until(happened: Callable[[], bool], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


# --- each item once -------------------------------------------------------------------------------------------------


@pytest.mark.fault(33)
async def test_a_message_delivered_twice_at_once_is_paid_for_once(bench: StartBench, simulator: StartSimulator) -> None:
    endpoint = simulator()
    async with bench(endpoint.base_url) as b:
        job = b.complete(texts(50))
        ref = ShardRef(job.id, 0)
        reports = await asyncio.gather(*(b.runtime.run_shard(ref) for _ in range(3)))
        assert sorted(report.outcome for report in reports) == ["done", "dropped", "dropped"]
        assert b.state(job) == "finished"
        assert endpoint.stats()["paid_requests"] == 50


async def test_a_text_in_four_shards_is_paid_for_once(bench: StartBench, simulator: StartSimulator) -> None:
    endpoint = simulator(latency_ms=50)
    async with bench(endpoint.base_url) as b:
        job = b.complete(["one and the same text"] * 40, shard_size=10)
        await b.run(job, shard_size=10)
        assert b.state(job) == "finished"
        counts = b.counts(job)
        assert (counts.succeeded, counts.cached) == (40, 39)
        assert endpoint.stats()["paid_requests"] == 1


async def test_a_second_job_over_the_same_texts_pays_nothing(bench: StartBench, simulator: StartSimulator) -> None:
    endpoint = simulator()
    async with bench(endpoint.base_url) as b:
        await b.run(b.complete(texts(30)))
        again = b.complete(texts(30))
        await b.run(again)
        assert (b.counts(again).cached, b.counts(again).requests) == (30, 0)
        assert endpoint.stats()["paid_requests"] == 30


async def test_small_embedding_shards_share_a_request_and_the_bill_is_split_exactly(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator()
    async with bench(endpoint.base_url) as b:
        spec = embeddings(b.endpoint)
        warm = b.submit(spec, chunks(spec, ["warm"]))
        await b.run(warm)
        jobs = [b.submit(spec, chunks(spec, texts(7, what))) for what in ("red", "green", "blue")]
        before = endpoint.stats()["requests"]
        await asyncio.gather(*(b.run(job) for job in jobs))
        assert [b.state(job) for job in jobs] == ["finished"] * 3
        assert endpoint.stats()["requests"] - before == 1
        billed = sum(line["prompt_tokens"] for line in endpoint.paid()[1:])
        assert sum(b.counts(job).prompt_tokens for job in jobs) == billed


async def test_a_large_reply_is_read_and_kept_off_the_loop_and_a_small_one_on_it(
    bench: StartBench, simulator: StartSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, keep = Embeddings.read, Journal.reply
    threads: list[tuple[str, int, str]] = []

    def seen_read(work: Embeddings, body: bytes, units: Sequence[Unit]) -> Reading:
        threads.append(("read", len(units), threading.current_thread().name.partition("_")[0]))
        return read(work, body, units)

    def seen_keep(journal: Journal, *replies: Reply) -> None:
        threads.append(("keep", len(replies[0].answers), threading.current_thread().name.partition("_")[0]))
        keep(journal, *replies)

    monkeypatch.setattr(Embeddings, "read", seen_read)
    monkeypatch.setattr(Journal, "reply", seen_keep)
    async with bench(simulator().base_url) as b:
        spec = replace(embeddings(b.endpoint), dimensions=1536)
        small, large = (b.submit(spec, chunks(spec, texts(count))) for count in (3, 90))
        await b.run(small)
        await b.run(large)
        assert (b.state(small), b.state(large)) == ("finished", "finished")
    loop = threading.current_thread().name
    assert threads == [("read", 3, loop), ("keep", 3, loop), ("read", 87, "aside"), ("keep", 87, "aside")]


async def test_full_packs_are_of_one_shard_and_what_is_left_of_several_shares_one(
    bench: StartBench, simulator: StartSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long a busy machine takes to claim thrice 2,100 items.
    monkeypatch.setattr("workers.outlets.LONGEST_LINGER_S", 60.0)
    endpoint = simulator(dimensions=4)
    async with bench(endpoint.base_url) as b:
        await b.run(b.embed(["warm"]))
        jobs = [b.embed(texts(2_100, what), shard_size=2_100) for what in ("red", "green", "blue")]
        await asyncio.gather(*(b.run(job, shard_size=2_100) for job in jobs))
        assert [b.state(job) for job in jobs] == ["finished"] * 3
        packs = sorted(line["inputs"] for line in endpoint.paid()[1:])
        assert packs == [156, 2_048, 2_048, 2_048]


# --- what fails -----------------------------------------------------------------------------------------------------


async def test_empty_answers_are_retried_twice_then_failed_and_all_three_are_billed(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator(fault=["empty@text:hollow"])
    async with bench(endpoint.base_url) as b:
        job = b.complete(["sound", "hollow"])
        await b.run(job)
        counts = b.counts(job)
        assert b.state(job) == "finished"
        assert (counts.succeeded, counts.failed_by_class, counts.requests) == (1, {"empty_reply": 1}, 4)
        assert endpoint.stats()["paid_requests"] == 4
        assert sum(line["completion_tokens"] for line in endpoint.paid()) == counts.completion_tokens


@pytest.mark.fault(22)
async def test_answers_that_are_no_answers_are_never_stored(bench: StartBench, simulator: StartSimulator) -> None:
    kinds = ["html200", "bad_json", "no_usage", "no_choices"]
    endpoint = simulator(fault=[f"{kind}@text:{kind}" for kind in kinds])
    async with bench(endpoint.base_url) as b:
        job = b.complete([*kinds, "sound"])
        await b.run(job)
        assert b.counts(job).failed_by_class == {"bad_reply": 4}
        assert [row.state for row in b.results(job)] == ["failed"] * 4 + ["succeeded"]


async def test_a_poisoned_text_in_a_pack_fails_alone(bench: StartBench, simulator: StartSimulator) -> None:
    endpoint = simulator(fault=["content_policy@text:poison"])
    async with bench(endpoint.base_url) as b:
        job = b.embed([*texts(40), "poison", *texts(23, "more")])
        await b.run(job)
        assert b.state(job) == "finished"
        failed = [row for row in b.results(job) if row.state == "failed"]
        assert [(row.id, row.error_class) for row in failed] == [("d40", "content_policy")]
        assert b.counts(job).succeeded == 63
        assert "poison" not in str(failed[0].error)


async def test_rate_limit_answers_use_up_no_attempt(bench: StartBench, simulator: StartSimulator) -> None:
    endpoint = simulator(fault=["rate_limit_tokens:0.05@1-9"])
    async with bench(endpoint.base_url, retry={"attempts": 2, "min_s": 0.02, "max_s": 0.1}) as b:
        job = b.complete(texts(3))
        await b.run(job)
        assert b.counts(job).succeeded == 3
        assert b.counts(job).requests == 12


@pytest.mark.fault(21)
async def test_a_call_that_hangs_is_cut_and_counted_as_unknown_spend(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator(fault=["hang@text:stuck"])
    async with bench(endpoint.base_url, timeout_s=0.3, retry={"attempts": 2, "min_s": 0.02}) as b:
        job = b.complete(["stuck", "free"], price_card=CARD)
        await b.run(job)
        counts = b.counts(job)
        assert counts.failed_by_class == {"timeout": 1}
        assert counts.unknown_attempts == 2
        assert counts.unknown_usd is not None and counts.unknown_usd > 0


async def test_a_wrong_key_pauses_at_once_and_nothing_is_tried_again(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator(key="sk-another")
    async with bench(endpoint.base_url) as b:
        job = b.complete(texts(300))
        await b.run(job)
        assert b.state(job) == "paused:key"
        assert endpoint.stats()["requests"] <= 5
        assert b.counts(job).open == 300
        assert KEY not in str(b.ledger.job(job.id).note)


async def test_a_missing_model_stops_the_job_after_a_handful(bench: StartBench, simulator: StartSimulator) -> None:
    endpoint = simulator(models="gpt-6-luna")
    async with bench(endpoint.base_url) as b:
        job = b.complete(texts(300), model="gpt-9")
        await b.run(job)
        assert b.state(job) == "stopped"
        assert "no such model" in str(b.ledger.job(job.id).note)
        assert endpoint.stats()["requests"] <= 10
        assert b.counts(job).open == 300


@pytest.mark.parametrize("first", [None, 3])
async def test_a_missing_model_stops_a_job_of_fewer_than_a_handful_too(
    bench: StartBench, simulator: StartSimulator, first: int | None
) -> None:
    endpoint = simulator(models="gpt-6-luna")
    async with bench(endpoint.base_url) as b:
        job = b.complete(texts(3 if first is None else 300), model="gpt-9", first=first)
        await b.runtime.run_shard(ShardRef(job.id, 0))
        assert b.state(job) == "stopped"
        assert "no such model" in str(b.ledger.job(job.id).note)
        assert (endpoint.stats()["requests"], b.counts(job).failed) == (3, 0)


async def test_a_few_requests_of_a_file_that_fail_alike_fail_each_for_itself(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator(models="gpt-6-luna")
    async with bench(endpoint.base_url) as b:
        spec = JobSpec("request", COMPLETIONS_PATH, "gpt-9", b.endpoint)
        said = [{"model": f"gpt-9.{n}", "messages": [{"role": "user", "content": "hi"}]} for n in range(3)]
        job = b.submit(spec, lines(spec, said))
        await b.run(job)
        assert b.state(job) == "finished"
        assert b.counts(job).failed_by_class == {"no_such_model": 3}


async def test_a_refused_parameter_of_one_item_fails_that_item(bench: StartBench, simulator: StartSimulator) -> None:
    endpoint = simulator(fault=["bad_parameter@text:odd"])
    async with bench(endpoint.base_url) as b:
        job = b.complete([*texts(20), "odd", *texts(20, "other")])
        await b.run(job)
        assert b.counts(job).failed_by_class == {"bad_parameter": 1}


async def test_a_dead_endpoint_pauses_its_jobs_and_uses_up_no_attempts(bench: StartBench) -> None:
    async with bench(f"http://127.0.0.1:{free_port()}/v1", retry={"attempts": 2, "min_s": 0.02, "max_s": 0.1}) as b:
        one, many = b.complete(["single"]), b.complete(texts(200))
        await asyncio.gather(b.run(one), b.run(many))
        assert (b.state(one), b.state(many)) == ("paused:endpoint", "paused:endpoint")
        assert b.counts(many).failed == 0


@pytest.mark.fault(19)
async def test_spent_credit_pauses_the_job_and_resume_finishes_it(bench: StartBench, simulator: StartSimulator) -> None:
    endpoint = simulator(fault=["credit_balance_exhausted@60-"])
    async with bench(endpoint.base_url, window=20) as b:
        job = b.complete(texts(200))
        await b.run(job)
        assert b.state(job) == "paused:billing"
        assert endpoint.stats()["requests"] <= 60 + 20
        assert b.counts(job).failed == 0
        endpoint.set_faults()
        b.ledger.resume(job.id)
        await b.run(job)
        assert b.counts(job).succeeded == 200
        assert endpoint.stats()["duplicates_paid"] == 0


async def test_a_wait_too_long_to_sit_out_parks_the_shard(bench: StartBench, simulator: StartSimulator) -> None:
    endpoint = simulator(fault=["rate_limit_day:7200@1-"])
    async with bench(endpoint.base_url) as b:
        job = b.complete(texts(5))
        reports = await b.run(job)
        assert [report.outcome for report in reports] == ["parked"]
        assert b.state(job) == "running"
        assert [report.outcome for report in await b.run(job)] == ["dropped"]


async def test_a_member_of_a_pool_with_a_revoked_key_is_left_out(bench: StartBench, simulator: StartSimulator) -> None:
    good, bad = simulator(latency_ms=20), simulator(key="sk-another")
    providers = {
        "bad": Provider(base_url=bad.base_url, api_key=SecretStr("sk-revoked")),
        "both": Provider(members=("sim", "bad")),
    }
    async with bench(good.base_url, providers=providers) as b:
        spec = completions("pool:both")
        job = b.submit(spec, chunks(spec, texts(200)))
        await b.run(job)
        assert b.counts(job).succeeded == 200
        assert good.stats()["paid_requests"] == 200


async def test_jobs_follow_a_key_that_is_rotated_in_its_file(
    bench: StartBench, simulator: StartSimulator, tmp_path: Path
) -> None:
    endpoint = simulator(key="sk-new-key-000000")
    file = tmp_path / "key"
    file.write_text("sk-old-key-000000")
    provider = Provider(base_url=endpoint.base_url, api_key_file=file)
    async with bench(endpoint.base_url, providers={"sim": provider}) as b:
        job = b.complete(texts(30))
        await b.run(job)
        assert b.state(job) == "paused:key"
        file.write_text("sk-new-key-000000")
        await upkeep.beat(b.runtime)
        b.ledger.resume(job.id)
        await b.run(job)
        assert b.counts(job).succeeded == 30


async def test_a_provider_handed_over_by_the_supervisor_can_be_served_at_once(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator()
    async with bench("http://127.0.0.1:9/v1") as b:
        added = Provider(base_url=endpoint.base_url, api_key=SecretStr("sk-added"))
        b.runtime.keyring.add({"provider": "added", **added.as_message()})
        await upkeep.beat(b.runtime)
        settings = b.settings.with_providers({"added": added})
        spec = completions(settings.endpoint("added"))
        job = submit(b.ledger, settings, spec, chunks(spec, texts(3)))
        assert b.ledger.serving(job.endpoint, job.key_fingerprint)
        await b.run(job)
        assert b.counts(job).succeeded == 3


async def test_limits_handed_over_anew_hold_for_a_shard_that_runs_already(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator()
    async with bench(endpoint.base_url, limits={"rpm": 60, "tpm": 0}) as b:
        job = b.complete(texts(60))
        running = asyncio.create_task(b.run(job))
        await until(lambda: endpoint.stats()["paid_requests"] > 0)
        name, provider = b.settings.provider()
        unlimited = provider.model_copy(update={"limits": Limits(rpm=0, tpm=0)})
        b.runtime.keyring.add({"provider": name, **unlimited.as_message()})
        b.runtime.runner.routes.heed(b.runtime.keyring.endpoints)
        await asyncio.wait_for(running, 60)
        assert b.counts(job).succeeded == 60


# --- people and limits ----------------------------------------------------------------------------------------------


@pytest.mark.fault(36)
async def test_a_pause_stops_sending_within_two_seconds_and_keeps_what_was_in_flight(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator(latency_ms=200)
    async with bench(endpoint.base_url, window=20) as b:
        job = b.complete(texts(250))
        running = asyncio.create_task(b.run(job))
        await until(lambda: endpoint.stats()["paid_requests"] > 10)
        b.ledger.pause(job.id, "user")
        await asyncio.sleep(2)
        sent = endpoint.stats()["requests"]
        await running
        assert endpoint.stats()["requests"] == sent < 250
        assert b.counts(job).succeeded == endpoint.stats()["paid_requests"]
        b.ledger.resume(job.id)
        await b.run(job)
        assert b.counts(job).succeeded == 250
        assert endpoint.stats()["duplicates_paid"] == 0


async def test_a_cancelled_job_ends_while_it_waits_for_the_limit(bench: StartBench, simulator: StartSimulator) -> None:
    endpoint = simulator()
    async with bench(endpoint.base_url, limits={"rpm": 60, "tpm": 0}) as b:
        job = b.complete(texts(200))
        running = asyncio.create_task(b.run(job))
        await until(lambda: endpoint.stats()["paid_requests"] > 0)
        b.ledger.cancel(job.id)
        async with asyncio.timeout(3):
            reports = await running
        assert {report.outcome for report in reports} == {"cancelled"}


async def test_a_budget_holds_over_all_shards_and_a_higher_one_goes_on(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator(latency_ms=10)
    async with bench(endpoint.base_url) as b:
        spec = completions(b.endpoint, max_completion_tokens=100)
        job = b.submit(
            spec, chunks(spec, texts(100)), shard_size=10, price_card=CARD, budget_usd=Decimal("1.00"),
        )  # fmt: skip
        await b.run(job, shard_size=10)
        counts = b.counts(job)
        assert b.state(job) == "paused:budget"
        assert counts.usd is not None and Decimal("0.5") < counts.usd <= Decimal("1.00")
        b.ledger.resume(job.id, budget=Decimal(50))
        await b.run(job, shard_size=10)
        assert b.state(job) == "finished"
        assert endpoint.stats()["duplicates_paid"] == 0


async def test_two_workers_use_a_budget_of_tokens_to_the_last_call_that_fits_and_no_further(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator(latency_ms=10)
    async with bench(endpoint.base_url) as one, bench(endpoint.base_url) as two:
        spec = completions(one.endpoint, max_completion_tokens=100)
        items = [replace(item, tokens=60) for item in chunks(spec, texts(100))]
        job = one.submit(spec, items, shard_size=10, budget_tokens=1_600)
        refs = [ShardRef(job.id, number) for number in range(10)]
        await asyncio.gather(*((one, two)[ref.shard_no % 2].runtime.run_shard(ref) for ref in refs))
        assert one.state(job) == "paused:budget"
        assert one.ledger.job(job.id).note == "the budget of 1,600 tokens has no room for a call of up to 160"
        assert 1_600 - 160 < one.ledger.spent(job.id).tokens <= 1_600
        one.ledger.set_budget_tokens(job.id, 50_000)
        one.ledger.resume(job.id)
        await asyncio.gather(*((one, two)[ref.shard_no % 2].runtime.run_shard(ref) for ref in refs))
        assert one.state(job) == "finished"
        assert endpoint.stats()["duplicates_paid"] == 0


async def test_of_a_pack_that_the_budget_does_not_cover_a_part_is_sent(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator()
    async with bench(endpoint.base_url) as b:
        spec = embeddings(b.endpoint)
        items = [replace(item, tokens=10) for item in chunks(spec, texts(100))]
        job = b.submit(spec, items, budget_tokens=200)
        await b.run(job)
        assert b.state(job) == "paused:budget"
        assert 190 < b.ledger.spent(job.id).tokens <= 200


async def test_a_text_larger_than_a_minutes_limit_fails_without_a_call(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator()
    async with bench(endpoint.base_url, limits={"rpm": 0, "tpm": 6_000}) as b:
        job = b.complete(["short", "long " * 10_000])
        await b.run(job)
        assert b.counts(job).failed_by_class == {"too_large": 1}
        assert endpoint.stats()["requests"] == 1


async def test_first_ends_a_shard_in_the_middle_and_the_rest_goes_on_from_there(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator()
    async with bench(endpoint.base_url) as b:
        job = b.complete(texts(30), first=12)
        await b.run(job)
        assert b.state(job) == "paused:first"
        assert endpoint.stats()["paid_requests"] == 12
        b.ledger.resume(job.id, first=None)
        await b.run(job)
        assert b.state(job) == "finished"
        assert endpoint.stats()["paid_requests"] == 30


async def test_a_drained_runtime_gives_its_shards_back_at_once(bench: StartBench, simulator: StartSimulator) -> None:
    endpoint = simulator(latency_ms=200)
    async with bench(endpoint.base_url, window=5) as b:
        job = b.complete(texts(100))
        running = asyncio.create_task(b.run(job))
        await until(lambda: endpoint.stats()["in_flight"] > 0)
        b.runtime.drain()
        reports = await running
        assert [report.outcome for report in reports] == ["drain"]
        assert b.counts(job).succeeded == endpoint.stats()["paid_requests"]
        claim = b.ledger.claim(ShardRef(job.id, 0), worker_id="next", lease_s=5, holds=b.runtime.keyring.holds())
        assert claim is not None


async def test_a_second_drain_cuts_calls_off_and_books_them_as_unknown(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator(fault=["hang@1-"])
    async with bench(endpoint.base_url) as b:
        job = b.complete(texts(3))
        running = asyncio.create_task(b.run(job))
        await until(lambda: endpoint.stats()["in_flight"] == 3)
        b.runtime.drain()
        b.runtime.drain()
        await running
        assert b.counts(job).unknown_attempts == 3
        assert b.counts(job).open == 3


# --- on the wire ----------------------------------------------------------------------------------------------------


async def test_request_bodies_pass_untouched_and_replies_come_back_whole(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator()
    async with bench(endpoint.base_url) as b:
        spec = JobSpec("request", COMPLETIONS_PATH, "gpt-6-luna", b.endpoint)
        body = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "hi"}], "n": 2, "logprobs": True}
        job = b.submit(spec, lines(spec, [body]))
        await b.run(job)
        assert endpoint.requests()[0]["body"] == body
        row = b.results(job)[0]
        assert row.body is not None and b'"choices"' in row.body


async def test_an_endpoint_that_knows_max_tokens_is_sent_max_tokens(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator()
    old = {"old": Provider(base_url=endpoint.base_url + "/", api_key=SecretStr(KEY), max_tokens_name="max_tokens")}
    async with bench("http://127.0.0.1:9/v1", providers=old) as b:
        spec = completions(b.settings.endpoint("old"), max_completion_tokens=17)
        job = b.submit(spec, chunks(spec, ["a text"]))
        await b.run(job)
        sent = endpoint.requests()[0]["body"]
        assert sent["max_tokens"] == 17
        assert "max_completion_tokens" not in sent
