"""The tables of schedules; see `schedule_records` for what their rows mean."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Index, String

from corpusmill.ledger.base import Base, Col, column
from corpusmill.ledger.types import BigId, Json


class Schedule(Base):
    """A command and when it is due. `next_at` is the first due time that nobody has claimed."""

    __tablename__ = "schedules"
    id: Col[int] = column(BigId, primary_key=True)
    name: Col[str] = column(unique=True)
    argv: Col[Any] = column(Json)
    folder: Col[str]
    cron: Col[str]
    tz: Col[str]
    catch_up: Col[str] = column(String(8))
    state: Col[str] = column(String(8))
    paths: Col[Any] = column(Json)
    unseen: Col[Any | None] = column(Json)
    daily_usd: Col[Decimal | None]
    daily_tokens: Col[int | None] = column(BigInteger)
    max_share: Col[float | None]
    next_at: Col[float]
    created_at: Col[float]


class ScheduleRun(Base):
    """One due time of a schedule: its key is what lets it fire once, however many beats there are.

    `owner` runs its command while `seen_at` (on the lease clock) is fresh.
    """

    __tablename__ = "schedule_runs"
    __table_args__ = (Index("schedule_runs_by_state", "state"), Index("schedule_runs_by_job", "job_id"))
    schedule_id: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    due_at: Col[float] = column(primary_key=True)
    state: Col[str] = column(String(8))
    note: Col[str | None]
    job_id: Col[int | None] = column(BigInteger)
    owner: Col[str | None]
    seen_at: Col[float | None]
    started_at: Col[float | None]
    finished_at: Col[float | None]
    exit_code: Col[int | None]
    budget_day: Col[str | None] = column(String(10))
