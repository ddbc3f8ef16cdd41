"""From an ask to a spec, a job key and a summary: the pure parts of submitting."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from corpusmill.errors import BudgetReached, DiskFull, JobStopped, KeyRefused, OutputExists, Unavailable, UsageError
from corpusmill.export.files import digest
from corpusmill.mill import names, outputs
from corpusmill.mill.ask import Ask, Shape
from corpusmill.mill.key import job_key
from corpusmill.mill.outcome import explain
from corpusmill.mill.placeholders import slips
from corpusmill.mill.specs import completion_spec, output_cap, wire_options
from corpusmill.mill.summary import Summary
from corpusmill.mill.texts import spooled
from corpusmill.model_options import ModelOptions
from corpusmill.provider import Provider
from corpusmill.settings import Settings
from corpusmill.spec import JobSpec

SPEC = JobSpec("completion", "/chat/completions", "gpt-6-luna", "http://x/v1", prompt="Say")
SUMMARY = Summary(
    job="j_aaaaaa", state="finished", reason=None, items=10, succeeded=10, cached=1, truncated=0, failed=0, open=0,
    prompt_tokens=5, completion_tokens=6, usd=Decimal("0.5"), unknown_usd=Decimal(0), requests=9, requests_total=9,
    seconds=1.5, out=None,
)  # fmt: skip


def key(spec: JobSpec = SPEC, shape: Shape = Shape(), **changes: Any) -> bytes:  # noqa: B008
    facts: dict[str, Any] = {"cache": True, "sources": b"s", "chunker": 1}
    return job_key(spec, shape, **{**facts, **changes})


def test_the_job_key_holds_what_makes_the_items_and_nothing_else() -> None:
    others = [
        key(replace(SPEC, model="m")),
        key(replace(SPEC, endpoint="http://y/v1")),
        key(shape=Shape(chunk_tokens=400)),
        key(shape=Shape(text_field="body")),
        key(cache=False),
        key(sources=b"t"),
        key(chunker=2),
    ]
    assert len({key(), *others}) == len(others) + 1
    assert key(shape=Shape(include=("*.md",))) == key(), "what was read is in the digests"
    assert key(shape=Shape(chunk=False, chunk_tokens=9)) == key(shape=Shape(chunk=False)), "whole texts have no size"


def test_the_overlap_and_the_id_field_in_effect_are_what_counts() -> None:
    assert key(shape=Shape(chunk_overlap=80)) == key()
    assert key(shape=Shape(id_field="id")) == key() != key(shape=Shape(id_field="sku"))
    assert Shape(chunk_tokens=100).overlap == 25
    assert Shape(chunk_tokens=100, chunk_overlap=0).overlap == 0


def test_a_request_file_has_one_key_whatever_the_chunking() -> None:
    spec = JobSpec("request", "/chat/completions", "m", "http://x/v1")
    assert key(spec, Shape(chunk_tokens=100)) == key(spec)


def test_asked_options_go_over_set_ones_and_unset_ones_are_absent() -> None:
    providers = {"openai": Provider(base_url="http://x/v1")}
    ask = Ask(kind="completion", model="m", prompt="p", options={"top_p": 0.1})
    set_ones = Settings(providers=providers, openai_llm=ModelOptions(temperature=0.5, top_p=0.9))
    assert completion_spec(ask, set_ones, "openai").options == {"temperature": 0.5, "top_p": 0.1}
    assert completion_spec(replace(ask, options={}), Settings(providers=providers), "openai").options == {}


def test_the_output_cap_goes_by_the_providers_own_name() -> None:
    assert wire_options({"max_completion_tokens": 5}, "max_tokens") == {"max_tokens": 5}
    assert wire_options({"max_completion_tokens": 5}, "max_completion_tokens") == {"max_completion_tokens": 5}
    assert output_cap(replace(SPEC, options={"max_tokens": 5})) == 5
    assert output_cap(SPEC) is None


def test_an_extra_body_is_merged_but_may_not_talk_past_the_job() -> None:
    assert wire_options({"extra_body": {"top_k": 5}, "top_p": 1.0}, "max_tokens") == {"top_p": 1.0, "top_k": 5}
    for name in ("model", "messages", "stream"):
        with pytest.raises(UsageError, match=name):
            wire_options({"extra_body": {name: 1}}, "max_tokens")


def test_an_empty_prompt_is_refused() -> None:
    settings = Settings(providers={"openai": Provider(base_url="http://x/v1")})
    with pytest.raises(UsageError, match="the prompt is empty"):
        completion_spec(Ask(kind="completion", model="m", prompt="  "), settings, "openai")


@pytest.mark.parametrize("name", ["last", "j_7fk2qa", "j_", "", " x", "a\nb"])
def test_names_that_mean_something_else_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        names.check(name)


def test_a_file_of_this_job_may_be_replaced_and_no_other(tmp_path: Path) -> None:
    out = tmp_path / "x.jsonl"
    outputs.refuse([out], lambda path: None, force=False)
    out.write_text("mine")
    own = digest(out)
    outputs.refuse([out], lambda path: own, force=False)
    with pytest.raises(OutputExists) as refused:
        outputs.refuse([out], lambda path: None, force=False)
    assert refused.value.exit_code == 2 and "--force" in refused.value.next_step
    out.write_text("edited since")
    with pytest.raises(OutputExists):
        outputs.refuse([out], lambda path: own, force=False)
    outputs.refuse([out], lambda path: None, force=True)


def test_an_output_that_could_not_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        outputs.refuse([tmp_path / "no" / "x.jsonl"], lambda path: None, force=True)
    with pytest.raises(UsageError, match="is a folder"):
        outputs.refuse([tmp_path], lambda path: None, force=True)


def test_the_summary_has_exactly_the_promised_names() -> None:
    promised = (
        "job state reason items succeeded cached truncated failed open prompt_tokens completion_tokens usd unknown_usd"
        " requests requests_total seconds out"
    )
    assert " ".join(SUMMARY.as_dict()) == promised


@pytest.mark.parametrize(
    ("state", "reason", "failed", "code", "error"),
    [
        ("finished", None, 0, 0, None),
        ("finished", None, 2, 3, None),
        ("paused", "first", 0, 0, None),
        ("paused", "first", 1, 3, None),
        ("paused", "user", 0, 4, None),
        ("cancelled", None, 0, 4, None),
        ("stopped", None, 5, 2, JobStopped),
        ("paused", "budget", 0, 5, BudgetReached),
        ("paused", "billing", 0, 5, BudgetReached),
        ("paused", "key", 0, 77, KeyRefused),
        ("paused", "endpoint", 0, 69, Unavailable),
        ("paused", "disk", 0, 74, DiskFull),
    ],
)
def test_the_exit_code_follows_from_the_state(
    state: Any, reason: Any, failed: int, code: int, error: type[Exception] | None
) -> None:
    summary = replace(SUMMARY, state=state, reason=reason, failed=failed)
    assert summary.exit_code == code
    explained = explain(summary, endpoint="http://x/v1")
    assert (None if explained is None else type(explained)) == error
    if explained is not None:
        assert explained.exit_code == code
        assert explained.next_step


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("Say: {txt}", "`{txt}` is not filled in; did you mean `{text}`?"),
        ("{Text} of {source}", "`{Text}` is not filled in; did you mean `{text}`?"),
        ("{text} of {src} and {sources}", "`{sources}` is not filled in; did you mean `{source}`?"),
        ("Summarise {document}", "`{document}` is not filled in; did you mean `{text}`?"),
    ],
)
def test_a_word_in_braces_that_looks_like_a_slip_is_told(prompt: str, words: str) -> None:
    assert words in (slips(prompt) or "")


@pytest.mark.parametrize(
    "prompt", ["{text}", "plain", '{"a": {}} {text}', "{title} and {body}", "{name}: {text}", r"\emph{x} ${HOME}", "{}"]
)
def test_other_braces_are_nobodys_business(prompt: str) -> None:
    assert slips(prompt) is None


def test_texts_from_memory_are_one_and_the_same_file_each_time() -> None:
    ask = Ask(kind="embedding", model="m", texts=["a", {"text": "b", "id": "own", "lang": "de"}])
    with spooled(ask) as readable:
        (path,) = map(Path, readable.sources)
        lines = path.read_text("utf-8").splitlines()
    assert lines == ['{"id":"0","text":"a"}', '{"id":"own","text":"b","lang":"de"}']
    assert path.name == "texts.jsonl" and not path.exists()
