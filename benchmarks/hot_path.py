"""What one worker costs with everything on, beside the bare floor: in turns, on one core.

A turn is the floor, a worker on a ledger in SQLite, and one on PostgreSQL, one after the other on the same core, with
the endpoint, the broker, PostgreSQL and the scheduler on another.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import servers
from benchmarks.fleet import Fleet
from benchmarks.floor import Floor
from benchmarks.loads import CHAT, EMBEDDINGS, Load
from benchmarks.machine import Cores, Meter, cores, pinned
from benchmarks.report import Bar, Section, Table, megabytes, middle, times
from benchmarks.simulator import simulator

LATENCY_MS = "50"
# So much that nobody waits, yet the limiter reserves, settles and reads headers for every request.
RPM, TPM = 1_000_000, 1_000_000_000
ENDPOINT = ("--latency-ms", LATENCY_MS, "--rpm", str(1000 * RPM), "--tpm", str(1000 * TPM))
WARM_UP = 300


@dataclass(frozen=True, slots=True)
class Task:
    """A load, how many chunks of it, and how many requests the floor has in flight."""

    name: str
    load: Load
    count: int
    in_flight: int
    cpu_aim_s: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a client took for `count` chunks. `server_cpu_s`: of the database server, where there is one."""

    count: int
    cpu_s: float
    wall_s: float
    rss: int
    server_cpu_s: float | None = None

    @property
    def cpu_a_thousand(self) -> float:
        """CPU seconds a thousand chunks."""
        return self.cpu_s / self.count * 1000


def tasks(chats: int, embeddings: int) -> list[Task]:
    """The two kinds of work."""
    return [
        Task("chat", CHAT, chats, 500, 0.60),
        Task("embeddings", EMBEDDINGS, embeddings, 8, 0.15),
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
        [_table(task, medians) for task in chosen],
        [_bar(task, medians, ledger) for task in chosen for ledger in ("SQLite", "PostgreSQL")],
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
    spent = meter.cpu_s["server"] if server else None
    return Cost(task.count, meter.cpu_s["worker"], meter.wall_s, meter.peak("worker"), spent)


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
    )


def _table(task: Task, medians: Mapping[tuple[str, str], Cost]) -> Table:
    floor = medians[task.name, "bare floor"]
    rows = []
    for (name, client), cost in medians.items():
        if name == task.name:
            label = client if cost is floor else f"worker, ledger on {client}"
            server = "" if cost.server_cpu_s is None else f"{cost.server_cpu_s / cost.count * 1000:.3f}"
            rows.append(
                [
                    label, f"{cost.cpu_a_thousand:.3f}", times(cost.cpu_a_thousand, floor.cpu_a_thousand),
                    f"{cost.count / cost.wall_s:,.0f}", megabytes(cost.rss), server,
                ]
            )  # fmt: skip
    head = ("client", "CPU-s per 1,000", "to the floor", "per second", "most memory, MB", "database server's CPU-s")
    return Table(f"{task.load.name}, {task.count:,} chunks", head, rows)


def _bar(task: Task, medians: Mapping[tuple[str, str], Cost], ledger: str) -> Bar:
    what = f"{task.name}, CPU-s per 1,000, ledger on {ledger}"
    return Bar(what, task.cpu_aim_s, medians[task.name, ledger].cpu_a_thousand)
