"""What our client sends and raises is what the OpenAI SDK sends and raises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx2
import openai
import orjson
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI

from corpusmill.endpoint import Endpoint
from corpusmill.llm.blueprint import Blueprint
from corpusmill.llm.client import Client, new_session
from corpusmill.llm.errors import CallError
from corpusmill.llm.pool import ClientPool
from corpusmill.simulator.errors import ERROR_KINDS, HTML, refusal
from tests.fixtures.simulator import StartSimulator
from tests.fixtures.wire import Respond, Seen, replying, wire

CHAT: dict[str, Any] = {
    "model": "gpt-6-luna",
    "messages": [{"role": "user", "content": "Grüße, 世界 \u2028 {text}"}],
    "max_completion_tokens": 7,
    "temperature": 0.5,
}
EMBED: dict[str, Any] = {"model": "text-embedding-3-small", "input": ["a", "ß"], "encoding_format": "base64"}
CHAT_REPLY = orjson.dumps({"id": "1", "object": "chat.completion", "choices": [], "model": "m", "created": 1})
EMBED_REPLY = orjson.dumps({"object": "list", "model": "m", "data": [], "usage": {}})

# Of the SDK's own retry loop, and of the transport: each offers what it can unpack.
NOT_COMPARED = {"x-stainless-retry-count", "x-stainless-raw-response", "accept-encoding", "host"}


def compared(seen: Seen) -> tuple[str, dict[str, str], bytes]:
    return seen.line, {name: value for name, value in seen.headers.items() if name not in NOT_COMPARED}, seen.body


Call = Callable[[AsyncOpenAI], Awaitable[Any]]


async def chat(sdk: AsyncOpenAI) -> Any:
    return await sdk.chat.completions.create(**CHAT)


async def embed(sdk: AsyncOpenAI) -> Any:
    return await sdk.embeddings.create(**EMBED)


CALLS = [("/chat/completions", CHAT, chat, CHAT_REPLY), ("/embeddings", EMBED, embed, EMBED_REPLY)]


@pytest.fixture(autouse=True)
def a_clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("OPENAI_CUSTOM_HEADERS", raising=False)
    yield


async def both(
    path: str,
    body: dict[str, Any],
    call: Call,
    reply: bytes,
    endpoint: dict[str, Any],
    make: Callable[[str], AsyncOpenAI],
) -> tuple[Seen, Seen]:
    """The same call by our client and by the SDK's."""
    async with wire(replying(body=reply)) as server, ClientPool() as pool:
        base_url = server.url.removesuffix("/v1") if endpoint.get("kind") == "azure" else server.url
        await pool.client(Endpoint("x", base_url, **endpoint)).call(path, orjson.dumps(body))
        async with make(base_url) as sdk:
            await call(sdk)
        ours, theirs = server.seen
        return ours, theirs


@pytest.mark.parametrize(("path", "body", "call", "reply"), CALLS, ids=["chat", "embeddings"])
async def test_a_request_is_the_sdks_to_the_byte(path: str, body: dict[str, Any], call: Call, reply: bytes) -> None:
    ours, theirs = await both(
        path,
        body,
        call,
        reply,
        {"api_key": "sk-test"},
        lambda base_url: AsyncOpenAI(base_url=base_url, api_key="sk-test", timeout=300.0),
    )
    assert compared(ours) == compared(theirs)


@pytest.mark.parametrize(("path", "body", "call", "reply"), CALLS, ids=["chat", "embeddings"])
@pytest.mark.parametrize("deployment", ["prod", None])
async def test_an_azure_request_is_the_sdks_to_the_byte(
    path: str, body: dict[str, Any], call: Call, reply: bytes, deployment: str | None
) -> None:
    ours, theirs = await both(
        path,
        body,
        call,
        reply,
        {"api_key": "azure-key", "kind": "azure", "api_version": "2026-05-01", "deployment": deployment},
        lambda base_url: AsyncAzureOpenAI(
            azure_endpoint=base_url,
            azure_deployment=deployment,
            api_version="2026-05-01",
            api_key="azure-key",
            timeout=300.0,
        ),
    )
    assert compared(ours) == compared(theirs)
    assert ours.headers["api-key"] == "azure-key"
    assert f"/openai/deployments/{deployment or body['model']}{path}?api-version=2026-05-01" in ours.line


