"""What one worker of many asks of Redis and PostgreSQL: four real ones, idle, and at a hundredth of the limit each."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from redis import Redis

from benchmarks import servers
from benchmarks.fleet import Fleet
from benchmarks.loads import CHAT_MODEL, Load
from benchmarks.machine import Cores, Meter
from benchmarks.scale_ledger import writes
from benchmarks.scale_redis import scripts_run
from benchmarks.simulator import simulator, stats
from corpusmill.spec import COMPLETIONS_PATH

WORKERS = 4
SETTLE_S = 6.0  # until starts, first leases and the opening bucket are over


@dataclass(frozen=True, slots=True)
class Need:
    """What all workers together took, a second. `wire`: bytes between them and Redis."""

    requests: float
    redis_cpu: float
    scripts: float
    wire: float
    sql_cpu: float
    writes: float
    worker_cpu: float

    def less(self, other: Need) -> Need:
        """What is above another."""
        return Need(*(mine - theirs for mine, theirs in zip(self.values(), other.values(), strict=True)))

    def over(self, count: float) -> Need:
        """The part of one of `count`."""
        return Need(*(value / count for value in self.values()))

    def values(self) -> tuple[float, ...]:
        """All figures, in order."""
        return (
            self.requests, self.redis_cpu, self.scripts, self.wire, self.sql_cpu, self.writes,
            self.worker_cpu,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Needs:
    """A second of a scheduler alone, of one idle worker; and what one request adds, wherever it is sent."""

    scheduler: Need
    idle_worker: Need
    request: Need


def measured(rpm: int, tpm: int, workers: int, seconds: float, on: Cores) -> Needs:
    """Workers as they would be if `workers` of them shared the limit: as many requests each, as large."""
    load = Load("chat, scale", "completion", CHAT_MODEL, COMPLETIONS_PATH, tpm // rpm, 1, 100, "Summarise: {text}")
    told = {"rpm": rpm * WORKERS // workers, "tpm": 2 * tpm * WORKERS // workers}
    with _servers(told, on) as (fleet, watcher), ExitStack() as stack:
        time.sleep(SETTLE_S)
        alone = watcher.over(seconds)
        watcher.workers += [stack.enter_context(fleet.worker(on.measured)) for _ in range(WORKERS)]
        time.sleep(SETTLE_S)
        idle = watcher.over(seconds)
        job = fleet.submit(load, int(told["rpm"] / 60 * (seconds + 2 * SETTLE_S)), "scale")
        fleet.feed()
        time.sleep(SETTLE_S)
        busy = watcher.over(seconds)
        fleet.ledger.cancel(job.id)
    return Needs(alone, idle.less(alone).over(WORKERS), busy.less(idle).over(busy.requests))


@contextmanager
def _servers(told: dict[str, int], on: Cores) -> Iterator[tuple[Fleet, _Watcher]]:
    """Everything but the workers."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base_url, _ = stack.enter_context(simulator(on.rest, "--latency-ms", "500"))
        database = stack.enter_context(servers.postgres(on.rest))
        broker = stack.enter_context(servers.valkey(home, on.rest))
        fleet = Fleet(home, broker.url, database.url, base_url, on, **told)
        stack.callback(fleet.close)
        stack.enter_context(fleet.scheduler())
        yield fleet, _Watcher(broker, database, base_url)


class _Watcher:
    """Looks at everything at both ends of a stretch."""

    def __init__(self, broker: servers.Server, database: servers.Server, base_url: str) -> None:
        self.workers: list[psutil.Process] = []
        self._broker, self._database, self._base_url = broker, database, base_url

    def over(self, seconds: float) -> Need:
        """What is needed a second, over so many."""
        groups = {"workers": self.workers, "redis": self._broker.processes(), "sql": self._database.processes()}
        with Redis.from_url(self._broker.url) as redis, psycopg.connect(self._database.url, autocommit=True) as sql:
            before, first, paid = redis.info("all"), writes(sql), self._paid()
            with Meter(groups) as meter:
                time.sleep(seconds)
            after, last, now_paid = redis.info("all"), writes(sql), self._paid()
        got, sent = (after[name] - before[name] for name in ("total_net_input_bytes", "total_net_output_bytes"))
        calls = scripts_run(after) - scripts_run(before)
        found = Need(
            now_paid - paid, meter.cpu_s["redis"], calls, got + sent, meter.cpu_s["sql"], last - first,
            meter.cpu_s["workers"],
        )  # fmt: skip
        return found.over(meter.wall_s)

    def _paid(self) -> int:
        return stats(self._base_url)["paid_requests"]
