"""LightRAG's functions through real workers, a real broker and a real ledger."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import tenacity

from corpusmill.lightrag import attendance, choosing, places, retrying, use_fleet
from corpusmill.lightrag.openai import openai_complete_if_cache, openai_embed
from corpusmill.lightrag.utils import TokenTracker, TruncatedResponse
from tests.fixtures.fleet import KEY, Fleet, wait_until
from tests.fixtures.simulator import running
from tests.fixtures.valkey import Server


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, valkey_session: Server) -> Iterator[Fleet]:
    """A scheduler and a worker that several tests use; each has its own texts."""
    home = tmp_path_factory.mktemp("lightrag-fleet")
    with running(home / "paid.jsonl", latency_ms=20) as simulator:
        (home / "paid.jsonl").touch()
        fleet = Fleet(home, valkey_session, f"sqlite:///{home}/ledger.db", simulator)
        try:
            fleet.scheduler()
            fleet.worker()
            with_fleet = use_fleet(fleet.settings)
            yield fleet
            with_fleet.close()
            for job in fleet.ledger.jobs():
                audit = fleet.ledger.audit(job.id)
                assert audit.adds_up, [job.name, *map(str, audit.mismatches)]
        finally:
            choosing.use_local()
            fleet.close()


@pytest.fixture
def where(fleet: Fleet) -> dict[str, Any]:
    fleet.simulator.set_faults()
    return {"base_url": fleet.simulator.base_url, "api_key": KEY}


async def complete(prompt: str, where: dict[str, Any], **options: Any) -> str:
    answer = await openai_complete_if_cache("gpt-6-luna", prompt, **where, **options)
    assert isinstance(answer, str)
    return answer


def usage_rows(fleet: Fleet) -> tuple[int, int, int]:
    total = fleet.ledger.usage_by("model")
    return sum(t.requests for t in total), sum(t.prompt_tokens for t in total), sum(t.completion_tokens for t in total)


async def test_calls_are_gathered_answered_and_counted_as_the_ledger_has_them(
    fleet: Fleet, where: dict[str, Any]
) -> None:
    before, paid_before = usage_rows(fleet), fleet.simulator.stats()["paid_requests"]
    with TokenTracker() as tracker:
        answers = await asyncio.gather(*(complete(f"river {number % 30}", where) for number in range(60)))
    after = usage_rows(fleet)
    assert len(set(answers)) == 30
    assert fleet.simulator.stats()["paid_requests"] - paid_before == 30
    assert (tracker.call_count, tracker.cached_count) == (30, 30)
    assert (tracker.call_count, tracker.prompt_tokens, tracker.completion_tokens) == tuple(
        a - b for a, b in zip(after, before, strict=True)
    )
    assert len([job for job in fleet.ledger.jobs() if job.model == "gpt-6-luna"]) == 1


async def test_what_was_paid_for_nothing_is_counted_as_the_ledger_has_it(fleet: Fleet, where: dict[str, Any]) -> None:
    before = usage_rows(fleet)
    with TokenTracker() as tracker:
        fleet.simulator.set_faults("empty@1-2")
        await complete("a mere", where)
        fleet.simulator.set_faults("empty@1-")
        with pytest.raises(tenacity.RetryError):
            await complete("a bog", where)
        with pytest.raises(tenacity.RetryError):
            await openai_embed.func(["a marsh", "a fen"], **where)
        fleet.simulator.set_faults("empty@1")
        await openai_embed.func(["a swamp", "a mire"], **where)
    after = usage_rows(fleet)
    assert tracker.call_count > 8
    assert (tracker.call_count, tracker.prompt_tokens, tracker.completion_tokens) == tuple(
        a - b for a, b in zip(after, before, strict=True)
    )


async def test_an_answer_that_is_there_is_a_hit(fleet: Fleet, where: dict[str, Any]) -> None:
    first = await complete("a lake", where)
    with TokenTracker() as tracker:
        assert await complete("a lake", where) == first
    assert (tracker.call_count, tracker.cached_count) == (0, 1)


async def test_a_caller_that_gives_up_wastes_nothing(fleet: Fleet, where: dict[str, Any]) -> None:
    earlier = TokenTracker()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(openai_embed.func(["given up"], token_tracker=earlier, **where), 0.02)
    paid = partial(lambda: fleet.ledger.counts(_embedding_job(fleet)).succeeded > 0)
    await asyncio.to_thread(wait_until, lambda: bool(_embedding_jobs(fleet)) and paid())
    with TokenTracker() as tracker:
        vectors = await openai_embed.func(["given up"], **where)
    assert vectors.shape == (1, 1536)
    assert (tracker.call_count, tracker.cached_count) == (0, 1)
    assert earlier.call_count == 1


async def test_embeddings_are_the_same_as_without_a_fleet(fleet: Fleet, where: dict[str, Any]) -> None:
    texts = [f"text {number}" for number in range(50)]
    through_the_fleet = await openai_embed.func(texts, embedding_dim=64, **where)
    kept = choosing.mode()
    choosing.use_local()
    try:
        local = await openai_embed.func(texts, embedding_dim=64, **where)
    finally:
        choosing._use(kept)
    assert np.array_equal(through_the_fleet, local)


async def test_a_cut_answer_is_marked_and_a_whole_one_is_paid_for_once(fleet: Fleet, where: dict[str, Any]) -> None:
    fleet.simulator.set_faults("length@text:canyon")
    assert isinstance(await complete("a canyon", where), TruncatedResponse)
    fleet.simulator.set_faults()
    whole = await complete("a canyon", where)
    assert not isinstance(whole, TruncatedResponse)
    paid = fleet.simulator.stats()["paid_requests"]
    assert await complete("a canyon", where) == whole
    assert "".join(await streamed("a canyon", where)) == whole
    assert fleet.simulator.stats()["paid_requests"] == paid


async def test_a_fresh_answer_is_paid_for_each_time(fleet: Fleet, where: dict[str, Any]) -> None:
    before = fleet.simulator.stats()["paid_requests"]
    await asyncio.gather(complete("x", where, use_cache=False), complete("x", where, use_cache=False))
    assert fleet.simulator.stats()["paid_requests"] - before == 2


async def test_a_call_with_headers_of_its_own_is_made_here_and_kept_like_any(
    fleet: Fleet, where: dict[str, Any]
) -> None:
    before, paid = usage_rows(fleet), fleet.simulator.stats()["paid_requests"]
    with TokenTracker() as tracker:
        first = await complete("a ford", where, extra_headers={"X-Trace": "7"})
        assert await complete("a ford", where) == first
    assert (tracker.call_count, tracker.cached_count) == (1, 1)
    assert fleet.simulator.stats()["paid_requests"] - paid == 1
    assert usage_rows(fleet) == before


async def streamed(prompt: str, where: dict[str, Any], **options: Any) -> list[str]:
    answer = await openai_complete_if_cache("gpt-6-luna", prompt, stream=True, **where, **options)
    assert not isinstance(answer, str)
    return [text async for text in answer]


async def test_a_stream_runs_here_and_is_in_the_ledger_like_any_call(fleet: Fleet, where: dict[str, Any]) -> None:
    before, paid = usage_rows(fleet), fleet.simulator.stats()["paid_requests"]
    with TokenTracker() as tracker:
        pieces = await streamed("a long brook", where)
    assert len(pieces) > 1
    counted = (tracker.call_count, tracker.prompt_tokens, tracker.completion_tokens)
    assert counted == tuple(a - b for a, b in zip(usage_rows(fleet), before, strict=True))
    assert await complete("a long brook", where) == "".join(pieces)
    assert "".join(await streamed("a long brook", where)) == "".join(pieces)
    assert fleet.simulator.stats()["paid_requests"] - paid == 1


async def test_a_stream_that_is_left_is_an_unknown_spend_and_nobody_finishes_it(
    fleet: Fleet, where: dict[str, Any]
) -> None:
    fleet.simulator.set_faults("drip:0.002@1-")
    answer = await openai_complete_if_cache("gpt-5.4-nano", "a long fjord", stream=True, **where)
    assert isinstance(answer, AsyncGenerator)
    assert await anext(answer)
    await answer.aclose()
    (job,) = (job for job in fleet.ledger.jobs() if job.model == "gpt-5.4-nano")
    await asyncio.to_thread(wait_until, lambda: fleet.ledger.job(job.id).state == "finished")
    counts = fleet.ledger.counts(job.id)
    assert (counts.failed, counts.unknown_attempts) == (1, 1)


async def test_a_stream_longer_than_a_lease_is_paid_for_once(fleet: Fleet, where: dict[str, Any]) -> None:
    fleet.simulator.set_faults("drip:0.002@text:slow rapids")
    paid, begun = fleet.simulator.stats()["paid_requests"], time.monotonic()
    assert await streamed("slow rapids", where)
    assert time.monotonic() - begun > fleet.settings.lease_s
    assert fleet.simulator.stats()["paid_requests"] - paid == 1


# Prints a line once its stream has begun, and would read it for minutes.
READER = """
import asyncio
from corpusmill.lightrag.openai import openai_complete_if_cache
from tests.fixtures.shell import PATIENCE_S