async def test_organisation_project_and_custom_headers_come_from_the_environment_as_with_the_sdk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: search")
    ours, theirs = await both(
        "/chat/completions",
        CHAT,
        chat,
        CHAT_REPLY,
        {"api_key": "sk-test", "headers": (("X-Mine", "1"),)},
        lambda url: AsyncOpenAI(base_url=url, api_key="sk-test", timeout=300.0, default_headers={"X-Mine": "1"}),
    )
    assert compared(ours) == compared(theirs)
    sent = {name: ours.headers[name] for name in ("openai-organization", "openai-project", "x-team", "x-mine")}
    assert list(sent.values()) == ["org-1", "proj-1", "search", "1"]


async def test_a_query_in_the_base_url_goes_with_every_call() -> None:
    async with wire(replying(body=CHAT_REPLY)) as server, ClientPool() as pool:
        url = f"{server.url}?tenant=a%20b&region=eu"
        await pool.client(Endpoint("x", url, "sk-test")).call("/chat/completions", orjson.dumps(CHAT))
        async with AsyncOpenAI(base_url=url, api_key="sk-test", timeout=300.0) as sdk:
            await chat(sdk)
        ours, theirs = server.seen
    assert compared(ours) == compared(theirs)


@asynccontextmanager
async def client_of(sdk: AsyncOpenAI) -> AsyncIterator[Client]:
    """Our client of an SDK instance that somebody configured."""
    client = Client(Blueprint(sdk, fixed=False), new_session(window=4, tls=None), timeout_s=5)
    async with sdk:
        yield client
        await client.close()


async def test_query_defaults_custom_headers_and_a_callable_key_are_the_sdks_in_every_call() -> None:
    keys = iter(["first", "second", "third"])

    async def rotating() -> str:
        return next(keys)

    async with wire(replying(body=CHAT_REPLY)) as server:
        sdk = AsyncOpenAI(
            base_url=server.url, api_key=rotating, default_query={"tenant": "a b"}, default_headers={"X-Mine": "1"}
        )
        async with client_of(sdk) as client:
            await client.call("/chat/completions", orjson.dumps(CHAT))
            await client.call("/chat/completions", orjson.dumps(CHAT))
            await chat(sdk)
        tokens = [seen.headers.pop("authorization") for seen in server.seen]
        assert tokens == ["Bearer first", "Bearer second", "Bearer third"]
        assert compared(server.seen[0]) == compared(server.seen[1]) == compared(server.seen[2])
        assert "?tenant=a+b" in server.seen[0].line or "?tenant=a%20b" in server.seen[0].line
        assert server.seen[0].headers["x-mine"] == "1"


async def test_an_azure_token_is_asked_for_with_every_call() -> None:
    tokens = iter(["first", "second", "third"])

    async with wire(replying(body=CHAT_REPLY)) as server:
        sdk = AsyncAzureOpenAI(
            azure_endpoint=server.url.removesuffix("/v1"),
            api_version="2026-05-01",
            azure_ad_token_provider=lambda: next(tokens),
        )
        async with client_of(sdk) as client:
            await client.call("/chat/completions", orjson.dumps(CHAT))
            await client.call("/chat/completions", orjson.dumps(CHAT))
            await chat(sdk)
        seen_tokens = [seen.headers.pop("authorization") for seen in server.seen]
        assert seen_tokens == ["Bearer first", "Bearer second", "Bearer third"]
        assert all("api-key" not in seen.headers for seen in server.seen)
        assert compared(server.seen[0]) == compared(server.seen[1]) == compared(server.seen[2])


