"""The situations in which `test_lightrag_contract.py` holds LightRAG's functions and ours against each other."""

from __future__ import annotations

import base64
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from corpusmill.simulator.embeddings import digest, vectors

Call = Callable[[ModuleType, Mapping[str, Any]], Awaitable[Any]]


@dataclass(frozen=True)
class Outcome:
    """What came of a call: requests made, value or exception, tokens counted, path and body of the last request."""

    calls: int
    value: Any
    error: str | None
    counted: tuple[int, int, int, int]
    sent: tuple[str, Any] | None


@dataclass(frozen=True)
class Row:
    """One situation. `faults` are the simulator's; `differs` says why ours is meant to be other, `expected` how.

    `env`: variables of the environment that it needs; None: not there, `{root}`: the endpoint.
    """

    name: str
    call: Call
    faults: Sequence[str] = ()
    differs: str = ""
    expected: Callable[[Outcome], bool] | None = None
    env: Mapping[str, str | None] = field(default_factory=dict)


def complete(prompt: str = "Name\n\na river", **options: Any) -> Call:
    async def call(module: ModuleType, common: Mapping[str, Any]) -> Any:
        return await module.openai_complete_if_cache("gpt-6-luna", prompt, **{**common, **options})

    return call


def stream(prompt: str = "Name\n\na river of some length", **options: Any) -> Call:
    async def call(module: ModuleType, common: Mapping[str, Any]) -> Any:
        options.setdefault("stream_options", {"include_usage": True})
        if options["stream_options"] is None:
            del options["stream_options"]
        answer = await module.openai_complete_if_cache("gpt-6-luna", prompt, stream=True, **{**common, **options})
        heard: list[str] = []
        try:
            async for text in answer:
                heard.append(text)  # noqa: PERF401  # what was heard before an error counts
        except Exception as error:
            return [*heard, type(error).__name__]
        return heard

    return call


def embed(*texts: str, **options: Any) -> Call:
    async def call(module: ModuleType, common: Mapping[str, Any]) -> Any:
        return await module.openai_embed.func(list(texts), **{**common, **options})

    return call


def embed_as_lightrag_does(*texts: str, **options: Any) -> Call:
    async def call(module: ModuleType, common: Mapping[str, Any]) -> Any:
        for name in ("OPENAI_API_BASE", "OPENAI_API_KEY"):
            assert os.environ[name]
        return await module.openai_embed(list(texts), **options)

    return call


class _Store:
    global_config: ClassVar[dict[str, str]] = {"llm_model_name": "gpt-6.1-terra"}


def by_name(function: str, *arguments: str, **options: Any) -> Call:
    """Another of the completion functions."""

    async def call(module: ModuleType, common: Mapping[str, Any]) -> Any:
        return await getattr(module, function)(*arguments, **{**common, **options})

    return call


def at_azure(function: str, *arguments: Any, **options: Any) -> Call:
    """A function for Azure, which finds address and key in the environment."""

    async def call(module: ModuleType, common: Mapping[str, Any]) -> Any:
        found = getattr(module, function)
        return await getattr(found, "func", found)(*arguments, token_tracker=common["token_tracker"], **options)

    return call


async def _openai_complete(module: ModuleType, common: Mapping[str, Any]) -> Any:
    return await module.openai_complete("Name\n\na lake", hashing_kv=_Store(), **common)


def gives_up_on(error: str) -> Callable[[Outcome], bool]:
    return lambda outcome: (outcome.calls, outcome.error) == (3, f"RetryError({error})")


def _in_order(outcome: Outcome) -> bool:
    digests = [digest("text-embedding-3-small", text) for text in ("a", "b", "c")]
    return bool(np.array_equal(outcome.value, vectors(digests, 1536)))


def _other_than(name: str) -> Callable[[Outcome], bool]:
    return lambda outcome: outcome.error == name


class Schema:
    """No dictionary."""


