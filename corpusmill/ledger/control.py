"""Pausing, resuming, ending and binding jobs: what people and circuit breakers do to them.

loading ─► queued ─► running ─► finished
│          ├────► paused (user, first, budget, billing, key, endpoint, disk) ─┐
│          ├────► stopped (every item fails alike)                            ├─► queued, by resume
└──────────┴────► cancelled                                                  ─┘
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from types import EllipsisType

from sqlalchemy import Connection, delete, func, select, update

from corpusmill.errors import UsageError
from corpusmill.ledger import budgets, encoding, goals, shards, suspects
from corpusmill.ledger.bulk import table_of, upsert
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.jobs import PURGED, RUNNABLE, refuse_purged
from corpusmill.ledger.models import Item, Job, Output, Result, Shard
from corpusmill.ledger.records import PauseReason

_RESUMABLE = ("paused", "stopped", "cancelled")


def pause(conn: Connection, job_id: int, reason: PauseReason, note: str | None) -> None:
    """Let nothing more of the job be sent; a job that does not run is left as it is."""
    running = (Job.id == job_id, Job.state.in_(RUNNABLE))
    conn.execute(update(Job).where(*running).values(state="paused", reason=reason, note=_clean(note)))


def pause_lane(conn: Connection, endpoint: str, fingerprint: str, reason: PauseReason, note: str | None) -> list[int]:
    """Pause every running job of an endpoint and key; return their ids."""
    lane = (Job.endpoint == endpoint, Job.key_fingerprint == fingerprint, Job.state.in_(RUNNABLE))
    paused = update(Job).where(*lane).values(state="paused", reason=reason, note=_clean(note))
    return sorted(conn.execute(paused.returning(Job.id)).scalars())


def end(conn: Connection, job_id: int, state: str, note: str | None) -> None:
    """Cancel or stop a job; one that has finished stays finished."""
    open_ = (Job.id == job_id, Job.state.not_in(("finished", state, *PURGED)))
    conn.execute(update(Job).where(*open_).values(state=state, reason=None, note=_clean(note)))


def resume(
    conn: Connection, job_id: int, *, first: int | EllipsisType | None, budget: Decimal | EllipsisType | None
) -> None:
    """Go on with the open items, under a new border or budget if given.

    A job that stands where its `first` items end goes on to its end, unless it is given another border.
    A job that was cancelled while loading goes on loading.
    """
    shards.lock_all(conn, job_id)
    job = conn.execute(select(table_of(Job)).where(Job.id == job_id).with_for_update()).one()
    refuse_purged(job.state, job.public_id)
    if budget is not ...:
        set_budget(conn, job_id, budget)
    if job.state in _RESUMABLE:
        state = "queued" if job.committed_at is not None else "loading"
        conn.execute(update(Job).where(Job.id == job_id).values(state=state, reason=None, note=None, finished_at=None))
    if job.committed_at is None:
        border = job.first if first is ... else first
        conn.execute(update(Job).where(Job.id == job_id).values(first=border))
        return
    if job.state != "finished":
        at_border = job.first is not None and job.shards_open == 0
        border = (None if at_border else job.first) if first is ... else first
        goals.set_first(conn, job_id, border, read_clock(conn).wall_s)
        _unpark(conn, job_id)


def revive(conn: Connection, jobs: Collection[int]) -> int:
    """Let those go on that still stand because their endpoint could not be reached; return how many."""
    standing = (Job.id.in_(jobs), Job.state == "paused", Job.reason == "endpoint")
    found = conn.execute(select(Job.id).where(*standing).order_by(Job.id)).scalars().all()
    for job_id in found:
        resume(conn, job_id, first=..., budget=...)
    return len(found)


def _unpark(conn: Connection, job_id: int) -> None:
    """Shards that nobody holds may be fed at once: wake-ups sent before the pause were dropped."""
    idle = (Shard.job_id == job_id, Shard.done.is_(False), Shard.owner.is_(None))
    marked = Shard.sent_at.is_not(None) | Shard.not_before.is_not(None)
    conn.execute(update(Shard).where(*idle, marked).values(sent_at=None, not_before=None))


def set_budget(conn: Connection, job_id: int, budget: Decimal | None) -> None:
    """Give the job another budget. All shards are locked, so that no spending slips past the account opened here."""
    _set_budget(conn, job_id, budget_usd=budgets.checked(budget))


def set_budget_tokens(conn: Connection, job_id: int, tokens: int | None) -> None:
    """Give the job another budget of tokens, likewise."""
    _set_budget(conn, job_id, budget_tokens=tokens)


def _set_budget(conn: Connection, job_id: int, **columns: Decimal | int | None) -> None:
    shards.lock_all(conn, job_id)
    conn.execute(update(Job).where(Job.id == job_id).values(**columns))
    budgets.recount(conn, job_id)


def set_first(conn: Connection, job_id: int, first: int | None) -> None:
    """Give the job another border; one that has finished is not touched."""
    job = conn.execute(select(Job.state, Job.committed_at).where(Job.id == job_id)).one()
    if job.state == "finished":
        return
    if job.committed_at is None:
        conn.execute(update(Job).where(Job.id == job_id).values(first=first))
        return
    shards.lock_all(conn, job_id)
    goals.set_first(conn, job_id, first, read_clock(conn).wall_s)


def bind_key(conn: Connection, job_id: int, fingerprint: str) -> None:
    """Bind a job to another key."""
    conn.execute(update(Job).where(Job.id == job_id).values(key_fingerprint=fingerprint))


def bind_lane(conn: Connection, endpoint: str, old: str, new: str) -> list[int]:
    """Bind every job of an endpoint that is not finished from one key to another; return their ids."""
    lane = (Job.endpoint == endpoint, Job.key_fingerprint == old, Job.state != "finished")
    return sorted(conn.execute(update(Job).where(*lane).values(key_fingerprint=new).returning(Job.id)).scalars())


def remember_output(conn: Connection, job_id: int, path: str, digest: str) -> None:
    """Remember the digest of what the job wrote to `path`.

    Raises:
        UsageError: the job was purged meanwhile, so that what was written may be a part of it.
    """
    found = select(Job.state, Job.public_id).where(Job.id == job_id).with_for_update()
    job = conn.execute(found).one_or_none()
    if job is None:
        raise UsageError("the job was purged while it was read; no file was changed")
    refuse_purged(job.state, job.public_id)
    row = {"job_id": job_id, "path": path, "digest": digest, "at": read_clock(conn).wall_s}
    statement = upsert(conn, Output).values(row)
    newer = {name: statement.excluded[name] for name in ("digest", "at")}
    conn.execute(statement.on_conflict_do_update(index_elements=["job_id", "path"], set_=newer))


def output_digest(conn: Connection, job_id: int, path: str) -> str | None:
    """The digest of what the job last wrote to `path`; None when it never did."""
    found = select(Output.digest).where(Output.job_id == job_id, Output.path == path)
    return conn.execute(found).scalar_one_or_none()


def set_plain(conn: Connection, job_id: int, /, **values: str | float | bool | None) -> None:
    """Change columns of a job that nothing else depends on."""
    conn.execute(update(Job).where(Job.id == job_id).values(**values))


def reopen_failed(conn: Connection, job_id: int, classes: Collection[str] | None) -> int:
    """Forget the failures of these classes (None: all), so that their items are tried again; return how many.

    Items that failed before any call stay failed: their source would have to change.
    """
    shards.lock_all(conn, job_id)
    job = conn.execute(select(table_of(Job)).where(Job.id == job_id).with_for_update()).one()
    refuse_purged(job.state, job.public_id)
    chosen = (
        Result.job_id == job_id,
        Result.error_class.is_not(None) if classes is None else Result.error_class.in_(classes),
        Result.item_no.in_(select(Item.item_no).where(Item.job_id == job_id, Item.key.is_not(None))),
    )
    shard_no = Result.item_no // job.shard_size
    by_shard = conn.execute(select(shard_no, func.count()).where(*chosen).group_by(shard_no)).all()
    if not by_shard:
        return 0
    conn.execute(delete(Result).where(*chosen))
    suspects.forgive(conn, job_id)
    for number, count in by_shard:
        fewer = update(Shard).where(Shard.job_id == job_id, Shard.shard_no == number)
        conn.execute(fewer.values(failed=Shard.failed - count, sent_at=None, not_before=None))
    again = {"state": "queued", "reason": None, "note": None, "finished_at": None}
    conn.execute(update(Job).where(Job.id == job_id, Job.state == "finished").values(**again))
    goals.set_first(conn, job_id, job.first, read_clock(conn).wall_s)
    return sum(count for _, count in by_shard)


def _clean(note: str | None) -> str | None:
    return None if note is None else encoding.clean(note)
