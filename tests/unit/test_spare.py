"""Slots that are lent while shards only wait for answers."""

from __future__ import annotations

from kombu.common import QoS

from workers.spare import LENT_A_SLOT, Spare


def consumer(count: int) -> QoS:
    """What Celery's consumer counts messages by."""
    return QoS(lambda prefetch_count: None, count)  # type: ignore[no-untyped-call]  # kombu is untyped


def test_a_slot_that_is_lent_lets_one_message_more_in_until_it_is_taken_back() -> None:
    spare, qos = Spare(16), consumer(16)
    spare.of(qos)
    assert spare.lend()
    assert qos.value == 17
    spare.take_back()
    assert qos.value == 16


def test_so_many_are_lent_and_no_more() -> None:
    spare, qos = Spare(2), consumer(2)
    spare.of(qos)
    assert [spare.lend() for _ in range(2 * LENT_A_SLOT + 1)] == [True] * (2 * LENT_A_SLOT) + [False]
    assert qos.value == 2 + 2 * LENT_A_SLOT


def test_a_new_connection_knows_of_what_is_lent() -> None:
    spare, first, second = Spare(16), consumer(16), consumer(16)
    spare.of(first)
    spare.lend()
    spare.lend()
    spare.of(second)
    assert second.value == 18
    spare.take_back()
    assert (first.value, second.value) == (18, 17)


def test_a_solo_pool_lends_nothing() -> None:
    assert not Spare(1).lend()
