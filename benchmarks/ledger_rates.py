"""How fast the ledger loads items, claims shards and commits paid answers, on a database of your choice.

python -m benchmarks.ledger_rates sqlite:////tmp/bench/ledger.db --items 100000
python -m benchmarks.ledger_rates postgresql://… --items 100000 --body 6144 --vectors
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from decimal import Decimal

import orjson

from corpusmill.ledger import Ledger, migrate
from corpusmill.ledger.records import Answer, Batch, ClaimedShard, ItemResult, NewItem, NewJob, ShardRef, Usage
from corpusmill.spec import JobSpec

HOLDS = {("http://127.0.0.1/v1", "fp")}
LEASE_S = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--shard", type=int, default=100, help="items a shard")
    parser.add_argument("--group", type=int, default=1_000, help="results a commit")
    parser.add_argument("--body", type=int, default=600, help="bytes an answer")
    parser.add_argument("--vectors", action="store_true", help="answers are float32, not JSON")
    asked = parser.parse_args()
    migrate(asked.url)
    with Ledger.open(asked.url) as ledger:
        run(ledger, asked)


def run(ledger: Ledger, asked: argparse.Namespace) -> None:
    job_id = submit(ledger, asked.shard)
    with Timed("loaded items", asked.items):
        for start in range(0, asked.items, 5_000):
            ledger.load(job_id, items(start, min(5_000, asked.items - start)), after=start)
    with Timed("job committed", 1):
        ledger.commit_job(job_id)
    refs = [ShardRef(job_id, number) for number in range(-(-asked.items // asked.shard))]
    with Timed("claimed items", asked.items):
        claimed = [claim(ledger, ref) for ref in refs]
    batches = list(groups(claimed, asked))
    with Timed("committed result+usage+answer", asked.items):
        for batch in batches:
            ledger.commit(batch, worker_id="bench", lease_s=LEASE_S)
    with Timed("read results", asked.items):
        assert sum(1 for _ in ledger.results(job_id)) == asked.items
    with Timed("counts", 1):
        counted = ledger.counts(job_id)
    assert ledger.job(job_id).state == "finished", counted


class Timed:
    def __init__(self, what: str, count: int) -> None:
        self.what, self.count = what, count

    def __enter__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        print(f"{self.what:32} {self.count:>10,}  {wall:8.2f} s  {self.count / wall:>12,.0f}/s  cpu {cpu:6.2f} s")


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


def groups(claimed: list[ClaimedShard], asked: argparse.Namespace) -> Iterator[Batch]:
    held = max(1, asked.group // asked.shard)
    for start in range(0, len(claimed), held):
        shards = claimed[start : start + held]
        pairs = [(shard.ref, item) for shard in shards for item in shard.items]
        yield Batch(
            fences={shard.ref: shard.fence for shard in shards},
            answers=[answer(item.key, asked) for _, item in pairs],
            results=[ItemResult(ref, item.item_no, item.key, request_id="req_0123456789") for ref, item in pairs],
            usage=[usage(ref) for ref, _ in pairs],
            sent={shard.ref: len(shard.items) for shard in shards},
            closing=[shard.ref for shard in shards],
            renew=True,
        )


def answer(key: bytes, asked: argparse.Namespace) -> Answer:
    text = os.urandom(asked.body // 2).hex()
    body = os.urandom(asked.body) if asked.vectors else orjson.dumps({"choices": [{"message": {"content": text}}]})
    return Answer(key, body, "bench-model", "default", "stop", 300, 60)


def usage(ref: ShardRef) -> Usage:
    usd = Decimal("0.000123456789")
    return Usage(os.urandom(16), ref, "bench", "bench-model", "default", 1, 300, 0, 60, 0, usd, "paid", "req_0", 512)


if __name__ == "__main__":
    main()
