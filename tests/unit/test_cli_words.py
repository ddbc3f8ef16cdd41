"""What the command line says: short numbers, sums of money, failures by class, next steps."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from corpusmill.cli.output import Output
from corpusmill.cli.progress import Pace, short, span
from corpusmill.cli.report import by_class, next_step, usd
from corpusmill.endpoint import Limits
from corpusmill.errors import UsageError
from corpusmill.ledger.records import Counts, JobView
from corpusmill.mill.watching import Look, _Loader
from corpusmill.spec import JobSpec
from tests.unit.test_mill_asking import SUMMARY

JOB = JobView(
    id=1, public_id="j_aaaaaa", key=b"", name=None, kind="completion", model="m", provider="openai", endpoint="e",
    key_fingerprint="f", state="running", reason=None, note=None, priority="normal", labels={}, budget_usd=None,
    first=None, out=None, errors_out=None, detached=False, spec=JobSpec("completion", "/x", "m", "e"),
    price_card=None, created_at=0, committed_at=0, finished_at=None,
)  # fmt: skip
COUNTS = Counts(
    items=100, succeeded=10, cached=2, truncated=0, failed=3, prompt_tokens=40_000, completion_tokens=2_000,
    usd=Decimal("0.12"), unknown_usd=None, unknown_attempts=0, requests=11,
    failed_by_class={"timeout": 1, "refusal": 2},
)  # fmt: skip


def look(at_s: float, **counts: Any) -> Look:
    return Look(JOB, replace(COUNTS, **counts), True, at_s)


@pytest.mark.parametrize(
    ("number", "said"), [(87, "87"), (9_999, "9,999"), (12_345, "12k"), (1_234_567, "1.2M"), (3_400_000_000, "3.4G")]
)
def test_long_numbers_are_said_short(number: int, said: str) -> None:
    assert short(number) == said


@pytest.mark.parametrize(("seconds", "said"), [(12.3, "12 s"), (600, "10 min"), (7_200, "2.0 h")])
def test_times_are_said_in_the_unit_that_fits(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_unpriced_is_never_shown_as_nothing() -> None:
    assert usd(None) == "unpriced"
    assert usd(Decimal("0.00004")) == "0.0000"
    assert usd(Decimal("1234.5")) == "1,234.50"


def test_failures_are_told_by_class_most_frequent_first() -> None:
    assert by_class({"timeout": 1, "refusal": 1_200}) == "refusal 1,200, timeout 1"


def test_progress_shows_rate_against_the_limit_and_the_time_left() -> None:
    pace = Pace(Limits(rpm=600))
    pace.add(look(0.0, succeeded=0, requests=0, failed=0))
    now = look(10.0, succeeded=50, requests=50, failed=0)
    pace.add(now)
    facts = pace.facts(now)
    assert "300 requests/min of 600" in facts
    assert "ETA 10 s" in facts
    assert "50 of 100" in facts


def test_progress_names_what_failed_and_what_was_cached() -> None:
    pace = Pace(None)
    pace.add(look(0.0))
    facts = pace.facts(look(0.0))
    assert facts == ["13 of 100", "2 cached", "3 failed (refusal 2, timeout 1)", "42k tokens", "0.1200 USD"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "paused", "reason": "first"}, "corpusmill resume j_aaaaaa"),
        ({"state": "cancelled", "open": 3}, "corpusmill resume j_aaaaaa"),
        ({"state": "running"}, "corpusmill watch j_aaaaaa"),
        ({"state": "finished"}, "corpusmill export j_aaaaaa"),
        ({"state": "finished", "failed": 2}, "corpusmill failures j_aaaaaa"),
    ],
)
def test_a_summary_ends_with_what_to_type_next(changes: dict[str, Any], words: str) -> None:
    assert (next_step(replace(SUMMARY, **changes)) or "").startswith(words)


def test_a_finished_job_with_its_output_needs_nothing_more() -> None:
    assert next_step(replace(SUMMARY, out="x.jsonl")) is None


def test_a_loading_job_that_nobody_loads_is_not_waited_for() -> None:
    loader, loading = _Loader(), replace(JOB, state="loading")
    loader.check(Look(loading, COUNTS, True, 0.0))
    loader.check(Look(loading, replace(COUNTS, items=200), True, 29.0))
    loader.check(Look(loading, replace(COUNTS, items=200), True, 58.0))
    with pytest.raises(UsageError, match="nobody loads it"):
        loader.check(Look(loading, replace(COUNTS, items=200), True, 60.0))


def test_errors_are_three_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Output().trouble(UsageError("what", where="where", next_step="what to type"))
    captured = capsys.readouterr()
    assert captured.err == "✗ what\n  where\n  what to type\n"
    assert captured.out == ""


def test_with_json_nothing_but_the_object_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(json=True)
    out.line("text")
    out.table(("A",), [("1",)])
    out.note("a note")
    out.result({"usd": Decimal("0.5")})
    captured = capsys.readouterr()
    assert captured.out == '{"usd": "0.5"}\n'
    assert captured.err == "a note\n"
