"""Schedules and their runs as plain data. Times are epoch seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

CatchUp = Literal["once", "skip"]
# asking: no scheduler has looked yet whether it sees the sources.
ScheduleState = Literal["asking", "active", "paused"]
# due: claimed, and not started yet; starting: its command runs; running: its job does.
RunState = Literal["due", "starting", "running", "finished", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A command of ours, `argv`, to be run in `folder` whenever `cron` is due in the time zone `tz`.

    `paths`: what the scheduler has to see of the file system. `daily_usd`, `daily_tokens`: what its runs may use from
    one midnight to the next. `max_share`: the part of the limit that they use at most.
    """

    name: str
    argv: Sequence[str]
    folder: str
    cron: str
    tz: str
    catch_up: CatchUp = "once"
    paths: Sequence[str] = ()
    daily_usd: Decimal | None = None
    daily_tokens: int | None = None
    max_share: float | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it stands. `unseen`: what the scheduler that was asked does not see; None: none has looked."""

    id: int
    name: str
    argv: Sequence[str]
    folder: str
    cron: str
    tz: str
    catch_up: CatchUp
    state: ScheduleState
    paths: Sequence[str]
    unseen: Sequence[str] | None
    daily_usd: Decimal | None
    daily_tokens: int | None
    max_share: float | None
    next_at: float
    created_at: float


@dataclass(frozen=True, slots=True)
class ScheduleRun:
    """What became of one due time. `note` says why it was skipped, failed or is late; `job_id` is the job's number.

    `budget_day`: the day, there, for which the job's cap was last set.
    """

    schedule_id: int
    due_at: float
    state: RunState
    note: str | None
    job_id: int | None
    started_at: float | None
    finished_at: float | None
    exit_code: int | None
    budget_day: str | None
