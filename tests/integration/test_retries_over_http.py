"""How many calls reach the endpoint for each way to fail: the policy, the taxonomy and the client together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import orjson
import pytest

from corpusmill.endpoint import Endpoint
from corpusmill.llm import complete, embed
from corpusmill.llm.client import Client
from corpusmill.llm.complete import Completion
from corpusmill.llm.embed import Embedded
from corpusmill.llm.errors import CallError
from corpusmill.llm.packs import parts
from corpusmill.llm.pool import ClientPool
from corpusmill.llm.retry import with_retries
from corpusmill.spec import COMPLETIONS_PATH, EMBEDDINGS_PATH, JobSpec
from tests.fixtures.simulator import StartSimulator

CHAT = orjson.dumps({"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say something."}]})


@dataclass(frozen=True)
class Quick:
    attempts: int = 4
    min_s: float = 0.001
    max_s: float = 0.004


async def completed(client: Client) -> Completion:
    async def one_try() -> Completion:
        return complete.parse((await client.call(COMPLETIONS_PATH, CHAT, timeout_s=0.3)).body)

    return await with_retries(one_try, Quick())


CALLS_MADE = {
    "insufficient_quota": 1,
    "credit_balance_exhausted": 1,
    "invalid_key": 1,
    "forbidden": 1,
    "model_not_found": 1,
    "bad_parameter": 1,
    "context_length": 1,
    "content_policy": 1,
    "too_large": 1,
    "content_filter": 1,
    "refusal": 1,
    "html200": 3,
    "bad_json": 3,
    "no_choices": 3,
    "no_usage": 3,
    "empty": 3,
    "server_error": 4,
    "gateway_timeout": 4,
    "bad_gateway": 4,
    "request_timeout": 4,
    "conflict": 4,
    "reset": 4,
    "lost_reply": 4,
    "truncated_body": 4,
    "hang": 4,
}


async def test_each_lasting_failure_costs_exactly_the_calls_that_its_class_allows(simulator: StartSimulator) -> None:
    endpoint = simulator()
    made = {}
    async with ClientPool() as pool:
        client = pool.client(Endpoint("sim", endpoint.base_url, "sk-test"))
        for kind in CALLS_MADE:
            endpoint.set_faults(f"{kind}=1")
            before = endpoint.stats()["requests"]
            with pytest.raises(CallError):
                await completed(client)
            made[kind] = endpoint.stats()["requests"] - before
    assert made == CALLS_MADE


async def test_room_is_waited_for_beyond_the_attempts(simulator: StartSimulator) -> None:
    endpoint = simulator()
    async with ClientPool() as pool:
        client = pool.client(Endpoint("sim", endpoint.base_url, "sk-test"))
        for done, kind in enumerate(["rate_limit_tokens:0", "slow_down:0", "overloaded", "flex_unavailable"]):
            endpoint.set_faults(f"{kind}@1-20")
            assert (await completed(client)).text
            stats = endpoint.stats()
            assert (stats["requests"], stats["paid_requests"]) == (21 * (done + 1), done + 1)


@pytest.mark.fault(17)
async def test_no_call_comes_sooner_than_retry_after(simulator: StartSimulator) -> None:
    endpoint = simulator(fault="rate_limit_requests:0.4@1-2")
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with ClientPool() as pool:
        await completed(pool.client(Endpoint("sim", endpoint.base_url, "sk-test")))
    assert loop.time() - started >= 0.8
    assert endpoint.stats()["requests"] == 3


@pytest.mark.parametrize("kind", ["content_policy", "context_length", "nan", "unprocessable"])
async def test_in_a_rejected_pack_the_one_bad_text_fails_alone(simulator: StartSimulator, kind: str) -> None:
    texts = [f"text {n}" if n != 41 else "the POISON text" for n in range(100)]
    endpoint = simulator(fault=f"{kind}@text:POISON", dimensions=8)
    spec = JobSpec("embedding", EMBEDDINGS_PATH, "text-embedding-3-small", endpoint.base_url, dimensions=8)
    found: dict[str, list[float]] = {}
    failed: list[str] = []
    async with ClientPool() as pool:
        client = pool.client(Endpoint("sim", endpoint.base_url, "sk-test"))
        waiting = [texts]
        while waiting:
            pack = waiting.pop()
            try:
                vectors = (await _embedded(client, spec, pack)).vectors
            except CallError as error:
                smaller = parts(error, pack)
                waiting += [list(each) for each in reversed(smaller)]
                failed += [] if smaller else pack
            else:
                found |= dict(zip(pack, vectors.tolist(), strict=True))
    assert failed == ["the POISON text"]
    assert sorted(found) == sorted(text for text in texts if "POISON" not in text)


async def _embedded(client: Client, spec: JobSpec, pack: list[str]) -> Embedded:
    async def one_try() -> Embedded:
        reply = await client.call(EMBEDDINGS_PATH, embed.body(spec, pack))
        return embed.parse(reply.body, len(pack), spec.dimensions)

    return await with_retries(one_try, Quick())
