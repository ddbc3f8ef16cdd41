"""What the endpoint is sent: each model option by flag and by environment, and none that is unset."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fixtures.shell import Shell
from tests.fixtures.simulator import Simulator, StartSimulator

# Name on the wire: what is typed, and what it means.
OPTIONS: dict[str, tuple[str, Any]] = {
    "frequency_penalty": ("0.5", 0.5),
    "max_completion_tokens": ("77", 77),
    "presence_penalty": ("-0.25", -0.25),
    "reasoning_effort": ("low", "low"),
    "safety_identifier": ("user-7", "user-7"),
    "service_tier": ("flex", "flex"),
    "stop": ("END", ["END"]),
    "temperature": ("0.3", 0.3),
    "top_p": ("0.9", 0.9),
    "max_tokens": ("78", 78),
}
EXTRA = {"top_k": 5, "metadata": {"run": "x"}}
ASK = ("complete", "docs", "--prompt", "Say", "--model", "gpt-6-luna")


def sent(endpoint: Simulator) -> dict[str, Any]:
    """The body of the newest request."""
    body: dict[str, Any] = endpoint.requests(1)[-1]["body"]
    return body


@pytest.fixture
def endpoint(shell: Shell, simulator: StartSimulator) -> Simulator:
    shell.write("docs/a.md", "Words.")
    return shell.connect(simulator())


def test_with_nothing_set_the_body_has_model_and_messages_alone(shell: Shell, endpoint: Simulator) -> None:
    shell.ok(*ASK)
    assert sent(endpoint) == {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Say\n\nWords."}]}


def test_all_eleven_options_by_flag(shell: Shell, endpoint: Simulator) -> None:
    shell.write("extra.json", json.dumps(EXTRA))
    flags = [part for name, (typed, _) in OPTIONS.items() for part in (f"--{name.replace('_', '-')}", typed)]
    shell.ok(*ASK, *flags, "--extra-body", "@extra.json")
    body = sent(endpoint)
    assert {name: body[name] for name in OPTIONS} == {name: meant for name, (_, meant) in OPTIONS.items()}
    assert {name: body[name] for name in EXTRA} == EXTRA
    assert "extra_body" not in body


def test_all_eleven_options_by_environment(shell: Shell, endpoint: Simulator) -> None:
    environment = {f"OPENAI_LLM_{name.upper()}": typed for name, (typed, _) in OPTIONS.items()}
    shell.ok(*ASK, env={**environment, "OPENAI_LLM_EXTRA_BODY": json.dumps(EXTRA)})
    body = sent(endpoint)
    assert {name: body[name] for name in OPTIONS} == {name: meant for name, (_, meant) in OPTIONS.items()}
    assert {name: body[name] for name in EXTRA} == EXTRA
    assert "extra_body" not in body


def test_one_option_brings_no_other(shell: Shell, endpoint: Simulator) -> None:
    shell.ok(*ASK, "--temperature", 0)
    assert set(sent(endpoint)) == {"model", "messages", "temperature"}
    assert sent(endpoint)["temperature"] == 0


def test_a_flag_goes_over_the_environment(shell: Shell, endpoint: Simulator) -> None:
    shell.ok(*ASK, "--temperature", 0.1, env={"OPENAI_LLM_TEMPERATURE": "0.9"})
    assert sent(endpoint)["temperature"] == 0.1


def test_a_provider_may_know_the_cap_by_its_older_name(shell: Shell, endpoint: Simulator) -> None:
    older = {
        "CORPUSMILL_PROVIDERS__OLD__BASE_URL": endpoint.base_url,
        "CORPUSMILL_PROVIDERS__OLD__API_KEY": "k",
        "CORPUSMILL_PROVIDERS__OLD__MAX_TOKENS_NAME": "max_tokens",
    }
    shell.ok(*ASK, "--provider", "old", "--max-completion-tokens", 9, env=older)
    assert sent(endpoint)["max_tokens"] == 9
    assert "max_completion_tokens" not in sent(endpoint)


def test_prompt_and_system_message_come_from_files_and_braces_stay(shell: Shell, endpoint: Simulator) -> None:
    shell.write("prompt.txt", 'Give {"source": "{source}"} for {text} and {other}')
    shell.write("system.txt", "Be brief.")
    shell.ok("complete", "docs", "--prompt", "@prompt.txt", "--system", "@system.txt", "--model", "m")
    assert sent(endpoint)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": 'Give {"source": "a.md"} for Words. and {other}'},
    ]


def test_a_response_format_is_passed_on(shell: Shell, endpoint: Simulator) -> None:
    form = {"type": "json_object"}
    shell.write("form.json", json.dumps(form))
    shell.ok(*ASK, "--response-format", "@form.json")
    assert sent(endpoint)["response_format"] == form


def test_the_key_goes_to_the_endpoint_and_dimensions_with_the_inputs(shell: Shell, endpoint: Simulator) -> None:
    shell.ok("embed", "docs", "--model", "text-embedding-3-small", "--dimensions", 8)
    request = endpoint.requests(1)[-1]
    assert request["headers"]["authorization"].startswith("Bearer sk-canary")
    assert request["body"]["dimensions"] == 8
    assert request["body"]["input"] == ["Words."]
