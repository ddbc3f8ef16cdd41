"""Which failure an error reply stands for: decided by its code, in the dialects of many endpoints."""

from __future__ import annotations

import json

import pytest

from corpusmill.llm.errors import CallError, classify, facts_of, input_no_of, named
from corpusmill.llm.taxonomy import CLASSES, CODES, FIRST_SAYINGS, SAYINGS, STATUSES, TYPES


def error(code: str | None = None, kind: str | None = None, message: str = "", param: str | None = None) -> bytes:
    return json.dumps({"error": {"code": code, "type": kind, "message": message, "param": param}}).encode()


def failure_of(status: int, body: bytes) -> str:
    return classify(status, facts_of(body))


OPENAI = [
    (429, error("rate_limit_exceeded", "tokens", "Limit 30000. Please try again in 60ms."), "rate_limited"),
    (429, error(None, "requests"), "rate_limited"),
    (429, error("slow_down", "rate_limit_error"), "slow_down"),
    (503, error("slow_down", "service_unavailable_error"), "slow_down"),
    (429, error("insufficient_quota", "insufficient_quota"), "billing"),
    (429, error("credit_balance_exhausted", "insufficient_quota"), "billing"),
    (429, error("organization_spend_limit_exceeded", "requests"), "billing"),
    (429, error("project_spend_limit_exceeded"), "billing"),
    (429, error("organization_usage_limit_exceeded"), "billing"),
    (429, error("billing_hard_limit_reached"), "billing"),
    (429, error(None, None, "Resource Unavailable"), "flex_unavailable"),
    (503, error("server_is_overloaded", "service_unavailable_error"), "overloaded"),
    (503, error(None, "service_unavailable_error"), "overloaded"),
    (500, error(None, "server_error"), "server_error"),
    (401, error("invalid_api_key", "invalid_request_error"), "key_refused"),
    (403, error("unsupported_country_region_territory"), "key_refused"),
    (403, error("model_not_found"), "no_such_model"),
    (404, error("model_not_found"), "no_such_model"),
    (400, error("context_length_exceeded", param="messages"), "context_length"),
    (400, error("content_policy_violation"), "content_policy"),
    (400, error("unsupported_parameter", param="max_tokens"), "bad_parameter"),
    (400, error("invalid_value", param="temperature"), "bad_parameter"),
    (400, error("invalid_value", param="input[17]"), "bad_input"),
    (400, error(None, "invalid_request_error", param="messages.0.content"), "bad_input"),
    (400, error(None, "invalid_request_error", "nothing more is known"), "bad_request"),
    (429, error("rate_limit_exceeded", "tokens", "Request too large for gpt-6 on tokens per min (TPM)"), "too_large"),
]

OTHERS = [
    ("Azure deployment", 404, error("DeploymentNotFound"), "no_such_model"),
    ("Azure rate", 429, error("429", None, "exceeded token rate limit"), "rate_limited"),
    ("Azure filter", 400, error("content_filter"), "content_policy"),
    ("Azure key", 401, b'{"statusCode": 401, "message": "Unauthorized"}', "key_refused"),
    (
        "vLLM model",
        404,
        b'{"object":"error","message":"The model `x` does not exist.","code":404}',
        "no_such_model",
    ),
    (
        "vLLM length",
        400,
        b'{"error":{"message":"This model\'s maximum context length is 4096 tokens","code":400}}',
        "context_length",
    ),
    ("Ollama model", 404, b'{"error":"model \'x\' not found, try pulling it first"}', "no_such_model"),
    ("Groq capacity", 498, error("capacity_exceeded"), "overloaded"),
    ("Groq too large", 413, error("rate_limit_exceeded", "tokens", "Request too large for model"), "too_large"),
    ("Mistral rate", 429, b'{"object":"error","type":"rate_limited","code":"1300"}', "rate_limited"),
    ("DeepSeek money", 402, b'{"error":{"message":"Insufficient Balance","code":"invalid_request_error"}}', "billing"),
    ("Google rate", 429, b'[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}]', "rate_limited"),
    ("overloaded", 529, error(None, "overloaded_error"), "overloaded"),
    ("proxy's page", 502, b"<html>Bad Gateway</html>", "server_error"),
    ("balancer's page", 503, b"<html>no backend</html>", "unavailable"),
    ("firewall's page", 403, b"<html>blocked</html>", "forbidden"),
    ("wrong address", 404, b"<html>not found</html>", "not_found"),
    ("redirect", 307, b"", "redirected"),
    ("future status", 477, b"", "bad_request"),
    ("future status", 599, b"", "server_error"),
]


@pytest.mark.parametrize(("status", "body", "failure"), OPENAI)
def test_an_openai_error_is_told_by_its_code_before_its_status(status: int, body: bytes, failure: str) -> None:
    assert failure_of(status, body) == failure


@pytest.mark.parametrize(("status", "body", "failure"), [each[1:] for each in OTHERS], ids=[each[0] for each in OTHERS])
def test_other_endpoints_dialects_are_understood(status: int, body: bytes, failure: str) -> None:
    assert failure_of(status, body) == failure


def test_every_row_names_a_failure_class() -> None:
    named_by_rows = {*CODES.values(), *TYPES.values(), *STATUSES.values()}
    named_by_rows |= {saying.failure for saying in (*FIRST_SAYINGS, *SAYINGS)}
    assert named_by_rows <= set(CLASSES)


def test_what_may_have_been_paid_for_never_counts_as_unpaid() -> None:
    for name in ("server_error", "timeout", "connection_lost"):
        assert CLASSES[name].outcome == "unknown"
    for name in ("bad_reply", "empty_reply", "refusal", "content_filter", "no_room"):
        assert CLASSES[name].outcome == "paid"


def test_only_waiting_for_room_is_free() -> None:
    free = {each.name for each in CLASSES.values() if each.action == "retry_free"}
    assert free == {"rate_limited", "day_limited", "slow_down", "overloaded", "flex_unavailable", "connection"}
    assert all(CLASSES[name].outcome == "unpaid" for name in free)


def test_every_pause_has_a_reason() -> None:
    assert all(each.pauses for each in CLASSES.values() if each.action == "pause")


@pytest.mark.parametrize(
    ("body", "input_no"),
    [
        (error("invalid_value", param="input[17]"), 17),
        (error("invalid_value", param="input.3"), 3),
        (error("invalid_value", message="'input[250]' is an empty string"), 250),
        (error("invalid_value", param="input"), None),
        (error("invalid_value", message="nothing"), None),
    ],
)
def test_the_text_that_an_error_names_is_found(body: bytes, input_no: int | None) -> None:
    assert input_no_of(facts_of(body)) == input_no


def test_a_message_holds_our_words_and_facts_but_nothing_that_the_endpoint_wrote() -> None:
    prose = "Invalid value in a request about 'my secret text'"
    facts = facts_of(error("invalid_value", "invalid_request_error", prose, "temperature"))
    failed = CallError(classify(400, facts), code=facts.code, status=400, param=facts.param, request_id="req_1")
    assert str(failed) == (
        "the endpoint refuses a parameter of the request "
        "(HTTP 400, invalid_value, parameter temperature, request req_1)"
    )
    assert "secret" not in repr(failed)


@pytest.mark.parametrize("echo", ["my secret text", "ein Geheimnis!", "x" * 200, "", None, 7, "a\nb", "größe"])
def test_a_code_that_is_no_name_is_dropped(echo: object) -> None:
    assert named(echo) is None