async def main():
    async for text in await openai_complete_if_cache("gpt-6-sol", "a killed delta", stream=True):
        print(text, flush=True)


asyncio.run(main())
"""


def test_a_program_killed_in_the_middle_of_a_stream_leaves_an_unknown_spend_and_its_item_to_a_worker(
    fleet: Fleet, where: dict[str, Any], tmp_path: Path
) -> None:
    fleet.simulator.set_faults("drip:0.002@text:killed delta")
    own = {"OPENAI_API_BASE": where["base_url"], "OPENAI_API_KEY": KEY}
    environment = {**os.environ, **fleet.settings.as_environment(), **own}
    with subprocess.Popen([sys.executable, "-c", READER], env=environment, cwd=tmp_path, stdout=-1) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline()
        (job,) = (job for job in fleet.ledger.jobs() if job.model == "gpt-6-sol")
        # Its row is there before the first byte was asked for.
        assert fleet.ledger.counts(job.id).unknown_attempts == 1
        reader.kill()
    fleet.simulator.set_faults()
    counts = fleet.wait(job)
    assert (counts.succeeded, counts.unknown_attempts, counts.requests) == (1, 1, 2)


async def test_a_text_that_the_endpoint_refuses_raises_what_the_sdk_would(fleet: Fleet, where: dict[str, Any]) -> None:
    await complete("good", where)
    fleet.simulator.set_faults("context_length@text:poison")
    with pytest.raises(openai.BadRequestError, match="context_length_exceeded"):
        await complete("poison", where)


async def test_a_job_that_was_stopped_tells_its_callers_why_and_the_next_call_starts_another(
    fleet: Fleet, where: dict[str, Any]
) -> None:
    fleet.simulator.set_faults("bad_parameter@text:odd")
    calls = (openai_complete_if_cache("gpt-6.1-terra", f"odd {number}", **where) for number in range(8))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each).__name__ for each in results} == {"BadRequestError"}
    assert await openai_complete_if_cache("gpt-6.1-terra", "even", **where)
    states = sorted(job.state for job in fleet.ledger.jobs() if job.model == "gpt-6.1-terra")
    assert states == ["finished", "stopped"]


async def test_reasoning_alone_is_an_answer_to_whoever_wants_it_and_none_to_others(
    fleet: Fleet, where: dict[str, Any]
) -> None:
    fleet.simulator.set_faults("reasoning@text:pensive")
    thought = await complete("pensive", where, enable_cot=True)
    assert thought.startswith("<think>")
    assert thought.endswith("</think>")
    assert await complete("pensive", where, enable_cot=True) == thought
    fleet.simulator.set_faults()
    answer = await complete("pensive", where)
    assert answer
    assert not answer.startswith("<think>")
    paid = fleet.simulator.stats()["paid_requests"]
    assert await complete("pensive", where) == "".join(await streamed("pensive", where)) == answer
    assert await complete("pensive", where, enable_cot=True) == thought
    assert fleet.simulator.stats()["paid_requests"] == paid


def unknown_rows(fleet: Fleet, model: str) -> int:
    return sum(fleet.ledger.counts(job.id).unknown_attempts for job in fleet.ledger.jobs() if job.model == model)


async def test_each_stream_that_failed_to_open_and_may_have_been_billed_is_an_unknown_spend(
    fleet: Fleet, where: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying.COMPLETION, "wait", tenacity.wait_none())
    model = "gpt-5.4-mini"
    for fault, error in (
        ("server_error@1-", openai.InternalServerError),
        ("rate_limit_tokens:0@1-", openai.RateLimitError),
    ):
        fleet.simulator.set_faults(fault)
        with pytest.raises(tenacity.RetryError) as raised:
            await openai_complete_if_cache(model, f"a stream {fault}", stream=True, **where)
        assert isinstance(raised.value.last_attempt.exception(), error)
    assert unknown_rows(fleet, model) == 3
    failed = [row.error_class for job in fleet.ledger.jobs() if job.model == model for row in fleet.results(job)]
    assert failed == ["server_error", "rate_limited"]


async def test_a_stream_that_breaks_off_is_an_unknown_spend(fleet: Fleet, where: dict[str, Any]) -> None:
    fleet.simulator.set_faults("truncated_body@1-")
    answer = await openai_complete_if_cache("gpt-5-nano", "a stream of some length", stream=True, **where)
    assert isinstance(answer, AsyncGenerator)
    with pytest.raises(openai.APIError):
        [text async for text in answer]
    await asyncio.to_thread(wait_until, lambda: unknown_rows(fleet, "gpt-5-nano") == 1)


async def test_a_refused_key_reaches_every_caller_at_once_until_the_job_is_resumed(
    fleet: Fleet, where: dict[str, Any]
) -> None:
    async def ask(prompt: str, **options: Any) -> Any:
        return await openai_complete_if_cache("gpt-5.2", prompt, **where, **options)

    assert await ask("before")
    fleet.simulator.set_faults("invalid_key@1-")
    results = await asyncio.gather(*(ask(f"refused {number}") for number in range(5)), return_exceptions=True)
    assert {type(each).__name__ for each in results} == {"AuthenticationError"}
    requests = fleet.simulator.stats()["requests"]
    with pytest.raises(openai.AuthenticationError, match="corpusmill resume"):
        await ask("another")
    with pytest.raises(openai.AuthenticationError, match="corpusmill resume"):
        await ask("another, streamed", stream=True)
    assert fleet.simulator.stats()["requests"] == requests
    fleet.simulator.set_faults()
    for job in fleet.ledger.jobs():
        if job.state == "paused":
            fleet.ledger.resume(job.id)
    assert await ask("refused 1")
    assert len([job for job in fleet.ledger.jobs() if job.model == "gpt-5.2"]) == 1


async def test_who_waits_where_no_worker_is_gets_one_warning_and_then_a_time_out(
    fleet: Fleet, where: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(places, "TIMEOUT_S", 2.0)
    monkeypatch.setattr(attendance, "PATIENCE_S", 0.5)
    nobodys = {**where, "api_key": "sk-that-no-worker-has"}
    results = await asyncio.gather(*(complete(f"lonely {n}", nobodys) for n in range(3)), return_exceptions=True)
    for each in results:
        assert isinstance(each, tenacity.RetryError)
        assert isinstance(each.last_attempt.exception(), openai.APITimeoutError)
    warned = [record.getMessage() for record in caplog.records if "no live worker" in record.getMessage()]
    assert len(warned) == 1
    assert "sk-" not in warned[0]


async def test_a_deadline_that_the_caller_names_is_kept_and_the_answer_is_there_afterwards(
    fleet: Fleet, where: dict[str, Any]
) -> None:
    fleet.simulator.set_faults("drip:0.002@text:glacier")
    with pytest.raises(tenacity.RetryError) as raised:
        await complete("a glacier", where, timeout=0.2)
    assert isinstance(raised.value.last_attempt.exception(), openai.APITimeoutError)
    paid = fleet.simulator.stats()["paid_requests"]
    assert await complete("a glacier", where)
    assert fleet.simulator.stats()["paid_requests"] - paid <= 1


async def test_answers_come_without_any_announcement(
    fleet: Fleet, where: dict[str, Any], valkey_server: Server
) -> None:
    """Ears at a Redis where nobody says anything: SQL is looked into each second."""
    kept = choosing.mode()
    deaf = use_fleet(fleet.settings.model_copy(update={"redis_url": valkey_server.url}))
    try:
        assert await asyncio.wait_for(complete("a quiet pond", where), 60)
        valkey_server.kill()
        assert await asyncio.wait_for(complete("a silent pond", where), 60)
    finally:
        choosing._use(kept)
        deaf.close()


async def test_calls_wait_through_a_broker_that_forgets_everything(fleet: Fleet, where: dict[str, Any]) -> None:
    fleet.simulator.set_faults("drip:0.001@text:flushed")
    waiting = [asyncio.create_task(complete(f"flushed {number}", where)) for number in range(40)]
    started, paid = fleet.simulator.stats()["requests"], fleet.simulator.stats()["paid_requests"]
    await asyncio.to_thread(wait_until, lambda: fleet.simulator.stats()["requests"] > started)
    fleet.broker.flush()
    late = [asyncio.create_task(complete(f"flushed late {number}", where)) for number in range(40)]
    fleet.broker.flush()
    answers = await asyncio.wait_for(asyncio.gather(*waiting, *late), 30)
    assert len(set(answers)) == 80
    assert fleet.simulator.stats()["paid_requests"] - paid == 80


async def test_a_broker_that_is_away_is_told_of_once_and_calls_wait_for_it(
    fleet: Fleet, where: dict[str, Any], valkey_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A program whose own broker is gone: what it asks for is in SQL, so the fleet's scheduler feeds it."""
    kept = choosing.mode()
    away = use_fleet(fleet.settings.model_copy(update={"broker_url": valkey_server.url}))
    valkey_server.kill()
    try:
        answers = [await asyncio.wait_for(complete(f"cut off {number}", where), 30) for number in range(2)]
    finally:
        choosing._use(kept)
        away.close()
    assert all(answers)
    assert len([record for record in caplog.records if "cannot be reached" in record.getMessage()]) == 1


def _embedding_jobs(fleet: Fleet) -> list[int]:
    return [job.id for job in fleet.ledger.jobs() if job.model == "text-embedding-3-small"]


def _embedding_job(fleet: Fleet) -> int:
    return _embedding_jobs(fleet)[-1]
