"""Standing jobs: work that comes in bit by bit, from callers that wait for each item.

A standing job is committed empty, and grows by a shard at a time; between shards it is finished. Its shards are
seldom full, so its items are not numbered without gaps: a shard's begin at its number times the shard size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from corpusmill.ledger import encoding
from corpusmill.ledger.bulk import among, table_of
from corpusmill.ledger.jobs import RUNNABLE
from corpusmill.ledger.loading import append_items, new_shard
from corpusmill.ledger.models import Answer, Job, Result, Shard, Usage
from corpusmill.ledger.records import Ended, JobState, KeptAnswer, NewItem, ShardRef, Wasted

_GOES_ON: Sequence[JobState] = (*RUNNABLE, "finished")


@dataclass(frozen=True, slots=True)
class _From:
    """Where the new rows begin: what `append_items` needs to know of a job."""

    id: int
    collection_id: int
    items: int
    documents: int


def append(conn: Connection, job_id: int, items: Sequence[NewItem]) -> tuple[ShardRef, int] | None:
    """Add a shard of `items`; gives it and its first item's number, or None for a job that does not go on."""
    job = conn.execute(select(table_of(Job)).where(Job.id == job_id).with_for_update()).one_or_none()
    if job is None or job.state not in _GOES_ON or job.committed_at is None:
        return None
    if not 0 < len(items) <= job.shard_size:
        raise ValueError(f"{len(items)} items for a shard of {job.shard_size}")
    last = conn.execute(select(func.max(Shard.shard_no)).where(Shard.job_id == job_id)).scalar_one()
    number = 0 if last is None else last + 1
    begin = _From(job.id, job.collection_id, number * job.shard_size, job.documents)
    documents = append_items(conn, begin, items)
    conn.execute(insert(Shard).values(new_shard(job_id, number, len(items), 0)))
    grown = {
        "items": job.items + len(items),
        "documents": job.documents + documents,
        "input_tokens": job.input_tokens + sum(item.tokens for item in items),
        "shards_open": job.shards_open + 1,
        "state": "queued" if job.state == "finished" else job.state,
        "finished_at": None,
    }
    conn.execute(update(Job).where(Job.id == job_id).values(**grown))
    return ShardRef(job_id, number), begin.items


def ended(conn: Connection, job_id: int, numbers: Collection[int]) -> dict[int, Ended]:
    """How those of a job's items ended that have."""
    found: dict[int, Ended] = {}
    columns = (Result.item_no, Result.cached, Result.error_class, Result.error)
    for some in among(conn, Result.item_no, numbers):
        for row in conn.execute(select(*columns).where(Result.job_id == job_id, some)):
            found[row.item_no] = Ended(row.cached, row.error_class, row.error)
    wasted = _wasted(conn, job_id, found)
    return {number: replace(how, wasted=wasted.get(number, ())) for number, how in found.items()}


def _wasted(conn: Connection, job_id: int, numbers: Collection[int]) -> Mapping[int, Sequence[Wasted]]:
    """What was paid for these items and brought nothing."""
    found: dict[int, list[Wasted]] = defaultdict(list)
    names = [field.name for field in fields(Wasted)]
    columns = [table_of(Usage).c[name] for name in ("item_no", *names)]
    for some in among(conn, Usage.item_no, numbers):
        # In the words of the partial index, so that it is used.
        wanted = select(*columns).where(Usage.job_id == job_id, Usage.item_no.is_not(None), some)
        for number, *tokens in conn.execute(wanted):
            found[number].append(Wasted(*tokens))
    return found


def answers(conn: Connection, keys: Collection[bytes]) -> Mapping[bytes, KeptAnswer]:
    """The answers that there are under these content keys, bodies as they came."""
    found: dict[bytes, KeptAnswer] = {}
    for some in among(conn, Answer.key, keys):
        for row in conn.execute(select(table_of(Answer)).where(some)):
            found[row.key] = _kept(row)
    return found


def _kept(row: Any) -> KeptAnswer:
    return KeptAnswer(
        body=encoding.body_of(row.body, vector=row.vector),
        tier=row.tier,
        truncated=row.truncated,
        prompt_tokens=row.prompt_tokens,
        cached_tokens=row.cached_tokens,
        completion_tokens=row.completion_tokens,
        reasoning_tokens=row.reasoning_tokens,
    )
