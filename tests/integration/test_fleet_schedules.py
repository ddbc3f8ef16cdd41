"""Schedules of a fleet: its scheduler says at once whether it sees the sources, and runs them with its own key."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from corpusmill.cli import asking
from corpusmill.cli.flower_pages import JobNames
from corpusmill.cli.main import outcome
from tests.fixtures.fleet import Fleet, StartFleet, wait_until
from tests.fixtures.simulator import StartSimulator

ADD = ("schedule", "add", "weekly", "--cron", "0 3 * * 0", "--max-share", "0.5", "--", "embed")
MODEL = ("--model", "text-embedding-3-small", "--provider", "sim")


@pytest.fixture
def fleet(
    start_fleet: StartFleet, simulator: StartSimulator, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Fleet:
    """A fleet of which nothing runs yet, and commands of this process that belong to it."""
    made = start_fleet(simulator(), sqlite_url)
    for name, value in made.settings.as_environment().items():
        monkeypatch.setenv(name, value)
    for field, value in made.settings.providers["sim"].as_message().items():
        monkeypatch.setenv(f"CORPUSMILL_PROVIDERS__SIM__{field.upper()}", str(value))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "one.md").write_text("one\n")
    return made


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
