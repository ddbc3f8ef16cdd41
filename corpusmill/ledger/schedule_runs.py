"""The runs of schedules: who starts them, what job came of them, and how they ended.

due ─► starting (an owner runs the command) ─► running (its job does) ─► finished
└─ skipped      └────────────────────────────────────────────────────► failed
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from corpusmill.ledger.amounts import Amount
from corpusmill.ledger.bulk import table_of
from corpusmill.ledger.clock import Now, read_clock
from corpusmill.ledger.models import Job, Usage
from corpusmill.ledger.schedule_records import RunState, ScheduleRun
from corpusmill.ledger.schedule_tables import Schedule
from corpusmill.ledger.schedule_tables import ScheduleRun as Run
from corpusmill.ledger.schedules import run_view

# An owner that has not been heard of for so long is gone; its command may be started again, which its job key makes
# harmless.
SILENT_S = 30.0
_GOES_ON = "goes on with what a sync has changed meanwhile"
_AGAIN = "started again, since the scheduler that had started it ended"


def any_free(conn: Connection) -> bool:
    """Whether there is anything to take: most ticks find nothing, and need not write."""
    return conn.execute(select(Run.due_at).where(_free(read_clock(conn))).limit(1)).first() is not None


def take(conn: Connection, owner: str, most: int) -> list[ScheduleRun]:
    """Take what is due and what dead owners have left; the commands are ours to run."""
    now = read_clock(conn)
    free = select(table_of(Run)).where(_free(now)).order_by(Run.due_at).limit(most)
    rows = conn.execute(free.with_for_update(skip_locked=True)).all()
    return [_taken(conn, run_view(row), owner, now) for row in rows]


def _taken(conn: Connection, run: ScheduleRun, owner: str, now: Now) -> ScheduleRun:
    note = _with(run, _AGAIN) if run.state == "starting" else run.note
    taken = replace(run, state="starting", note=note, started_at=run.started_at or now.wall_s)
    told = {"state": taken.state, "note": taken.note, "started_at": taken.started_at}
    _set(conn, taken.schedule_id, taken.due_at, **told, owner=owner, seen_at=now.lease_s)
    return taken


def _free(now: Now) -> ColumnElement[bool]:
    silent = or_(Run.owner.is_(None), Run.seen_at < now.lease_s - SILENT_S)
    return or_(Run.state == "due", and_(Run.state == "starting", silent))


def hold(conn: Connection, run: ScheduleRun, owner: str) -> bool:
    """Take a run whose job has finished, to write its output; False when another does."""
    now_s = read_clock(conn).lease_s
    free = or_(Run.owner.is_(None), Run.owner == owner, Run.seen_at < now_s - SILENT_S)
    own = (Run.schedule_id == run.schedule_id, Run.due_at == run.due_at, Run.state == "running", free)
    held = update(Run).where(*own).values(owner=owner, seen_at=now_s)
    return conn.execute(held.returning(Run.due_at)).first() is not None


def renew(conn: Connection, owner: str) -> set[tuple[int, float]]:
    """Say that the owner of runs is alive; returns those that are still its own, by schedule and due time."""
    own = update(Run).where(Run.owner == owner).values(seen_at=read_clock(conn).lease_s)
    return {(row.schedule_id, row.due_at) for row in conn.execute(own.returning(Run.schedule_id, Run.due_at))}


def give_back(conn: Connection, owner: str) -> None:
    """The owner ends: its runs are anybody's at once."""
    conn.execute(update(Run).where(Run.owner == owner).values(owner=None))


def started(conn: Connection, run: ScheduleRun, job_id: int, note: str | None) -> None:
    """The run's command has submitted this job."""
    told = {"state": "running", "job_id": job_id, "note": _with(run, note)}
    _set(conn, run.schedule_id, run.due_at, **told, owner=None)


def goes_on(conn: Connection, before: int, job_id: int) -> None:
    """A job goes on where that of a run ended: as a run of its own, so that it keeps to its schedule's budget."""
    run = conn.execute(
        select(Run.schedule_id).where(Run.job_id == before).order_by(Run.due_at.desc()).limit(1).with_for_update()
    ).first()
    taken = select(Run.due_at).where(Run.job_id == job_id).limit(1)
    if run is None or conn.execute(taken).first() is not None:
        return
    now_s = read_clock(conn).wall_s
    row = {"schedule_id": run.schedule_id, "due_at": now_s, "state": "running", "note": _GOES_ON}
    conn.execute(insert(Run).values(**row, job_id=job_id, started_at=now_s))


def begun(conn: Connection, run: ScheduleRun) -> int | None:
    """The newest job of the schedule since the run began: a command that was cut off may have left it."""
    name = conn.execute(select(Schedule.name).where(Schedule.id == run.schedule_id)).scalar_one_or_none()
    since = select(Job.id, Job.labels).where(Job.created_at >= (run.started_at or 0)).order_by(Job.id.desc())
    return next((job.id for job in conn.execute(since) if name and job.labels.get("schedule") == name), None)


def ended(conn: Connection, run: ScheduleRun, state: RunState, *, exit_code: int | None, note: str | None) -> None:
    """The run is over."""
    values = {"state": state, "exit_code": exit_code, "owner": None, "finished_at": read_clock(conn).wall_s}
    _set(conn, run.schedule_id, run.due_at, **values, note=_with(run, note))


def running(conn: Connection) -> list[ScheduleRun]:
    """The runs whose jobs are under way or have just ended."""
    rows = conn.execute(select(table_of(Run)).where(Run.state == "running").order_by(Run.due_at))
    return [run_view(row) for row in rows]


def last(conn: Connection, schedule_id: int, count: int) -> list[ScheduleRun]:
    """A schedule's newest runs, the newest first."""
    own = select(table_of(Run)).where(Run.schedule_id == schedule_id)
    return [run_view(row) for row in conn.execute(own.order_by(Run.due_at.desc()).limit(count))]


def set_budget_day(conn: Connection, run: ScheduleRun, day: str) -> None:
    """The job's cap was set for this day."""
    _set(conn, run.schedule_id, run.due_at, budget_day=day)


def used(conn: Connection, schedule_id: int, since_s: float) -> Amount:
    """What a schedule's jobs have used since a moment, with what calls of unknown outcome may have."""
    jobs = select(Run.job_id).where(Run.schedule_id == schedule_id, Run.job_id.is_not(None))
    own = (Usage.job_id.in_(jobs), Usage.at >= since_s)
    sums = select(
        func.coalesce(func.sum(Usage.usd), 0).label("usd"),
        func.coalesce(func.sum(Usage.prompt_tokens + Usage.completion_tokens), 0).label("tokens"),
    )
    row = conn.execute(sums.where(*own)).one()
    return Amount(row.usd, int(row.tokens))


def cost(conn: Connection, run: ScheduleRun) -> tuple[int, Decimal]:
    """Calls that the run's job has paid for since the run began, and USD; another run may have had the same job."""
    since = (Usage.job_id == run.job_id, Usage.at >= (run.started_at or 0))
    until = () if run.finished_at is None else (Usage.at <= run.finished_at,)
    sums = select(func.count(), func.sum(Usage.usd))
    row = conn.execute(sums.where(*since, *until)).one()
    return int(row[0]), row[1] or Decimal(0)


def _with(run: ScheduleRun, note: str | None) -> str | None:
    """The run's notes, with one more."""
    return "; ".join(each for each in (run.note, note) if each) or None


def _set(conn: Connection, schedule_id: int, due_at: float, **values: object) -> None:
    conn.execute(update(Run).where(Run.schedule_id == schedule_id, Run.due_at == due_at).values(**values))
