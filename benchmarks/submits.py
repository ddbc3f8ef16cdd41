"""Submitting alone: one large `run` file into a fleet that has no worker, and the same command once more.

Nothing is sent, so this is what reading, checking, counting, hashing and loading cost, by the command line. Then the
job is paused, as Ctrl-C leaves one, a worker comes up, and the same command has to get its first request sent.

python -m benchmarks.submits 5000000 --database PostgreSQL
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import redis

from benchmarks import servers
from benchmarks.fleet import Fleet
from benchmarks.growth_runs import NOT_PINNED, write_requests
from benchmarks.hot_path import RPM, TPM
from benchmarks.machine import MB, cores, rss_of, with_children
from benchmarks.report import Bar, Section, Table, megabytes
from benchmarks.simulator import simulator, stats
from corpusmill._entry import child_command

SQLITE, POSTGRES = "SQLite", "PostgreSQL"
SAMPLE_S, POLL_S = 0.2, 0.02
MILLION = 1_000_000
# By the number of requests; another number is held against what it comes to for a million.
WALL_AIMS_S = {MILLION: 60.0, 5 * MILLION: 360.0}
MEMORY_AIM_MB, REDIS_AIM_MB, AGAIN_AIM_S = 300.0, 20.0, 60.0
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
    """One size on one database.

    `server_s`: CPU of PostgreSQL while the job was submitted; `again_server_s`: while it was once more.
    `sent_after_s`: from the start of the same command for the paused job to its first request.
    `load`: the machine's load average at the end.
    """

    database: str
    count: int
    file_bytes: int
    first: Watched
    again: Watched
    server_s: float
    again_server_s: float
    sent_after_s: float
    redis_bytes: int
    load: float

    def a_thousand(self, seconds: float) -> float:
        """Those seconds for a thousand items."""
        return seconds / self.count * 1000


def measure(
    counts: Sequence[int], databases: Sequence[str] = (SQLITE, POSTGRES), *, on_postgres: Sequence[int] = ()
) -> Section:
    """Each size of `counts` on each database, and those `on_postgres` there alone."""
    runs = [_submit(database, count) for count in counts for database in databases]
    runs += [_submit(POSTGRES, count) for count in on_postgres]
    return Section(
        "Submitting alone",
        "`corpusmill run FILE --detach` with broker and database set and no worker: requests of about 50 tokens, every "
        "line checked, counted and hashed, all rows durable. CPU and memory are those of the command and the processes "
        "that it starts; PostgreSQL's own CPU stands beside. Nothing is pinned: both cores are used. Then the same "
        "command once more, which finds the job by the digest of its file; and again for the job paused, with a worker "
        "waiting for it, until the first request reaches the endpoint.",
        [_table(runs), _again(runs)],
        _bars(runs),
    )


def _submit(database: str, count: int) -> Submit:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(servers.valkey(folder, None))
        base_url, _ = stack.enter_context(simulator(cores().rest))
        url, server = stack.enter_context(_database(database, folder))
        home, source = folder / "home", write_requests(folder / "requests.jsonl", count)
        home.mkdir()
        fleet = Fleet(home, broker.url, url, base_url, NOT_PINNED, rpm=RPM, tpm=TPM)
        stack.callback(fleet.close)
        command = [*child_command("corpusmill"), "run", str(source), "--no-progress", "-q"]
        began_s = _server_s(server)
        first = _watched([*command, "--detach"], fleet.environment)
        first_s = _server_s(server)
        again = _watched([*command, "--detach"], fleet.environment)
        again_s = _server_s(server)
        sent_after_s = _sent_after(command, fleet, base_url)
        with redis.Redis.from_url(broker.url) as client:
            used = int(client.info("memory")["used_memory"])
        return Submit(
            database, count, source.stat().st_size, first, again, first_s - began_s, again_s - first_s, sent_after_s,
            used, os.getloadavg()[0],
        )  # fmt: skip


@contextmanager
def _database(name: str, folder: Path) -> Iterator[tuple[str, servers.Server | None]]:
    """A migrated database: its URL, and its server."""
    if name == SQLITE:
        with servers.sqlite(folder) as url:
            yield url, None
    else:
        with servers.postgres(None) as server:
            yield server.url, server


def _server_s(server: servers.Server | None) -> float:
    return server.cpu_s() if server else 0.0


def _sent_after(command: Sequence[str], fleet: Fleet, base_url: str) -> float:
    """Seconds from the start of the command for a paused job to the first request that the endpoint gets."""
    (job,) = fleet.ledger.jobs()
    fleet.ledger.pause(job.id, "user")
    with fleet.scheduler(), fleet.worker(None):
        began = time.perf_counter()
        with subprocess.Popen(command, env=fleet.environment, stdout=subprocess.DEVNULL) as process:
            while not stats(base_url)["requests"]:
                if process.poll() is not None:
                    raise RuntimeError(f"the command ended with {process.returncode} before it sent anything")
                time.sleep(POLL_S)
            seconds = time.perf_counter() - began
            # What was to be measured is over: nobody waits for the rest.
            process.kill()
        fleet.ledger.cancel(job.id)
    return seconds


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
            f"{run.redis_bytes / MB:.1f}", f"{run.load:.1f}",
        ]
        for run in runs
    ]  # fmt: skip
    head = (
        "database", "requests", "file, MB", "submitted after, s", "CPU-s", "CPU-s per 1,000", "PostgreSQL per 1,000",
        "MB of memory up to ¼, ½, 1", "Redis, MB", "load average",
    )  # fmt: skip
    return Table("Submitting, starts included", head, rows)


def _again(runs: Sequence[Submit]) -> Table:
    rows = [
        [
            run.database, f"{run.count:,}", f"{run.again.wall_s:.1f}", f"{run.again.cpu_s:.1f}",
            f"{run.again_server_s:.1f}" if run.server_s else "-", f"{run.sent_after_s:.1f}",
        ]
        for run in runs
    ]  # fmt: skip
    head = ("database", "requests", "detached, s", "CPU-s", "PostgreSQL's CPU-s", "first request after, s")
    return Table("The same command again", head, rows)


def _bars(runs: Sequence[Submit]) -> list[Bar]:
    """The aims, held against every size that has one of its own and the largest size on each database."""
    smallest, largest = {run.database: run for run in reversed(runs)}, {run.database: run for run in runs}
    chosen = [run for run in runs if run.count in WALL_AIMS_S or run is largest[run.database]]
    return [bar for run in chosen for bar in _bars_of(run, smallest[run.database])]


def _bars_of(run: Submit, small: Submit) -> list[Bar]:
    size = f"{run.count:,} requests on {run.database}"
    grown = run.a_thousand(run.first.cpu_s + run.server_s) / small.a_thousand(small.first.cpu_s + small.server_s)
    return [
        _wall_bar(run, f"submit {size}"),
        Bar(f"memory while {size} are submitted", MEMORY_AIM_MB, run.first.rss_at(1) / MB, " MB"),
        Bar(f"CPU an item of {size} over that of {small.count:,}", GROWTH_AIM, grown),
        Bar(f"all of Redis, {size}", REDIS_AIM_MB, run.redis_bytes / MB, " MB"),
        Bar(f"the same command again sends its first of {size}", AGAIN_AIM_S, run.sent_after_s, " s"),
    ]


def _wall_bar(run: Submit, what: str) -> Bar:
    if run.count in WALL_AIMS_S:
        return Bar(what, WALL_AIMS_S[run.count], run.first.wall_s, " s")
    return Bar(f"{what}, reckoned for a million", WALL_AIMS_S[MILLION], run.first.wall_s / run.count * MILLION, " s")


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
