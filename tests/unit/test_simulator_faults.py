"""Fault rules: what they say, and which requests they hit."""

from __future__ import annotations

import pytest

from corpusmill.errors import UsageError
from corpusmill.simulator.asks import Ask, ask_for_completion, ask_for_embedding
from corpusmill.simulator.faults import KINDS, Faults


def chat(text: str, key: str = "sk-1") -> Ask:
    return ask_for_completion(key, "m", {"model": "m", "messages": [{"role": "user", "content": text}]})


def hits(faults: Faults, asks: list[Ask]) -> list[str | None]:
    return [fault.kind if (fault := faults.pick(ask)) else None for ask in asks]


def test_every_kind_can_be_asked_for() -> None:
    assert len(Faults([f"{kind}=0.5" for kind in KINDS]).rules) == len(KINDS)


@pytest.mark.parametrize(
    "rule", ["emty=1", "empty", "empty=", "empty=2", "empty=-1", "empty@0", "empty@9-3", "empty@x"]
)
def test_a_rule_that_cannot_be_read_is_refused_with_a_hint(rule: str) -> None:
    with pytest.raises(UsageError) as error:
        Faults([rule])
    assert error.value.next_step


def test_an_unknown_kind_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="did you mean overloaded"):
        Faults(["overladed=0.1"])


def test_numbers_hit_the_nth_request_or_a_stretch_of_them() -> None:
    faults = Faults(["overloaded@2", "slow_down@4-5", "hang@7-"])
    found = hits(faults, [chat(str(i)) for i in range(8)])
    assert found == [None, "overloaded", None, "slow_down", "slow_down", None, "hang", "hang"]


def test_setting_rules_anew_counts_from_one() -> None:
    faults = Faults([])
    hits(faults, [chat("a")] * 5)
    faults.set(["overloaded@1"])
    assert hits(faults, [chat("a"), chat("a")]) == ["overloaded", None]


def test_a_mark_in_a_text_hits_chats_and_packs_that_hold_it() -> None:
    faults = Faults(["bad_parameter@text:POI=SON"])
    pack = ask_for_embedding("sk-1", "m", {"input": ["fine", "a POI=SON here"]})
    assert hits(faults, [chat("fine"), chat("the POI=SON"), pack]) == [None, "bad_parameter", "bad_parameter"]


def test_a_key_hits_the_requests_under_it() -> None:
    assert hits(Faults(["invalid_key@key:sk-2"]), [chat("a"), chat("a", "sk-2")]) == [None, "invalid_key"]


def test_rates_hold_and_are_the_same_whatever_the_order() -> None:
    asks = [chat(str(i)) for i in range(2000)]
    forward = hits(Faults(["overloaded=0.1"], seed=7), asks)
    backward = hits(Faults(["overloaded=0.1"], seed=7), asks[::-1])
    assert forward == backward[::-1]
    assert 150 < forward.count("overloaded") < 250
    assert forward != hits(Faults(["overloaded=0.1"], seed=8), asks)


def test_a_retry_is_drawn_for_anew() -> None:
    found = hits(Faults(["overloaded=0.5"]), [chat("same")] * 50)
    assert {None, "overloaded"} == set(found)


def test_rates_of_none_and_of_all_hit_none_and_all() -> None:
    asks = [chat(str(i)) for i in range(50)]
    assert set(hits(Faults(["overloaded=0"]), asks)) == {None}
    assert set(hits(Faults(["overloaded=1"]), asks)) == {"overloaded"}


def test_kinds_of_one_route_leave_the_other_alone() -> None:
    pack = ask_for_embedding("k", "m", {"input": "a"})
    assert hits(Faults(["no_choices=1", "nan=1"]), [chat("a"), pack]) == ["no_choices", "nan"]


def test_seconds_follow_the_kind() -> None:
    fault = Faults(["drip:0.01=1"]).pick(chat("a"))
    assert fault is not None
    assert fault.seconds == 0.01
