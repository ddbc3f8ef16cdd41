"""Retry-After in every spelling, and garbage that must not become a wait."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmill.llm.retry_after import retry_after_s


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"retry-after": "2"}, "", 2.0),
        ({"retry-after": "0.25"}, "", 0.25),
        ({"retry-after-ms": "60", "retry-after": "5"}, "", 0.06),
        ({}, "Limit 30000, Used 26107. Please try again in 60ms.", 0.06),
        ({}, "Please try again in 1m2.5s.", 62.5),
        ({}, "Please try again in 6m0s", 360.0),
        ({}, "Please try again in 1h2m3s", 3723.0),
        ({"retry-after": "4"}, "Please try again in 6m0s", 4.0),
        ({"retry-after": "-1"}, "", None),
        ({"retry-after": "nan"}, "", None),
        ({"retry-after": "inf"}, "", None),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": ""}, "", None),
        ({"retry-after-ms": "-5", "retry-after": "3"}, "", 3.0),
        ({}, "Please try again later", None),
    ],
)
def test_the_least_wait_is_read(headers: dict[str, str], message: str, seconds: float | None) -> None:
    assert retry_after_s(headers, message) == (None if seconds is None else pytest.approx(seconds))


def test_a_date_is_taken_by_the_endpoints_own_clock() -> None:
    there = 1_000_000.0  # a clock that is decades behind
    headers = {"retry-after": formatdate(there + 90, usegmt=True), "date": formatdate(there, usegmt=True)}
    assert retry_after_s(headers) == 90.0


def test_a_date_in_the_past_is_no_wait() -> None:
    assert retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0


@given(st.text(max_size=40), st.text(max_size=60))
def test_no_header_and_no_message_can_break_the_reading(value: str, message: str) -> None:
    wait_s = retry_after_s({"retry-after": value, "retry-after-ms": value[::-1], "date": value}, message)
    assert wait_s is None or wait_s >= 0
