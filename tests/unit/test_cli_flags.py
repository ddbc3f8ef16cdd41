"""Groups of flags, global flags, and what stands behind a flag."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from corpusmill.cli import arguments
from corpusmill.cli.commands import COMMANDS
from corpusmill.cli.main import outcome
from corpusmill.cli.options import CorpusFlags, JobFlags, ModelFlags, budget_usd
from corpusmill.errors import UsageError
from corpusmill.mill.ask import NO_CAP, Shape, Terms
from corpusmill.mill.options import CompletionOptions, CorpusOptions, RunOptions, sorted_out
from corpusmill.model_options import ModelOptions


def test_the_flags_for_the_model_are_exactly_its_options_and_the_response_format() -> None:
    assert {field.name for field in fields(ModelFlags)} == {*ModelOptions.model_fields, "response_format"}


def test_everything_that_shapes_or_steers_a_job_can_be_given_by_keyword() -> None:
    asked = {field.name for field in (*fields(Shape), *fields(Terms))}
    assert set(CorpusOptions.__annotations__) == asked
    assert set(CompletionOptions.__annotations__) == asked | {*ModelOptions.model_fields, "response_format"}
    assert set(RunOptions.__annotations__) < asked


def test_flags_that_were_not_given_say_what_the_mill_takes_for_granted() -> None:
    shape, terms, options = sorted_out({**CorpusFlags().as_dict(), **JobFlags().as_dict()}, model_options=True)
    assert (shape, terms, options) == (Shape(), Terms(), {})


def test_only_options_that_were_given_are_passed_on() -> None:
    flags = ModelFlags(temperature=0.0, stop=["END"], extra_body='{"top_k": 3}')
    assert flags.as_dict() == {"temperature": 0.0, "stop": ["END"], "extra_body": {"top_k": 3}}


@pytest.mark.parametrize(
    ("given", "meant"), [("2.50", "2.50"), ("none", str(NO_CAP)), ("None", str(NO_CAP)), (None, None)]
)
def test_a_budget_is_a_sum_or_none(given: str | None, meant: str | None) -> None:
    assert budget_usd(given) == meant


@pytest.mark.parametrize("given", ["-1", "much", "nan"])
def test_a_budget_that_is_no_sum_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="no sum of money"):
        sorted_out({"budget_usd": budget_usd(given)})


def test_an_unknown_keyword_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError) as refused:
        sorted_out({"chunk_token": 3})
    assert refused.value.next_step == "did you mean chunk_tokens?"


def test_text_behind_an_at_sign_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("Say it", "utf-8")
    assert arguments.text_argument(f"@{tmp_path / 'p.txt'}") == "Say it"
    assert arguments.text_argument("@@home") == "@home"
    with pytest.raises(UsageError, match="cannot read"):
        arguments.text_argument(f"@{tmp_path / 'none.txt'}")


@pytest.mark.parametrize("text", ["[1]", "{", '"x"'])
def test_json_behind_a_flag_must_be_an_object(text: str) -> None:
    with pytest.raises(UsageError, match="--extra-body"):
        arguments.json_argument(text, flag="--extra-body")


@pytest.mark.parametrize("label", ["team", "=x", " =x"])
def test_a_label_needs_a_key_and_a_value(label: str) -> None:
    with pytest.raises(UsageError, match="KEY=VALUE"):
        arguments.label_pairs([label])


@pytest.mark.parametrize(
    "arguments", [["jobz"], ["--nonsense"], ["complete"], ["export", "x"], ["complete", "--model"]]
)
def test_wrong_arguments_exit_2_with_words_and_with_json_an_object(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome([*arguments, "--json"]) == 2
    captured = capsys.readouterr()
    said = json.loads(captured.out.splitlines()[-1])
    assert said["exit_code"] == 2
    assert said["error"]["what"] in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("flag", ["--prompt", "--system", "--label", "--model", "--out"])
def test_an_argument_that_is_no_utf_8_is_refused_with_its_place(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["complete", "docs", flag, "caf\udce9"]) == 2
    said = capsys.readouterr().err
    assert all(words in said for words in ("not valid UTF-8, at character 3", "argument 4", "@FILE"))
    assert "Traceback" not in said


def test_a_mistyped_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["complet"]) == 2
    assert "did you mean `corpusmill complete`?" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_takes_the_global_flags(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert all(flag in text for flag in ("--json", "--quiet", "--no-progress", "--help"))


def test_help_lists_every_command_and_loads_none_of_them() -> None:
    program = (
        "import sys; from corpusmill.cli.main import outcome; code = outcome(['--help']); "
        "heavy = {'rich', 'sqlalchemy', 'celery', 'openai', 'numpy', 'pydantic', 'corpusmill.cli.work'};"
        "print(sorted(heavy & set(sys.modules)), code)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[] 0"
    assert all(f"  {name} " in said for name in COMMANDS)


def test_help_of_a_command_loads_nothing_that_it_would_need_to_run() -> None:
    program = (
        "import sys; from corpusmill.cli.main import outcome; outcome(['complete', '--help']);"
        "print(sorted({'rich', 'sqlalchemy', 'celery', 'openai', 'numpy', 'tiktoken'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"


def test_global_flags_stand_before_or_after_the_command() -> None:
    from corpusmill.cli.flags import set_globals
    from corpusmill.cli.output import out

    out.reset()
    set_globals(as_json=True, quiet=False, no_progress=True)
    set_globals(as_json=False, quiet=True, no_progress=False)
    assert (out.json, out.quiet, out.progress) == (True, True, False)
    out.reset()


def test_importing_the_package_loads_next_to_nothing() -> None:
    program = (
        "import sys, corpusmill; "
        "print(sorted({'openai', 'celery', 'sqlalchemy', 'numpy', 'pydantic', 'rich', 'typer'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_public_names_are_exactly_these() -> None:
    import corpusmill

    names = ["AsyncJob", "AsyncMill", "CorpusmillError", "Job", "Mill", "Result", "Settings", "Summary", "__version__"]
    assert corpusmill.__all__ == names
    assert all(getattr(corpusmill, name) is not None for name in names)
    with pytest.raises(AttributeError):
        _: Any = corpusmill.Nonsense
