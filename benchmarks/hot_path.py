"""What one worker costs with everything on, beside the bare floor: in turns, on one core.

A turn is the floor, a worker on a ledger in SQLite, and one on PostgreSQL, one after the other on the same core, with
the endpoint, the broker, PostgreSQL and the scheduler on another.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks import servers
from benchmarks.fleet import Fleet
from benchmarks.floor import Floor
from benchmarks.loads import CHAT, EMBEDDINGS, Load
from benchmarks.machine import Cores, Meter, cores, pinned
from benchmarks.report import Bar, Section, Table, megabytes, middle, times
from benchmarks.shares import PARTS, sampled
from benchmarks.simulator import simulator

LATENCY_MS = "50"
# So much that nobody waits, yet the limiter reserves, settles and reads headers for every request.
RPM, TPM = 1_000_000, 1_000_000_000
ENDPOINT = ("--latency-ms", LATENCY_MS, "--rpm", str(1000 * RPM), "--tpm", str(1000 * TPM))
WARM_UP = 300
LEDGERS = ("SQLite", "PostgreSQL")
_NO_SAMPLES = "py-spy is not there or may not look at processes here: the shares are left out."


@dataclass(frozen=True, slots=True)
class Task:
    """A load, how many chunks of it, and how many requests the floor has in flight."""

    name: str
    load: Load
    count: int
    in_flight: int
    cpu_aim_s: float
    rate_aim: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a client took for `count` chunks. `server_cpu_s`: of the database server, where there is one."""

    count: int
    cpu_s: float
    wall_s: float
    rss: int
    server_cpu_s: float | None = None
    longest_hold_up_ms: float = 0.0
    hold_ups: float = 0.0
    samples: Counter[str] = field(default_factory=Counter)

    @property
    def per_second(self) -> float:
        """Chunks a second."""
        return self.count / self.wall_s

    @property
    def cpu_a_thousand(self) -> float:
        """CPU seconds a thousand chunks."""
        return self.cpu_s / self.count * 1000


def tasks(chats: int, embeddings: int) -> list[Task]:
    """The two kinds of work."""
    return [
        Task("chat", CHAT, chats, 500, 0.60, 1_500),
        Task("embeddings", EMBEDDINGS, embeddings, 8, 0.15, 5_000),
    ]


def measure(chosen: Sequence[Task], turns: int) -> Section:
    """Run all turns and put the medians side by side."""
    found: dict[tuple[str, str], list[Cost]] = defaultdict(list)
    for _ in range(turns):
        for task in chosen:
            for client, cost in _turn(task, cores()):
                found[task.name, client].append(cost)
    medians = {key: _median(costs) for key, costs in found.items()}
    return Section(
        "One worker, everything on",
        f"One worker process on one core at {LATENCY_MS} ms latency: Celery with events, leases, limiter, journal, "
        "ledger, prices. The floor is aiohttp and orjson on uvloop, doing nothing else (embeddings: decoded into one "
        f"array). Medians of {turns} turns, each with a fresh worker; imports and a warm-up of {WARM_UP} left out.",
        [table for task in chosen for table in (_table(task, medians), _shares(task, medians))],
        [bar for task in chosen for ledger in LEDGERS for bar in _bars(task, medians[task.name, ledger], ledger)],
        [_NO_SAMPLES] if not any(cost.samples for cost in medians.values()) else (),
    )


def _turn(task: Task, on: Cores) -> Iterator[tuple[str, Cost]]:
    with simulator(on.rest, *ENDPOINT) as (base_url, _):
        yield "bare floor", _floor(task, base_url, on)
        with tempfile.TemporaryDirectory() as folder, servers.sqlite(Path(folder)) as database:
            yield "SQLite", _worker(task, base_url, Path(folder), database, None, on)
        with tempfile.TemporaryDirectory() as folder, servers.postgres(on.rest) as server:
            yield "PostgreSQL", _worker(task, base_url, Path(folder), server.url, server, on)


def _floor(task: Task, base_url: str, on: Cores) -> Cost:
    command = [sys.executable, "-m", "benchmarks.floor", base_url, task.name, str(task.count), str(task.in_flight)]
    with pinned(on.measured):
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    floor = Floor(**json.loads(done.stdout))
    return Cost(floor.count, floor.cpu_s, floor.wall_s, floor.rss)


