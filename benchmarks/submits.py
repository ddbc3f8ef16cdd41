"""Submitting alone: one large `run` file into a fleet that has no worker, and the same command once more.

Nothing is sent, so this is what reading, checking, counting, hashing and loading cost, by the command line.

python -m benchmarks.submits 5000000 --database PostgreSQL
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import redis

from benchmarks import servers
from benchmarks.loads import request_line
from benchmarks.machine import MB, cpu_s, rss_of, with_children
from benchmarks.report import Bar, Section, Table, megabytes
from corpusmill._entry import bare_env, child_command

SQLITE, POSTGRES = "SQLite", "PostgreSQL"
SAMPLE_S = 0.2
# For a million items; the last of these for five million too.
WALL_AIM_S, MEMORY_AIM_MB, REDIS_AIM_MB, AGAIN_AIM_S = 60.0, 300.0, 20.0, 60.0
# How much more CPU an item of the largest job may take than one of the smallest.
GROWTH_AIM = 1.1


@dataclass(slots=True)
class Watched:
    """A command from its start to its end: seconds, CPU with all it started, memory of all its processes at a time."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    rss: list[int] = field(default_factory=list)

    def rss_at(self, share: float) -> int:
        """The most memory up to that share of its time."""
        return max(self.rss[: max(1, round(len(self.rss) * share))])


@dataclass(frozen=True, slots=True)
class Submit:
    """One size on one database. `server_s`: CPU of PostgreSQL; `load`: the machine's load average at the end."""

    database: str
    count: int
    file_bytes: int
    first: Watched
    again: Watched
    server_s: float
    redis_bytes: int
    load: float

    def a_thousand(self, seconds: float) -> float:
        """Those seconds for a thousand items."""
        return seconds / self.count * 1000


def measure(counts: Sequence[int], databases: Sequence[str] = (SQLITE, POSTGRES)) -> Section:
    """Each size on each database."""
    runs = [_submit(database, count) for count in counts for database in databases]
    return Section(
        "Submitting alone",
        "`corpusmill run FILE --detach` with broker and database set and no worker: requests of about 50 tokens, every "
        "line checked, counted and hashed, all rows durable. CPU and memory are those of the command and the processes "
        "that it starts; PostgreSQL's own CPU stands beside. Nothing is pinned: both cores are used. Then the same "
        "command once more, which finds the job by the digest of its file.",
        [_table(runs)],
        _bars(runs),
    )


def _submit(database: str, count: int) -> Submit:
    with tempfile.TemporaryDirectory() as name, servers.valkey(Path(name), None) as broker:
        folder = Path(name)
        source = folder / "requests.jsonl"
        with source.open("wb") as lines:
            lines.writelines(request_line(number) + b"\n" for number in range(count))
        with _database(database, folder) as (url, server):
            environment = _environment(folder, broker.url, url)
            command = [*child_command("corpusmill"), "run", str(source), "--detach", "--no-progress", "-q"]
            before = _server_s(server)
            first = _watched(command, environment)
            server_s = _server_s(server) - before
            again = _watched(command, environment)
        with redis.Redis.from_url(broker.url) as client:
            used = int(client.info("memory")["used_memory"])
        return Submit(database, count, source.stat().st_size, first, again, server_s, used, os.getloadavg()[0])


@contextmanager
def _database(name: str, folder: Path) -> Iterator[tuple[str, int | None]]:
    """A migrated database: its URL, and the process of its server."""
    if name == SQLITE:
        with servers.sqlite(folder) as url:
            yield url, None
    else:
        with servers.postgres(None) as server:
            yield server.url, server.pid


def _environment(home: Path, broker: str, database: str) -> dict[str, str]:
    return {
        **bare_env(os.environ),
        "CORPUSMILL_HOME": str(home / "home"),
        "CORPUSMILL_BROKER_URL": broker,
        "CORPUSMILL_DATABASE_URL": database,
        # Nobody listens there: nothing is sent.
        "CORPUSMILL_PROVIDERS__NOBODY__BASE_URL": "http://127.0.0.1:9/v1",
        "CORPUSMILL_PROVIDERS__NOBODY__API_KEY": "sk-bench",
    }


def _server_s(pid: int | None) -> float:
    """CPU of PostgreSQL: of its processes that live, and of those that it has seen end, as that of a closed session."""
    if pid is None:
        return 0.0
    ended = psutil.Process(pid).cpu_times()
    return cpu_s(with_children(pid)) + ended.children_user + ended.children_system


def _watched(command: Sequence[str], environment: Mapping[str, str]) -> Watched:
    seen, began, before = Watched(), time.perf_counter(), os.times()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with suppress(psutil.Error):
                seen.rss.append(sum(map(rss_of, with_children(process.pid))))
            time.sleep(SAMPLE_S)
    if process.returncode:
        raise RuntimeError(f"the command ended with {process.returncode}")
    after = os.times()
    seen.wall_s = time.perf_counter() - began
    # Those of a child include those of the children that it has waited for.
    seen.cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return seen


def _table(runs: Sequence[Submit]) -> Table:
    rows = [
        [
            run.database, f"{run.count:,}", megabytes(run.file_bytes), f"{run.first.wall_s:.1f}",
            f"{run.first.cpu_s:.1f}", f"{run.a_thousand(run.first.cpu_s):.3f}",
            f"{run.a_thousand(run.server_s):.3f}" if run.server_s else "-",
            ", ".join(megabytes(run.first.rss_at(share)) for share in (0.25, 0.5, 1)),
            f"{run.redis_bytes / MB:.1f}", f"{run.again.wall_s:.1f}", f"{run.load:.1f}",
        ]
        for run in runs
    ]  # fmt: skip
    head = (
        "database", "requests", "file, MB", "submitted after, s", "CPU-s", "CPU-s per 1,000", "PostgreSQL per 1,000",
        "MB of memory up to ¼, ½, 1", "Redis, MB", "the same again, s", "load average",
    )  # fmt: skip
    return Table("Submitting, starts included", head, rows)


def _bars(runs: Sequence[Submit]) -> list[Bar]:
    """The aims, held against the largest size on each database."""
    smallest, largest = {run.database: run for run in reversed(runs)}, {run.database: run for run in runs}
    return [bar for name, run in largest.items() for bar in _bars_of(run, smallest[name])]


def _bars_of(run: Submit, small: Submit) -> list[Bar]:
    size = f"{run.count:,} requests on {run.database}"
    grown = run.a_thousand(run.first.cpu_s + run.server_s) / small.a_thousand(small.first.cpu_s + small.server_s)
    return [
        Bar(f"submit {size}, reckoned for a million", WALL_AIM_S, run.first.wall_s / run.count * 1e6, " s"),
        Bar(f"memory while {size} are submitted", MEMORY_AIM_MB, run.first.rss_at(1) / MB, " MB"),
        Bar(f"CPU an item of {size} over that of {small.count:,}", GROWTH_AIM, grown),
        Bar(f"all of Redis, {size}", REDIS_AIM_MB, run.redis_bytes / MB, " MB"),
        Bar(f"the same command again, {size}", AGAIN_AIM_S, run.again.wall_s, " s"),
    ]


def main() -> None:
    """Measure sizes of your choice, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="+", type=int, help="requests in a file")
    parser.add_argument("--database", choices=(SQLITE, POSTGRES), help="only this one")
    asked = parser.parse_args()
    databases = (asked.database,) if asked.database else (SQLITE, POSTGRES)
    print(measure(asked.counts, databases).as_markdown())


if __name__ == "__main__":
    main()
