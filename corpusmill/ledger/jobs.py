"""Jobs as rows: submitting, finding, listing."""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Sequence
from decimal import Decimal

from sqlalchemy import Connection, Row, delete, insert, select

from corpusmill.errors import JobNotFound, UsageError
from corpusmill.ledger import budgets
from corpusmill.ledger.bulk import table_of, upsert
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.models import Collection, Job
from corpusmill.ledger.records import JobRun, JobState, JobView, NewJob, PauseReason
from corpusmill.spec import JobSpec

# Crockford's base 32: no letter that reads like a digit.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_NEAR = 200
# What pauses every job of an endpoint and key at once.
LANE_REASONS: Sequence[PauseReason] = ("billing", "key", "endpoint")
RUNNABLE: Sequence[JobState] = ("queued", "running")
ENDED: Sequence[JobState] = ("finished", "cancelled", "stopped")
PURGED: Sequence[JobState] = ("purging", "purged")
OVER: Sequence[JobState] = (*ENDED, *PURGED)


def submit(conn: Connection, new: NewJob) -> tuple[JobView, bool]:
    """The job of `new.key`, and whether it was made now."""
    known = by_key(conn, new.key)
    if known is not None:
        return known, False
    made_at = read_clock(conn).wall_s
    collection = new.collection_id
    if collection is None:
        collection = conn.execute(insert(Collection).values(created_at=made_at).returning(Collection.id)).scalar_one()
    while True:
        statement = upsert(conn, Job).values(_row(new, collection, made_at)).on_conflict_do_nothing()
        made = conn.execute(statement.returning(table_of(Job).c.id)).scalar_one_or_none()
        if made is not None:
            return by_id(conn, made), True
        known = by_key(conn, new.key)
        if known is not None:  # another process was quicker
            if new.collection_id is not None:
                return known, False
            conn.execute(delete(Collection).where(Collection.id == collection))
            return known, False


def _row(new: NewJob, collection_id: int, made_at: float) -> dict[str, object]:
    return {
        "public_id": "j_" + "".join(secrets.choice(_ALPHABET) for _ in range(6)),
        "key": new.key,
        "collection_id": collection_id,
        "name": new.name,
        "kind": new.spec.kind,
        "queue_kind": new.spec.queue_kind,
        "model": new.spec.model,
        "provider": new.provider,
        "endpoint": new.spec.endpoint,
        "key_fingerprint": new.key_fingerprint,
        "spec": new.spec.as_json(),
        "state": "loading",
        "priority": new.priority,
        "labels": dict(new.labels),
        "cache": new.cache,
        "shard_size": new.shard_size,
        "items": 0,
        "documents": 0,
        "input_tokens": 0,
        "shards_open": 0,
        "budget_usd": budgets.checked(new.budget_usd),
        "set_aside": Decimal(0),
        "set_aside_tokens": 0,
        "first": new.first,
        "out": new.out,
        "errors_out": new.errors_out,
        "detached": new.detached,
        "price_card": None if new.price_card is None else dict(new.price_card),
        "flex": new.flex,
        "max_share": new.max_share,
        "budget_tokens": new.budget_tokens,
        "created_at": made_at,
    }


def by_id(conn: Connection, job_id: int) -> JobView:
    """The job of that number.

    Raises:
        JobNotFound: there is none.
    """
    row = conn.execute(select(table_of(Job)).where(Job.id == job_id)).one_or_none()
    if row is None:
        raise JobNotFound(f"there is no job number {job_id}", next_step="corpusmill jobs")
    return view(row)


def by_key(conn: Connection, key: bytes) -> JobView | None:
    """The job of that key, if there is one."""
    row = conn.execute(select(table_of(Job)).where(Job.key == key)).one_or_none()
    return None if row is None else view(row)


def find(conn: Connection, ref: str | int) -> JobView:
    """The job that a person means: `last`, an id, an unambiguous prefix of one, or a name (its newest job).

    Raises:
        JobNotFound: none or several; the error names those that are near.
    """
    if isinstance(ref, int):
        return by_id(conn, ref)
    ref = ref.strip()
    newest = select(table_of(Job)).order_by(Job.id.desc())
    if ref == "last":
        found = conn.execute(newest.where(Job.state.not_in(PURGED)).limit(1)).all()
    else:
        found = conn.execute(newest.where(Job.name == ref).limit(1)).all() or _by_prefix(conn, ref)
    if len(found) == 1:
        return view(found[0])
    if found:
        ids = ", ".join(row.public_id for row in found)
        raise JobNotFound(f"{ref} may mean several jobs: {ids}", next_step="write more of the id")
    raise _missing(conn, ref)


def _by_prefix(conn: Connection, ref: str) -> Sequence[Row[tuple[object, ...]]]:
    prefix = ref.lower() if ref.lower().startswith("j_") else f"j_{ref.lower()}"
    wanted = Job.public_id.startswith(prefix, autoescape=True)
    return conn.execute(select(table_of(Job)).where(wanted).order_by(Job.id.desc()).limit(5)).all()


def _missing(conn: Connection, ref: str) -> JobNotFound:
    rows = conn.execute(select(Job.public_id, Job.name).order_by(Job.id.desc()).limit(_NEAR)).all()
    if not rows:
        return JobNotFound("there are no jobs yet", next_step="corpusmill complete --help")
    known = [name for row in rows for name in (row.public_id, row.name) if name]
    near = difflib.get_close_matches(ref, known, n=3, cutoff=0.5)
    hint = f"; near it: {', '.join(near)}" if near else ""
    return JobNotFound(f"no job goes by {ref!r}{hint}", next_step="corpusmill jobs")


def newest(conn: Connection, limit: int) -> list[JobView]:
    """The newest jobs, newest first."""
    return [view(row) for row in conn.execute(select(table_of(Job)).order_by(Job.id.desc()).limit(limit))]


def unfinished(conn: Connection) -> list[JobView]:
    """Jobs that are queued or running, oldest first."""
    return [view(row) for row in conn.execute(select(table_of(Job)).where(Job.state.in_(RUNNABLE)).order_by(Job.id))]


def parked(conn: Connection) -> list[JobView]:
    """Jobs that are paused for what an endpoint said, oldest first."""
    waiting = (Job.state == "paused", Job.reason.in_(LANE_REASONS))
    return [view(row) for row in conn.execute(select(table_of(Job)).where(*waiting).order_by(Job.id))]


def refuse_purged(state: str, public_id: str) -> None:
    """Refuse to do anything with what is not there any more.

    Raises:
        UsageError: the job was purged, or is half purged.
    """
    if state == "purging":
        raise UsageError(f"{public_id} is half purged", next_step=f"corpusmill purge {public_id}   # goes on with it")
    if state == "purged":
        raise UsageError(
            f"{public_id} was purged: of what it brought, nothing is left",
            next_step="the command that made it makes a new job",
        )


def view(row: Row[tuple[object, ...]]) -> JobView:
    """A row of the jobs table as others see it."""
    values = {name: getattr(row, name) for name in JobView.__dataclass_fields__ if name != "spec"}
    return JobView(spec=JobSpec.from_json(row.spec), **values)


def run_of(row: Row[tuple[object, ...]]) -> JobRun:
    """A row of the jobs table as workers need it."""
    values = {name: getattr(row, name) for name in JobRun.__dataclass_fields__ if name != "spec"}
    return JobRun(spec=JobSpec.from_json(row.spec), **values)
