"""One run of a `run` file by the command line, embedded or on a fleet, watched from outside from start to end."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression

from benchmarks import servers
from benchmarks.fleet import Fleet
from benchmarks.hot_path import RPM, TPM
from benchmarks.loads import request_line
from benchmarks.machine import MB, Cores, cores
from benchmarks.run_watch import COMMAND, Embedded, Machinery, OnServers, Sample, Watcher
from benchmarks.simulator import simulator
from corpusmill._entry import bare_env, child_command

SAMPLE_S = 0.5
LATENCY_MS = "50"
NOT_PINNED = Cores(None, None)
# Up to here memory grows because a process starts to work.
_WARM = 0.1


@dataclass(frozen=True, slots=True)
class Run:
    """One size, and what was seen while it ran. `command_s`: CPU of the command and all that it has waited for."""

    count: int
    file_bytes: int
    command_s: float
    samples: Sequence[Sample]

    @property
    def submit_s(self) -> float:
        """Seconds until the first request was paid for."""
        return next(sample.at_s for sample in self.samples if sample.paid)

    @property
    def worked_s(self) -> float:
        """Seconds from the first paid request to the last; what is over between two looks counts as one stretch."""
        return max(SAMPLE_S, next(sample.at_s for sample in self.samples if sample.paid >= self.count) - self.submit_s)

    @property
    def wall_s(self) -> float:
        """Seconds until the command ended, its output written."""
        return self.samples[-1].at_s

    def cpu_s(self, name: str) -> float:
        """CPU seconds of a process, its start included."""
        return self.command_s if name == COMMAND else max(sample.cpu_s.get(name, 0.0) for sample in self.samples)

    def peak(self, name: str) -> int:
        """The most memory of a process."""
        return max(sample.rss.get(name, 0) for sample in self.samples)

    def at(self, name: str, share: float) -> int:
        """The memory of a process when that share of the requests was paid for."""
        return next(sample.rss.get(name, 0) for sample in self.samples if sample.paid >= share * self.count)

    def slope(self, name: str) -> float:
        """Bytes of memory that a process grows by with each request, from a tenth of them on."""
        seen = [(s.paid, s.rss[name]) for s in self.samples if s.paid >= _WARM * self.count and s.rss.get(name)]
        if len({paid for paid, _ in seen}) < 2:
            return 0.0
        return linear_regression([paid for paid, _ in seen], [rss for _, rss in seen]).slope

    @property
    def redis_mb(self) -> float:
        """The most that all of Redis held."""
        return max(sample.queue.redis_bytes for sample in self.samples) / MB

    @property
    def queue_mb(self) -> float:
        """The most that the queues took in Redis."""
        return max(sample.queue.queue_bytes for sample in self.samples) / MB


Surroundings = tuple[Machinery, Mapping[str, str]]
"""What works for a command, and the environment of the command."""


def embedded(count: int) -> Run:
    """Nothing is configured but the endpoint; the command starts the rest."""
    return _run(count, _in_a_home)


def on_servers(count: int) -> Run:
    """PostgreSQL, Valkey, one worker and one scheduler are there and idle when the command begins."""
    return _run(count, _in_a_fleet)


def _run(count: int, prepared: Callable[[Path, str], AbstractContextManager[Surroundings]]) -> Run:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base_url, _ = stack.enter_context(simulator(cores().rest, "--latency-ms", LATENCY_MS))
        source = write_requests(folder / "requests.jsonl", count)
        machinery, environment = stack.enter_context(prepared(folder, base_url))
        out = str(folder / "out.jsonl")
        command = [*child_command("corpusmill"), "run", str(source), "--out", out, "--no-progress"]
        cpu_s, samples = _watched(command, environment, machinery, base_url)
        return Run(count, source.stat().st_size, cpu_s, samples)


def write_requests(file: Path, count: int) -> Path:
    """A Batch request file."""
    with file.open("wb") as lines:
        lines.writelines(request_line(number) + b"\n" for number in range(count))
    return file


@contextmanager
def _in_a_home(folder: Path, base_url: str) -> Iterator[Surroundings]:
    home = folder / "home"
    environment = {
        **bare_env(os.environ),
        "CORPUSMILL_HOME": str(home),
        # Nobody waits under it, but every request passes the limiter.
        "CORPUSMILL_LIMITS__RPM": str(RPM),
        "CORPUSMILL_LIMITS__TPM": str(TPM),
        "CORPUSMILL_PROVIDERS__SIMULATOR__BASE_URL": base_url,
        "CORPUSMILL_PROVIDERS__SIMULATOR__API_KEY": "sk-bench",
    }
    try:
        yield Embedded(home), environment
    finally:
        subprocess.run([*child_command("corpusmill"), "down", "-q"], env=environment, check=False)


@contextmanager
def _in_a_fleet(folder: Path, base_url: str) -> Iterator[Surroundings]:
    home = folder / "home"
    home.mkdir()
    with ExitStack() as stack:
        database = stack.enter_context(servers.postgres(None))
        broker = stack.enter_context(servers.valkey(folder, None))
        fleet = Fleet(home, broker.url, database.url, base_url, NOT_PINNED, rpm=RPM, tpm=TPM)
        stack.callback(fleet.close)
        scheduler = stack.enter_context(fleet.scheduler())
        worker = stack.enter_context(fleet.worker(None))
        yield OnServers(worker, scheduler, broker, database), fleet.environment


def _watched(
    command: Sequence[str], environment: Mapping[str, str], machinery: Machinery, base_url: str
) -> tuple[float, list[Sample]]:
    """The command's CPU seconds, and what was seen."""
    samples: list[Sample] = []
    before = os.times()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        watcher = Watcher(process.pid, machinery, base_url)
        while process.poll() is None:
            samples.append(watcher.sample())
            time.sleep(SAMPLE_S)
    if process.returncode:
        raise RuntimeError(f"the command ended with {process.returncode}")
    after = os.times()
    # Those of a child include those of the children that it has waited for.
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu_s, [*samples, watcher.sample()]
