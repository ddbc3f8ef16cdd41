"""Schedules and their runs as lines, rows and objects."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from corpusmill.cron import Cron
from corpusmill.errors import JobNotFound
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Counts, JobView
from corpusmill.ledger.schedule_records import Schedule, ScheduleRun
from corpusmill.mill.sums import exact, usd

_NEXT = 5


def when(schedule: Schedule, at_s: float) -> str:
    """A moment as people where the schedule is write it."""
    return _cron(schedule).words(at_s)


def lines(schedule: Schedule) -> list[str]:
    """All about a schedule but its runs."""
    limits = [
        None if schedule.daily_usd is None else f"{exact(schedule.daily_usd)} USD a day",
        None if schedule.daily_tokens is None else f"{schedule.daily_tokens:,} tokens a day",
        None if schedule.max_share is None else f"{schedule.max_share:.0%} of the limit",
    ]
    about = [
        ("command", shlex.join(["corpusmill", *schedule.argv])),
        ("in", schedule.folder),
        ("cron", f"{schedule.cron}   {schedule.tz}"),
        ("missed", "made up for once" if schedule.catch_up == "once" else "left out"),
        ("at most", ", ".join(limit for limit in limits if limit)),
        ("next", "\n            ".join(when(schedule, at_s) for at_s in _upcoming(schedule))),
    ]
    state = {"active": "active", "paused": "paused", "asking": "waiting for a scheduler's answer"}[schedule.state]
    return [f"{schedule.name} is {state}", *(f"  {name:<9} {value}" for name, value in about if value)]


def row(ledger: Ledger, schedule: Schedule, runs: Sequence[ScheduleRun]) -> tuple[str, ...]:
    """A schedule as a line of the list."""
    following = when(schedule, schedule.next_at) if schedule.state == "active" else schedule.state
    last = run_row(ledger, schedule, runs[0]) if runs else ("never", "", "", "", "", "")
    said = shlex.join(schedule.argv)
    start = (schedule.name, schedule.cron, schedule.tz, following)
    return (*start, f"{last[0]} {last[1]}".strip(), last[3], last[4], said if len(said) <= 60 else said[:59] + "…")


def run_row(ledger: Ledger, schedule: Schedule, run: ScheduleRun) -> tuple[str, ...]:
    """A run as a line."""
    due, came = when(schedule, run.due_at), _came(ledger, run)
    if came is None:
        return due, run.state, "", "", "", run.note or ""
    done = f"{came.counts.succeeded + came.counts.failed:,}/{came.counts.items:,}"
    return due, _state(run, came.job), came.job.public_id, done, usd(came.usd), run.note or ""


def facts(ledger: Ledger, schedule: Schedule, runs: Sequence[ScheduleRun]) -> dict[str, Any]:
    """A schedule with its last runs, for `--json`."""
    return {**object_of(schedule), "runs": [_run(ledger, run) for run in runs]}


def object_of(schedule: Schedule) -> dict[str, Any]:
    """A schedule for `--json`; times in ISO 8601, with their offset there."""
    zone = ZoneInfo(schedule.tz)
    return {
        "schedule": schedule.name,
        "state": schedule.state,
        "command": list(schedule.argv),
        "folder": schedule.folder,
        "cron": schedule.cron,
        "tz": schedule.tz,
        "catch_up": schedule.catch_up,
        "daily_usd": None if schedule.daily_usd is None else float(schedule.daily_usd),
        "daily_tokens": schedule.daily_tokens,
        "max_share": schedule.max_share,
        "next": [_iso(at_s, zone) for at_s in _upcoming(schedule)],
    }


@dataclass(frozen=True, slots=True)
class _Came:
    """What came of a run: its job as it stands, and what the job has sent and spent since the run began."""

    job: JobView
    counts: Counts
    requests: int
    usd: Decimal | None


def _came(ledger: Ledger, run: ScheduleRun) -> _Came | None:
    if run.job_id is None:
        return None
    try:
        job, counts = ledger.job(run.job_id), ledger.counts(run.job_id)
    except JobNotFound:
        return None
    if run.started_at is None or job.created_at >= run.started_at:
        return _Came(job, counts, counts.requests, counts.usd)
    # Where nothing has changed since, the command finds the job of an earlier run.
    requests, spent = ledger.schedules.cost(run)
    return _Came(job, counts, requests, None if counts.usd is None else spent)


def _run(ledger: Ledger, run: ScheduleRun) -> dict[str, Any]:
    about = {"due_at": run.due_at, "state": run.state, "exit_code": run.exit_code, "note": run.note}
    about |= {"started_at": run.started_at, "finished_at": run.finished_at}
    came = _came(ledger, run)
    if came is None:
        return {**about, "job": None}
    standing = {"job": came.job.public_id, "job_state": came.job.state, "reason": came.job.reason}
    numbers = {name: getattr(came.counts, name) for name in ("items", "succeeded", "cached", "failed")}
    spent = None if came.usd is None else float(came.usd)
    return {**about, **standing, **numbers, "requests": came.requests, "usd": spent}


def _state(run: ScheduleRun, job: JobView) -> str:
    return f"paused ({job.reason})" if run.state == "running" and job.state == "paused" else run.state


def _upcoming(schedule: Schedule) -> list[float]:
    return _cron(schedule).upcoming(time.time(), _NEXT) if schedule.state == "active" else []


def _cron(schedule: Schedule) -> Cron:
    return Cron(schedule.cron, ZoneInfo(schedule.tz))


def _iso(at_s: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at_s, zone).isoformat()
