"""What the ledger asks of PostgreSQL: commits of several sizes, and the bytes that an item takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import repeat

import psycopg

from benchmarks import servers
from benchmarks.ledger_rates import LEASE_S, Shape, answer, claim, items, submit, usage
from benchmarks.machine import Cores, Meter, pinned
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Batch, ClaimedShard, ItemResult, ShardRef

# How many results a commit holds: a worker with little to do writes one, a busy one many.
GROUPS = (1, 10, 100, 1_000)
SHARD = 100
# Workers that commit at once: PostgreSQL flushes for several of them together.
CLIENTS = 8


@dataclass(frozen=True, slots=True)
class Step:
    """`rows` in `commits` commits, and what they took. `server_cpu_s`: of PostgreSQL; `wal`: bytes of its log."""

    name: str
    rows: int
    commits: int
    seconds: float
    server_cpu_s: float
    wal: int


@dataclass(frozen=True, slots=True)
class Rates:
    """All steps, and the bytes that an item takes on disk beyond its text and its answer."""

    steps: Sequence[Step]
    bytes_an_item: float


def measured(server: servers.Server, rows: int, on: Cores) -> Rates:
    """Load, claim and commit about `rows` items with each size of commit."""
    shape = Shape(rows, shard=SHARD)
    with pinned(on.measured), Ledger.open(server.url) as ledger, psycopg.connect(server.url, autocommit=True) as sql:
        steps = []
        before, stored = _size(sql), 0
        for group in GROUPS:
            count = max(SHARD, min(rows, group * 300) // SHARD * SHARD)
            steps += list(_steps(ledger, server, sql, shape, group, count))
            stored += count
        steps.append(_together(ledger, server, sql, shape))
        stored += CLIENTS * SHARD
        sql.execute("CHECKPOINT")
        text = len(items(0, 1)[0].text or "") + len(answer(b"", shape).body)
        return Rates(steps, (_size(sql) - before) / stored - text)


def _steps(
    ledger: Ledger, server: servers.Server, sql: psycopg.Connection, shape: Shape, group: int, count: int
) -> Iterator[Step]:
    job_id = submit(ledger, shape.shard)
    watch = _Watch(server, sql)
    for start in range(0, count, 5_000):
        ledger.load(job_id, items(start, min(5_000, count - start)), after=start)
    ledger.commit_job(job_id)
    loaded = watch.step("load, 5,000 a commit", count, -(-count // 5_000))
    watch = _Watch(server, sql)
    shards = [claim(ledger, ShardRef(job_id, number)) for number in range(count // shape.shard)]
    claimed = watch.step(f"claim, {shape.shard} a shard", count, len(shards))
    batches = list(_batches(shards, shape, group))
    watch = _Watch(server, sql)
    for batch in batches:
        ledger.commit(batch, worker_id="bench", lease_s=LEASE_S)
    if group == GROUPS[-1]:
        yield from (loaded, claimed)
    yield watch.step(f"keep answers, {group:,} a commit", count, len(batches))


def _together(ledger: Ledger, server: servers.Server, sql: psycopg.Connection, shape: Shape) -> Step:
    """Several workers, each with a connection and a shard of its own, commit single answers."""
    job_id = submit(ledger, shape.shard)
    ledger.load(job_id, items(0, CLIENTS * SHARD), after=0)
    ledger.commit_job(job_id)
    shards = [claim(ledger, ShardRef(job_id, number)) for number in range(CLIENTS)]
    with ExitStack() as stack:
        ledgers = [stack.enter_context(Ledger.open(server.url)) for _ in shards]
        for each in ledgers:
            each.salt()  # opens its connection
        watch = _Watch(server, sql)
        with ThreadPoolExecutor(CLIENTS) as threads:
            list(threads.map(_commit_singly, ledgers, shards, repeat(shape)))
        rows = CLIENTS * SHARD
        return watch.step(f"keep answers, 1 a commit, {CLIENTS} clients", rows, rows)


def _commit_singly(ledger: Ledger, shard: ClaimedShard, shape: Shape) -> None:
    for batch in _batches([shard], shape, 1):
        ledger.commit(batch, worker_id="bench", lease_s=LEASE_S)


def _batches(shards: Sequence[ClaimedShard], shape: Shape, group: int) -> Iterator[Batch]:
    """Commits of `group` results; a shard is closed by the commit that holds its last."""
    pairs = [(shard, item) for shard in shards for item in shard.items]
    for start in range(0, len(pairs), group):
        some = pairs[start : start + group]
        yield Batch(
            fences={shard.ref: shard.fence for shard, _ in some},
            answers=[answer(item.key, shape) for _, item in some],
            results=[ItemResult(s.ref, item.item_no, item.key, request_id="req_0123456789") for s, item in some],
            usage=[usage(shard.ref) for shard, _ in some],
            closing=[shard.ref for shard, item in some if item is shard.items[-1]],
            renew=False,
        )


class _Watch:
    """PostgreSQL's CPU and log from now on."""

    def __init__(self, server: servers.Server, sql: psycopg.Connection) -> None:
        self._server, self._sql = server, sql
        self._wal = self._written()
        # Its connections' processes come and go: what counts is those that are there at both ends.
        self._meter = Meter({"server": server.processes()})
        self._meter.__enter__()

    def step(self, name: str, rows: int, commits: int) -> Step:
        """What the rows took."""
        self._meter.__exit__()
        return Step(
            name, rows, commits, self._meter.wall_s, self._meter.cpu_s["server"], self._written() - self._wal
        )  # fmt: skip

    def _written(self) -> int:
        row = self._sql.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint").fetchone()
        assert row is not None
        return int(row[0])


def _size(sql: psycopg.Connection) -> int:
    row = sql.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])


def writes(sql: psycopg.Connection) -> int:
    """Transactions so far that wrote something: each has to be flushed, those that only read have not."""
    row = sql.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
    assert row is not None
    return int(row[0])
