"""Schedules of a fleet: its scheduler says at once whether it sees the sources, and runs them with its own key."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from corpusmill.cli import asking
from corpusmill.cli.flower_pages import JobNames
from corpusmill.cli.main import outcome
from corpusmill.ledger.schedule_records import NewSchedule, ScheduleRun
from corpusmill.ledger.schedule_tables import Schedule as ScheduleRow
from corpusmill.ledger.schedule_tables import ScheduleRun as RunRow
from scheduler.schedules import Schedules
from scheduler.surroundings import Surroundings
from tests.fixtures.fleet import Fleet, JoinFleet, wait_until

ADD = ("schedule", "add", "weekly", "--cron", "0 3 * * 0", "--max-share", "0.5", "--", "embed")
MODEL = ("--model", "text-embedding-3-small", "--provider", "sim")


@pytest.fixture
def fleet(join_fleet: JoinFleet, sqlite_url: str, docs: Path) -> Fleet:
    """A fleet on SQLite of which nothing runs yet, to which the commands of this process belong."""
    return join_fleet(sqlite_url)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder of one document."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "one.md").write_text("one\n")
    return tmp_path / "docs"


def test_without_a_scheduler_nobody_can_say_whether_the_sources_are_seen(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(asking, "ANSWER_WITHIN_S", 0.3)
    assert outcome([*ADD, "docs", *MODEL]) == 69
    assert "no scheduler has answered" in capsys.readouterr().err
    assert fleet.ledger.schedules.listed() == []


def test_a_source_that_the_scheduler_does_not_see_is_refused_and_one_that_it_sees_is_run(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.scheduler()
    fleet.worker()
    assert outcome([*ADD, "elsewhere", *MODEL]) == 2
    said = capsys.readouterr().err
    assert "elsewhere is not there" in said
    assert "the volumes of services.scheduler in docker-compose.yml" in said
    assert outcome(["--json", *ADD, "docs", *MODEL]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["state"] == "active"
    known = fleet.ledger.schedules
    schedule = known.find("weekly")
    known.run_now(schedule.id, now_s=time.time())
    wait_until(lambda: known.last(schedule.id, 1)[0].state in ("finished", "failed"), what="the run")
    (run,) = known.last(schedule.id, 1)
    assert (run.state, run.exit_code) == ("finished", 0), run
    assert run.job_id is not None
    job = fleet.ledger.job(run.job_id)
    assert (job.priority, job.max_share, job.labels) == ("low", 0.5, {"schedule": "weekly"})

    class Task:
        kwargs = f"{{'v': 1, 'job_id': {job.id}, 'shard_no': 0}}"

    assert JobNames(fleet.settings)(Task()).kwargs == f"{job.public_id} (schedule weekly) shard 0"


def silence(fleet: Fleet) -> None:
    """Whoever runs commands has not been heard of for a minute."""
    row = update(RunRow).where(RunRow.owner.is_not(None)).values(seen_at=RunRow.seen_at - 60)
    fleet.ledger._db.write(lambda conn: conn.execute(row))


def test_a_scheduler_that_slept_leaves_the_run_that_another_has_taken_to_it(fleet: Fleet) -> None:
    known = fleet.ledger.schedules
    new = NewSchedule("jobs", ["jobs", "--json"], str(Path.cwd()), "0 3 * * *", "UTC")
    schedule = known.add(new, asking=False, now_s=time.time())
    known.run_now(schedule.id, now_s=time.time())
    sleeper = Schedules(fleet.ledger, "sleeper", Surroundings(fleet.settings))
    sleeper.attend(time.time())
    silence(fleet)
    (taken,) = known.take("another")
    for _ in range(3):
        sleeper.attend(time.time())
    assert known.renew("another") == {(taken.schedule_id, taken.due_at)}
    (run,) = known.last(schedule.id, 1)
    assert (run.state, run.exit_code) == ("starting", None)
    sleeper.close()


def said(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The object of a command that is to end with 0."""
    code, told = outcome(["--json", *words]), capsys.readouterr()
    assert code == 0, told.err
    found: dict[str, Any] = json.loads(told.out.splitlines()[-1])
    return found