AZURE = {
    "AZURE_OPENAI_ENDPOINT": "{root}",
    "AZURE_OPENAI_API_KEY": "azure-key",
    "AZURE_EMBEDDING_ENDPOINT": "{root}",
    "AZURE_EMBEDDING_API_KEY": "azure-key",
}
FORM = {"type": "json_schema", "json_schema": {"name": "river", "schema": {"type": "object"}}}
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n....").decode()
PROXY_PAGE = "a gateway's page of HTML is a failure of the endpoint: tried again and named, not an AttributeError"
BROKEN = "a reply that is no JSON is tried again and named, not a bare JSONDecodeError after one call"

ROWS = (
    Row("an answer", complete()),
    Row(
        "an answer with system prompt and history",
        complete(
            system_prompt="Be brief.",
            history_messages=[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}],
        ),
    ),
    Row("messages given whole", complete(messages=[{"role": "user", "content": "other\n\nwords"}])),
    Row("an escaped character", complete("Say\n\ncaf\\u00e9")),
    Row("JSON by response_format", complete(response_format={"type": "json_object"})),
    Row("JSON by a schema", complete(response_format=FORM)),
    Row("a response_format that is a class", complete(response_format=Schema)),
    Row("a response_format that is a word", complete(response_format="json_object")),
    Row("keywords are extracted", complete(keyword_extraction=True)),
    Row("entities are extracted", complete(entity_extraction=True)),
    Row("keywords are extracted by a schema", complete(keyword_extraction=True, response_format=FORM)),
    Row("no stream is asked for", complete(stream=False)),
    Row("options of a model", complete(temperature=0.5, max_tokens=9, stop=["."], extra_body={"top_k": 3})),
    Row("settings of the client", complete(openai_client_configs={"max_retries": 1}), ["server_error@1"]),
    Row(
        "an address among the settings of the client", complete(openai_client_configs={"base_url": "http://x.invalid"})
    ),
    Row("pictures", complete(image_inputs=[PIXEL, f"data:image/gif;base64,{PIXEL}", {"base64": PIXEL}])),
    Row("a picture that is none", complete(image_inputs=["no base64!"])),
    Row("a picture of another kind", complete(image_inputs=[3])),
    Row("a picture without its data", complete(image_inputs=[{"mime_type": "image/png"}])),
    Row("an empty picture", complete(image_inputs=[""])),
    Row(
        "no key",
        complete(api_key=None),
        (),
        "the error says what to set, and is a KeyError all the same",
        _other_than("MissingKeyError"),
        {"OPENAI_API_KEY": None},
    ),
    Row("a key in the environment", complete(api_key=None)),
    Row("gpt-4o", by_name("gpt_4o_complete", "Name\n\na hill", system_prompt="Be brief.")),
    Row("gpt-4o-mini", by_name("gpt_4o_mini_complete", "Name\n\na hill", entity_extraction=True)),
    Row("gpt-4o-mini that thinks", by_name("gpt_4o_mini_complete", "x", enable_cot=True), ["reasoning@1-"]),
    Row("no LightRAG instance to take the model from", by_name("openai_complete", "x")),
    Row("Azure", at_azure("azure_openai_complete_if_cache", "my-deployment", "Name\n\na hill"), env=AZURE),
    Row(
        "Azure with a deployment in the environment",
        at_azure("azure_openai_complete", "Name\n\na hill"),
        env={**AZURE, "AZURE_OPENAI_DEPLOYMENT": "other", "AZURE_OPENAI_API_VERSION": "2025-01-01"},
    ),
    Row(
        "Azure by the names of a binding",
        at_azure("azure_openai_complete", "Name\n\na hill"),
        env={"LLM_MODEL": "mine", "LLM_BINDING_HOST": "{root}", "LLM_BINDING_API_KEY": "azure-key"},
    ),
    Row("Azure that is overloaded", at_azure("azure_openai_complete", "x"), ["overloaded@1-"], env=AZURE),
    Row("vectors from Azure", at_azure("azure_openai_embed", ["a", "b"]), env=AZURE),
    Row(
        "vectors from a deployment in the environment",
        at_azure("azure_openai_embed", ["a"], model="mine", embedding_dim=8),
        env={**AZURE, "AZURE_EMBEDDING_DEPLOYMENT": "other", "AZURE_EMBEDDING_API_VERSION": "2025-01-01"},
    ),
    Row(
        "vectors by the names of a binding",
        at_azure("azure_openai_embed", ["a"], context="query", query_prefix="query: "),
        env={"EMBEDDING_MODEL": "mine", "EMBEDDING_BINDING_HOST": "{root}", "EMBEDDING_BINDING_API_KEY": "azure-key"},
    ),
    Row("an unknown option", complete(temprature=1)),
    Row("a rate limit", complete(), ["rate_limit_tokens:0@1-"]),
    Row("a rate limit that passes", complete(), ["rate_limit_requests:0@1-2"]),
    Row("no quota left", complete(), ["insufficient_quota@1-"]),
    Row("a budget that a gateway keeps", complete(), ["budget_exceeded@1-"]),
    Row("no credit left", complete(), ["credit_balance_exhausted@1-"]),
    Row("a bad request", complete(), ["bad_parameter@1-"]),
    Row("a body damaged on its way", complete(), ["could_not_parse@1-"]),
    Row("a body damaged once", complete(), ["could_not_parse@1"]),
    Row("a refused key", complete(), ["invalid_key@1-"]),
    Row("a forbidden country", complete(), ["forbidden@1-"]),
    Row("an unknown model", complete(), ["model_not_found@1-"]),
    Row("a server error", complete(), ["server_error@1-"]),
    Row("a gateway's 502 page", complete(), ["bad_gateway@1-"]),
    Row("a request time-out", complete(), ["request_timeout@1-"]),
    Row("a conflict", complete(), ["conflict@1-"]),
    Row("an unprocessable request", complete(), ["unprocessable@1-"]),
    Row("an overloaded endpoint", complete(), ["overloaded@1-"]),
    Row("a connection that is reset", complete(), ["reset@1-"]),
    Row("a reply that breaks off", complete(), ["truncated_body@1-"]),
    Row("no reply in time", complete(timeout=0.3), ["hang@1-"]),
    Row("an empty answer", complete(), ["empty@1-"]),
    Row("an empty answer once", complete(), ["empty@1"]),
    Row("a refusal", complete(), ["refusal@1-"]),
    Row("a filtered answer", complete(), ["content_filter@1-"]),
    Row("no choices", complete(), ["no_choices@1-"]),
    Row("no usage", complete(), ["no_usage@1-"]),
    Row("an answer that was cut", complete(), ["length@1-"]),
    Row("no room for an answer", complete(), ["no_room@1-"]),
    Row("reasoning only", complete(), ["reasoning@1-"]),
    Row("reasoning only, wanted", complete(enable_cot=True), ["reasoning@1-"]),
    Row(
        "reasoning only, wanted, but JSON is asked for",
        complete(enable_cot=True, response_format={"type": "json_object"}),
        ["reasoning@1-"],
    ),
    Row("reasoning and answer", complete(enable_cot=True), ["thinking@1-"]),
    Row("a page of HTML", complete(), ["html200@1-"], PROXY_PAGE, gives_up_on("InvalidResponseError")),
    Row("broken JSON", complete(), ["bad_json@1-"], BROKEN, gives_up_on("InvalidResponseError")),
    Row("the model of the LightRAG instance", _openai_complete),
    Row("a stream", stream()),
    Row("a stream without usage", stream(stream_options={"include_usage": False})),
    Row("a stream with reasoning, wanted", stream(enable_cot=True), ["thinking@1-"]),
    Row("a stream with reasoning, not wanted", stream(), ["thinking@1-"]),
    Row("a stream of reasoning only, wanted", stream(enable_cot=True), ["reasoning@1-"]),
    Row("a stream of escaped characters", stream("Say\n\ncaf\\u00e9 and more")),
    Row("a stream of JSON, reasoning wanted", stream(enable_cot=True, response_format=FORM), ["thinking@1-"]),
    Row("a stream of reasoning only, not wanted", stream(), ["reasoning@1-"]),
    Row("a stream that is cut", stream(), ["length@1-"]),
    Row(
        "a stream that asks for no usage",
        stream(stream_options=None),
        (),
        "a stream's usage is asked for unless the caller says otherwise",
        lambda outcome: outcome.counted[0] == 1,
    ),
    Row("a stream that is refused", stream(), ["rate_limit_tokens:0@1-"]),
    Row("a stream that is refused once", stream(), ["server_error@1"]),
    Row("an empty stream", stream(), ["empty@1-"]),
    Row("a stream that breaks off", stream(), ["truncated_body@1-"]),
    Row(
        "a stream with a broken event",
        stream(),
        ["bad_json@1-"],
        "named as what it is, not a bare JSONDecodeError",
        lambda outcome: outcome.value[-1] == "InvalidResponseError",
    ),
    Row("vectors", embed("a", "b", "c")),
    Row("vectors of another length", embed("a", "b", embedding_dim=256)),
    Row("vectors of queries", embed("a", context="query", query_prefix="query: ")),
    Row("vectors of documents", embed("a", context="document", document_prefix="doc: ", query_prefix="query: ")),
    Row("a long text, cut", embed("word " * 50, max_token_size=10)),
    Row("a special token", embed("a <|endoftext|> b", max_token_size=4)),
    Row("an empty text among others that are cut", embed("", "word " * 9, max_token_size=4)),
    Row("texts of a model that nobody knows, cut", embed("word " * 9, model="nobody-knows-it", max_token_size=4)),
    Row("a prefix for the other context", embed("a", context="query", document_prefix="doc: ")),
    Row("settings of the client for vectors", embed("a", client_configs={"max_retries": 1}), ["server_error@1"]),
    Row("a refused key for vectors", embed("a"), ["invalid_key@1-"]),
    Row("a request time-out for vectors", embed("a"), ["request_timeout@1-"]),
    Row("a conflict on vectors", embed("a"), ["conflict@1-"]),
    Row("vectors by a reset connection", embed("a"), ["reset@1-"]),
    Row("a rate limit on vectors", embed("a"), ["rate_limit_requests:0@1-"]),
    Row("no quota for vectors", embed("a"), ["insufficient_quota@1-"]),
    Row("a bad request for vectors", embed("a"), ["bad_parameter@1-"]),
    Row(
        "a damaged request for vectors",
        embed("a"),
        ["could_not_parse@1-"],
        "damage on the way passes for embeddings too",
        gives_up_on("TransientBadRequestError"),
    ),
    Row("a server error on vectors", embed("a"), ["server_error@1-2"]),
    Row("an empty text", embed("")),
    Row("vectors without usage", embed("a", "b"), ["no_usage@1-"]),
    Row(
        "vectors in another order",
        embed("a", "b", "c"),
        ["shuffled@1-"],
        "rows are put where their texts are, by index",
        _in_order,
    ),
    Row(
        "a vector too few",
        embed("a", "b"),
        ["short_data@1-"],
        "found out here, where another call can mend it",
        gives_up_on("InvalidResponseError"),
    ),
    Row(
        "a vector that is no number",
        embed("a", "b"),
        ["nan@1-"],
        "never stored as if it were one",
        gives_up_on("InvalidResponseError"),
    ),
    Row(
        "no texts",
        embed(),
        (),
        "nothing to ask for, so nothing is asked",
        lambda outcome: outcome.calls == 0 and outcome.value.shape == (0, 0),
    ),
    Row(
        "a text twice",
        embed("a", "b", "a"),
        (),
        "a text is paid for once",
        lambda outcome: outcome.counted == (1, 2, 0, 2),
    ),
    Row("vectors of another length by the wrapper", embed_as_lightrag_does("a", embedding_dim=8)),
    Row("vectors by the wrapper", embed_as_lightrag_does("a", "b", context="query")),
)