def _worker(task: Task, base_url: str, home: Path, database: str, server: servers.Server | None, on: Cores) -> Cost:
    with open_fleet(base_url, home, database, on) as (fleet, worker):
        fleet.run(fleet.submit(task.load, WARM_UP, "warm-up"))
        job = fleet.submit(task.load, task.count, "measured")
        with Meter({"worker": [worker], "server": server.processes() if server else []}) as meter:
            fleet.run(job)
        # Apart, since to be sampled costs something as well.
        job = fleet.submit(task.load, task.count, "sampled")
        with sampled(worker.pid) as samples:
            fleet.run(job)
    held_up_ms, hold_ups = (_most(fleet.log(), name) for name in ("longest_hold_up_ms", "loop_held_up"))
    spent = meter.cpu_s["server"] if server else None
    return Cost(
        task.count, meter.cpu_s["worker"], meter.wall_s, meter.peak("worker"), spent, held_up_ms, hold_ups, samples
    )


def _most(log: str, name: str) -> float:
    """The largest of what the worker has told under a name."""
    return max(map(float, re.findall(rf'"{name}":([\d.]+)', log)), default=math.nan)


@contextmanager
def open_fleet(base_url: str, home: Path, database: str, on: Cores) -> Iterator[tuple[Fleet, psutil.Process]]:
    """A broker, a scheduler and one worker, ready for work."""
    with ExitStack() as stack:
        broker = stack.enter_context(servers.valkey(home, on.rest))
        fleet = Fleet(home, broker.url, database, base_url, on, rpm=RPM, tpm=TPM)
        stack.callback(fleet.close)
        stack.enter_context(fleet.scheduler())
        yield fleet, stack.enter_context(fleet.worker(on.measured))


def _median(costs: Sequence[Cost]) -> Cost:
    spent = [cost.server_cpu_s for cost in costs if cost.server_cpu_s is not None]
    return Cost(
        costs[0].count,
        middle(cost.cpu_s for cost in costs),
        middle(cost.wall_s for cost in costs),
        int(middle(cost.rss for cost in costs)),
        middle(spent) if spent else None,
        middle(cost.longest_hold_up_ms for cost in costs),
        middle(cost.hold_ups for cost in costs),
        sum((cost.samples for cost in costs), Counter()),
    )


def _table(task: Task, medians: Mapping[tuple[str, str], Cost]) -> Table:
    floor = medians[task.name, "bare floor"]
    rows = []
    for (name, client), cost in medians.items():
        if name == task.name:
            worker = cost is not floor
            server = "" if cost.server_cpu_s is None else f"{cost.server_cpu_s / cost.count * 1000:.3f}"
            rows.append(
                [
                    f"worker, ledger on {client}" if worker else client,
                    f"{cost.cpu_a_thousand:.3f}",
                    times(cost.cpu_a_thousand, floor.cpu_a_thousand),
                    f"{cost.per_second:,.0f}",
                    megabytes(cost.rss),
                    f"{cost.longest_hold_up_ms:.0f}" if worker else "",
                    f"{cost.hold_ups:.0f}" if worker else "",
                    server,
                ]
            )
    head = (
        "client", "CPU-s per 1,000", "to the floor", "per second", "most memory, MB", "loop held up at most, ms",
        "times over 20 ms", "database server's CPU-s",
    )  # fmt: skip
    return Table(f"{task.load.name}, {task.count:,} chunks", head, rows)


def _shares(task: Task, medians: Mapping[tuple[str, str], Cost]) -> Table:
    """How the CPU of a worker is divided."""
    rows = []
    for ledger in LEDGERS:
        cost = medians[task.name, ledger]
        whole = max(1, cost.samples.total())
        rows.append([ledger, *(f"{cost.cpu_a_thousand * cost.samples[part] / whole:.3f}" for part in PARTS)])
    return Table(f"{task.load.name}: CPU-s per 1,000 by part, sampled", ("ledger on", *PARTS), rows)


def _bars(task: Task, cost: Cost, ledger: str) -> list[Bar]:
    return [
        Bar(f"{task.name}, CPU-s per 1,000, ledger on {ledger}", task.cpu_aim_s, cost.cpu_a_thousand),
        Bar(f"{task.name} a second, ledger on {ledger}", task.rate_aim, cost.per_second, at_least=True),
        Bar(f"{task.name}, longest the loop was held up, ledger on {ledger}", 20, cost.longest_hold_up_ms, " ms"),
    ]
