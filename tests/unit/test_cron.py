"""When schedules are due: cron in a time zone, through both changes of the clocks."""

from __future__ import annotations

from datetime import datetime
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as some

from corpusmill.cron import Cron
from corpusmill.errors import UsageError

BERLIN = ZoneInfo("Europe/Berlin")


def due(expression: str, since: str, until: str, zone: str = "Europe/Berlin") -> list[str]:
    """The due times between two moments there, as day, hour and offset."""
    there = ZoneInfo(zone)
    first, last = (datetime.fromisoformat(at).replace(tzinfo=there).timestamp() for at in (since, until))
    times = takewhile(lambda at: at < last, Cron.parse(expression, zone).times(first))
    return [f"{datetime.fromtimestamp(at, there):%d %H:%M%z}" for at in times]


@pytest.mark.parametrize("expression", ["30 2 * * *", "30 */2 * * *", "*/30 2 * * *", "0 2,3 * * *"])
def test_what_falls_into_the_hour_that_spring_skips_is_due_once_at_its_end(expression: str) -> None:
    assert due(expression, "2026-03-29 01:30", "2026-03-29 03:10") == ["29 03:00+0200"]


def test_what_falls_into_the_hour_that_autumn_doubles_is_due_once_the_first_time() -> None:
    assert due("30 2 * * *", "2026-10-25 00:00", "2026-10-25 12:00") == ["25 02:30+0200"]
    assert due("15 */2 * * *", "2026-10-25 01:00", "2026-10-25 05:00") == ["25 02:15+0200", "25 04:15+0100"]


@pytest.mark.parametrize("expression", ["0 * * * *", "0 0-23 * * *"])
def test_a_schedule_of_every_hour_is_due_in_each_hour_that_there_is(expression: str) -> None:
    assert due(expression, "2026-03-29 00:30", "2026-03-29 04:30") == [
        "29 01:00+0100",
        "29 03:00+0200",
        "29 04:00+0200",
    ]
    assert due(expression, "2026-10-25 01:30", "2026-10-25 03:30") == [
        "25 02:00+0200",
        "25 02:00+0100",
        "25 03:00+0100",
    ]


def test_a_schedule_that_is_asked_in_the_doubled_hour_is_not_due_again_in_it() -> None:
    second_time = datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1).timestamp()
    assert Cron.parse("30 2 * * *", "Europe/Berlin").upcoming(second_time, 1) == [
        datetime(2026, 10, 26, 2, 30, tzinfo=BERLIN).timestamp()
    ]


@given(
    some.sampled_from(["30 2 * * *", "*/7 * * * *", "0 */3 * * 1-5", "5 4 1 * *", "0 0 29 2 *"]),
    some.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    some.integers(1_700_000_000, 1_900_000_000),
)
def test_times_grow_and_asking_from_each_gives_the_same_ones(expression: str, zone: str, at_s: int) -> None:
    cron = Cron.parse(expression, zone)
    times = cron.upcoming(at_s, 4)
    assert times == sorted(set(times))
    assert times[0] > at_s
    assert [cron.after(at) for at in times[:-1]] == times[1:]


def test_the_latest_due_time_is_found_however_long_nobody_looked() -> None:
    cron = Cron.parse("* * * * *", "Europe/Berlin")
    first = cron.after(datetime(2020, 1, 1, tzinfo=BERLIN).timestamp())
    now = datetime(2026, 3, 29, 3, 0, 30, tzinfo=BERLIN).timestamp()
    assert cron.latest(first, now) == now - 30
    weekly = Cron.parse("0 4 * * 0", "Europe/Berlin")
    assert weekly.words(weekly.latest(weekly.after(first), now)) == "2026-03-22 04:00 CET"
    assert weekly.latest(weekly.after(now), weekly.after(now) + 5) == weekly.after(now)


@pytest.mark.parametrize(
    "expression", ["0 3 * *", "0 3 * * 0 2026", "61 * * * *", "0 0 31 4 *", "@daily", "x * * * *", ""]
)
def test_what_is_no_cron_expression_is_refused_with_an_example(expression: str) -> None:
    with pytest.raises(UsageError, match="is no schedule") as refused:
        Cron.parse(expression, "UTC")
    assert "--cron" in refused.value.next_step


@pytest.mark.parametrize(
    ("zone", "near"), [("Berlin", "Europe/Berlin"), ("europe/berlin", "Europe/Berlin"), ("Europe/Berln", "Berlin")]
)
def test_an_unknown_time_zone_is_refused_with_the_nearest(zone: str, near: str) -> None:
    with pytest.raises(UsageError, match="there is no time zone") as refused:
        Cron.parse("0 3 * * 0", zone)
    assert near in refused.value.next_step


@pytest.mark.parametrize("zone", ["", "../etc/passwd", "/etc/localtime", "Europe"])
def test_a_path_is_no_time_zone(zone: str) -> None:
    with pytest.raises(UsageError, match="there is no time zone"):
        Cron.parse("0 3 * * 0", zone)
