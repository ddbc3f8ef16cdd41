"""Schedules at work: what is due is claimed, its command is run, its job is followed to the end.

Once a second, on any number of schedulers. All that has to survive this process is in the ledger: a run whose scheduler
died is taken by another, and starting its command again finds the same job.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from corpusmill import sight
from corpusmill.errors import JobNotFound
from corpusmill.ledger import Ledger
from corpusmill.ledger.jobs import OVER
from corpusmill.ledger.records import JobView
from corpusmill.ledger.schedule_records import Schedule, ScheduleRun
from scheduler import allowances
from scheduler.commands import Command, Outcome
from scheduler.surroundings import Surroundings

log = logging.getLogger(__name__)

# Each reads a corpus: more at once would take the machine from the workers.
MOST_COMMANDS = 4
_FAILED_ITEMS = 3

Key = tuple[int, float]


class Schedules:
    """The schedules as one scheduler process serves them; `name` is who it is in the ledger."""

    def __init__(self, ledger: Ledger, name: str, surroundings: Surroundings) -> None:
        self._ledger, self._name, self._around = ledger, name, surroundings
        self._starting: dict[Key, tuple[ScheduleRun, Command]] = {}
        self._writing: dict[Key, tuple[ScheduleRun, Command]] = {}

    def attend(self, now_s: float) -> int:
        """Do what is to be done by now; returns how many due times were claimed."""
        if not self._around.fires:
            return 0
        known = self._ledger.schedules
        for schedule in known.asking():
            known.answer(schedule.id, sight.unmet(schedule.paths))
        claimed = known.claim_due(now_s)
        for run in claimed:
            log.info("schedule due id=%d due_at=%.0f state=%s", run.schedule_id, run.due_at, run.state)
        self._renew()
        schedules = {schedule.id: schedule for schedule in known.listed()}
        self._start(schedules, now_s)
        self._collect()
        for run in known.running():
            self._follow(run, schedules.get(run.schedule_id), now_s)
        self._collect_written()
        return len(claimed)

    def close(self) -> None:
        """Stop the commands and leave their runs to others."""
        for _, command in [*self._starting.values(), *self._writing.values()]:
            command.stop()
        self._ledger.schedules.give_back(self._name)

    def _renew(self) -> None:
        """Keep what is ours; a process that slept for too long finds that others have gone on with it."""
        if not self._starting and not self._writing:
            return
        own = self._ledger.schedules.renew(self._name)
        for commands in (self._starting, self._writing):
            for key in commands.keys() - own:
                _, command = commands.pop(key)
                command.stop()
                log.warning("schedule run lost to another scheduler id=%d due_at=%.0f", *key)

    # --- from due to a job --------------------------------------------------------------------------------------

    def _start(self, schedules: Mapping[int, Schedule], now_s: float) -> None:
        room = MOST_COMMANDS - len(self._starting)
        for run in self._ledger.schedules.take(self._name, room) if room > 0 else ():
            schedule = schedules.get(run.schedule_id)
            if schedule is None:  # removed meanwhile
                continue
            argv = allowances.filled(self._ledger, schedule, now_s)
            try:
                command = Command(argv, schedule.folder, self._around.environment())
            except OSError as error:
                note = f"the command cannot be started in {schedule.folder}: {error.strerror}"
                self._ledger.schedules.ended(run, "failed", exit_code=None, note=note)
            else:
                self._starting[run.schedule_id, run.due_at] = run, command

    def _collect(self) -> None:
        """Commands that have ended, and the jobs that they have submitted."""
        for key, (run, command) in list(self._starting.items()):
            outcome = command.outcome()
            if outcome is None:
                continue
            del self._starting[key]
            log.info("schedule started id=%d code=%d job=%s", run.schedule_id, outcome.code, outcome.job)
            self._submitted(run, outcome)

    def _submitted(self, run: ScheduleRun, outcome: Outcome) -> None:
        known = self._ledger.schedules
        if outcome.code > 0:
            known.ended(run, "failed", exit_code=outcome.code, note=outcome.note)
        elif outcome.job is not None:
            known.started(run, self._ledger.job(outcome.job).id, outcome.note)
        elif (job_id := self._left_by(run, outcome)) is not None:
            known.started(run, job_id)
        elif outcome.code:
            known.ended(run, "failed", exit_code=outcome.code, note=outcome.note)
        else:
            known.ended(run, "finished", exit_code=0, note=outcome.note)

    def _left_by(self, run: ScheduleRun, outcome: Outcome) -> int | None:
        """The job of a command that named none. One that a signal ended may have sent it on its way before, or not."""
        job_id = self._ledger.schedules.begun(run)
        if job_id is None or (outcome.code and self._ledger.job(job_id).committed_at is None):
            return None
        return job_id

    # --- from a job to its end ----------------------------------------------------------------------------------

    def _follow(self, run: ScheduleRun, schedule: Schedule | None, now_s: float) -> None:
        key = run.schedule_id, run.due_at
        if schedule is None or run.job_id is None or key in self._writing:
            return
        try:
            job = self._ledger.job(run.job_id)
        except JobNotFound:
            self._ledger.schedules.ended(run, "finished", note="its job was purged")
            return
        if job.state not in OVER:
            allowances.keep(self._ledger, schedule, run, job, now_s)
        elif job.state == "finished" and job.out is not None:
            self._write(run, schedule, job)
        else:
            self._end(run, job)

    def _write(self, run: ScheduleRun, schedule: Schedule, job: JobView) -> None:
        """A detached job writes no output by itself."""
        if not self._ledger.schedules.hold(run, self._name):
            return
        force = ["--force"] if "--force" in schedule.argv else []
        argv = ["watch", job.public_id, "--json", "--no-progress", *force]
        try:
            command = Command(argv, schedule.folder, self._around.environment())
        except OSError as error:
            self._end(run, job, f"its output cannot be written from {schedule.folder}: {error.strerror}")
        else:
            self._writing[run.schedule_id, run.due_at] = run, command

    def _collect_written(self) -> None:
        for key, (run, command) in list(self._writing.items()):
            outcome = command.outcome()
            if outcome is not None and run.job_id is not None:
                del self._writing[key]
                failed = outcome.code not in (0, _FAILED_ITEMS)
                self._end(run, self._ledger.job(run.job_id), outcome.note if failed else None)

    def _end(self, run: ScheduleRun, job: JobView, trouble: str | None = None) -> None:
        failed = self._ledger.counts(job.id).failed
        if trouble is None and job.state != "finished":
            trouble = f"{job.public_id} was {job.state}" + (f": {job.note}" if job.note else "")
        note = trouble or (f"{failed:,} items failed" if failed else None)
        code = _FAILED_ITEMS if failed else 0
        if trouble:
            self._ledger.schedules.ended(run, "failed", exit_code=None, note=note)
        else:
            self._ledger.schedules.ended(run, "finished", exit_code=code, note=note)
        log.info("schedule ended id=%d job=%s state=%s", run.schedule_id, job.public_id, job.state)
