"""How fast the ledger loads items, claims shards and commits paid answers, on a database of your choice.

python -m benchmarks.ledger_rates sqlite:////tmp/bench/ledger.db --items 100000
python -m benchmarks.ledger_rates postgresql://… --items 100000 --body 6144 --vectors
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import orjson

from benchmarks import servers
from benchmarks.machine import cores, pinned
from benchmarks.report import Section, Table
from corpusmill.ledger import Ledger, migrate
from corpusmill.ledger.records import Answer, Batch, ClaimedShard, ItemResult, NewItem, NewJob, ShardRef, Usage
from corpusmill.spec import JobSpec

HOLDS = {("http://127.0.0.1/v1", "fp")}
LEASE_S = 30.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What is loaded and committed: items a shard, results a commit, bytes an answer, JSON or float32."""

    items: int
    shard: int = 100
    group: int = 1_000
    body: int = 600
    vectors: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a ledger does: how often, how long it took, and the CPU seconds of this process."""

    what: str
    count: int
    wall_s: float
    cpu_s: float

    def __str__(self) -> str:
        rate = f"{self.count / self.wall_s:>12,.0f}/s"
        return f"{self.what:32} {self.count:>10,}  {self.wall_s:8.2f} s  {rate}  cpu {self.cpu_s:6.2f} s"


def measure(items: int) -> Section:
    """Both databases with answers of 600 bytes, and with vectors of 1,536 dimensions."""
    shapes = {
        "JSON of 600 bytes": Shape(items),
        "vectors of 6 KiB": Shape(items, shard=2_000, body=6_144, vectors=True),
    }
    tables = []
    for name, shape in shapes.items():
        with tempfile.TemporaryDirectory() as folder, servers.sqlite(Path(folder)) as url:
            on_sqlite = _steps(url, shape)
        with servers.postgres(cores().rest) as server:
            on_postgres = _steps(server.url, shape)
        tables.append(_table(f"{items:,} answers, {name}", on_sqlite, on_postgres))
    return Section(
        "The ledger alone",
        "One process, no network: items loaded by 5,000, shards claimed, answers, results and usage committed by "
        "1,000. CPU is that of this process; PostgreSQL's own is not in it.",
        tables,
    )


def _steps(url: str, shape: Shape) -> list[Step]:
    with pinned(cores().measured), Ledger.open(url) as ledger:
        return list(run(ledger, shape))


def _table(title: str, on_sqlite: Sequence[Step], on_postgres: Sequence[Step]) -> Table:
    rows = [
        [
            ours.what, f"{ours.count / ours.wall_s:,.0f}", f"{ours.cpu_s / ours.count * 1000:.3f}",
            f"{theirs.count / theirs.wall_s:,.0f}", f"{theirs.cpu_s / theirs.count * 1000:.3f}",
        ]
        for ours, theirs in zip(on_sqlite, on_postgres, strict=True)
    ]  # fmt: skip
    return Table(title, ("step", "SQLite: per s", "CPU-s per 1,000", "PostgreSQL: per s", "CPU-s per 1,000"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--shard", type=int, default=100, help="items a shard")
    parser.add_argument("--group", type=int, default=1_000, help="results a commit")
    parser.add_argument("--body", type=int, default=600, help="bytes an answer")
    parser.add_argument("--vectors", action="store_true", help="answers are float32, not JSON")
    asked = vars(parser.parse_args())
    url = asked.pop("url")
    migrate(url)
    with Ledger.open(url) as ledger:
        for step in run(ledger, Shape(**asked)):
            print(step)


def run(ledger: Ledger, shape: Shape) -> Iterator[Step]:
    """All that becomes of a job, step by step."""
    job_id = submit(ledger, shape.shard)
    with timed() as loading:
        for start in range(0, shape.items, 5_000):
            ledger.load(job_id, items(start, min(5_000, shape.items - start)), after=start)
    yield loading.step("load items", shape.items)
    with timed() as committing:
        ledger.commit_job(job_id)
    yield committing.step("commit the job", 1)
    refs = [ShardRef(job_id, number) for number in range(-(-shape.items // shape.shard))]
    with timed() as claiming:
        claimed = [claim(ledger, ref) for ref in refs]
    yield claiming.step("claim items", shape.items)
    batches = list(groups(claimed, shape))
    with timed() as writing:
        for batch in batches:
            ledger.commit(batch, worker_id="bench", lease_s=LEASE_S)
    yield writing.step("commit answer, result, usage", shape.items)
    with timed() as reading:
        assert sum(1 for _ in ledger.results(job_id)) == shape.items
    yield reading.step("read results", shape.items)
    with timed() as counting:
        counted = ledger.counts(job_id)
    yield counting.step("count", 1)
    assert ledger.job(job_id).state == "finished", counted


class Clock:
    """Wall clock and CPU since it was made, until it is stopped."""

    def __init__(self) -> None:
        self.wall_s, self.cpu_s = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.wall_s, self.cpu_s = time.perf_counter() - self.wall_s, time.process_time() - self.cpu_s

    def step(self, what: str, count: int) -> Step:
        return Step(what, count, self.wall_s, self.cpu_s)


@contextmanager
def timed() -> Iterator[Clock]:
    """A clock that has stopped when the block ends."""
    clock = Clock()
    yield clock
    clock.stop()


def submit(ledger: Ledger, shard_size: int) -> int:
    spec = JobSpec("completion", "/chat/completions", "bench-model", "http://127.0.0.1/v1", prompt="Say {text}")
    new = NewJob(os.urandom(32), spec, "bench", "fp", shard_size, price_card={})
    return ledger.submit(new)[0].id


def items(start: int, count: int) -> list[NewItem]:
    return [
        NewItem(f"id-{n}", "corpus.jsonl", os.urandom(32), 300, text=f"{n} " + "lorem ipsum dolor " * 60, line=n)
        for n in range(start, start + count)
    ]


def claim(ledger: Ledger, ref: ShardRef) -> ClaimedShard:
    claimed = ledger.claim(ref, worker_id="bench", lease_s=3_600, holds=HOLDS)
    assert claimed is not None
    return claimed


def groups(claimed: list[ClaimedShard], shape: Shape) -> Iterator[Batch]:
    held = max(1, shape.group // shape.shard)
    for start in range(0, len(claimed), held):
        shards = claimed[start : start + held]
        pairs = [(shard.ref, item) for shard in shards for item in shard.items]
        yield Batch(
            fences={shard.ref: shard.fence for shard in shards},
            answers=[answer(item.key, shape) for _, item in pairs],
            results=[ItemResult(ref, item.item_no, item.key, request_id="req_0123456789") for ref, item in pairs],
            usage=[usage(ref) for ref, _ in pairs],
            closing=[shard.ref for shard in shards],
            renew=True,
        )


def answer(key: bytes, shape: Shape) -> Answer:
    text = os.urandom(shape.body // 2).hex()
    body = os.urandom(shape.body) if shape.vectors else orjson.dumps({"choices": [{"message": {"content": text}}]})
    return Answer(key, body, "bench-model", "default", "stop", 300, 60)


def usage(ref: ShardRef) -> Usage:
    usd = Decimal("0.000123456789")
    return Usage(os.urandom(16), ref, "bench", "bench-model", "default", 1, 300, 0, 60, 0, usd, "paid", "req_0", 512)


if __name__ == "__main__":
    main()
