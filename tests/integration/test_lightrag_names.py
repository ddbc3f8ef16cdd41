"""The names of LightRAG's modules and ours: the same arguments, clients, options, counts and wrappers."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import openai as sdk
import pytest

from corpusmill.lightrag import azure_openai, binding_options, openai, utils
from tests.fixtures.lightrag import lightrag_module

FUNCTIONS = (
    *("create_openai_async_client", "openai_complete_if_cache", "openai_complete", "gpt_4o_complete"),
    *("gpt_4o_mini_complete", "nvidia_openai_complete", "openai_embed", "azure_openai_complete_if_cache"),
    *("azure_openai_complete", "azure_openai_embed"),
)
# Ours only; last in order and with a default, so that no call of LightRAG's changes its meaning.
MORE = {"openai_embed": ["use_cache"], "azure_openai_embed": ["use_cache"]}
OPTIONS: Sequence[tuple[Sequence[str], Mapping[str, str]]] = (
    ((), {}),
    (("--openai-llm-temperature", "0.3", "--openai-llm-max_tokens", "12"), {}),
    (("--openai-llm-stop", '["a", "b"]', "--openai-llm-extra_body", '{"a": {"b": false}}'), {}),
    ((), {"OPENAI_LLM_TEMPERATURE": "0.2", "OPENAI_LLM_REASONING_EFFORT": "low", "OPENAI_LLM_MAX_TOKENS": "7"}),
    ((), {"OPENAI_LLM_STOP": '["x"]', "OPENAI_LLM_EXTRA_BODY": '{"y": 1}', "OPENAI_LLM_TOP_P": "0.5"}),
    ((), {"OPENAI_LLM_STOP": "no json", "OPENAI_LLM_EXTRA_BODY": "[]"}),
    (("--openai-llm-top_p", "0.1"), {"OPENAI_LLM_TOP_P": "0.5", "EXTRACT_OPENAI_LLM_TOP_P": "0.9"}),
    ((), {"EXTRACT_OPENAI_LLM_STOP": '["z"]', "QUERY_OPENAI_LLM_TEMPERATURE": "0"}),
)


@pytest.fixture(scope="module")
def theirs() -> ModuleType:
    return lightrag_module("lightrag.llm.openai")


@pytest.fixture(scope="module")
def their_options(theirs: ModuleType) -> ModuleType:
    return lightrag_module("lightrag.llm.binding_options")


@pytest.fixture(scope="module")
def their_utils(theirs: ModuleType) -> ModuleType:
    return lightrag_module("lightrag.utils")


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    found = inspect.signature(getattr(function, "func", function)).parameters.values()
    return [(each.name, each.kind, each.default) for each in found]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_takes_what_lightrags_takes_in_the_same_order(name: str, theirs: ModuleType) -> None:
    wanted, found = parameters(getattr(theirs, name)), parameters(getattr(openai, name))
    assert found[: len(wanted)] == wanted
    assert [each[0] for each in found[len(wanted) :]] == MORE.get(name, [])


def test_the_functions_for_azure_stand_in_lightrags_module_of_this_name_too() -> None:
    wanted = lightrag_module("lightrag.llm.azure_openai")
    assert all(getattr(azure_openai, name) is getattr(openai, name) for name in wanted.__all__)


@pytest.mark.parametrize("name", ["openai_embed", "azure_openai_embed"])
def test_an_embedding_function_says_of_itself_what_lightrags_says(name: str, theirs: ModuleType) -> None:
    wanted, found = getattr(theirs, name), getattr(openai, name)
    facts = [field.name for field in dataclasses.fields(wanted)]
    assert [field.name for field in dataclasses.fields(found)] == facts
    assert all(getattr(found, fact) == getattr(wanted, fact) for fact in facts if fact != "func")
    assert inspect.iscoroutinefunction(found.func)
    assert isinstance(found, type(wanted))


async def test_a_copy_of_an_embedding_function_calls_what_it_was_given(their_utils: ModuleType) -> None:
    asked: list[Mapping[str, Any]] = []

    async def instead(texts: list[str], **options: Any) -> Any:
        asked.append(options)
        return np.zeros((len(texts), 1536), dtype=np.float32)

    copy = dataclasses.replace(openai.openai_embed, func=instead)
    assert (await copy(["a", "b"], context="query")).shape == (2, 1536)
    assert asked == [{"context": "query"}]
    inner = dataclasses.replace(openai.openai_embed)
    assert dataclasses.replace(inner, func=inner).func is openai.openai_embed.func
    assert their_utils.EmbeddingFunc(embedding_dim=8, func=inner).func is openai.openai_embed.func


@pytest.mark.parametrize("rows", [1, 3])
async def test_vectors_of_another_count_are_refused_in_lightrags_words(rows: int, their_utils: ModuleType) -> None:
    async def embed(texts: list[str]) -> Any:
        return np.zeros((rows, 4), dtype=np.float32)

    said = []
    for kind in (their_utils.EmbeddingFunc, utils.EmbeddingFunc):
        for dimensions in (4, 5):
            with pytest.raises(ValueError, match="mismatch") as caught:
                await kind(embedding_dim=dimensions, func=embed)(["a", "b"])
            said.append(str(caught.value))
    assert all(wanted.startswith(found.rstrip(".")) for wanted, found in zip(said[:2], said[2:], strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"base_url": "http://one.invalid/v1", "api_key": "sk-one"},
        {"timeout": 7},
        {"client_configs": {"timeout": 9.0, "max_retries": 5}, "timeout": 8},
        {"client_configs": {"api_key": "sk-two", "base_url": "http://two.invalid", "organization": "org"}},
        {"use_azure": True, "base_url": "http://azure.invalid", "azure_deployment": "d", "api_version": "2024-08-01"},
        {"use_azure": True, "client_configs": {"azure_endpoint": "http://z.invalid", "api_version": "v"}},
    ],
    ids=str,
)
async def test_a_client_is_set_up_as_lightrags(
    options: dict[str, Any], theirs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody")
    monkeypatch.setenv("LLM_BINDING_API_KEY", "azure-key")
    monkeypatch.setenv("OPENAI_API_BASE", "http://env.invalid/v1")
    monkeypatch.setenv("DASHSCOPE_WORKSPACE_ID", "space")
    wanted, found = theirs.create_openai_async_client(**options), openai.create_openai_async_client(**options)
    facts = ("base_url", "api_key", "max_retries", "timeout", "organization")
    assert [getattr(found, fact) for fact in facts] == [getattr(wanted, fact) for fact in facts]
    assert isinstance(found, sdk.AsyncAzureOpenAI if options.get("use_azure") else sdk.AsyncOpenAI)

    kept = {name: value for name, value in wanted.default_headers.items() if isinstance(value, str)}
    kept.pop("User-Agent")  # theirs is a browser's
    assert kept.items() <= found.default_headers.items()
    await wanted.close()
    await found.close()


@pytest.mark.parametrize("arguments, environment", OPTIONS, ids=str)
def test_options_are_read_as_lightrag_reads_them(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    their_options: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    said = []
    for module in (their_options, binding_options):
        parser = ArgumentParser()
        module.OpenAILLMOptions.add_args(parser)
        args = parser.parse_args(arguments)
        said.append(
            [
                module.OpenAILLMOptions.options_dict(args),
                module.OpenAILLMOptions.options_dict_for_role(args, "extract"),
                module.OpenAILLMOptions.options_dict_for_role(args, "query", is_cross_provider=True),
            ]
        )
    assert said[0] == said[1]


def test_the_fields_of_the_options_are_lightrags(their_options: ModuleType) -> None:
    def facts(module: ModuleType) -> list[tuple[Any, ...]]:
        found = module.OpenAILLMOptions.args_env_name_type_value()
        return [(each["argname"], each["env_name"], each["default"]) for each in found]

    assert facts(binding_options) == facts(their_options)
    assert binding_options.OpenAILLMOptions().asdict() == their_options.OpenAILLMOptions().asdict()
    assert binding_options.OllamaLLMOptions is their_options.OllamaLLMOptions


def test_a_tracker_counts_and_prints_as_lightrags(their_utils: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for module in (their_utils, utils):
        tracker = module.TokenTracker()
        tracker.add_usage({"prompt_tokens": 5})
        with tracker:
            tracker.add_usage({"prompt_tokens": 3, "completion_tokens": 4})
            tracker.add_usage({"completion_tokens": 1, "total_tokens": 9})
            tracker.add_usage({})
        said.append((tracker.get_usage(), str(tracker), capsys.readouterr().out))
    assert said[0] == said[1]


def test_a_name_that_nobody_has_is_missed_in_our_words() -> None:
    for name in ("utils", "binding_options"):
        module = importlib.import_module(f"corpusmill.lightrag.{name}")
        with pytest.raises(AttributeError, match=f"corpusmill.lightrag.{name}.*no_such_name"):
            _ = module.no_such_name


def test_every_exception_can_be_built_from_one_string() -> None:
    for name in ("InvalidResponseError", "TransientBadRequestError", "EmptyTruncatedResponseError"):
        assert str(getattr(openai, name)("[LLM func] x")) == "[LLM func] x"