async def test_through_a_proxy_goes_what_the_sdk_sends_through_it() -> None:
    async with wire(replying(body=CHAT_REPLY)) as proxy, ClientPool() as pool:
        url, via = "http://api.example/v1", f"http://user:hunter2@127.0.0.1:{proxy.port}"
        await pool.client(Endpoint("x", url, "sk-test", proxy=via)).call("/chat/completions", orjson.dumps(CHAT))
        http = httpx2.AsyncClient(proxy=via)
        async with AsyncOpenAI(base_url=url, api_key="sk-test", timeout=300.0, http_client=http) as sdk:
            await chat(sdk)
        ours, theirs = proxy.seen
    # Which connection to keep is between each transport and the proxy.
    for seen in (ours, theirs):
        seen.headers.pop("proxy-connection", None)
        seen.headers.pop("connection", None)
    assert compared(ours) == compared(theirs)
    assert ours.headers["proxy-authorization"].startswith("Basic ")


async def test_an_endpoint_without_a_key_gets_none_not_even_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin")
    async with wire(replying(body=CHAT_REPLY)) as server, ClientPool() as pool:
        await pool.client(Endpoint("local", server.url)).call("/chat/completions", orjson.dumps(CHAT))
        assert "authorization" not in server.seen[0].headers
        assert "sk-" not in str(server.seen[0])


# What A1 of the reference asks for: the failure, what follows, and whether it may have been paid.
EXPECTED = {
    "rate_limit_requests": ("rate_limited", "retry_free", "unpaid"),
    "rate_limit_tokens": ("rate_limited", "retry_free", "unpaid"),
    "rate_limit_day": ("day_limited", "retry_free", "unpaid"),
    "slow_down": ("slow_down", "retry_free", "unpaid"),
    "slow_down_503": ("slow_down", "retry_free", "unpaid"),
    "flex_unavailable": ("flex_unavailable", "retry_free", "unpaid"),
    "insufficient_quota": ("billing", "pause", "unpaid"),
    "credit_balance_exhausted": ("billing", "pause", "unpaid"),
    "organization_spend_limit_exceeded": ("billing", "pause", "unpaid"),
    "project_spend_limit_exceeded": ("billing", "pause", "unpaid"),
    "organization_usage_limit_exceeded": ("billing", "pause", "unpaid"),
    "billing_hard_limit_reached": ("billing", "pause", "unpaid"),
    "budget_exceeded": ("billing", "pause", "unpaid"),
    "overloaded": ("overloaded", "retry_free", "unpaid"),
    "server_error": ("server_error", "retry", "unknown"),
    "gateway_timeout": ("server_error", "retry", "unknown"),
    "request_timeout": ("server_error", "retry", "unknown"),
    "conflict": ("server_error", "retry", "unknown"),
    "invalid_key": ("key_refused", "pause", "unpaid"),
    "forbidden": ("key_refused", "pause", "unpaid"),
    "model_not_found": ("no_such_model", "stop", "unpaid"),
    "bad_parameter": ("bad_parameter", "stop", "unpaid"),
    "could_not_parse": ("bad_request", "stop", "unpaid"),
    "context_length": ("context_length", "fail", "unpaid"),
    "content_policy": ("content_policy", "fail", "unpaid"),
    "too_large": ("too_large", "fail", "unpaid"),
    "unprocessable": ("bad_request", "stop", "unpaid"),
    "failed_dependency": ("server_error", "retry", "unknown"),
    "capacity_exceeded": ("overloaded", "retry_free", "unpaid"),
    "bad_gateway": ("server_error", "retry", "unknown"),
    "overloaded_529": ("overloaded", "retry_free", "unpaid"),
}