class Due:
    """Makes a schedule of a fleet due, as time does, and waits for the end of the run."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self._fleet, self._known = fleet, fleet.ledger.schedules
        self.schedule = self._known.find(name)

    def fire(self, ago_s: float = 1.0) -> float:
        """The due time, so long ago; nobody knows of it yet but the schedulers."""
        due_at = float(int(time.time() - ago_s))
        row = update(ScheduleRow).where(ScheduleRow.id == self.schedule.id).values(next_at=due_at)
        self._fleet.ledger._db.write(lambda conn: conn.execute(row))
        return due_at

    def run(self, due_at: float, *states: str) -> ScheduleRun:
        """The run of a due time, once it stands so."""

        def found() -> ScheduleRun | None:
            runs = self._known.last(self.schedule.id, 99)
            return next((run for run in runs if run.due_at == due_at and run.state in states), None)

        wait_until(lambda: found() is not None, what=f"{states} of {self.schedule.name}")
        run = found()
        assert run is not None, f"it was {states}, and is no more"
        return run

    def finished(self, ago_s: float = 1.0) -> ScheduleRun:
        """Fire it, and the run when it is over."""
        return self.run(self.fire(ago_s), "finished", "failed", "skipped")

    def owner(self) -> int:
        """The process that runs the command of the newest run."""
        row = select(RunRow.owner).where(RunRow.schedule_id == self.schedule.id).order_by(RunRow.due_at.desc()).limit(1)
        name = self._fleet.ledger._db.read(lambda conn: conn.execute(row).scalar_one())
        return int(str(name).rpartition(":")[2])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_schedulers_run_syncs_and_reembeddings_once_each_and_go_on_with_what_a_killed_one_began(
    join_fleet: JoinFleet, postgres_url: str, docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = join_fleet(postgres_url)
    schedulers = {process.pid: process for process in (fleet.scheduler(), fleet.scheduler())}
    fleet.worker()
    fleet.worker()
    hour = (datetime.now(UTC).hour + 12) % 24
    at_that_hour = ("--cron", f"0 {hour} * * *", "--daily-usd", "1", "--daily-tokens", "100000")
    sync = ("--", "sync", "kb", "docs", *MODEL, "--dimensions", "8")
    said(capsys, "schedule", "add", "nightly", *at_that_hour, *sync)
    nightly, collections = Due(fleet, "nightly"), fleet.ledger.collections

    first = nightly.finished()
    assert (first.state, first.exit_code, first.note) == ("finished", 0, "1 added")
    assert fleet.simulator.stats()["paid_requests"] == 1
    second = nightly.finished()
    assert (second.state, second.job_id, second.note) == ("finished", None, "there was nothing to do")
    assert fleet.simulator.stats()["paid_requests"] == 1

    (docs / "two.md").write_text("two\n")
    due_at = nightly.fire()
    nightly.run(due_at, "starting")
    killed = nightly.owner()
    os.kill(killed, signal.SIGKILL)
    schedulers.pop(killed).wait()
    silence(fleet)
    third = nightly.run(due_at, "finished", "failed")
    assert (third.state, third.exit_code) == ("finished", 0), third
    assert third.job_id is not None
    assert "started again, since the scheduler that had started it ended" in (third.note or "")
    wait_until(lambda: collections.find("kb").version >= 3, what="the version with two documents")
    assert fleet.simulator.stats()["paid_requests"] == 2
    fleet.scheduler()

    late = nightly.finished(ago_s=4 * 3600)
    assert "makes up for what was missed since" in (late.note or "")
    said(capsys, "schedule", "add", "strict", *at_that_hour, "--catch-up", "skip", *sync)
    assert Due(fleet, "strict").finished(ago_s=4 * 3600).state == "skipped"

    large = ("--", "reembed", "kb", "--model", "text-embedding-3-large", "--provider", "sim", "--dimensions", "8")
    said(capsys, "schedule", "add", "yearly", *at_that_hour, "--max-share", "0.3", *large)
    yearly = Due(fleet, "yearly").finished()
    assert (yearly.state, yearly.exit_code) == ("finished", 0)
    wait_until(lambda: collections.find("kb").active.spec.model == "text-embedding-3-large", what="the switch")
    again = Due(fleet, "yearly").finished()
    assert (again.state, again.note) == ("finished", "there was nothing to do")
    stats = fleet.simulator.stats()
    assert (stats["paid_requests"], stats["duplicates_paid"]) == (3, 0)

    # Every claim and every start is a line in the log of one scheduler.
    claims = [(line["id"], line["due_at"]) for line in fleet.events("schedule due")]
    assert len(claims) == len(set(claims)) == 7
    shown = said(capsys, "schedule", "show", "nightly")
    assert len(shown["next"]) == 5
    assert [(run["state"], run.get("requests", 0)) for run in shown["runs"]] == [
        *[("finished", 1), ("finished", 0), ("finished", 1), ("finished", 0)]
    ]
    assert all(run["usd"] > 0 for run in shown["runs"] if run["job"])
    jobs = said(capsys, "jobs")["jobs"]
    assert sorted(job["schedule"] for job in jobs) == ["nightly", "nightly", "yearly"]
