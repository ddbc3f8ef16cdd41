"""How far a job goes for now: to its end, or to the first N items.

The goal of a shard is how many terminal items make it done. `--first` lowers the goals of the shards behind its border,
so that claims, closing and feeding need to know nothing about it but the border's item number.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, case, func, select, update

from corpusmill.ledger import shards
from corpusmill.ledger.bulk import table_of
from corpusmill.ledger.models import Item, Job, Result, Shard


def set_first(conn: Connection, job_id: int, first: int | None, wall_s: float) -> None:
    """Let the job go to its first `first` items (None: to its end). The caller holds the locks of all its shards."""
    job = conn.execute(select(table_of(Job)).where(Job.id == job_id)).one()
    goal = Shard.size if first is None else _goal(conn, job, first)
    terminal = Shard.succeeded + Shard.failed
    conn.execute(update(Shard).where(Shard.job_id == job_id, Shard.goal != goal).values(goal=goal))
    for done in (True, False):
        reached = terminal >= Shard.goal if done else terminal < Shard.goal
        wrong = (Shard.job_id == job_id, Shard.done.is_(not done), reached)
        conn.execute(update(Shard).where(*wrong).values(done=done))
    undone = select(func.count()).where(Shard.job_id == job_id, Shard.done.is_(False))
    left = conn.execute(undone).scalar_one()
    conn.execute(update(Job).where(Job.id == job_id).values(first=first, shards_open=left))
    if left == 0:
        shards.finish(conn, job_id, wall_s)


def _goal(conn: Connection, job: Row[Any], first: int) -> Any:
    """A shard's goal in SQL: its size before the border, nothing behind it, and in between what lies before it."""
    border = first // job.shard_size
    beyond = select(func.count()).where(
        Result.job_id == job.id, Result.item_no >= first, Result.item_no < (border + 1) * job.shard_size
    )
    # Items behind the border may be terminal already (failed at intake, or a larger `first` before): they count too.
    partly = first % job.shard_size + int(conn.execute(beyond).scalar_one())
    within = case((Shard.size < partly, Shard.size), else_=partly)
    return case((Shard.shard_no < border, Shard.size), (Shard.shard_no > border, 0), else_=within)


def open_range(job: Row[Any], shard_no: int) -> tuple[int, int]:
    """The item numbers of a shard that may be worked on now, from and up to (not including)."""
    start = shard_no * job.shard_size
    end = start + job.shard_size
    return start, end if job.first is None else min(end, job.first)


def open_items(job: Row[Any], shard_no: int) -> tuple[ColumnElement[bool], ...]:
    """Conditions on `Item` for the items of a shard that still want a result; join `Result` by `ended` first."""
    start, end = open_range(job, shard_no)
    return Item.job_id == job.id, Item.item_no >= start, Item.item_no < end, Result.item_no.is_(None)


def ended(job: Row[Any], shard_no: int) -> ColumnElement[bool]:
    """What joins `Result` to `Item` within a shard. The bounds keep PostgreSQL from reading all results before it."""
    start, end = open_range(job, shard_no)
    same = and_(Result.job_id == job.id, Result.item_no == Item.item_no)
    return and_(same, Result.item_no >= start, Result.item_no < end)
