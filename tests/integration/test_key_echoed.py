"""An endpoint that writes the key into what it answers: nothing that is kept or shown has it."""

from __future__ import annotations

import base64

import openai
import orjson
import pytest

from corpusmill.endpoint import Endpoint
from corpusmill.llm.errors import CallError
from corpusmill.llm.pool import ClientPool
from tests.fixtures.wire import Respond, replying, wire

KEY = "sk-canary-7c1e9d42ab58f03e"
BODY = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "Hello."}]})


def echoing(shown: str, *, status: int = 400) -> Respond:
    error = {"message": f"wrong key {KEY}", "type": "invalid", "param": shown, "code": shown}
    return replying(status, orjson.dumps({"error": error}), x_request_id=shown)


async def refused(shown: str, *, status: int = 400, headers: tuple[tuple[str, str], ...] = ()) -> CallError:
    async with wire(echoing(shown, status=status)) as server, ClientPool() as pool:
        endpoint = Endpoint("x", server.url, KEY, headers=headers)
        with pytest.raises(CallError) as caught:
            await pool.client(endpoint).call("/chat/completions", BODY)
        shown_by_sdk = await caught.value.as_openai()
    assert isinstance(shown_by_sdk, openai.APIStatusError)
    assert KEY not in str(shown_by_sdk)
    assert KEY not in str(shown_by_sdk.body)
    return caught.value


@pytest.mark.parametrize(
    "shown",
    [
        KEY,
        KEY.upper(),
        f"tenant:{KEY}",
        KEY[4:],
        KEY[:16],
        base64.b64encode(KEY.encode()).decode().rstrip("="),
    ],
)
async def test_a_key_in_code_parameter_and_request_id_is_left_out(shown: str) -> None:
    error = await refused(shown)
    assert (error.code, error.param, error.request_id) == (None, None, None)
    assert shown not in error.message
    assert shown not in repr(error)


async def test_a_secret_of_a_custom_header_counts_as_a_key() -> None:
    error = await refused("hush-hush-4711-secret", headers=(("x-api-key", "hush-hush-4711-secret"),))
    assert (error.code, error.param, error.request_id) == (None, None, None)


async def test_ordinary_codes_and_ids_stay() -> None:
    error = await refused("invalid_api_key", status=401)
    assert (error.code, error.request_id) == ("invalid_api_key", "invalid_api_key")


async def test_a_word_that_only_serves_as_a_key_takes_nothing_else_out() -> None:
    async with wire(echoing("none_of_these")) as server, ClientPool() as pool:
        with pytest.raises(CallError) as caught:
            await pool.client(Endpoint("x", server.url, "none")).call("/chat/completions", BODY)
    assert caught.value.code == "none_of_these"


async def test_the_request_id_of_a_paid_reply_is_looked_at_too() -> None:
    async with wire(replying(200, b"{}", x_request_id=f"req-{KEY}")) as server, ClientPool() as pool:
        reply = await pool.client(Endpoint("x", server.url, KEY)).call("/chat/completions", BODY)
    assert reply.request_id is None
