"""Content keys being paid for right now, so that no two shards pay for one.

A key belongs to a shard under a fence. It is void as soon as that lease is: nothing has to be cleaned up after a crash.
"""

from __future__ import annotations

from collections.abc import Collection, Set

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, select, update

from corpusmill.ledger.bulk import among, insert_new, table_of
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.models import InFlight, Item, Shard
from corpusmill.ledger.records import ShardRef
from corpusmill.ledger.shards import LockedShard


def take(conn: Connection, shard: LockedShard, keys: Set[bytes], over_s: float) -> set[bytes]:
    """Put keys in flight for `shard`, but for those that a living lease has; return the ones taken now."""
    mine = {"job_id": shard.job_id, "shard_no": shard.shard_no, "fence": shard.fence}
    taken = {key for (key,) in insert_new(conn, InFlight, [{"key": key, **mine} for key in keys])}
    for some in among(conn, InFlight.key, keys - taken):
        void = update(InFlight).where(some, _is_void(over_s)).values(**mine)
        taken.update(conn.execute(void.returning(InFlight.key)).scalars())
    return taken


def held(conn: Connection, shard: LockedShard) -> set[bytes]:
    """The keys that `shard` has in flight under its fence."""
    return set(conn.execute(select(InFlight.key).where(*_of(shard.ref), InFlight.fence == shard.fence)).scalars())


def _is_void(over_s: float) -> ColumnElement[bool]:
    living = and_(
        Shard.job_id == InFlight.job_id,
        Shard.shard_no == InFlight.shard_no,
        Shard.fence == InFlight.fence,
        Shard.owner.is_not(None),
        Shard.lease_until > over_s,
    )
    return ~exists(select(Shard.shard_no).where(living).correlate(table_of(InFlight)))


def _of(ref: ShardRef) -> tuple[ColumnElement[bool], ...]:
    return InFlight.job_id == ref.job_id, InFlight.shard_no == ref.shard_no


def drop_shard(conn: Connection, ref: ShardRef) -> None:
    """Take every key of a shard out of flight."""
    conn.execute(delete(InFlight).where(*_of(ref)))


def drop_keys(conn: Connection, keys: Collection[bytes]) -> None:
    """Take answered keys out of flight, whoever had them: the answer is there."""
    for some in among(conn, InFlight.key, keys):
        conn.execute(delete(InFlight).where(some))


def drop_items(conn: Connection, ref: ShardRef, item_nos: Collection[int]) -> None:
    """Take the keys of a shard's failed items out of flight: whoever waits for one may try it."""
    for some in among(conn, Item.item_no, item_nos):
        failed = select(Item.key).where(Item.job_id == ref.job_id, some)
        conn.execute(delete(InFlight).where(*_of(ref), InFlight.key.in_(failed)))


def sweep(conn: Connection) -> int:
    """Remove the keys that dead holders left behind; return how many. Void they are already."""
    return conn.execute(delete(InFlight).where(_is_void(read_clock(conn).lease_s))).rowcount
