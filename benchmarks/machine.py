"""The machine that is measured on: its cores, and what processes cost on it."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Self

import psutil

MB = 1 << 20
SAMPLE_S = 0.2


@dataclass(frozen=True, slots=True)
class Cores:
    """One core for what is measured, another for all the rest; None where processes cannot be pinned."""

    measured: int | None
    rest: int | None


def cores() -> Cores:
    """Two cores of this machine, as far as there are two."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(None, None)
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[-1], usable[0])


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Start processes on one core: what is started inside inherits it from this thread."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    """User and system seconds of these processes; one that has ended counts nothing."""
    total = 0.0
    for process in processes:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def ended_s(process: psutil.Process) -> float:
    """User and system seconds of the children that a process has seen end, and of theirs."""
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.children_user + times.children_system)
    return 0.0


def with_children(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


@dataclass(slots=True)
class Sample:
    """The resident memory of each named group of processes at a moment, in bytes."""

    at_s: float
    rss: Mapping[str, int]


@dataclass(slots=True)
class Meter:
    """CPU and memory of named processes while a `with` block runs.

    `cpu_s` holds the seconds of each name once the block has ended; `samples` the memory, every fifth of a second.
    """

    processes: Mapping[str, Sequence[psutil.Process]]
    cpu_s: dict[str, float] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    wall_s: float = 0.0
    _began: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.cpu_s = {name: -cpu_s(group) for name, group in self.processes.items()}
        self._began = time.perf_counter()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s = time.perf_counter() - self._began
        for name, group in self.processes.items():
            self.cpu_s[name] += cpu_s(group)
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def peak(self, name: str) -> int:
        """The most memory that a group had."""
        return max(sample.rss[name] for sample in self.samples)

    def _watch(self) -> None:
        while True:
            self.samples.append(Sample(time.perf_counter() - self._began, self._rss()))
            if self._ended.wait(SAMPLE_S):
                return

    def _rss(self) -> dict[str, int]:
        return {name: sum(map(rss_of, group)) for name, group in self.processes.items()}


def rss_of(process: psutil.Process) -> int:
    """Resident memory in bytes; 0 once it has ended."""
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def described() -> str:
    """The machine in a line."""
    memory = psutil.virtual_memory().total / (1 << 30)
    return f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.release()}"


def versions() -> str:
    """The versions that the figures hang on, in a line."""
    parts = ("aiohttp", "celery", "openai", "orjson", "sqlalchemy", "uvloop")
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in parts)])


def _processor() -> str:
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
