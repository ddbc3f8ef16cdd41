"""Content keys being paid for right now, so that no two shards pay for one.

A key belongs to a shard under a fence. It is void as soon as that lease is: nothing has to be cleaned up after a crash.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, select

from corpusmill.ledger.bulk import as_table, table_of, upsert
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.models import InFlight, Item, Shard
from corpusmill.ledger.records import ShardRef
from corpusmill.ledger.shards import LockedShard

_AT_ONCE = 500


def take(conn: Connection, shard: LockedShard, keys: Collection[bytes], now_s: float) -> set[bytes]:
    """Put the keys in flight for `shard`, but for those that a living lease has; return the ones that are now ours."""
    if keys:
        _upsert(conn, shard, sorted(keys), _is_void(now_s))
    return held(conn, shard)


def held(conn: Connection, shard: LockedShard) -> set[bytes]:
    """The keys that `shard` has in flight under its fence."""
    return set(conn.execute(select(InFlight.key).where(*_of(shard.ref), InFlight.fence == shard.fence)).scalars())


def _upsert(conn: Connection, shard: LockedShard, keys: Sequence[bytes], void: ColumnElement[bool]) -> None:
    rows = [{"key": key, "job_id": shard.job_id, "shard_no": shard.shard_no, "fence": shard.fence} for key in keys]
    statement = upsert(conn, InFlight)
    mine = {name: statement.excluded[name] for name in ("job_id", "shard_no", "fence")}
    if conn.dialect.name == "postgresql":
        source = as_table(table_of(InFlight), rows)
        filled = statement.from_select(list(rows[0]), select(*source.c))
        conn.execute(filled.on_conflict_do_update(index_elements=["key"], set_=mine, where=void))
    else:
        conn.execute(statement.on_conflict_do_update(index_elements=["key"], set_=mine, where=void), rows)


def _is_void(now_s: float) -> ColumnElement[bool]:
    living = and_(
        Shard.job_id == InFlight.job_id,
        Shard.shard_no == InFlight.shard_no,
        Shard.fence == InFlight.fence,
        Shard.owner.is_not(None),
        Shard.lease_until > now_s,
    )
    return ~exists(select(Shard.shard_no).where(living).correlate(table_of(InFlight)))


def _of(ref: ShardRef) -> tuple[ColumnElement[bool], ...]:
    return InFlight.job_id == ref.job_id, InFlight.shard_no == ref.shard_no


def drop_shard(conn: Connection, ref: ShardRef) -> None:
    """Take every key of a shard out of flight."""
    conn.execute(delete(InFlight).where(*_of(ref)))


def drop_keys(conn: Connection, keys: Collection[bytes]) -> None:
    """Take answered keys out of flight, whoever had them: the answer is there."""
    ordered = sorted(keys)
    for start in range(0, len(ordered), _AT_ONCE):
        conn.execute(delete(InFlight).where(InFlight.key.in_(ordered[start : start + _AT_ONCE])))


def drop_items(conn: Connection, ref: ShardRef, item_nos: Collection[int]) -> None:
    """Take the keys of a shard's failed items out of flight: whoever waits for one may try it."""
    failed = select(Item.key).where(Item.job_id == ref.job_id, Item.item_no.in_(item_nos))
    conn.execute(delete(InFlight).where(*_of(ref), InFlight.key.in_(failed)))


def sweep(conn: Connection) -> int:
    """Remove the keys that dead holders left behind; return how many. Void they are already."""
    return conn.execute(delete(InFlight).where(_is_void(read_clock(conn).lease_s))).rowcount
