"""The simulator over real connections: OpenAI's own client, raw sockets, and every way for a reply to get lost."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
from openai import AsyncOpenAI

from tests.fixtures.shell import PATIENCE_S
from tests.fixtures.simulator import Simulator, StartSimulator, as_process, running

USER: Any = [{"role": "user", "content": "Summarise:\n\nThe quick brown fox"}]
CHAT = "/v1/chat/completions"


@pytest.fixture
async def client_of() -> AsyncIterator[Callable[[Simulator], AsyncOpenAI]]:
    clients: list[AsyncOpenAI] = []

    def make(endpoint: Simulator, key: str = "sk-test") -> AsyncOpenAI:
        clients.append(AsyncOpenAI(base_url=endpoint.base_url, api_key=key, max_retries=0))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


async def wait_until(condition: Callable[[], bool], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


def raw(endpoint: Simulator) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", endpoint.port), timeout=10)
    connection.settimeout(10)
    return connection


def posted(path: str, body: dict[str, Any], *headers: str) -> bytes:
    payload = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: here", f"content-length: {len(payload)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + payload


def received(connection: socket.socket, until: bytes) -> bytes:
    found = b""
    while until not in found and (piece := connection.recv(65536)):
        found += piece
    return found


async def test_openai_s_client_completes_embeds_and_lists_models(
    simulator: StartSimulator, client_of: Callable[[Simulator], AsyncOpenAI]
) -> None:
    endpoint = simulator(rpm=600, tpm=60_000, dimensions=16)
    client = client_of(endpoint)
    reply = await client.chat.completions.with_raw_response.create(model="gpt-6-luna", messages=USER)
    completed = reply.parse()
    assert (completed.choices[0].message.content or "").endswith("The quick brown fox")
    assert reply.headers["x-ratelimit-limit-tokens"] == "60000"
    assert reply.headers["x-request-id"].startswith("req_")
    embedded = await client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert [len(one.embedding) for one in embedded.data] == [16, 16]
    assert np.isclose(np.linalg.norm(embedded.data[0].embedding), 1)
    assert "gpt-6-luna" in [model.id async for model in client.models.list()]
    assert (await client.models.retrieve("any-name")).id == "any-name"


async def test_a_stream_brings_the_same_text_and_the_usage_last(
    simulator: StartSimulator, client_of: Callable[[Simulator], AsyncOpenAI]
) -> None:
    client = client_of(simulator())
    stream = await client.chat.completions.create(
        model="m", messages=USER, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.endswith("The quick brown fox")
    assert len(chunks) > 4
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == -(-len(text) // 4)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


async def test_a_streamed_tool_call_comes_together(
    simulator: StartSimulator, client_of: Callable[[Simulator], AsyncOpenAI]
) -> None:
    tool: Any = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    async with client_of(simulator()).chat.completions.stream(model="m", messages=USER, tools=[tool]) as stream:
        completed = await stream.get_final_completion()
    calls = completed.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls] == ["look_up"]


async def test_limits_answer_429_and_count_it(
    simulator: StartSimulator, client_of: Callable[[Simulator], AsyncOpenAI]
) -> None:
    endpoint = simulator(rpm=6, depth_s=30)
    client = client_of(endpoint)
    calls = [client.chat.completions.create(model="m", messages=USER) for _ in range(8)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, openai.RateLimitError)]
    assert len(refused) == 5
    assert {error.code for error in refused} == {"rate_limit_exceeded"}
    stats = endpoint.stats()
    assert (stats["requests"], stats["answered_429"], stats["paid_requests"]) == (8, len(refused), 8 - len(refused))


async def test_actual_charging_gives_back_what_was_not_used(
    simulator: StartSimulator, client_of: Callable[[Simulator], AsyncOpenAI]
) -> None:
    remaining = {}
    for charge in ("estimate", "actual"):
        client = client_of(simulator(tpm=6000, depth_s=60, charge=charge))
        for _ in range(2):
            reply = await client.chat.completions.with_raw_response.create(model="m", messages=USER, max_tokens=2000)
        remaining[charge] = int(reply.headers["x-ratelimit-remaining-tokens"])
    assert 2000 <= remaining["estimate"] < 3500
    assert 3900 < remaining["actual"] <= 4000


async def test_the_charge_factor_multiplies_what_is_charged(
    simulator: StartSimulator, client_of: Callable[[Simulator], AsyncOpenAI]
) -> None:
    client = client_of(simulator(tpm=6000, depth_s=60, charge_factor=2))
    reply = await client.chat.completions.with_raw_response.create(model="m", messages=USER, max_tokens=1000)
    assert int(reply.headers["x-ratelimit-remaining-tokens"]) == 4000


def test_the_bill_knows_inputs_and_duplicates(simulator: StartSimulator) -> None:
    endpoint = simulator()
    for value in (["a", "b"], ["b", "c"], "c"):
        endpoint.post("/v1/embeddings", {"model": "m", "input": value})
    endpoint.post("/v1/embeddings", {"model": "m", "input": "c", "dimensions": 8})
    for temperature in (0, 1, 1):
        endpoint.post(CHAT, {"model": "m", "messages": USER, "temperature": temperature})
    stats = endpoint.stats()
    assert (stats["paid_requests"], stats["paid_inputs"], stats["duplicates_paid"]) == (7, 9, 3)
    paid = endpoint.paid()
    assert [line["inputs"] for line in paid] == [2, 2, 1, 1, 1, 1, 1]
    assert paid[0]["digests"][1] == paid[1]["digests"][0]
    assert paid[-1]["route"] == "/chat/completions"
    assert sum(line["prompt_tokens"] for line in paid) == stats["prompt_tokens"]


def test_the_last_requests_are_shown_as_they_came(simulator: StartSimulator) -> None:
    endpoint = simulator()
    for i in range(3):
        endpoint.post(CHAT, {"model": "m", "messages": USER, "seed": i})
    shown = endpoint.requests(last=2)
    assert [request["body"]["seed"] for request in shown] == [1, 2]
    assert [request["number"] for request in shown] == [2, 3]
    assert shown[0]["path"] == CHAT
    assert shown[0]["headers"]["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("rule", "status", "type_", "code", "wait"),
    [
        ("rate_limit_tokens@1", 429, "tokens", "rate_limit_exceeded", "1"),
        ("rate_limit_requests:7@1", 429, "requests", "rate_limit_exceeded", "7"),
        ("rate_limit_requests:0@1", 429, "requests", "rate_limit_exceeded", None),
        ("rate_limit_day@1", 429, "requests", "rate_limit_exceeded", "3600"),
        ("slow_down@1", 429, "rate_limit_error", "slow_down", "1"),
        ("overloaded@1", 503, "service_unavailable_error", "server_is_overloaded", None),
        ("insufficient_quota@1", 429, "insufficient_quota", "insufficient_quota", None),
        ("credit_balance_exhausted@1", 429, "insufficient_quota", "credit_balance_exhausted", None),
        ("invalid_key@1", 401, "invalid_request_error", "invalid_api_key", None),
        ("model_not_found@1", 404, "invalid_request_error", "model_not_found", None),
        ("bad_parameter@1", 400, "invalid_request_error", "invalid_value", None),
        ("context_length@1", 400, "invalid_request_error", "context_length_exceeded", None),
        ("content_policy@1", 400, "invalid_request_error", "content_policy_violation", None),
        ("capacity_exceeded@1", 498, "capacity_exceeded", "capacity_exceeded", None),
    ],
)
def test_refusals_have_openai_s_status_type_code_and_wait(
    shared: Simulator, rule: str, status: int, type_: str, code: str, wait: str | None
) -> None:
    shared.set_faults(rule)
    before = shared.stats()["paid_requests"]
    found, error, headers = shared.refused(CHAT, {"model": "m", "messages": USER})
    assert (found, error["type"], error["code"], headers.get("retry-after")) == (status, type_, code, wait)
    assert shared.stats()["paid_requests"] == before
    assert shared.post(CHAT, {"model": "m", "messages": USER})["choices"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    paid = tmp_path_factory.mktemp("shared") / "paid.jsonl"
    paid.touch()
    with running(paid, dimensions=8) as endpoint:
        yield endpoint


def test_a_rejected_text_is_echoed_as_real_endpoints_do(shared: Simulator) -> None:
    shared.set_faults("content_policy@text:canary")
    _, error, _ = shared.refused("/v1/embeddings", {"model": "m", "input": ["fine", "a canary sentence"]})
    assert "a canary sentence" in error["message"]


def test_a_daily_limit_tells_its_reset_in_hours(shared: Simulator) -> None:
    shared.set_faults("rate_limit_day:7260@1")
    _, error, headers = shared.refused(CHAT, {"model": "m", "messages": USER})
    assert "requests per day (RPD)" in error["message"]
    assert headers["x-ratelimit-reset-requests"] == "2h1m0s"


async def test_a_proxy_s_page_has_no_code(shared: Simulator, client_of: Callable[[Simulator], AsyncOpenAI]) -> None:
    shared.set_faults("bad_gateway@1")
    with pytest.raises(openai.InternalServerError) as error:
        await client_of(shared).chat.completions.create(model="m", messages=USER)
    assert error.value.status_code == 502
    assert error.value.code is None


async def test_html_in_an_answer_s_place_is_not_paid(shared: Simulator) -> None:
    shared.set_faults("html200@1")
    before = shared.stats()["paid_requests"]
    request = {"model": "m", "messages": USER}
    async with aiohttp.ClientSession() as session, session.post(shared.root_url + CHAT, json=request) as reply:
        assert (reply.status, reply.content_type) == (200, "text/html")
    assert shared.stats()["paid_requests"] == before


@pytest.mark.parametrize(
    ("kind", "paid", "error"),
    [
        ("reset", 0, aiohttp.ClientOSError),
        ("lost_reply", 1, aiohttp.ClientOSError),
        ("truncated_body", 1, aiohttp.ClientPayloadError),
    ],
)
async def test_a_lost_reply_is_paid_or_not_as_its_kind_says(
    shared: Simulator, kind: str, paid: int, error: type[Exception]
) -> None:
    shared.set_faults(f"{kind}@1")
    before = shared.stats()["paid_requests"]
    async with aiohttp.ClientSession() as session:
        with pytest.raises(error):
            async with session.post(shared.root_url + CHAT, json={"model": "m", "messages": USER}) as reply:
                await reply.read()
    assert shared.stats()["paid_requests"] - before == paid
    assert len(shared.paid()) == shared.stats()["paid_requests"]
    assert shared.stats()["in_flight"] == 0


async def test_a_hanging_request_is_in_flight_until_its_client_leaves(shared: Simulator) -> None:
    shared.set_faults("hang@1")
    before = shared.stats()["paid_requests"]
    timeout = aiohttp.ClientTimeout(total=0.2)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        with pytest.raises(TimeoutError):
            await session.post(shared.root_url + CHAT, json={"model": "m", "messages": USER})
    await wait_until(lambda: shared.stats()["in_flight"] == 0)
    assert shared.stats()["paid_requests"] == before


async def test_a_dripping_answer_comes_whole_and_the_connection_goes_on(shared: Simulator) -> None:
    shared.set_faults("drip:0.0001@1")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        for _ in range(2):
            async with session.post(shared.root_url + CHAT, json={"model": "m", "messages": USER}) as reply:
                assert (await reply.json())["choices"]


async def test_a_client_that_leaves_early_has_still_to_pay(simulator: StartSimulator) -> None:
    endpoint = simulator(latency_ms=300)
    connection = raw(endpoint)
    connection.sendall(posted(CHAT, {"model": "m", "messages": USER}))
    await wait_until(lambda: endpoint.stats()["requests"] == 1)
    connection.close()
    await wait_until(lambda: endpoint.stats()["in_flight"] == 0)
    assert endpoint.stats()["paid_requests"] == 1


async def test_requests_overlap_and_the_peak_is_counted(simulator: StartSimulator) -> None:
    endpoint = simulator(fault=["hang=1"])
    connections = [raw(endpoint) for _ in range(20)]
    for connection in connections:
        connection.sendall(posted(CHAT, {"model": "m", "messages": USER}))
    await wait_until(lambda: endpoint.stats()["in_flight"] == 20)
    for connection in connections:
        connection.close()
    await wait_until(lambda: endpoint.stats()["in_flight"] == 0)
    assert endpoint.stats()["peak_in_flight"] == 20


def test_requests_in_a_row_on_one_connection_are_answered_in_order(simulator: StartSimulator) -> None:
    endpoint = simulator(latency_ms=20)
    with raw(endpoint) as connection:
        three = [posted(CHAT, {"model": name, "messages": USER}) for name in ("one", "two", "three")]
        connection.sendall(b"".join(three[:2]) + three[2].replace(b"host: here", b"host: here\r\nconnection: close"))
        answered = received(connection, b"never sent")
    assert answered.count(b"HTTP/1.1 200 OK") == 3
    assert [answered.index(b'"%b"' % name) for name in (b"one", b"two", b"three")] == sorted(
        answered.index(b'"%b"' % name) for name in (b"one", b"two", b"three")
    )


def test_a_body_in_pieces_and_one_announced_by_expect_are_read(shared: Simulator) -> None:
    shared.set_faults()
    whole = posted(CHAT, {"model": "m", "messages": USER}, "Expect: 100-continue")
    with raw(shared) as connection:
        head, _, body = whole.partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n")
        assert b"100 Continue" in received(connection, b"\r\n\r\n")
        for i in range(0, len(body), 7):
            connection.sendall(body[i : i + 7])
        assert b"200 OK" in received(connection, b"chat.completion")


def test_what_is_not_http_is_refused_and_cut_off(shared: Simulator) -> None:
    with raw(shared) as connection:
        connection.sendall(b"\x16\x03\x01 this is TLS, say\r\n\r\n")
        assert b"400 Bad Request" in received(connection, b"never sent")


@pytest.mark.parametrize("path", ["/", "/v1/batches", "/v1/chat", "/v1/modelsx", "/simulator/nothing"])
def test_unknown_routes_are_404(shared: Simulator, path: str) -> None:
    status, error, _ = shared.refused(path, {"model": "m"})
    assert (status, error["type"]) == (404, "invalid_request_error")


def test_a_body_that_is_no_json_object_is_refused_and_counted(shared: Simulator) -> None:
    shared.set_faults()
    before = shared.stats()["requests"]
    with raw(shared) as connection:
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: here\r\ncontent-length: 3\r\n\r\n[1]".encode())
        assert b"could not parse the JSON body" in received(connection, b"request.")
    assert shared.stats()["requests"] == before + 1


def test_an_odd_request_gets_an_answer_and_not_silence(shared: Simulator) -> None:
    shared.set_faults()
    status, error, _ = shared.refused(CHAT, {"model": "m", "messages": USER, "reasoning_effort": {"a": 1}})
    assert (status, error["type"]) == (500, "server_error")
    assert shared.stats()["in_flight"] == 0


def test_faults_that_cannot_be_read_leave_the_old_ones(shared: Simulator) -> None:
    shared.set_faults("overloaded@9")
    for body in ({"faults": ["nonsense=1"]}, {"faults": "overloaded=1"}, {}):
        assert shared.refused("/simulator/faults", body)[0] == 400
    assert shared.get("/simulator/faults") == {"faults": ["overloaded@9"]}


def test_only_known_keys_and_models_pass_where_they_are_named(simulator: StartSimulator) -> None:
    endpoint = simulator(key=["sk-right-key-000001", "sk-other"], models="a,b")
    with raw(endpoint) as connection:
        connection.sendall(
            posted(CHAT, {"model": "a", "messages": USER}, "Authorization: Bearer sk-wrong-key-abcdefgh0001")
        )
        refused = received(connection, b"invalid_api_key")
    assert b"401 Unauthorized" in refused
    assert b"sk-wrong***" in refused
    assert b"abcdefgh" not in refused
    with raw(endpoint) as connection:
        connection.sendall(posted(CHAT, {"model": "a", "messages": USER}, "Authorization: Bearer sk-other"))
        assert b"200 OK" in received(connection, b"chat.completion")
    with raw(endpoint) as connection:
        connection.sendall(posted(CHAT, {"model": "c", "messages": USER}, "api-key: sk-other"))
        assert b"The model `c` does not exist" in received(connection, b"model_not_found")
    with raw(endpoint) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: here\r\n\r\n")
        assert b"401 Unauthorized" in received(connection, b"invalid_api_key")
    with raw(endpoint) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer sk-other\r\n\r\n")
        assert b'"id":"a"' in received(connection, b'"id":"b"')


async def test_azure_s_paths_name_the_model(simulator: StartSimulator) -> None:
    endpoint = simulator()
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=endpoint.root_url, api_key="k", api_version="2026-01-01", azure_deployment="luna", max_retries=0
    ) as client:
        completed = await client.chat.completions.create(model="luna", messages=USER)
    assert completed.model == "luna"
    assert endpoint.requests()[0]["headers"]["api-key"] == "k"


def started(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "corpusmill.simulator", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--fault", "emty=1"], "did you mean empty"),
        (["--latency-ms", "fast"], "50:0.4"),
        (["--paid", "/nowhere/at/all"], "cannot write to /nowhere/at/all"),
        (["--charge", "guess"], "guess"),
    ],
)
def test_wrong_flags_are_told_in_a_line_and_exit_2(flags: list[str], words: str) -> None:
    ended = started("--port", "0", *flags)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_port_exits_69_and_names_the_way_out(simulator: StartSimulator) -> None:
    ended = started("--port", str(simulator().port))
    assert ended.returncode == 69
    assert "another --port" in ended.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_ends_at_once_when_told_to(tmp_path: Path, number: int, code: int) -> None:
    with as_process(tmp_path / "paid.jsonl", fault=["hang=1"]) as (process, endpoint), raw(endpoint) as connection:
        connection.sendall(posted(CHAT, {"model": "m", "messages": USER}))
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == code
        assert received(connection, b"never sent") == b""


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    with as_process(tmp_path / "paid.jsonl") as (process, _):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0


def test_it_listens_on_this_machine_alone(simulator: StartSimulator) -> None:
    port = simulator().port
    listening = Path("/proc/net/tcp")
    if not listening.exists():
        pytest.skip("this system shows no /proc/net/tcp")
    rows = [line.split() for line in listening.read_text().splitlines()[1:]]
    local = [row[1] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port]
    assert local == [f"0100007F:{port:04X}"]
