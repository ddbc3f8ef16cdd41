"""How refusals are turned into slowdowns."""

from __future__ import annotations

from corpusmill.limits.bucket import Slowdown
from corpusmill.limits.refusals import slowdown_for, strongest


def test_retry_after_is_kept_and_bounded_by_a_day() -> None:
    assert slowdown_for("rate", 2.5, tpm=0, floor_s=0.35).cool_s == 2.5
    assert slowdown_for("rate", 1e9, tpm=0, floor_s=0.35).cool_s == 86_400
    assert slowdown_for("rate", -3.0, tpm=0, floor_s=0.35).cool_s == 0


def test_growing_too_fast_is_answered_by_half_the_rate_and_a_slow_way_back_above_a_million_tokens() -> None:
    large, small = (
        slowdown_for("slow_down", None, tpm=10_000_000, floor_s=0.35),
        slowdown_for("slow_down", None, tpm=500_000, floor_s=0.35),
    )
    assert (large.keep, small.keep) == (0.5, 0.5)
    assert -large.ramp * 900 <= 0.5 < small.ramp * 900


def test_a_limit_of_a_day_cools_for_an_hour_unless_told_otherwise_and_slows_nothing_afterwards() -> None:
    assert slowdown_for("day", None, tpm=0, floor_s=0.35) == Slowdown(
        cool_s=3600, keep=1.0, ramp=0.0, left_s=0.35, day=True
    )
    assert slowdown_for("day", 12_000.0, tpm=0, floor_s=0.35).cool_s == 12_000


def test_two_slowdowns_become_one_that_is_as_strict_as_both() -> None:
    one, other = Slowdown(cool_s=5, keep=0.8, ramp=0.1, left_s=0.35), Slowdown(cool_s=1, keep=0.5, ramp=0.05)
    assert strongest(one, other) == Slowdown(cool_s=5, keep=0.5, ramp=0.05, left_s=0.0)
    assert strongest(None, one) == one


def test_after_a_wait_that_was_asked_for_work_goes_on_at_once_and_without_one_the_bucket_fills_first() -> None:
    assert slowdown_for("rate", 2.0, tpm=0, floor_s=0.35).left_s == 0.35
    assert slowdown_for("rate", 0.1, tpm=0, floor_s=0.35).left_s == 0.1
    assert slowdown_for("rate", None, tpm=0, floor_s=0.35).left_s == 0
