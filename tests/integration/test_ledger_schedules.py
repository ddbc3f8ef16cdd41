"""Due times are claimed in SQL: each fires once, however many beats tick, whenever they tick."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from corpusmill.cron import Cron
from corpusmill.errors import UsageError
from corpusmill.ledger import Ledger
from corpusmill.ledger.schedule_records import NewSchedule, Schedule
from corpusmill.settings import Settings
from scheduler.allowances import keep
from scheduler.commands import Outcome
from scheduler.schedules import Schedules
from scheduler.surroundings import Surroundings
from tests.fixtures.jobs import PRICE, claim, commit, new_job, paid, submit

BERLIN = ZoneInfo("Europe/Berlin")
WEEKLY = NewSchedule("weekly", ["embed", "docs", "--model", "m"], "/work", "0 3 * * 0", "Europe/Berlin")


def at(words: str) -> float:
    """A moment in Berlin."""
    return datetime.fromisoformat(words).replace(tzinfo=BERLIN).timestamp()


def added(ledger: Ledger, *, since: str = "2026-11-23 12:00", **changes: object) -> Schedule:
    """A schedule that is active from then on."""
    return ledger.schedules.add(replace(WEEKLY, **changes), asking=False, now_s=at(since))  # type: ignore[arg-type]


def beat(url: str, clock: list[float], ready: threading.Barrier, fired: list[tuple[int, float]]) -> None:
    """A beat of its own connections: it ticks at each moment of the clock, and runs what it can take."""
    with Ledger.open(url) as ledger:
        me = threading.current_thread().name
        for now_s in clock:
            ready.wait()
            ledger.schedules.claim_due(now_s)
            for run in ledger.schedules.take(me):
                fired.append((run.schedule_id, run.due_at))
                ledger.schedules.ended(run, "finished")


# 500 due times around the day in March that has 23 hours, 500 around the one in October that has 25.
CHANGES = ("2026-03-28 12:00", "2026-10-24 12:00")


def test_two_beats_over_a_thousand_due_times_and_both_changes_of_the_clocks_fire_each_once(database_url: str) -> None:
    every = {"daily": "30 2 * * *", "hours": "0 */2 * * *", **{f"often {n}": "*/30 * * * *" for n in range(6)}}
    expected: Counter[tuple[str, float]] = Counter()
    fired: list[tuple[int, float]] = []
    names: dict[int, str] = {}
    for start in map(at, CHANGES):
        end = start + 41 * 3600
        with Ledger.open(database_url) as ledger:
            for name, cron in every.items():
                new = replace(WEEKLY, name=f"{name} {start:.0f}", cron=cron)
                names[ledger.schedules.add(new, asking=False, now_s=start).id] = new.name
                times = takewhile(lambda due: due <= end, Cron.parse(cron, "Europe/Berlin").times(start))  # noqa: B023
                expected.update((new.name, due) for due in times)
        clock = [start + seconds for seconds in range(0, 41 * 3600 + 1, 1800)]
        ready = threading.Barrier(2)
        beats = [threading.Thread(target=beat, args=(database_url, clock, ready, fired)) for _ in range(2)]
        for each in beats:
            each.start()
        for each in beats:
            each.join()
        with Ledger.open(database_url) as ledger:
            for schedule in ledger.schedules.listed():
                ledger.schedules.pause(schedule.id, now_s=end)
    assert sum(expected.values()) > 1_000
    assert Counter((names[schedule], due) for schedule, due in fired) == expected


def test_what_was_missed_is_made_up_for_once(ledger: Ledger) -> None:
    added(ledger, cron="0 3 * * *")
    (run,) = ledger.schedules.claim_due(at("2026-11-27 12:00"))
    assert (run.state, run.due_at) == ("due", at("2026-11-27 03:00"))
    assert run.note == "makes up for what was missed since 2026-11-24 03:00 CET"
    assert ledger.schedules.claim_due(at("2026-11-27 12:01")) == []
    assert ledger.schedules.find("weekly").next_at == at("2026-11-28 03:00")


def test_what_was_missed_is_left_out_where_the_schedule_says_so(ledger: Ledger) -> None:
    added(ledger, cron="0 3 * * *", catch_up="skip")
    (run,) = ledger.schedules.claim_due(at("2026-11-27 12:00"))
    assert (run.state, run.note) == ("skipped", "nothing ran since 2026-11-24 03:00 CET")
    assert ledger.schedules.take("anybody") == []
    (run,) = ledger.schedules.claim_due(at("2026-11-28 03:00:02"))
    assert (run.state, run.note) == ("due", None)


def test_a_schedule_does_not_overlap_itself(ledger: Ledger) -> None:
    added(ledger, cron="0 * * * *")
    ledger.schedules.claim_due(at("2026-11-23 13:00"))
    (second,) = ledger.schedules.claim_due(at("2026-11-23 14:00"))
    assert (second.state, second.note) == ("skipped", "the run before it has not ended")
    job = submit(ledger, ["a"])
    (first,) = ledger.schedules.take("scheduler")
    ledger.schedules.started(first, job.id)
    ledger.pause(job.id, "budget")
    (third,) = ledger.schedules.claim_due(at("2026-11-23 15:00"))
    assert (third.state, third.note) == ("skipped", f"{job.public_id} of the run before it is paused (budget)")
    ledger.cancel(job.id)
    (fourth,) = ledger.schedules.claim_due(at("2026-11-23 16:00"))
    assert fourth.state == "due"
    assert [run.due_at for run in ledger.schedules.last(fourth.schedule_id, 9)] == [
        at(f"2026-11-23 {hour}:00") for hour in (16, 15, 14, 13)
    ]


def test_a_paused_schedule_does_not_fire_and_makes_up_for_nothing(ledger: Ledger) -> None:
    schedule = added(ledger, cron="0 3 * * *")
    ledger.schedules.pause(schedule.id, now_s=at("2026-11-23 13:00"))
    assert ledger.schedules.claim_due(at("2026-11-25 12:00")) == []
    ledger.schedules.activate(schedule.id, now_s=at("2026-11-25 12:00"))
    assert ledger.schedules.claim_due(at("2026-11-25 12:01")) == []
    assert ledger.schedules.find("weekly").next_at == at("2026-11-26 03:00")


def test_a_run_that_is_asked_for_leaves_the_due_times_as_they_are(ledger: Ledger) -> None:
    schedule = added(ledger)
    run = ledger.schedules.run_now(schedule.id, now_s=at("2026-11-23 13:00") + 0.25)
    assert (run.state, run.note) == ("due", "asked for by hand")
    assert ledger.schedules.find("weekly").next_at == schedule.next_at
    assert [each.due_at for each in ledger.schedules.take("scheduler")] == [run.due_at]
    assert ledger.schedules.take("another") == []


def test_runs_of_an_owner_that_ends_are_taken_by_the_next(ledger: Ledger) -> None:
    schedule = added(ledger)
    ledger.schedules.run_now(schedule.id, now_s=at("2026-11-23 13:00"))
    (run,) = ledger.schedules.take("one")
    assert ledger.schedules.renew("one") == {(run.schedule_id, run.due_at)}
    assert ledger.schedules.take("two") == []
    ledger.schedules.give_back("one")
    (again,) = ledger.schedules.take("two")
    assert (again.due_at, again.started_at) == (run.due_at, run.started_at)
    assert again.note == "asked for by hand; started again, since the scheduler that had started it ended"
    assert ledger.schedules.renew("one") == set()
    ledger.schedules.ended(again, "failed", note="the disk is full")
    (ended,) = ledger.schedules.last(schedule.id, 1)
    assert ended.note == f"{again.note}; the disk is full"


def test_a_run_that_finds_the_job_of_an_earlier_one_has_what_it_spent_itself(ledger: Ledger) -> None:
    schedule, job = added(ledger), submit(ledger, "abcdef")
    shards = [claim(ledger, job, number) for number in range(2)]
    for number, shard in enumerate(shards):
        ledger.schedules.run_now(schedule.id, now_s=at("2026-11-23 13:00") + number)
        (run,) = ledger.schedules.take("scheduler")
        ledger.schedules.started(run, job.id)
        commit(ledger, paid(shard))
        ledger.schedules.ended(run, "finished")
    runs = ledger.schedules.last(schedule.id, 2)
    assert [ledger.schedules.cost(each) for each in runs] == [(3, 3 * PRICE)] * 2
    used = ledger.schedules.used(schedule.id, runs[1].started_at or 0)
    assert (used.usd, used.tokens) == (6 * PRICE, 6 * 16)


def test_a_job_that_meets_the_cap_of_yesterday_while_today_s_is_set_goes_on(ledger: Ledger) -> None:
    schedule = added(ledger, daily_tokens=100)
    ledger.schedules.run_now(schedule.id, now_s=at("2026-11-23 23:59"))
    (run,) = ledger.schedules.take("scheduler")
    before = submit(ledger, "abcdef", budget_tokens=50)
    ledger.schedules.started(run, before.id)
    ledger.pause(before.id, "budget", "the budget of 50 tokens has no room for a call of up to 60")

    keep(ledger, schedule, run, before, at("2026-11-24 00:00"))

    job = ledger.job(before.id)
    assert (job.state, job.budget_tokens) == ("queued", 100)
    # The same pause, but said after the cap was set.
    ledger.pause(job.id, "budget", "the budget of 50 tokens has no room for a call of up to 60")
    (run,) = ledger.schedules.running()
    keep(ledger, schedule, run, ledger.job(job.id), at("2026-11-24 00:01"))
    assert ledger.job(job.id).state == "queued"
    ledger.pause(job.id, "budget", "the budget of 100 tokens has no room for a call of up to 160")
    keep(ledger, schedule, run, ledger.job(job.id), at("2026-11-24 00:02"))
    assert ledger.job(job.id).state == "paused", "that cap is the one of today"


def test_a_run_whose_command_dies_after_it_sent_its_job_on_its_way_keeps_it(ledger: Ledger, tmp_path: Path) -> None:
    serving = Schedules(ledger, "scheduler", Surroundings(Settings(home=tmp_path)))
    schedule = added(ledger)
    killed = Outcome(-9, None, "the command ended with -9")
    for number, (sent, state) in enumerate(((True, "running"), (False, "failed"))):
        ledger.schedules.run_now(schedule.id, now_s=at("2026-11-23 13:00") + number)
        (run,) = ledger.schedules.take("scheduler")
        labels = {"schedule": "weekly"}
        job = submit(ledger, "abc", labels=labels) if sent else ledger.submit(new_job(labels=labels))[0]

        serving._submitted(run, killed)

        (run,) = ledger.schedules.last(schedule.id, 1)
        assert (run.state, run.job_id) == (state, job.id if sent else None)
        ledger.schedules.ended(run, "finished")


def test_a_schedule_that_nobody_answered_for_does_not_fire_and_gives_way_to_the_next_of_its_name(
    ledger: Ledger,
) -> None:
    first = ledger.schedules.add(replace(WEEKLY, paths=["/corpus"]), asking=True, now_s=at("2026-11-23 12:00"))
    assert ledger.schedules.claim_due(at("2026-12-23 12:00")) == []
    assert [each.paths for each in ledger.schedules.asking()] == [["/corpus"]]
    second = added(ledger)
    assert second.id != first.id or second.state == "active"
    assert ledger.schedules.asking() == []
    with pytest.raises(UsageError, match="there is a schedule weekly already"):
        added(ledger)


def test_removing_a_schedule_leaves_its_jobs_and_frees_its_name(ledger: Ledger) -> None:
    schedule, job = added(ledger), submit(ledger, ["a"])
    ledger.schedules.run_now(schedule.id, now_s=at("2026-11-23 13:00"))
    (run,) = ledger.schedules.take("scheduler")
    ledger.schedules.started(run, job.id)
    ledger.schedules.remove(schedule.id)
    assert ledger.job(job.id).public_id == job.public_id
    with pytest.raises(UsageError, match="there is no schedule weekly"):
        ledger.schedules.find("weekly")
    assert added(ledger).name == "weekly"
