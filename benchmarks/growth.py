"""Whether a job's size shows in memory: one `run` file by the command line, in embedded mode, watched from outside."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.embedded_watch import CLI, SCHEDULER, SUPERVISOR, VALKEY, WORKER, Sample, Watcher
from benchmarks.loads import request_line
from benchmarks.machine import MB, cores
from benchmarks.report import Bar, Section, Table, megabytes
from benchmarks.simulator import simulator
from corpusmill._entry import bare_env, child_command

SAMPLE_S = 0.5
QUEUE_AIM_MB = 5.0
# How much more memory a job ten times as large may take: what an allocator keeps, not what a list of items takes.
GROWTH_AIM = 1.25
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Run:
    """One size, and what was seen while it ran."""

    count: int
    file_bytes: int
    samples: Sequence[Sample]

    @property
    def submit_s(self) -> float:
        """Seconds until the first request was paid for."""
        return next(sample.at_s for sample in self.samples if sample.paid)

    @property
    def worked_s(self) -> float:
        """Seconds from the first paid request to the last."""
        return next(sample.at_s for sample in self.samples if sample.paid >= self.count) - self.submit_s

    @property
    def wall_s(self) -> float:
        """Seconds until the command ended, its output written."""
        return self.samples[-1].at_s

    def peak(self, name: str) -> int:
        """The most memory of a process."""
        return max(sample.rss.get(name, 0) for sample in self.samples)

    def at(self, name: str, share: float) -> int:
        """The memory of a process when that share of the requests was paid for."""
        return next(sample.rss.get(name, 0) for sample in self.samples if sample.paid >= share * self.count)

    def cpu_a_thousand(self, name: str) -> float:
        """CPU seconds of a process for a thousand requests, its start included."""
        return max(sample.cpu_s.get(name, 0.0) for sample in self.samples) / self.count * 1000


def measure(counts: Sequence[int]) -> Section:
    """One run for each size, each in a HOME of its own."""
    runs = [_run(count) for count in counts]
    return Section(
        "Growth: one run file, embedded",
        "`corpusmill run FILE --out …` with nothing configured but the endpoint: supervisor, Valkey, scheduler and one "
        "worker on SQLite, nothing pinned. Requests of about 50 tokens, 50 ms latency. Submitting lasts until the "
        "first request is answered: starting everything, checking, counting and loading are in it.",
        [_sizes(runs), _memory(runs), _along(runs)],
        _bars(runs),
    )


def _run(count: int) -> Run:
    with tempfile.TemporaryDirectory() as folder, simulator(cores().rest, "--latency-ms", "50") as (base_url, _):
        source = Path(folder) / "requests.jsonl"
        with source.open("wb") as lines:
            lines.writelines(request_line(number) + b"\n" for number in range(count))
        home, corpusmill = Path(folder) / "home", child_command("corpusmill")
        environment = _environment(home, base_url)
        try:
            command = [*corpusmill, "run", str(source), "--out", str(Path(folder) / "out.jsonl"), "--no-progress"]
            return Run(count, source.stat().st_size, _watched(command, environment, home, base_url))
        finally:
            subprocess.run([*corpusmill, "down", "-q"], env=environment, check=False)


def _environment(home: Path, base_url: str) -> dict[str, str]:
    return {
        **bare_env(os.environ),
        "CORPUSMILL_HOME": str(home),
        # Nobody waits under it, but every request passes the limiter.
        "CORPUSMILL_LIMITS__RPM": "1000000",
        "CORPUSMILL_LIMITS__TPM": "1000000000",
        "CORPUSMILL_PROVIDERS__SIMULATOR__BASE_URL": base_url,
        "CORPUSMILL_PROVIDERS__SIMULATOR__API_KEY": "sk-bench",
    }


def _watched(command: Sequence[str], environment: Mapping[str, str], home: Path, base_url: str) -> list[Sample]:
    samples: list[Sample] = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        watcher = Watcher(process.pid, home, base_url)
        while process.poll() is None:
            samples.append(watcher.sample())
            time.sleep(SAMPLE_S)
    if process.returncode:
        raise RuntimeError(f"the command ended with {process.returncode}")
    return [*samples, watcher.sample()]


def _sizes(runs: Sequence[Run]) -> Table:
    rows = [
        [
            f"{run.count:,}", megabytes(run.file_bytes), f"{run.submit_s:.1f}", f"{run.wall_s:.1f}",
            f"{run.count / run.worked_s:,.0f}", f"{run.cpu_a_thousand(WORKER):.2f}", f"{run.cpu_a_thousand(CLI):.2f}",
            f"{run.cpu_a_thousand(SCHEDULER):.2f}",
        ]
        for run in runs
    ]  # fmt: skip
    head = (
        "requests", "file, MB", "submitted after, s", "all done after, s", "requests/s",
        "CPU-s per 1,000: worker", "command", "scheduler",
    )  # fmt: skip
    return Table("Time and CPU, starts included", head, rows)


def _memory(runs: Sequence[Run]) -> Table:
    names = (CLI, WORKER, SCHEDULER, SUPERVISOR, VALKEY)
    rows = [
        [
            f"{run.count:,}", *(megabytes(run.peak(name)) for name in names),
            f"{max(sample.queue.messages for sample in run.samples):,}", f"{_queue_mb(run):.3f}",
            f"{_redis_mb(run):.1f}",
        ]
        for run in runs
    ]  # fmt: skip
    head = ("requests", *names, "longest queue, messages", "queue in Redis, MB", "all of Redis, MB")
    return Table("Most memory, MB", head, rows)


def _along(runs: Sequence[Run]) -> Table:
    """Memory of command and worker while the largest run goes on."""
    run = runs[-1]
    rows = [[name, *(megabytes(run.at(name, share)) for share in SHARES)] for name in (CLI, WORKER, VALKEY)]
    return Table(f"Memory along {run.count:,} requests, MB", ("process", *(f"{s:.0%} done" for s in SHARES)), rows)


def _bars(runs: Sequence[Run]) -> list[Bar]:
    small, large = runs[0], runs[-1]
    grown = f"at {large.count:,} over that at {small.count:,} requests"
    return [
        Bar(f"queue in Redis, {large.count:,} requests", QUEUE_AIM_MB, _queue_mb(large), " MB"),
        Bar(f"all of Redis, {large.count:,} requests", QUEUE_AIM_MB, _redis_mb(large), " MB"),
        *(
            Bar(f"most memory of the {name} {grown}", GROWTH_AIM, large.peak(name) / small.peak(name))
            for name in (CLI, WORKER)
        ),
        Bar(
            f"worker memory at the end over that at 10 % of {large.count:,}",
            GROWTH_AIM,
            large.at(WORKER, 1) / large.at(WORKER, 0.1),
        ),
    ]


def _queue_mb(run: Run) -> float:
    return max(sample.queue.queue_bytes for sample in run.samples) / MB


def _redis_mb(run: Run) -> float:
    return max(sample.queue.redis_bytes for sample in run.samples) / MB
