"""A soak of a few minutes; `make soak MINUTES=30` is the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.soak import Outcome, Series, soak, soaking

MINUTES = 4.0


@pytest.mark.slow
@pytest.mark.fault(39)
@pytest.mark.xdist_group("soak")
@pytest.mark.timeout(900)
def test_memory_files_and_redis_keys_stay_as_they_are_at_full_speed(tmp_path: Path) -> None:
    with soaking(tmp_path) as fleet:
        outcome = soak(fleet, MINUTES)
        print(f"\n{outcome}")
        assert not outcome.wrong, fleet.log()[-3_000:]


def test_what_grows_is_told_and_the_warm_up_does_not_count() -> None:
    minutes = [float(minute) for minute in range(40)]

    def series(warm_up: float, a_minute: float) -> Series:
        return Series([(60 * at, 100 + a_minute * at - (warm_up if at < 3 else 0)) for at in minutes])

    def seen(rss: Series, files: Series, keys: Series) -> list[str]:
        outcome = Outcome({"worker 0": rss}, {"worker 0": files}, keys, seconds=40 * 60)
        outcome.judge()
        return outcome.wrong

    flat = series(0, 0)
    assert seen(series(50, 0.9), flat, flat) == []
    assert seen(series(0, 1.5), flat, flat) == ["worker 0 grows by 1.50 MB a minute"]
    assert seen(flat, series(0, 1), series(0, 0.5)) == ["worker 0 has 24 files more", "Redis has 12 keys more"]
