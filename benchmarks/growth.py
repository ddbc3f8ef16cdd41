"""Whether a job's size shows in what an item costs and in memory: one `run` file by the command line, in several sizes.

Embedded, and on PostgreSQL and Valkey with a fleet of one worker. A tiny run comes first: what it takes is the start
of everything, which is told apart from what the items take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks import growth_runs
from benchmarks.growth_runs import LATENCY_MS, Run
from benchmarks.report import Bar, Section, Table, megabytes
from benchmarks.run_watch import COMMAND, POSTGRES, SCHEDULER, SUPERVISOR, VALKEY, WORKER

# Requests of the run that is all start, and how often it is made: the middle one counts.
START, STARTS = 100, 3
QUEUE_AIM_MB = 5.0
# How much more memory a job ten times as large may take: what an allocator keeps, not what a list of items takes.
GROWTH_AIM = 1.25
# How much more CPU a request of the largest job may take than one of the smallest.
CPU_AIM = 1.1
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
_ABOUT = (
    f"Requests of about 50 tokens, {LATENCY_MS} ms latency, one worker, nothing pinned. The first answer comes when "
    f"all is checked, counted and loaded. The middle one of {STARTS} runs of {START} requests, which are all start, is "
    "taken off where the start is left out."
)


def measure_embedded(counts: Sequence[int]) -> Section:
    """One run for each size, each in a HOME of its own."""
    about = (
        "`corpusmill run FILE --out …` with nothing configured but the endpoint: supervisor, Valkey, scheduler and one "
        f"worker on SQLite. {_ABOUT}"
    )
    names = (COMMAND, WORKER, SCHEDULER, SUPERVISOR, VALKEY)
    start, runs = _start(growth_runs.embedded, names), [growth_runs.embedded(count) for count in counts]
    return _section("Growth: one run file, embedded", about, start, runs, names)


def measure_on_servers(counts: Sequence[int]) -> Section:
    """One run for each size, each on servers of its own."""
    about = (
        "`corpusmill run FILE --out …` on a fleet: PostgreSQL and Valkey with their default settings, a scheduler and "
        f"one worker, idle until the command begins. {_ABOUT}"
    )
    names = (COMMAND, WORKER, SCHEDULER, POSTGRES, VALKEY)
    start, runs = _start(growth_runs.on_servers, names), [growth_runs.on_servers(count) for count in counts]
    return _section("Growth: one run file, a fleet", about, start, runs, names)


def _start(run: Callable[[int], Run], names: Sequence[str]) -> Run:
    """The middle run of those that are all start."""
    return sorted((run(START) for _ in range(STARTS)), key=lambda one: _cpu_s(one, names))[STARTS // 2]


def _section(title: str, about: str, start: Run, sizes: Sequence[Run], names: Sequence[str]) -> Section:
    where = "embedded" if SUPERVISOR in names else "on a fleet"
    own = [name for name in names if name != POSTGRES]  # its processes share most of their memory
    tables = [_time(sizes), _cpu(start, sizes, names), _memory(sizes, own), _along(sizes[-1], own)]
    return Section(title, about, tables, [*_cpu_bars(start, sizes, names, where), *_memory_bars(sizes, where)])


def _time(runs: Sequence[Run]) -> Table:
    rows = [
        [
            f"{run.count:,}", megabytes(run.file_bytes), f"{run.submit_s:.1f}", f"{run.wall_s:.1f}",
            f"{run.count / run.worked_s:,.0f}",
        ]
        for run in runs
    ]  # fmt: skip
    return Table("Time", ("requests", "file, MB", "first answer after, s", "all done after, s", "requests/s"), rows)


def _cpu(start: Run, runs: Sequence[Run], names: Sequence[str]) -> Table:
    rows = [
        [
            f"{run.count:,}", *(f"{_marginal(start, run, [name]):.3f}" for name in names),
            f"{_marginal(start, run, names):.3f}", f"{_with_start(run, names):.3f}",
        ]
        for run in runs
    ]  # fmt: skip
    alone = [f"{start.count:,}, CPU-s in all", *(f"{start.cpu_s(name):.2f}" for name in names)]
    rows.append([*alone, f"{_cpu_s(start, names):.2f}", ""])
    head = ("requests", *names, "all", "all, start included")
    return Table("CPU-s per 1,000 requests, start left out", head, rows)


def _memory(runs: Sequence[Run], names: Sequence[str]) -> Table:
    rows = [
        [
            f"{run.count:,}", *(megabytes(run.peak(name)) for name in names),
            f"{max(sample.queue.messages for sample in run.samples):,}", f"{run.queue_mb:.3f}", f"{run.redis_mb:.1f}",
        ]
        for run in runs
    ]  # fmt: skip
    head = ("requests", *names, "longest queue, messages", "queue in Redis, MB", "all of Redis, MB")
    return Table("Most memory, MB", head, rows)


def _along(run: Run, names: Sequence[str]) -> Table:
    """Memory while the largest run goes on; the slope is that of a line through all samples from a tenth on."""
    rows = [
        [name, *(megabytes(run.at(name, share)) for share in SHARES), f"{megabytes(100_000 * run.slope(name))}"]
        for name in names
    ]
    head = ("process", *(f"{share:.0%} done" for share in SHARES), "more for each 100,000, from 10 % on")
    return Table(f"Memory along {run.count:,} requests, MB", head, rows)


def _cpu_bars(start: Run, runs: Sequence[Run], names: Sequence[str], where: str) -> list[Bar]:
    small, large = runs[0], runs[-1]
    grown = f"CPU a request {where} at {large.count:,} over that at {small.count:,}"
    return [
        Bar(f"{grown}, start left out", CPU_AIM, _marginal(start, large, names) / _marginal(start, small, names)),
        Bar(f"{grown}, start included", CPU_AIM, _with_start(large, names) / _with_start(small, names)),
    ]


def _memory_bars(runs: Sequence[Run], where: str) -> list[Bar]:
    small, large = runs[0], runs[-1]
    size = f"{large.count:,} requests {where}"
    return [
        Bar(f"queue in Redis, {size}", QUEUE_AIM_MB, large.queue_mb, " MB"),
        Bar(f"all of Redis, {size}", QUEUE_AIM_MB, large.redis_mb, " MB"),
        *(
            Bar(f"most memory of the {name}, {size}, over that at {small.count:,}", GROWTH_AIM,
                large.peak(name) / small.peak(name))
            for name in (COMMAND, WORKER)
        ),
        Bar(f"worker memory at the end over that at 10 % of {size}", GROWTH_AIM,
            large.at(WORKER, 1) / large.at(WORKER, 0.1)),
    ]  # fmt: skip


def _cpu_s(run: Run, names: Sequence[str]) -> float:
    return sum(run.cpu_s(name) for name in names)


def _with_start(run: Run, names: Sequence[str]) -> float:
    return _cpu_s(run, names) / run.count * 1000


def _marginal(start: Run, run: Run, names: Sequence[str]) -> float:
    """CPU seconds of a thousand requests more than the start's."""
    return (_cpu_s(run, names) - _cpu_s(start, names)) / (run.count - start.count) * 1000
