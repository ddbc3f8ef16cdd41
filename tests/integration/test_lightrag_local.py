"""LightRAG's functions in one process, over HTTP: pooled, cached, shared while under way, counted."""

from __future__ import annotations

import asyncio
import base64
import warnings
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import openai
import pytest
import tenacity

from corpusmill.lightrag import choosing, retrying
from corpusmill.lightrag.openai import (
    azure_openai_complete_if_cache,
    azure_openai_embed,
    create_openai_async_client,
    gpt_4o_mini_complete,
    openai_complete_if_cache,
    openai_embed,
)
from corpusmill.lightrag.utils import TokenTracker, TruncatedResponse
from tests.fixtures.simulator import Simulator, StartSimulator


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    for policy in (retrying.COMPLETION, retrying.EMBEDDING):
        monkeypatch.setattr(policy, "wait", tenacity.wait_none())
    choosing.use_local()


@pytest.fixture
def endpoint(simulator: StartSimulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    started = simulator(latency_ms="30")
    monkeypatch.setenv("OPENAI_API_BASE", started.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody")
    return started


async def complete(prompt: str, **options: Any) -> str:
    answer = await openai_complete_if_cache("gpt-6-luna", prompt, **options)
    assert isinstance(answer, str)
    return answer


async def streamed(prompt: str, **options: Any) -> list[str]:
    answer = await openai_complete_if_cache("gpt-6-luna", prompt, stream=True, **options)
    assert not isinstance(answer, str)
    return [text async for text in answer]


async def test_many_calls_need_few_connections(endpoint: Simulator) -> None:
    await asyncio.gather(*(complete(f"q {number % 8}", use_cache=False) for number in range(40)))
    assert endpoint.stats()["peak_in_flight"] > 8
    assert endpoint.stats()["paid_requests"] == 40


async def test_an_answer_is_paid_for_once(endpoint: Simulator) -> None:
    with TokenTracker() as tracker:
        first = await complete("a river")
        again = await complete("a river")
    assert first == again
    assert endpoint.stats()["paid_requests"] == 1
    assert (tracker.call_count, tracker.cached_count) == (1, 1)


async def test_identical_calls_under_way_are_one_request(endpoint: Simulator) -> None:
    with TokenTracker() as tracker:
        answers = await asyncio.gather(*(complete("a lake") for _ in range(20)))
    assert len(set(answers)) == 1
    assert endpoint.stats()["paid_requests"] == 1
    assert (tracker.call_count, tracker.cached_count) == (1, 19)
    assert tracker.total_tokens == sum(line["prompt_tokens"] + line["completion_tokens"] for line in endpoint.paid())


async def test_a_fresh_answer_is_paid_for_each_time(endpoint: Simulator) -> None:
    await asyncio.gather(complete("x", use_cache=False), complete("x", use_cache=False))
    assert endpoint.stats()["paid_requests"] == 2


async def test_no_cache_at_all_by_the_setting(endpoint: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORPUSMILL_CACHE", "off")
    choosing.use_local()
    await complete("x")
    await complete("x")
    assert endpoint.stats()["paid_requests"] == 2


async def test_what_is_asked_otherwise_is_another_question(endpoint: Simulator) -> None:
    await complete("x")
    await complete("x", temperature=0.5)
    await complete("x", system_prompt="Be brief.")
    assert endpoint.stats()["paid_requests"] == 3


async def test_a_cut_answer_is_never_served_again(endpoint: Simulator) -> None:
    endpoint.set_faults("length@1")
    assert isinstance(await complete("x"), TruncatedResponse)
    assert not isinstance(await complete("x"), TruncatedResponse)
    assert endpoint.stats()["paid_requests"] == 2


async def test_a_caller_that_gives_up_leaves_the_answer_behind(endpoint: Simulator) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(complete("slow"), 0.01)
    await complete("slow")
    assert endpoint.stats()["paid_requests"] == 1


async def test_a_stream_is_kept_when_it_is_whole_and_replayed_as_one(endpoint: Simulator) -> None:
    first = await streamed("a long river")
    again = await streamed("a long river")
    assert len(first) > 1
    assert "".join(again) == "".join(first) == await complete("a long river")
    assert endpoint.stats()["paid_requests"] == 1


async def test_a_stream_counts_its_usage_without_being_asked_to(endpoint: Simulator) -> None:
    with TokenTracker() as tracker:
        await streamed("a long river")
    (paid,) = endpoint.paid()
    assert (tracker.prompt_tokens, tracker.completion_tokens) == (paid["prompt_tokens"], paid["completion_tokens"])


async def test_identical_streams_under_way_are_one_request(endpoint: Simulator) -> None:
    answers = await asyncio.gather(*(streamed("a long river") for _ in range(5)))
    assert len({"".join(texts) for texts in answers}) == 1
    assert endpoint.stats()["paid_requests"] == 1


async def test_a_stream_that_is_left_early_is_not_kept(endpoint: Simulator) -> None:
    endpoint.set_faults("drip:0.002@1-")
    answer = await openai_complete_if_cache("gpt-6-luna", "a long river", stream=True)
    assert not isinstance(answer, str)
    async for _text in answer:
        break
    assert hasattr(answer, "aclose")
    await answer.aclose()
    endpoint.set_faults()
    await complete("a long river")
    assert endpoint.stats()["requests"] == 2


async def test_a_text_is_embedded_once_whatever_pack_it_comes_in(endpoint: Simulator) -> None:
    whole, part, again = await asyncio.gather(
        openai_embed.func(["a", "b", "a"]), openai_embed.func(["b", "c"]), openai_embed.func(["a"])
    )
    assert whole.shape == (3, 1536)
    assert whole.dtype == np.float32
    assert np.array_equal(whole[0], again[0])
    assert np.array_equal(whole[1], part[0])
    assert endpoint.stats()["paid_inputs"] == 3


async def test_a_pack_that_fails_fails_no_other_caller(endpoint: Simulator) -> None:
    endpoint.set_faults("bad_parameter@text:poison")
    bad, good = await asyncio.gather(
        openai_embed.func(["good", "poison"]), openai_embed.func(["good"]), return_exceptions=True
    )
    assert isinstance(bad, openai.BadRequestError)
    assert isinstance(good, np.ndarray)


async def test_numbers_are_read_where_base64_is_unwanted(endpoint: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = await openai_embed.func(["a"], use_cache=False)
    monkeypatch.setenv("EMBEDDING_USE_BASE64", "false")
    assert np.allclose(await openai_embed.func(["a"], use_cache=False), wanted, atol=1e-6)
    assert endpoint.requests()[0]["body"]["encoding_format"] == "float"


async def test_closing_a_client_of_ones_own_leaves_the_pool_open(endpoint: Simulator) -> None:
    await complete("one")
    client = create_openai_async_client()
    assert isinstance(client, openai.AsyncOpenAI)
    assert client.max_retries == 0
    await client.close()
    await complete("two")


async def test_without_a_key_the_error_says_what_to_set(endpoint: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(KeyError, match="OPENAI_API_KEY"):
        await complete("x")


async def test_an_error_can_be_built_again_from_one_string(endpoint: Simulator) -> None:
    endpoint.set_faults("invalid_key@1-")
    with pytest.raises(openai.AuthenticationError) as caught:
        await complete("x")
    assert caught.value.status_code == 401
    rebuilt: Any = type(caught.value)
    again = rebuilt("[LLM func] x")
    assert isinstance(again, openai.AuthenticationError)
    assert str(again) == "[LLM func] x"


async def test_a_wait_too_long_to_sit_out_ends_the_tries(endpoint: Simulator) -> None:
    endpoint.set_faults("rate_limit_day@1-")
    with pytest.raises(tenacity.RetryError):
        await complete("x")
    assert endpoint.stats()["requests"] == 1


async def test_an_image_goes_as_a_data_url(endpoint: Simulator) -> None:
    pixel = base64.b64encode(b"\x89PNG\r\n\x1a\n....").decode()
    await complete("What is it?", image_inputs=[pixel, {"base64": pixel, "mime_type": "image/x"}])
    content = endpoint.requests()[0]["body"]["messages"][0]["content"]
    assert [part["type"] for part in content] == ["text", "image_url", "image_url"]
    assert content[1]["image_url"]["url"] == f"data:image/png;base64,{pixel}"
    assert content[2]["image_url"]["url"].startswith("data:image/x;")


async def test_azure_is_asked_by_its_own_path_and_header(endpoint: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", endpoint.root_url)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-key")
    monkeypatch.setenv("AZURE_EMBEDDING_ENDPOINT", endpoint.root_url)
    await azure_openai_complete_if_cache("my-deployment", "x")
    await azure_openai_embed.func(["a"], model="vectors", api_key="other-key")
    chat, embedding = endpoint.requests(2)
    assert chat["path"].startswith("/openai/deployments/my-deployment/chat/completions?api-version=2024-08-01-preview")
    assert chat["headers"]["api-key"] == "azure-key"
    assert embedding["path"].startswith("/openai/deployments/vectors/embeddings?")
    assert embedding["headers"]["api-key"] == "other-key"


async def test_headers_of_one_call_and_of_a_client_are_sent(endpoint: Simulator) -> None:
    await complete("x", extra_headers={"x-one": "1"}, extra_query={"q": "2"})
    (request,) = endpoint.requests()
    assert request["headers"]["x-one"] == "1"
    assert request["path"].endswith("?q=2")
    await complete("y", openai_client_configs={"default_headers": {"x-all": "3"}})
    assert endpoint.requests()[0]["headers"]["x-all"] == "3"


async def test_the_sdks_own_retries_can_be_had_back(endpoint: Simulator) -> None:
    endpoint.set_faults("server_error@1-2")
    assert await complete("x", openai_client_configs={"max_retries": 2})
    assert endpoint.stats()["requests"] == 3


async def test_the_gpt_4o_functions_warn_and_take_another_model(endpoint: Simulator) -> None:
    with pytest.warns(FutureWarning, match="2027-01-14"):
        await gpt_4o_mini_complete("x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await gpt_4o_mini_complete("x", model="gpt-6-luna")
    assert [request["body"]["model"] for request in endpoint.requests(2)] == ["gpt-4o-mini", "gpt-6-luna"]


def test_each_loop_has_connections_of_its_own(endpoint: Simulator) -> None:
    for number in range(3):
        asyncio.run(complete(f"loop {number}"))
    assert endpoint.stats()["paid_requests"] == 3


async def test_a_stream_ends_with_the_think_tag_closed_when_it_breaks(endpoint: Simulator) -> None:
    endpoint.set_faults("truncated_body@1-")
    answer = await openai_complete_if_cache("gpt-6-luna", "a long river", stream=True, use_cache=False)
    assert isinstance(answer, AsyncIterator)
    with pytest.raises(openai.APIConnectionError):
        [text async for text in answer]
