"""Packs hold every text once, in order, within the endpoint's limits; one bad text fails alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmill.llm.errors import CallError
from corpusmill.llm.packs import MAX_INPUTS, MAX_TEXT_TOKENS, MAX_TOKENS, Packer, parts
from corpusmill.llm.taxonomy import CLASSES

Text = tuple[int, int]


def pack(sizes: Sequence[int], packer: Packer[Text]) -> list[list[Text]]:
    """What comes out when texts of these sizes go in, each as its number and its tokens."""
    packs = [packer.add((number, size), size) for number, size in enumerate(sizes)]
    return [each for each in (*packs, packer.take()) if each]


@given(st.integers(0, 6000), st.integers(1, 20_000), st.randoms(use_true_random=False))
def test_packs_hold_every_text_once_in_order_and_never_more_than_a_request_may(
    count: int, longest: int, dice: random.Random
) -> None:
    sizes = [dice.randint(1, longest) for _ in range(count)]
    packs = pack(sizes, Packer())
    assert [text for each in packs for text in each] == list(enumerate(sizes))
    assert all(len(each) <= MAX_INPUTS for each in packs)
    assert all(sum(size for _, size in each) <= MAX_TOKENS for each in packs)
    assert all(len(each) == 1 or all(size <= MAX_TEXT_TOKENS for _, size in each) for each in packs)


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 5), st.integers(1, 60))
def test_no_pack_could_have_taken_the_first_text_of_the_next(sizes: list[int], inputs: int, tokens: int) -> None:
    packs = [[size for _, size in each] for each in pack(sizes, Packer(inputs, tokens))]
    for one, following in pairwise(packs):
        assert len(one) == inputs or sum(one) + following[0] > tokens


@pytest.mark.parametrize("size", [MAX_TEXT_TOKENS + 1, MAX_TOKENS + 1])
def test_a_text_above_the_limit_of_one_goes_alone(size: int) -> None:
    assert [len(each) for each in pack([5, 5, size, size, 5, 5], Packer())] == [2, 1, 1, 2]


@pytest.mark.parametrize(
    ("texts", "size", "full"), [(0, 9, False), (1499, 200, False), (1500, 200, True), (2048, 1, True)]
)
def test_a_pack_is_nearly_full_when_another_such_text_does_not_fit(texts: int, size: int, full: bool) -> None:
    packer: Packer[int] = Packer()
    for number in range(texts):
        assert packer.add(number, size) == []
    assert packer.nearly_full is full


def sent(texts: Sequence[int], refuse: Callable[[Sequence[int]], CallError | None]) -> tuple[list[int], list[int], int]:
    """Send packs depth first as a worker does; what was answered, what failed alone, and the calls made."""
    answered: list[int] = []
    failed: list[int] = []
    calls, waiting = 0, [texts]
    while waiting:
        one = waiting.pop()
        calls += 1
        error = refuse(one)
        if error is None:
            answered += one
        elif smaller := parts(error, one):
            waiting += reversed(smaller)
        else:
            failed += one
    return answered, failed, calls


@given(st.integers(1, 300), st.data())
def test_bisecting_fails_exactly_the_bad_texts(count: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(0, count - 1), max_size=5))
    answered, failed, _ = sent(range(count), lambda one: CallError("bad_request") if bad & set(one) else None)
    assert sorted(failed) == sorted(bad)
    assert sorted(answered) == sorted(set(range(count)) - bad)


def test_one_bad_text_among_2048_costs_at_most_22_further_calls() -> None:
    _, failed, calls = sent(range(2048), lambda one: CallError("bad_input") if 1234 in one else None)
    assert failed == [1234]
    assert calls <= 23


def test_a_text_that_the_endpoint_names_is_sent_apart_at_once() -> None:
    def refuse(one: Sequence[int]) -> CallError | None:
        return CallError("bad_input", input_no=list(one).index(1234)) if 1234 in one else None

    answered, failed, calls = sent(range(2048), refuse)
    assert (failed, calls) == ([1234], 3)
    assert len(answered) == 2047


def test_a_fault_of_every_text_shows_after_a_dozen_calls() -> None:
    failures: list[int] = []

    def refuse(one: Sequence[int]) -> CallError:
        failures.append(len(one))
        return CallError("bad_request")

    sent(range(2048), refuse)
    assert failures.index(1) == 11


@pytest.mark.parametrize("name", [each.name for each in CLASSES.values() if not each.splits])
def test_what_no_text_can_be_blamed_for_is_not_bisected(name: str) -> None:
    assert parts(CallError(name), [1, 2, 3]) == []


@pytest.mark.parametrize(
    "name", ["bad_request", "bad_input", "too_large", "context_length", "content_policy", "bad_reply"]
)
def test_what_one_text_may_have_caused_is_bisected(name: str) -> None:
    assert parts(CallError(name), [1, 2, 3]) == [[1], [2, 3]]
    assert parts(CallError(name), [1]) == []


def test_a_named_text_that_is_not_in_the_pack_is_ignored() -> None:
    assert parts(CallError("bad_input", input_no=99), [1, 2]) == [[1], [2]]
