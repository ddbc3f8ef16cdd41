"""Schedules on one machine: fired by what `up` keeps running, parked by the day's budget, resumed the next day."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator

import pytest

from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Counts, JobView
from corpusmill.ledger.schedule_records import RunState, ScheduleRun
from tests.fixtures.shell import CANARY_KEY, Shell, shell_in, until
from tests.fixtures.simulator import StartSimulator

pytestmark = pytest.mark.timeout(300)
# Tokens that an endpoint counts for a prompt beyond ours, at most: the frame of a message.
OVERSHOOT = 20
EMBED = ("--", "embed", "docs", "--model", "text-embedding-3-small", "--dimensions", "8")


@pytest.fixture(scope="module")
def upstairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A HOME of its own, where `up` runs: what others do in theirs starts nothing here."""
    with shell_in(tmp_path_factory.mktemp("folder"), tmp_path_factory.mktemp("home")) as shell:
        yield shell
        shell.run("down", env={"CORPUSMILL_GRACE_S": "1"})


@pytest.fixture
def ledger(upstairs: Shell) -> Iterator[Ledger]:
    """Its ledger, to look into."""
    with Ledger.open(f"sqlite:///{upstairs.home / 'ledger.db'}") as opened:
        yield opened


def newest(ledger: Ledger, name: str, state: RunState) -> ScheduleRun | None:
    """The newest run of a schedule, if it stands so."""
    runs = ledger.schedules.last(ledger.schedules.find(name).id, 1)
    assert not runs or runs[0].state in (state, "due", "starting", "running"), runs
    return runs[0] if runs and runs[0].state == state else None


def job_of(ledger: Ledger, run: ScheduleRun) -> tuple[JobView, Counts]:
    """The job that came of a run."""
    assert run.job_id is not None
    return ledger.job(run.job_id), ledger.counts(run.job_id)


def in_sql(shell: Shell, statement: str, *values: object) -> None:
    """Change a row of the ledger, as time would."""
    connection = sqlite3.connect(shell.home / "ledger.db", timeout=30)
    with connection:
        connection.execute(statement, values)
    connection.close()


def test_a_schedule_fires_when_it_is_due_finds_the_key_and_writes_its_output(
    upstairs: Shell, ledger: Ledger, simulator: StartSimulator
) -> None:
    shell, endpoint = upstairs, upstairs.connect(simulator())
    (shell.folder / "docs").mkdir()
    for word in ("harbour", "guild"):
        (shell.folder / "docs" / f"{word}.md").write_text(f"{word} and more\n")
    shell.ok("schedule", "add", "nightly", "--cron", "0 3 * * *", *EMBED, "--out", "vectors.npy", "--force")
    shell.ok("up", "--detach")
    in_sql(shell, "UPDATE schedules SET next_at = ? WHERE name = 'nightly'", time.time() - 1)
    run = until(lambda: newest(ledger, "nightly", "finished"))
    job, counts = job_of(ledger, run)
    assert (run.exit_code, counts.succeeded, counts.requests, job.priority) == (0, 2, 1, "low")
    assert len(shell.lines("vectors.jsonl")) == 2
    assert endpoint.requests()[0]["headers"]["authorization"] == f"Bearer {CANARY_KEY}"
    (listed,) = shell.ok("jobs")["jobs"]
    assert (listed["job"], listed["schedule"]) == (job.public_id, "nightly")
    (shell.folder / "docs" / "storm.md").write_text("storm and more\n")
    schedule = ledger.schedules.find("nightly")
    ledger.schedules.run_now(schedule.id, now_s=time.time())
    again = until(lambda: (found := newest(ledger, "nightly", "finished")) and found.due_at > run.due_at and found)
    _, counts = job_of(ledger, again)
    assert (again.note, counts.succeeded, counts.cached) == ("asked for by hand", 3, 2)
    assert len(shell.lines("vectors.jsonl")) == 3
    for file in shell.home.rglob("*"):
        assert not file.is_file() or CANARY_KEY.encode() not in file.read_bytes(), file


