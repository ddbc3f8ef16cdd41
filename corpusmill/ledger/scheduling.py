"""Schedules as callers see them: `ledger.schedules`, many short transactions."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from corpusmill.ledger import schedule_runs, schedules
from corpusmill.ledger.amounts import Amount
from corpusmill.ledger.database import Database
from corpusmill.ledger.schedule_records import NewSchedule, RunState, Schedule, ScheduleRun


class Schedules:
    """The schedules of a ledger; errors as the ledger's own methods. `now_s`, where asked for, is epoch seconds."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, new: NewSchedule, *, asking: bool, now_s: float) -> Schedule:
        """Write a schedule; `asking`: it fires only after a scheduler has answered that it sees its paths.

        Raises:
            UsageError: there is one of that name; no cron expression, no time zone.
        """
        return self._db.write(schedules.add, new, asking=asking, now_s=now_s)

    def find(self, name: str) -> Schedule:
        """The schedule of that name.

        Raises:
            UsageError: there is none; the error names the nearest.
        """
        return self._db.read(schedules.find, name)

    def listed(self) -> list[Schedule]:
        """All schedules, by name."""
        return self._db.read(schedules.listed)

    def asking(self) -> list[Schedule]:
        """Those of which no scheduler has said yet whether it sees their paths."""
        return self._db.read(schedules.asking)

    def answer(self, schedule_id: int, unseen: Sequence[str]) -> None:
        """Say which of its paths this scheduler does not see."""
        self._db.write(schedules.answer, schedule_id, unseen)

    def activate(self, schedule_id: int, *, now_s: float) -> None:
        """Let it fire from now on; what came due before is not made up for."""
        self._db.write(schedules.set_state, schedule_id, "active", now_s)

    def pause(self, schedule_id: int, *, now_s: float) -> None:
        """Let nothing of it come due; a run that is under way goes on."""
        self._db.write(schedules.set_state, schedule_id, "paused", now_s)

    def remove(self, schedule_id: int) -> None:
        """Forget it and its runs; their jobs stay."""
        self._db.write(schedules.remove, schedule_id)

    def run_now(self, schedule_id: int, *, now_s: float) -> ScheduleRun:
        """Make it due now, besides its due times; `skipped` when a run of it is under way."""
        return self._db.write(schedules.run_now, schedule_id, now_s)

    def claim_due(self, now_s: float) -> list[ScheduleRun]:
        """Claim what is due by now; each due time is claimed once, whoever asks and however often."""
        if not self._db.read(schedules.any_due, now_s):
            return []
        return self._db.write(schedules.claim_due, now_s)

    def take(self, owner: str, most: int = 100) -> list[ScheduleRun]:
        """Take the runs whose commands nobody runs; they are `owner`'s while it renews them."""
        return self._db.write(schedule_runs.take, owner, most) if self._db.read(schedule_runs.any_free) else []

    def hold(self, run: ScheduleRun, owner: str) -> bool:
        """Take a run whose job has finished, to write its output; False when another does."""
        return self._db.write(schedule_runs.hold, run, owner)

    def renew(self, owner: str) -> set[tuple[int, float]]:
        """Say that the owner is alive; returns the runs that are still its own, by schedule and due time."""
        return self._db.write(schedule_runs.renew, owner)

    def give_back(self, owner: str) -> None:
        """Leave the owner's runs to others, at once."""
        self._db.write(schedule_runs.give_back, owner)

    def started(self, run: ScheduleRun, job_id: int, note: str | None = None) -> None:
        """The run's command has submitted this job; the note is added to those that the run has."""
        self._db.write(schedule_runs.started, run, job_id, note)

    def goes_on(self, before: int, job_id: int) -> None:
        """A job goes on where that of a run ended, which has a run of its own for it then; nothing when it had none."""
        self._db.write(schedule_runs.goes_on, before, job_id)

    def begun(self, run: ScheduleRun) -> int | None:
        """The job that a command of the run has left, should it have been cut off before it could say so."""
        return self._db.read(schedule_runs.begun, run)

    def ended(
        self, run: ScheduleRun, state: RunState, *, exit_code: int | None = None, note: str | None = None
    ) -> None:
        """The run is over; the note is added to those that it has."""
        self._db.write(schedule_runs.ended, run, state, exit_code=exit_code, note=note)

    def running(self) -> list[ScheduleRun]:
        """The runs that have a job and have not ended."""
        return self._db.read(schedule_runs.running)

    def last(self, schedule_id: int, count: int) -> list[ScheduleRun]:
        """A schedule's newest runs, the newest first."""
        return self._db.read(schedule_runs.last, schedule_id, count)

    def set_budget_day(self, run: ScheduleRun, day: str) -> None:
        """Remember for which day the cap of the run's job was set."""
        self._db.write(schedule_runs.set_budget_day, run, day)

    def cost(self, run: ScheduleRun) -> tuple[int, Decimal]:
        """Calls that the run's job has paid for during the run, and USD; another run may have had the same job."""
        return self._db.read(schedule_runs.cost, run)

    def used(self, schedule_id: int, since_s: float) -> Amount:
        """What the schedule's jobs have used since then, calls of unknown outcome included."""
        return self._db.read(schedule_runs.used, schedule_id, since_s)
