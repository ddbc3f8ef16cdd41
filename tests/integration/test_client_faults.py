"""Whatever happens to a connection or a body, a call ends in time, typed, and says whether it may have been paid."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import socket
import ssl
import subprocess
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any

import openai
import orjson
import pytest
from openai import AsyncOpenAI

from corpusmill.cli import check_endpoint
from corpusmill.endpoint import Endpoint
from corpusmill.llm import complete, embed
from corpusmill.llm.client import Reply
from corpusmill.llm.errors import CallError
from corpusmill.llm.pool import ClientPool
from tests.fixtures.simulator import Simulator, StartSimulator
from tests.fixtures.wire import replying, wire

CHAT = orjson.dumps({"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say something."}]})
EMBED = orjson.dumps({"model": "text-embedding-3-small", "input": ["a", "b", "c"], "encoding_format": "base64"})


@pytest.fixture
async def pool() -> AsyncIterator[ClientPool]:
    async with ClientPool() as pool:
        yield pool


async def call(pool: ClientPool, url: str, *, path: str = "/chat/completions", timeout_s: float = 10.0) -> Reply:
    body = EMBED if path == "/embeddings" else CHAT
    return await pool.client(Endpoint("x", url, "sk-test")).call(path, body, timeout_s=timeout_s)


async def failure(pool: ClientPool, url: str, **asked: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await call(pool, url, **asked)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "failure_class", "sdk_class"),
    [
        ("hang", "timeout", openai.APITimeoutError),
        ("drip:0.05", "timeout", openai.APITimeoutError),
        ("reset", "connection_lost", openai.APIConnectionError),
        ("lost_reply", "connection_lost", openai.APIConnectionError),
        ("truncated_body", "connection_lost", openai.APIConnectionError),
    ],
)
async def test_a_call_without_a_whole_reply_ends_within_its_deadline_with_unknown_outcome(
    pool: ClientPool, simulator: StartSimulator, kind: str, failure_class: str, sdk_class: type[openai.OpenAIError]
) -> None:
    endpoint = simulator(fault=f"{kind}=1")
    started = monotonic()
    error = await failure(pool, endpoint.base_url, timeout_s=0.5)
    assert monotonic() - started < 5
    assert (error.failure_class, error.outcome, error.action) == (failure_class, "unknown", "retry")
    assert type(await error.as_openai()) is sdk_class
    endpoint.set_faults()
    assert complete.parse((await call(pool, endpoint.base_url)).body).text


@pytest.mark.parametrize(
    ("kind", "failure_class"),
    [
        ("html200", "bad_reply"),
        ("bad_json", "bad_reply"),
        ("no_choices", "bad_reply"),
        ("no_usage", "bad_reply"),
        ("empty", "empty_reply"),
        ("content_filter", "content_filter"),
        ("refusal", "refusal"),
    ],
)
async def test_a_useless_reply_under_status_200_is_a_typed_failure(
    pool: ClientPool, simulator: StartSimulator, kind: str, failure_class: str
) -> None:
    reply = await call(pool, simulator(fault=f"{kind}=1").base_url)
    with pytest.raises(CallError) as caught:
        complete.parse(reply.body)
    assert (caught.value.failure_class, caught.value.outcome) == (failure_class, "paid")


@pytest.mark.fault(23)
async def test_an_answer_cut_at_the_limit_is_kept_and_marked(pool: ClientPool, simulator: StartSimulator) -> None:
    answer = complete.parse((await call(pool, simulator(fault="length=1").base_url)).body)
    assert answer.truncated
    assert answer.text


@pytest.mark.parametrize("kind", ["short_data", "wrong_dim", "nan", "empty", "no_usage", "bad_json", "html200"])
async def test_vectors_that_do_not_fit_are_a_typed_failure(
    pool: ClientPool, simulator: StartSimulator, kind: str
) -> None:
    reply = await call(pool, simulator(fault=f"{kind}=1", dimensions=8).base_url, path="/embeddings")
    with pytest.raises(CallError) as caught:
        embed.parse(reply.body, 3, 8)
    assert (caught.value.failure_class, caught.value.outcome) == ("bad_reply", "paid")


async def test_shuffled_vectors_find_their_texts(pool: ClientPool, simulator: StartSimulator) -> None:
    endpoint = simulator(dimensions=8)
    straight = embed.parse((await call(pool, endpoint.base_url, path="/embeddings")).body, 3, 8)
    endpoint.set_faults("shuffled=1")
    shuffled = embed.parse((await call(pool, endpoint.base_url, path="/embeddings")).body, 3, 8)
    assert (straight.vectors == shuffled.vectors).all()


async def test_vectors_are_those_that_the_sdk_reads(pool: ClientPool, simulator: StartSimulator) -> None:
    endpoint = simulator(dimensions=64)
    ours = embed.parse((await call(pool, endpoint.base_url, path="/embeddings")).body, 3, 64)
    async with AsyncOpenAI(base_url=endpoint.base_url, api_key="sk-test") as sdk:
        theirs = await sdk.embeddings.create(model="text-embedding-3-small", input=["a", "b", "c"])
    assert ours.vectors.tolist() == [each.embedding for each in theirs.data]
    assert ours.tokens.prompt == theirs.usage.prompt_tokens


async def test_retry_after_reaches_the_caller(pool: ClientPool, simulator: StartSimulator) -> None:
    error = await failure(pool, simulator(fault="rate_limit_tokens:7=1").base_url)
    assert error.retry_after_s == 7.0
    assert error.headers.get("retry-after") is not None


async def test_nobody_listening_is_no_connection_and_unpaid(pool: ClientPool, unused_port: int) -> None:
    error = await failure(pool, f"http://127.0.0.1:{unused_port}/v1")
    assert (error.failure_class, error.outcome) == ("connection", "unpaid")
    assert "connection refused" in error.message
    assert type(await error.as_openai()) is openai.APIConnectionError


async def test_an_unknown_host_says_so(pool: ClientPool) -> None:
    error = await failure(pool, "http://no-such-host.invalid/v1")
    assert error.failure_class == "connection"
    assert "host name not known" in error.message


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_redirect_is_not_followed(pool: ClientPool) -> None:
    async with wire() as elsewhere, wire(replying(307, location=f"{elsewhere.url}/chat/completions")) as server:
        error = await failure(pool, server.url)
        assert (error.failure_class, error.action, len(server.seen)) == ("redirected", "stop", 1)
        assert elsewhere.connections == 0


async def test_no_way_of_asking_takes_the_key_to_where_a_redirect_points(pool: ClientPool) -> None:
    async with wire() as elsewhere, wire(replying(302, location=f"{elsewhere.url}/models")) as server:
        endpoint = Endpoint("x", server.url, "sk-test")
        client = pool.client(endpoint)
        assert await client.answers()
        with pytest.raises(CallError) as refused:
            async with client.stream("/chat/completions", CHAT):
                pass
        assert refused.value.failure_class == "redirected"
        assert "(302)" in (await asyncio.to_thread(check_endpoint.ask, endpoint, lambda *_: "")).said
        assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer sk-test"] * 3
        assert elsewhere.connections == 0


async def test_an_answer_that_is_not_http_is_a_broken_connection(pool: ClientPool) -> None:
    async def nonsense(writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        writer.close()

    async with wire(nonsense) as server:
        assert (await failure(pool, server.url)).failure_class == "connection_lost"


async def test_a_packed_error_body_is_read_and_played_back_unpacked(pool: ClientPool) -> None:
    body = gzip.compress(b'{"error":{"code":"insufficient_quota","message":"m","type":"insufficient_quota"}}')
    async with wire(replying(429, body, content_encoding="gzip")) as server:
        error = await failure(pool, server.url)
        assert error.failure_class == "billing"
        made = await error.as_openai()
        assert isinstance(made, openai.RateLimitError)
        assert made.code == "insufficient_quota"


async def test_a_server_that_closes_idle_connections_is_reached_again(pool: ClientPool) -> None:
    async def once(writer: asyncio.StreamWriter) -> None:
        await replying(connection="close")(writer)
        writer.close()

    async with wire(once) as server:
        for _ in range(3):
            assert (await call(pool, server.url)).status == 200
        assert server.connections == 3


async def test_a_connection_is_kept_for_the_next_call(pool: ClientPool) -> None:
    async with wire() as server:
        for _ in range(5):
            await call(pool, server.url)
        assert (server.connections, len(server.seen)) == (1, 5)


async def test_cookies_of_an_endpoint_are_not_sent_back(pool: ClientPool) -> None:
    async with wire(replying(set_cookie="__cf_bm=1; Path=/")) as server:
        await call(pool, server.url)
        await call(pool, server.url)
        assert "cookie" not in server.seen[1].headers


def through(proxy_port: int) -> Endpoint:
    return Endpoint("x", "http://api.example/v1", "sk-test", proxy=f"http://user:hunter2@127.0.0.1:{proxy_port}")


async def test_a_proxy_carries_the_call(pool: ClientPool) -> None:
    async with wire() as proxy:
        await pool.client(through(proxy.port)).call("/chat/completions", CHAT)
        assert proxy.seen[0].line.startswith("POST http://api.example/v1/chat/completions")
        assert "proxy-authorization" in proxy.seen[0].headers


async def test_a_proxy_that_is_away_is_no_connection_and_its_password_shows_nowhere(
    pool: ClientPool, unused_port: int
) -> None:
    endpoint = through(unused_port)
    with pytest.raises(CallError) as caught:
        await pool.client(endpoint).call("/chat/completions", CHAT)
    assert caught.value.failure_class == "connection"
    assert "hunter2" not in "".join(traceback.format_exception(caught.value)) + repr(endpoint)


async def test_a_proxy_that_refuses_pauses_the_lane(pool: ClientPool) -> None:
    async with wire(replying(407)) as proxy:
        endpoint = Endpoint("x", "https://api.example/v1", "sk-test", proxy=f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(CallError) as caught:
            await pool.client(endpoint).call("/chat/completions", CHAT)
        assert (caught.value.failure_class, caught.value.failure.pauses) == ("proxy", "endpoint")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "both.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout - -out -"
    made = subprocess.run(
        [*command.split(), "-addext", "subjectAltName=DNS:localhost"], capture_output=True, check=True
    )
    path.write_bytes(made.stdout)
    return path


async def test_an_endpoint_that_speaks_no_tls_is_told_from_a_bad_certificate(
    pool: ClientPool, simulator: StartSimulator
) -> None:
    error = await failure(pool, simulator().base_url.replace("http:", "https:"))
    assert (error.failure_class, "handshake" in error.message) == ("tls", True)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here to make a certificate with")
async def test_a_certificate_that_nobody_vouches_for_is_refused_unless_it_is_trusted(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    async with wire(tls=tls) as server:
        url = f"https://localhost:{server.port}/v1"
        async with ClientPool() as pool:
            error = await failure(pool, url)
            assert (error.failure_class, error.failure.pauses, server.seen) == ("tls", "endpoint", [])
            assert "certificate not trusted: self-signed certificate" in error.message
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with ClientPool() as pool:
            assert (await call(pool, url)).status == 200


async def test_a_thousand_calls_at_once_go_through_one_window(simulator: StartSimulator) -> None:
    endpoint: Simulator = simulator(latency_ms=20)
    async with ClientPool(window=100) as pool:
        replies = await asyncio.gather(*(call(pool, endpoint.base_url, timeout_s=30) for _ in range(1000)))
    assert all(complete.parse(reply.body).text for reply in replies)
    assert endpoint.stats()["peak_in_flight"] <= 100
    assert endpoint.stats()["paid_requests"] == 1000


async def test_equal_endpoints_share_a_client_and_whatever_shapes_one_makes_another() -> None:
    async with ClientPool() as pool:
        one = Endpoint("x", "http://127.0.0.1:1/v1", "sk-a")
        assert pool.client(one) is pool.client(Endpoint("x", "http://127.0.0.1:1/v1", "sk-a"))
        others = [
            Endpoint("x", "http://127.0.0.1:2/v1", "sk-a"),
            Endpoint("x", "http://127.0.0.1:1/v1", "sk-b"),
            Endpoint("x", "http://127.0.0.1:1/v1", "sk-a", headers=(("X-A", "1"),)),
            Endpoint("x", "http://127.0.0.1:1/v1", "sk-a", proxy="http://127.0.0.1:3"),
            Endpoint("x", "http://127.0.0.1:1/v1", "sk-a", timeout_s=1.0),
        ]
        assert len({id(pool.client(each)) for each in [one, *others]}) == 6


async def test_a_pool_is_used_only_while_it_is_open() -> None:
    pool = ClientPool()
    async with pool:
        pass
    with pytest.raises(RuntimeError, match="while it is open"):
        pool.client(Endpoint("x", "http://127.0.0.1:1/v1"))


async def test_a_cancelled_call_is_cancelled_and_leaves_the_client_usable(
    pool: ClientPool, simulator: StartSimulator
) -> None:
    endpoint = simulator(fault="hang@1")
    task = asyncio.create_task(call(pool, endpoint.base_url))
    deadline = monotonic() + 5
    while not endpoint.stats()["in_flight"] and monotonic() < deadline:  # noqa: ASYNC110  # another process
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await call(pool, endpoint.base_url)).status == 200
