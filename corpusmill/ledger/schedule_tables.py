"""The tables of schedules; see `schedule_records` for what their rows mean."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from corpusmill.ledger.models import Base
from corpusmill.ledger.types import BigId, Json


class Schedule(Base):
    """A command and when it is due. `next_at` is the first due time that nobody has claimed."""

    __tablename__ = "schedules"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    argv: Mapped[Any] = mapped_column(Json)
    folder: Mapped[str]
    cron: Mapped[str]
    tz: Mapped[str]
    catch_up: Mapped[str] = mapped_column(String(8))
    state: Mapped[str] = mapped_column(String(8))
    paths: Mapped[Any] = mapped_column(Json)
    unseen: Mapped[Any | None] = mapped_column(Json)
    daily_usd: Mapped[Decimal | None]
    daily_tokens: Mapped[int | None] = mapped_column(BigInteger)
    max_share: Mapped[float | None]
    next_at: Mapped[float]
    created_at: Mapped[float]


class ScheduleRun(Base):
    """One due time of a schedule: its key is what lets it fire once, however many beats there are.

    `owner` runs its command while `seen_at` (on the lease clock) is fresh.
    """

    __tablename__ = "schedule_runs"
    __table_args__ = (Index("schedule_runs_by_state", "state"), Index("schedule_runs_by_job", "job_id"))
    schedule_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    due_at: Mapped[float] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(8))
    note: Mapped[str | None]
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    owner: Mapped[str | None]
    seen_at: Mapped[float | None]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    exit_code: Mapped[int | None]
    budget_day: Mapped[str | None] = mapped_column(String(10))
