"""What goes back to the bucket, and what headers make of it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from corpusmill.limits import Grant, Told
from corpusmill.limits.bucket import Settlement
from corpusmill.limits.tab import Tab

GRANT = Grant(tokens=100, level_requests=40, level_tokens=5000, lowered_requests=3, lowered_tokens=0)


def test_with_nothing_noted_there_is_nothing_to_settle() -> None:
    assert Tab().take() is None


def test_what_comes_back_adds_up_and_is_settled_once() -> None:
    tab = Tab()
    tab.put_back(1, 100)
    tab.put_back(0, -30)
    assert (tab.take(), tab.take()) == (Settlement(1, 70), None)


def test_the_first_paid_reply_without_headers_says_that_there_is_no_limit() -> None:
    tab = Tab()
    tab.hear(Told(), GRANT, paid=True)
    assert tab.take() == Settlement(told_rpm=0, told_tpm=0)


def test_a_refusal_without_headers_says_nothing() -> None:
    tab = Tab()
    tab.hear(Told(), GRANT, paid=False)
    assert tab.take() is None


def test_a_limit_once_told_is_not_unsaid_by_a_reply_without_headers() -> None:
    tab = Tab()
    tab.hear(Told(rpm=500), GRANT, paid=True)
    tab.hear(Told(), GRANT, paid=True)
    assert tab.take() == Settlement(told_rpm=500, told_tpm=0)


def test_the_same_limits_are_told_once() -> None:
    tab = Tab()
    tab.hear(Told(rpm=500, tpm=9), GRANT, paid=True)
    tab.take()
    tab.hear(Told(rpm=500, tpm=9), GRANT, paid=True)
    assert tab.take() is None


def test_less_left_than_the_bucket_held_at_the_grant_asks_for_the_difference() -> None:
    tab = Tab()
    tab.hear(Told(rpm=500, tpm=9, requests_left=25, tokens_left=6000), GRANT, paid=True)
    asked = tab.take()
    assert asked is not None
    assert (asked.lowered_requests, asked.lowered_tokens) == (3 + 15, None)


def test_many_replies_about_one_shortage_ask_for_it_once() -> None:
    tab = Tab()
    for left in (25, 25, 25):
        tab.hear(Told(rpm=500, tpm=9, requests_left=left), GRANT, paid=True)
    asked = tab.take()
    assert asked is not None
    assert asked.lowered_requests == 3 + 15


def test_requests_that_overtake_each_other_make_no_shortage() -> None:
    tab = Tab()
    # Ten of one moment, of which the endpoint sees the last first: 49 are left for that one, 40 for the first.
    for order in range(10):
        tab.hear(Told(rpm=500, tpm=9, requests_left=40 + order), replace(GRANT, level_requests=49 - order), paid=True)
    asked = tab.take()
    assert asked is not None
    assert asked.lowered_requests is None


@given(st.permutations(range(20)), st.integers(0, 5))
def test_whatever_the_order_of_arrival_just_what_is_missing_is_asked_for(order: list[int], missing: int) -> None:
    tab = Tab()
    for arrived, granted in enumerate(order):
        told = Told(rpm=500, tpm=9, requests_left=100 - missing - arrived)
        tab.hear(told, replace(GRANT, level_requests=100 - granted, lowered_requests=0), paid=True)
    asked = tab.take()
    assert asked is not None
    assert (asked.lowered_requests or 0) == missing


def test_replies_to_requests_of_earlier_do_not_hide_a_new_shortage() -> None:
    tab = Tab()
    for at in (1.0, 4.0, 5.0):
        tab.hear(Told(rpm=500, tpm=9, requests_left=40), replace(GRANT, at=at), paid=True)
    tab.hear(Told(rpm=500, tpm=9, requests_left=20), replace(GRANT, at=9.0), paid=True)
    asked = tab.take()
    assert asked is not None
    assert asked.lowered_requests == 3 + 20


def test_a_new_bucket_is_told_the_limits_again_and_nothing_else() -> None:
    tab = Tab()
    tab.hear(Told(rpm=500, tpm=9), GRANT, paid=True)
    tab.take()
    tab.put_back(1, 100)
    tab.forget()
    assert tab.take() == Settlement(told_rpm=500, told_tpm=9)
