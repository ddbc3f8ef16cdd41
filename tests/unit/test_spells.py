"""Something that lasts is told at its begin, now and then, and at its end."""

from __future__ import annotations

import logging

import pytest

from corpusmill.spells import Spell


class Clock:
    """Stands until it is moved."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spell(clock: Clock) -> Spell:
    return Spell(logging.getLogger("spell"), "it is away", clock=clock)


def test_of_a_trouble_tried_every_second_there_is_one_line_a_minute(
    spell: Spell, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(150):
        spell.trouble("a", "no answer")
        clock.now += 1
    spell.over("a")
    assert caplog.messages == [
        "it is away, trying on: no answer",
        "it is away, still trying for_s=60 times=61: no answer",
        "it is away, still trying for_s=120 times=121: no answer",
        "it is away no longer after_s=150 times=150",
    ]


def test_it_is_over_when_nobody_suffers_any_more(spell: Spell, caplog: pytest.LogCaptureFixture) -> None:
    for who in ("a", "b"):
        spell.trouble(who, "no answer")
    spell.over("a")
    spell.over("c")
    assert len(caplog.messages) == 1
    spell.over("b")
    spell.over("b")
    assert caplog.messages[1:] == ["it is away no longer after_s=0 times=2"]


def test_one_that_nobody_has_heard_of_for_long_begins_anew(
    spell: Spell, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    spell.trouble("a", "no answer")
    clock.now += 3_600
    spell.trouble("b", "no answer")
    spell.over("b")
    assert [message.partition(" after")[0] for message in caplog.messages] == [
        "it is away, trying on: no answer",
        "it is away, trying on: no answer",
        "it is away no longer",
    ]
