"""Limits as endpoints tell them, in every dialect we have met, and garbage that must not become a limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from corpusmill.limits import Told, duration_s, told_by

OPENAI = {
    "x-ratelimit-limit-requests": "5000",
    "x-ratelimit-remaining-requests": "4990",
    "x-ratelimit-reset-requests": "120ms",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-tokens": "1999000",
    "x-ratelimit-reset-tokens": "30ms",
}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("86ms", 0.086),
        ("1m30s", 90.0),
        ("1h2m3.5s", 3723.5),
        ("250µs", 0.00025),
        ("17", 17.0),
        ("0.5", 0.5),
        ("0s", 0.0),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("1s later", None),
        ("1x", None),
        ("nan", None),
        ("\u0661s", None),
    ],
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: float | None) -> None:
    assert duration_s(text) == (seconds if seconds is None else pytest.approx(seconds))


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59_999))
def test_every_go_duration_comes_back_as_its_seconds(hours: int, minutes: int, ms: int) -> None:
    assert duration_s(f"{hours}h{minutes}m{ms / 1000}s") == pytest.approx(hours * 3600 + minutes * 60 + ms / 1000)


@given(st.text())
def test_no_text_at_all_upsets_the_reader_of_durations(text: str) -> None:
    seconds = duration_s(text)
    assert seconds is None or seconds >= 0


def test_openai_tells_both_limits_and_what_is_left() -> None:
    assert told_by(OPENAI) == Told(5000, 2_000_000, 4990, 1_999_000)


def test_names_may_come_in_any_case() -> None:
    assert told_by(CIMultiDict({name.title(): value for name, value in OPENAI.items()})) == told_by(OPENAI)


def test_the_lower_of_the_limits_of_key_and_project_counts() -> None:
    project = {"x-ratelimit-limit-project-tokens": "1000", "x-ratelimit-remaining-project-tokens": "900"}
    assert told_by(OPENAI | project) == Told(5000, 1000, 4990, 900)


def test_azure_says_minus_one_where_it_does_not_know() -> None:
    unknown = {"x-ratelimit-limit-requests": "-1", "x-ratelimit-remaining-requests": "0"}
    assert told_by(unknown) == Told()
    assert told_by({"x-ratelimit-limit-tokens": "0", "x-ratelimit-remaining-tokens": "0"}) == Told()


def test_mistral_and_cerebras_name_the_minute() -> None:
    headers = {"x-ratelimit-limit-tokens-minute": "60000", "x-ratelimit-remaining-tokens-minute": "59000"}
    assert told_by(headers) == Told(tpm=60_000, tokens_left=59_000)


@pytest.mark.parametrize(
    ("limit", "left", "reset"),
    [
        pytest.param("14400", "14370", "2m59.56s", id="groq"),
        pytest.param("10000", "9999", "8.64s", id="openai, first use of the day"),
        pytest.param("200", "150", "6h0m0s", id="openai, a small account"),
    ],
)
def test_the_requests_of_a_day_are_not_taken_for_those_of_a_minute(limit: str, left: str, reset: str) -> None:
    headers = {
        "x-ratelimit-limit-requests": limit,
        "x-ratelimit-remaining-requests": left,
        "x-ratelimit-reset-requests": reset,
    }
    assert told_by(headers) == Told()


def test_endpoints_without_limits_tell_nothing() -> None:
    assert told_by({"content-type": "application/json", "x-request-id": "req_1"}) == Told()


@given(st.dictionaries(st.sampled_from(sorted(OPENAI)), st.text() | st.integers(-(10**20), 10**20).map(str)))
def test_garbage_is_absent_and_never_a_limit_of_zero_or_less(headers: dict[str, str]) -> None:
    told = told_by(headers)
    assert told.rpm is None or 0 < told.rpm <= 10**12
    assert told.tpm is None or 0 < told.tpm <= 10**12
    assert told.requests_left is None or told.requests_left >= 0