def test_a_day_s_budget_parks_the_run_and_the_next_day_goes_on(
    upstairs: Shell, ledger: Ledger, simulator: StartSimulator
) -> None:
    shell = upstairs
    shell.connect(simulator(latency_ms=200))
    (shell.folder / "long.jsonl").write_text("".join(f'{{"text": "line {number}"}}\n' for number in range(80)))
    for name, flags in {"usd": ("--daily-usd", "0.0003"), "tokens": ("--daily-tokens", "200")}.items():
        prompt = ("--prompt", f"Say {name}", "--max-completion-tokens", "50", "--chunk-tokens", "100")
        shell.ok("schedule", "add", name, "--cron", "0 3 * * *", *flags, "--", "complete", "long.jsonl", "--model",
                 "gpt-5-mini", *prompt)  # fmt: skip
    shell.ok("up", "--detach")
    for name in ("usd", "tokens"):
        ledger.schedules.run_now(ledger.schedules.find(name).id, now_s=time.time())

    def parked(name: str) -> tuple[JobView, Counts] | None:
        run = newest(ledger, name, "running")
        # Parked, and seen by the scheduler: until then it has not noted for which day the cap is.
        found = job_of(ledger, run) if run and run.budget_day else None
        return found if found and (found[0].state, found[0].reason) == ("paused", "budget") else None

    job, counts = until(lambda: parked("usd"))
    assert counts.usd is not None
    assert 0 < counts.usd <= job.budget_usd
    assert 0 < counts.succeeded < 80
    limited, used = until(lambda: parked("tokens"))
    assert 0 < used.succeeded < 80
    assert used.prompt_tokens + used.completion_tokens <= 200 + OVERSHOOT * used.succeeded
    assert limited.note is not None
    assert limited.note.startswith("the budget of 200 tokens has no room for a call of up to ")
    skipped = ledger.schedules.run_now(ledger.schedules.find("usd").id, now_s=time.time())
    assert skipped.note == f"{job.public_id} of the run before it is paused (budget)"
    in_sql(shell, "DELETE FROM schedule_runs WHERE state = 'skipped'")
    # The bills are two days old, and so is the day for which the cap was set.
    in_sql(shell, "UPDATE usage SET at = at - 172800 WHERE job_id = ?", job.id)
    in_sql(shell, "UPDATE schedule_runs SET budget_day = '2026-01-01' WHERE job_id = ?", job.id)
    until(lambda: ledger.counts(job.id).succeeded > counts.succeeded)
    usd = ledger.counts(job.id).usd
    assert usd is not None
    assert usd <= 2 * job.budget_usd


@pytest.mark.slow
def test_a_collection_is_kept_up_to_date_by_the_clock_and_embedded_anew_by_a_schedule(
    upstairs: Shell, ledger: Ledger, simulator: StartSimulator
) -> None:
    shell, endpoint = upstairs, upstairs.connect(simulator())
    shell.write("kept/harbour.md", "harbour and more\n")
    shell.write("kept/guild.md", "guild and more\n")
    small, large = (("--model", f"text-embedding-3-{size}", "--dimensions", "8") for size in ("small", "large"))
    shell.ok("up", "--detach")
    shell.ok("schedule", "add", "minutely", "--cron", "* * * * *", "--", "sync", "kept", "kept", *small)
    first = until(lambda: newest(ledger, "minutely", "finished"))
    assert (first.note, endpoint.stats()["paid_requests"]) == ("2 added", 1)
    second = until(lambda: (found := newest(ledger, "minutely", "finished")) and found.due_at > first.due_at and found)
    assert second.due_at == first.due_at + 60
    assert (second.note, second.job_id) == ("there was nothing to do", None)
    assert endpoint.stats()["paid_requests"] == 1
    shell.ok("schedule", "pause", "minutely")
    shell.ok("schedule", "add", "yearly", "--cron", "0 3 1 1 *", "--", "reembed", "kept", *large)
    shell.ok("schedule", "run", "yearly")
    run = until(lambda: newest(ledger, "yearly", "finished"))
    until(lambda: ledger.collections.find("kept").active.spec.model == "text-embedding-3-large")
    job, counts = job_of(ledger, run)
    assert (job.priority, job.labels["schedule"], counts.succeeded) == ("low", "yearly", 2)
    assert endpoint.stats()["paid_requests"] == 2
