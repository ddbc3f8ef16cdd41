"""The spec of a job: the request body it builds and the content key under which it is paid once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmill.spec import JobSpec, endpoint_of, fill, key_of_body, normalised, private_key

SPEC = JobSpec(
    kind="completion",
    path="/chat/completions",
    model="gpt-6-luna",
    endpoint="https://api.openai.com/v1",
    prompt="Summarise: {text}",
)


def changed(**fields: object) -> JobSpec:
    return JobSpec.from_json({**SPEC.as_json(), **fields})


def test_the_text_stands_where_the_prompt_says_and_after_a_blank_line_when_it_does_not() -> None:
    assert fill("Say {text} of {source}.", text="A", source="b.md") == "Say A of b.md."
    assert fill("Summarise", text="A", source="b.md") == "Summarise\n\nA"
    assert fill("", text="A", source="b.md") == "A"


def test_other_braces_in_the_prompt_stay_as_they_are() -> None:
    assert fill('{"x": {}} {other} {text}', text="A", source="b") == '{"x": {}} {other} A'


@given(st.text(), st.text())
def test_a_text_is_never_filled_a_second_time(before: str, after: str) -> None:
    text = f"{before}{{source}}{{text}}{after}"
    assert fill("<{text}|{source}>", text=text, source="s") == f"<{text}|s>"


def test_only_the_options_that_were_set_reach_the_body() -> None:
    assert SPEC.completion_body("A", "b") == {
        "model": "gpt-6-luna",
        "messages": [{"role": "user", "content": "Summarise: A"}],
    }
    assert changed(options={"temperature": 0.0}).completion_body("A", "b")["temperature"] == 0.0


def test_the_system_message_goes_first() -> None:
    messages = changed(system="Be brief.").completion_body("A", "b")["messages"]
    assert [message["role"] for message in messages] == ["system", "user"]


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "gpt-6.1-terra"},
        {"prompt": "Translate: {text}"},
        {"system": "Be brief."},
        {"options": {"temperature": 0.1}},
        {"endpoint": "https://example.com/v1"},
        {"path": "/other"},
    ],
)
def test_whatever_shapes_the_answer_changes_the_content_key(fields: dict[str, object]) -> None:
    assert changed(**fields).content_key("A", "b") != SPEC.content_key("A", "b")


def test_the_source_changes_the_content_key_only_where_the_prompt_names_it() -> None:
    assert SPEC.content_key("A", "b") == SPEC.content_key("A", "c")
    assert changed(prompt="{source}: {text}").content_key("A", "b") != changed(prompt="{source}: {text}").content_key(
        "A", "c"
    )


def test_dimensions_change_the_key_of_an_embedding() -> None:
    embedding = changed(kind="embedding", path="/embeddings", prompt=None)
    shorter = changed(kind="embedding", path="/embeddings", prompt=None, dimensions=256)
    assert embedding.content_key("A", "b") != shorter.content_key("A", "b")


def test_the_order_of_a_bodys_fields_does_not_change_its_key() -> None:
    assert key_of_body("e", "/p", {"a": 1, "b": 2}) == key_of_body("e", "/p", {"b": 2, "a": 1})


def test_a_private_key_is_shared_with_no_other_item_or_job() -> None:
    keys = {private_key(b"k" * 32, job_key=job, item_no=no) for job in ("a", "b") for no in (1, 2)}
    assert len(keys) == 4


def test_a_spec_survives_the_ledger() -> None:
    spec = changed(options={"stop": ["END"], "extra_body": None}, dimensions=3)
    assert JobSpec.from_json(spec.as_json()) == spec


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://API.OpenAI.com/v1/", "https://api.openai.com/v1"),
        ("https://api.openai.com:443/v1", "https://api.openai.com/v1"),
        ("http://127.0.0.1:8901/v1//", "http://127.0.0.1:8901/v1"),
        ("http://[::1]:80/v1", "http://[::1]/v1"),
        ("HTTP://Example.com", "http://example.com"),
    ],
)
def test_a_base_url_has_one_spelling(written: str, meant: str) -> None:
    assert normalised(written) == meant


def test_a_pool_goes_by_its_name() -> None:
    assert endpoint_of("https://api.openai.com/v1", pool="main") == "pool:main"