async def test_every_error_is_the_sdks_exception_and_the_failure_that_the_table_says(simulator: StartSimulator) -> None:
    endpoint = simulator()
    kinds = list(ERROR_KINDS)
    canary, key = "the canary sentence", "sk-CANARY-0123456789"
    body = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": canary}]}
    endpoint.set_faults(*(f"{kind}@{2 * n + 1}-{2 * n + 2}" for n, kind in enumerate(kinds)))
    found = {}
    async with ClientPool() as pool, AsyncOpenAI(base_url=endpoint.base_url, api_key=key, max_retries=0) as sdk:
        client = pool.client(Endpoint("sim", endpoint.base_url, key))
        for kind in kinds:
            with pytest.raises(CallError) as ours:
                await client.call("/chat/completions", orjson.dumps(body))
            with pytest.raises(openai.APIStatusError) as theirs:
                await sdk.chat.completions.create(**body)  # type: ignore[call-overload]
            made = await ours.value.as_openai()
            assert isinstance(made, openai.APIStatusError)
            assert (type(made), made.status_code, made.code, made.type, made.body) == (
                type(theirs.value),
                theirs.value.status_code,
                theirs.value.code,
                theirs.value.type,
                theirs.value.body,
            )
            assert made.message == theirs.value.message
            error = ours.value
            assert error.request_id == made.request_id
            assert canary not in f"{error} {error!r}"
            assert key not in f"{error} {error!r}"
            found[kind] = (error.failure_class, error.action, error.outcome)
    assert found == EXPECTED


def refusing(kind: str) -> Respond:
    """A server that refuses in this way."""
    if kind == "bad_gateway":
        return replying(502, HTML, content_type="text/html")
    refused = refusal(ERROR_KINDS[kind], model="gpt-6-luna", text="canary", wait="60ms", key="sk-t***test")
    return replying(refused.status, refused.body, retry_after="1", x_request_id="req-1")


async def reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def cut_off(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{")
    await writer.drain()
    writer.close()


async def silent(_writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(5)


ANSWERS: dict[str, Respond] = {
    **{kind: refusing(kind) for kind in ERROR_KINDS},
    "redirect": replying(307, location="http://127.0.0.1:1/elsewhere"),
    "connection reset": reset,
    "body cut off": cut_off,
    "no answer in time": silent,
}


@pytest.mark.parametrize("deployed", ["openai", "azure"])
@pytest.mark.parametrize("answer", ANSWERS)
async def test_whatever_the_answer_request_and_exception_are_the_sdks(
    answer: str, deployed: Literal["openai", "azure"]
) -> None:
    timeout_s = 0.3 if answer == "no answer in time" else 300.0
    asked: dict[str, Any] = {"api_key": "sk-test", "timeout": timeout_s, "max_retries": 0}
    async with wire(ANSWERS[answer]) as server, ClientPool() as pool:
        http = httpx2.AsyncClient(follow_redirects=False)
        if deployed == "azure":
            url = server.url.removesuffix("/v1")
            endpoint = Endpoint("x", url, "sk-test", kind="azure", api_version="v", timeout_s=timeout_s)
            sdk: AsyncOpenAI = AsyncAzureOpenAI(azure_endpoint=url, api_version="v", http_client=http, **asked)
        else:
            endpoint = Endpoint("x", server.url, "sk-test", timeout_s=timeout_s)
            sdk = AsyncOpenAI(base_url=server.url, http_client=http, **asked)
        with pytest.raises(CallError) as ours:
            await pool.client(endpoint).call("/chat/completions", orjson.dumps(CHAT))
        async with sdk:
            with pytest.raises(openai.OpenAIError) as theirs:
                await chat(sdk)
        made = await ours.value.as_openai()
        ours_seen, theirs_seen = server.seen
    assert compared(ours_seen) == compared(theirs_seen)
    assert type(made) is type(theirs.value)
    facts = [
        (getattr(each, "status_code", None), getattr(each, "code", None), getattr(each, "body", None))
        for each in (made, theirs.value)
    ]
    assert facts[0] == facts[1]
    assert str(made) == str(theirs.value)
