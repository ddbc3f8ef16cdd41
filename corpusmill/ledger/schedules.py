"""Schedules as rows, and the claim that lets each due time fire once.

Any number of beats may ask `claim_due` at once: who inserts the run's row has claimed the due time, and moves the
schedule on to its next one in the same transaction. The time is theirs to say, so that tests may.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row, delete, select, update

from corpusmill.cron import Cron
from corpusmill.errors import UsageError
from corpusmill.ledger import budgets
from corpusmill.ledger.bulk import table_of, upsert
from corpusmill.ledger.jobs import OVER
from corpusmill.ledger.models import Job
from corpusmill.ledger.schedule_records import NewSchedule, ScheduleRun
from corpusmill.ledger.schedule_records import Schedule as View
from corpusmill.ledger.schedule_tables import Schedule
from corpusmill.ledger.schedule_tables import ScheduleRun as Run

# A due time that is claimed so late was missed: nobody ticked when it came.
LATE_S = 60.0


def add(conn: Connection, new: NewSchedule, *, asking: bool, now_s: float) -> View:
    """Write a schedule; `asking`: it waits until a scheduler has looked whether it sees `paths`.

    Raises:
        UsageError: there is one of that name.
    """
    # One that nobody answered for was never finished.
    conn.execute(delete(Schedule).where(Schedule.name == new.name, Schedule.state == "asking"))
    row = {name: getattr(new, name) for name in NewSchedule.__dataclass_fields__}
    row.update(
        argv=list(new.argv),
        paths=list(new.paths),
        daily_usd=budgets.checked(new.daily_usd),
        state="asking" if asking else "active",
        next_at=Cron.parse(new.cron, new.tz).after(now_s),
        created_at=now_s,
    )
    statement = upsert(conn, Schedule).values(row).on_conflict_do_nothing()
    if conn.execute(statement.returning(table_of(Schedule).c.id)).first() is None:
        raise UsageError(
            f"there is a schedule {new.name} already",
            next_step=f"choose another name, or: corpusmill schedule remove {new.name}",
        )
    return find(conn, new.name)


def find(conn: Connection, name: str) -> View:
    """The schedule of that name.

    Raises:
        UsageError: there is none; the error names the nearest.
    """
    row = conn.execute(select(table_of(Schedule)).where(Schedule.name == name)).one_or_none()
    if row is not None:
        return _view(row)
    near = difflib.get_close_matches(name, conn.execute(select(Schedule.name)).scalars(), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"there is no schedule {name}{hint}", next_step="corpusmill schedule list")


def listed(conn: Connection) -> list[View]:
    """All schedules, by name."""
    return [_view(row) for row in conn.execute(select(table_of(Schedule)).order_by(Schedule.name))]


def asking(conn: Connection) -> list[View]:
    """Schedules of which nobody has said yet whether their sources are seen."""
    waiting = (Schedule.state == "asking", Schedule.unseen.is_(None))
    return [_view(row) for row in conn.execute(select(table_of(Schedule)).where(*waiting))]


def answer(conn: Connection, schedule_id: int, unseen: Sequence[str]) -> None:
    """Say what the scheduler does not see of a schedule's sources."""
    conn.execute(update(Schedule).where(Schedule.id == schedule_id).values(unseen=list(unseen)))


def set_state(conn: Connection, schedule_id: int, state: str, now_s: float) -> None:
    """Pause a schedule or let it fire from now on; what came due while it was paused is not made up for."""
    row = conn.execute(select(table_of(Schedule)).where(Schedule.id == schedule_id).with_for_update()).one()
    if row.state != state:
        values = {"state": state, "next_at": _cron(row).after(now_s)}
        conn.execute(update(Schedule).where(Schedule.id == schedule_id).values(**values))


def remove(conn: Connection, schedule_id: int) -> None:
    """Forget a schedule and its runs; their jobs stay."""
    conn.execute(delete(Run).where(Run.schedule_id == schedule_id))
    conn.execute(delete(Schedule).where(Schedule.id == schedule_id))


def run_now(conn: Connection, schedule_id: int, now_s: float) -> ScheduleRun:
    """Make a schedule due at this very moment, besides its due times."""
    conn.execute(select(Schedule.id).where(Schedule.id == schedule_id).with_for_update())
    claimed = _insert(conn, schedule_id, now_s, None, "asked for by hand")
    assert claimed is not None  # noqa: S101 - no due time is a fraction of a second
    return claimed


def any_due(conn: Connection, now_s: float) -> bool:
    """Whether anything is due: most ticks find nothing, and need not write."""
    due = select(Schedule.id).where(Schedule.state == "active", Schedule.next_at <= now_s).limit(1)
    return conn.execute(due).first() is not None


def claim_due(conn: Connection, now_s: float) -> list[ScheduleRun]:
    """Claim what is due by now, one run a schedule; those that are not to start come back as `skipped`."""
    due = select(table_of(Schedule)).where(Schedule.state == "active", Schedule.next_at <= now_s)
    rows = conn.execute(due.order_by(Schedule.id).with_for_update(skip_locked=True)).all()
    return [run for row in rows if (run := _claim(conn, row, now_s)) is not None]


def _claim(conn: Connection, row: Row[tuple[object, ...]], now_s: float) -> ScheduleRun | None:
    cron, first = _cron(row), float(row.next_at)
    due_at = cron.latest(first, now_s)
    missed = due_at > first or now_s - due_at > LATE_S
    skipped = note = None
    if missed and row.catch_up == "once":
        note = f"makes up for what was missed since {cron.words(first)}"
    elif missed:
        note = f"nothing ran since {cron.words(first)}"
        skipped = note if now_s - due_at > LATE_S else None
    conn.execute(update(Schedule).where(Schedule.id == row.id).values(next_at=cron.after(now_s)))
    return _insert(conn, row.id, due_at, skipped, note)


def _insert(
    conn: Connection, schedule_id: int, due_at: float, skipped: str | None, note: str | None
) -> ScheduleRun | None:
    skipped = skipped or _under_way(conn, schedule_id)
    row = {
        "schedule_id": schedule_id,
        "due_at": due_at,
        "state": "skipped" if skipped else "due",
        "note": skipped or note,
        "finished_at": due_at if skipped else None,
    }
    statement = upsert(conn, Run).values(row).on_conflict_do_nothing().returning(table_of(Run))
    made = conn.execute(statement).one_or_none()
    return None if made is None else run_view(made)


def _under_way(conn: Connection, schedule_id: int) -> str | None:
    """Why the schedule cannot start now: a run of it is under way. None: there is none."""
    open_ = (Run.schedule_id == schedule_id, Run.state.in_(("due", "starting", "running")))
    joined = select(Run.state, Job.public_id, Job.state.label("job_state"), Job.reason)
    found = conn.execute(joined.outerjoin(Job, Job.id == Run.job_id).where(*open_).order_by(Run.due_at)).all()
    for run in found:
        if run.state != "running":
            return "the run before it has not ended"
        if run.public_id is not None and run.job_state not in OVER:
            return f"{run.public_id} of the run before it is {run.job_state}" + (
                f" ({run.reason})" if run.reason else ""
            )
    return None


def _cron(row: Row[tuple[object, ...]]) -> Cron:
    return Cron(row.cron, ZoneInfo(row.tz))


def _view(row: Row[tuple[object, ...]]) -> View:
    return View(**{name: getattr(row, name) for name in View.__dataclass_fields__})


def run_view(row: Row[tuple[object, ...]]) -> ScheduleRun:
    """A row of the runs' table as others see it."""
    return ScheduleRun(**{name: getattr(row, name) for name in ScheduleRun.__dataclass_fields__})
