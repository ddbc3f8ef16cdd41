"""Which item kills the workers: found by trial, and failed, so that the others finish.

1. A claim counts as a death until its shard is closed or given back in order: nothing has to notice that a worker died.
2. A shard whose workers died twice is *on trial*: its worker sends nothing else meanwhile, and no worker holds two.
3. What a trial that ends in a death had handed out is suspect, and tried again in ever smaller parts: all of the
   shard, the square root of that, single items. An item whose worker died `POISONOUS` times in trials, at last alone,
   fails as `poison`.
An innocent shard in the same process is exonerated by its own trial, which it survives.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Connection, delete, select, update

from corpusmill.ledger import inflight
from corpusmill.ledger.bulk import insert_new, upsert
from corpusmill.ledger.clock import Now
from corpusmill.ledger.models import Result, Shard, Suspect
from corpusmill.ledger.records import WorkItem
from corpusmill.ledger.shards import LockedShard

# Deaths of a shard's workers that may be anybody's fault: a machine that is switched off, a deployment.
TRIAL_AFTER = 2
# Deaths in trials: the whole shard, a part of it, and twice alone.
POISONOUS = 4
_ALONE_AFTER = 2
# How soon a worker that is busy with one trial may be asked for the next.
BUSY_S = 1.0
CLASS = "poison"


def on_trial(shard: LockedShard) -> bool:
    """Whether the shard, as it was just claimed, is on trial."""
    return shard.deaths > TRIAL_AFTER


def busy_with_another(conn: Connection, shard: LockedShard, worker_id: str) -> bool:
    """Whether the worker has a trial already: if it died, nobody could tell which of two it was."""
    if shard.deaths < TRIAL_AFTER:
        return False
    held = (Shard.done.is_(False), Shard.sent_at.is_not(None), Shard.owner == worker_id, Shard.deaths > TRIAL_AFTER)
    return conn.execute(select(Shard.shard_no).where(*held).limit(1)).one_or_none() is not None


def hand_out(conn: Connection, shard: LockedShard, rest: Sequence[WorkItem], now: Now) -> list[WorkItem]:
    """Of the open items of a shard on trial, those to try now; items that are found to be poison are failed."""
    deaths = _deaths(conn, shard)
    poison = [item for item in rest if deaths.get(item.item_no, 0) >= POISONOUS]
    _fail(conn, shard, poison, now)
    rest = [item for item in rest if item not in poison]
    chosen = _next(rest, deaths)
    _count(conn, shard, {item.item_no: deaths.get(item.item_no, 0) + 1 for item in chosen})
    return chosen


def handed_out(conn: Connection, shard: LockedShard, rest: Sequence[WorkItem]) -> list[WorkItem]:
    """Of the open items of a shard on trial, those that this claim of it was handed."""
    mine = select(Suspect.item_no).where(*_of(shard), Suspect.fence == shard.fence)
    numbers = set(conn.execute(mine).scalars())
    return [item for item in rest if item.item_no in numbers]


def ended_in_order(conn: Connection, shard: LockedShard) -> None:
    """The worker has lived to close or give back the shard: nobody of this claim is to blame."""
    if on_trial(shard):
        if shard.done:
            conn.execute(delete(Suspect).where(*_of(shard)))
        else:
            mine = update(Suspect).where(*_of(shard), Suspect.fence == shard.fence)
            conn.execute(mine.values(deaths=Suspect.deaths - 1, fence=0))
    shard.deaths = max(0, shard.deaths - 1)


def forgive(conn: Connection, job_id: int) -> None:
    """Somebody wants failed items tried again: their shards begin anew. The caller holds the locks of all."""
    conn.execute(delete(Suspect).where(Suspect.job_id == job_id))
    conn.execute(update(Shard).where(Shard.job_id == job_id, Shard.deaths > 0).values(deaths=0))


def _next(rest: Sequence[WorkItem], deaths: dict[int, int]) -> list[WorkItem]:
    """The part to try: of those who were there at most deaths, all, a few, or one."""
    worst = max((deaths.get(item.item_no, 0) for item in rest), default=0)
    group = [item for item in rest if deaths.get(item.item_no, 0) == worst]
    if worst == 0:
        return group
    return group[: 1 if worst >= _ALONE_AFTER else math.isqrt(len(group))]


def _deaths(conn: Connection, shard: LockedShard) -> dict[int, int]:
    return dict(conn.execute(select(Suspect.item_no, Suspect.deaths).where(*_of(shard))).all())


def _count(conn: Connection, shard: LockedShard, deaths: dict[int, int]) -> None:
    """Note these items as being tried, with the deaths that they will have seen unless the trial ends in order."""
    if not deaths:
        return
    names = {"job_id": shard.job_id, "shard_no": shard.shard_no, "fence": shard.fence}
    rows = [{"item_no": number, "deaths": count, **names} for number, count in sorted(deaths.items())]
    statement = upsert(conn, Suspect)
    newer = {name: statement.excluded[name] for name in ("deaths", "fence")}
    conn.execute(statement.on_conflict_do_update(index_elements=["job_id", "item_no"], set_=newer), rows)


def _fail(conn: Connection, shard: LockedShard, poison: Collection[WorkItem], now: Now) -> None:
    why = f"the worker died or crashed {POISONOUS} times with this item, at last twice while it sent nothing else"
    rows = [
        {
            "job_id": shard.job_id,
            "item_no": item.item_no,
            "cached": False,
            "error_class": CLASS,
            "error": why,
            "attempts": POISONOUS,
            "request_id": None,
            "at": now.wall_s,
        }
        for item in poison
    ]
    new = insert_new(conn, Result, rows)
    if new:
        shard.failed += len(new)
        shard.last_at = now.wall_s
        inflight.drop_items(conn, shard.ref, [item.item_no for item in poison])


def _of(shard: LockedShard) -> tuple[ColumnElement[bool], ...]:
    return Suspect.job_id == shard.job_id, Suspect.shard_no == shard.shard_no
