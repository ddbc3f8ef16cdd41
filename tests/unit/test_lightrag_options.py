"""Binding options: flags, environment, roles, and a sample that works when uncommented."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, ClassVar, Literal

import pytest
from dotenv import dotenv_values

from corpusmill.lightrag.binding_options import BindingOptions, OpenAILLMOptions

FIELDS = (
    *("frequency_penalty", "max_completion_tokens", "presence_penalty", "reasoning_effort", "safety_identifier"),
    *("service_tier", "stop", "temperature", "top_p", "max_tokens", "extra_body"),
)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FIELDS:
        monkeypatch.delenv(f"OPENAI_LLM_{name.upper()}", raising=False)


def options(arguments: Sequence[str] = ()) -> dict[str, Any]:
    parser = ArgumentParser()
    OpenAILLMOptions.add_args(parser)
    return OpenAILLMOptions.options_dict(parser.parse_args(arguments))


def test_the_eleven_fields_have_lightrags_flags_and_variables() -> None:
    found = list(OpenAILLMOptions.args_env_name_type_value())
    assert [each["argname"] for each in found] == [f"openai-llm-{name}" for name in FIELDS]
    assert [each["env_name"] for each in found] == [f"OPENAI_LLM_{name.upper()}" for name in FIELDS]
    assert found[0]["help"].startswith("openai_llm -- ")


def test_what_nobody_sets_is_not_there() -> None:
    assert options() == {}


def test_flags_are_read_by_their_types() -> None:
    given = [
        *("--openai-llm-temperature", "0.5", "--openai-llm-max_tokens", "7", "--openai-llm-stop", '["a", "b"]'),
        *("--openai-llm-extra_body", '{"x": {"y": 1}}', "--openai-llm-reasoning_effort", "low"),
    ]
    assert options(given) == {
        "temperature": 0.5,
        "max_tokens": 7,
        "stop": ["a", "b"],
        "extra_body": {"x": {"y": 1}},
        "reasoning_effort": "low",
    }


def test_a_flag_goes_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_LLM_TEMPERATURE", "0.1")
    monkeypatch.setenv("OPENAI_LLM_TOP_P", "0.9")
    assert options(["--openai-llm-temperature", "0.7"]) == {"temperature": 0.7, "top_p": 0.9}


def test_json_in_the_environment_that_is_none_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_LLM_STOP", "not json")
    assert options() == {}


def test_a_role_goes_over_the_general_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXTRACT_OPENAI_LLM_TEMPERATURE", "0")
    monkeypatch.setenv("EXTRACT_OPENAI_LLM_STOP", '["x"]')
    parser = ArgumentParser()
    OpenAILLMOptions.add_args(parser)
    args = parser.parse_args(["--openai-llm-temperature", "1", "--openai-llm-top_p", "0.5"])
    assert OpenAILLMOptions.options_dict_for_role(args, "extract") == {"temperature": 0.0, "stop": ["x"], "top_p": 0.5}
    across = OpenAILLMOptions.options_dict_for_role(args, "extract", is_cross_provider=True)
    assert across == {"temperature": 0.0, "stop": ["x"]}


def test_every_line_of_the_sample_works_when_it_is_uncommented(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class EveryKind(BindingOptions):
        _binding_name: ClassVar[str] = "every_kind"
        think: bool | Literal["low", "high"] | None = None
        level: bool | Literal["low", "high"] = "high"
        loud: bool = False
        count: int | None = None
        names: list[str] = field(default_factory=lambda: ['with "quotes"', "a # and\\n"])
        extra: dict[str, Any] = field(default_factory=lambda: {"a": {"b": None}})
        word: str | None = None
        size: float = 0.5

    sample = re.sub(r"^# (\w+=)", r"\1", BindingOptions.generate_dot_env_sample(), flags=re.MULTILINE)
    entries = dotenv_values(stream=StringIO(sample))
    assert entries.keys() >= {f"OPENAI_LLM_{name.upper()}" for name in FIELDS}
    for name, value in entries.items():
        assert value is not None
        monkeypatch.setenv(name, value)
    assert options() == {
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "reasoning_effort": "medium",
        "stop": [],
        "temperature": 1.0,
        "top_p": 1.0,
        "extra_body": {},
    }
    parser = ArgumentParser()
    EveryKind.add_args(parser)
    assert EveryKind.options_dict(parser.parse_args([])) == {
        "level": "high",
        "loud": False,
        "names": ['with "quotes"', "a # and\\n"],
        "extra": {"a": {"b": None}},
        "size": 0.5,
    }


def test_an_instance_knows_its_values() -> None:
    assert OpenAILLMOptions(temperature=0.2).asdict()["temperature"] == 0.2
    assert set(OpenAILLMOptions().asdict()) == set(FIELDS)


def test_a_typing_error_in_a_level_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Thinking(BindingOptions):
        _binding_name: ClassVar[str] = "thinking_llm"
        think: bool | Literal["low", "high"] | None = None
        loud: bool = False

    parser = ArgumentParser()
    Thinking.add_args(parser)
    args = parser.parse_args(["--thinking-llm-think", "high", "--thinking-llm-loud", "on"])
    assert Thinking.options_dict(args) == {"think": "high", "loud": True}
    monkeypatch.setenv("THINKING_LLM_THINK", "hgih")
    with pytest.raises(ArgumentTypeError, match="low, high"):
        Thinking.add_args(ArgumentParser())
