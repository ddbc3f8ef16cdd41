"""What one process may send while Redis is away."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from corpusmill.limits.scope import Rates
from corpusmill.limits.share import Share


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_starts_empty_and_fills_at_this_processs_part_of_the_rate() -> None:
    clock = Clock()
    share = Share(Rates(600, 0, learning=False), processes=2, burst_s=1.0, clock=clock)
    assert not share.take(1)
    clock.now += 1
    assert [share.take(1) for _ in range(6)] == [True] * 5 + [False]


def test_during_a_cool_down_nothing_is_given_and_nothing_saved_up() -> None:
    clock = Clock()
    share = Share(Rates(600, 0, learning=False), processes=1, burst_s=1.0, clock=clock)
    clock.now += 1
    share.cool(10)
    clock.now += 10
    assert not share.take(1)
    clock.now += 0.1001
    assert share.take(1)


def test_a_request_larger_than_the_share_passes_when_it_is_full() -> None:
    clock = Clock()
    share = Share(Rates(0, 600, learning=False), processes=1, burst_s=1.0, clock=clock)
    clock.now += 1
    assert share.take(100)
    clock.now += 9
    assert not share.take(1)


@given(
    st.integers(1, 10_000),
    st.integers(1, 20),
    st.lists(st.tuples(st.floats(0, 2), st.integers(1, 30)), min_size=1, max_size=40),
)
def test_all_shares_together_never_exceed_the_limit(rpm: int, processes: int, takes: list[tuple[float, int]]) -> None:
    clock = Clock()
    share = Share(Rates(rpm, 0, learning=False), processes=processes, burst_s=1.0, clock=clock)
    started, given_out = clock.now, 0
    for pause, tries in takes:
        clock.now += pause
        given_out += sum(share.take(1) for _ in range(tries))
        assert given_out <= rpm / 60 / processes * (clock.now - started) + 1e-6
