"""LightRAG's own OpenAI functions beside ours: the same calls, one process on one core, the bundled endpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from benchmarks.lightrag_calls import TEXTS_A_CALL, Calls
from benchmarks.machine import cores, pinned
from benchmarks.report import Bar, Section, Table, middle
from benchmarks.simulator import simulator

IN_FLIGHT = (16, 100)
LATENCY_MS = "50"


@dataclass(frozen=True, slots=True)
class Case:
    """One row: a kind of call and how many are in flight. `aim`: times LightRAG's rate."""

    task: str
    in_flight: int
    aim: float


# What a program that uses only the functions loads, beside what it cannot do without.
STARTS = {"openai and numpy": "openai, numpy", "corpusmill.lightrag.openai": "corpusmill.lightrag.openai"}
START_TURNS, START_AIM = 7, 1.2
CASES = [Case("chat", n, 10) for n in IN_FLIGHT] + [Case("embeddings", n, 5) for n in IN_FLIGHT]
Found = Mapping[tuple[Case, str], Calls]


def measure(calls: int, turns: int) -> Section:
    """Run all turns; LightRAG makes `calls` calls a case, ours ten times as many."""
    if find_spec("lightrag") is None:
        return Section("LightRAG's functions", "Not measured: lightrag-hku is not installed.", [])
    found = {
        (case, client): _median(list(_turns(case, client, calls * (10 if client == "corpusmill" else 1), turns)))
        for case in CASES
        for client in ("lightrag", "corpusmill")
    }
    starts = _starts()
    return Section(
        "LightRAG's functions",
        f"`openai_complete_if_cache` and `openai_embed.func` of lightrag-hku beside ours, no two calls alike, texts of "
        f"2,000 characters, embeddings {TEXTS_A_CALL} texts a call, {LATENCY_MS} ms latency. LightRAG builds and "
        f"closes a client on every call. Medians of {turns} turns on one core; imports and a warm-up left out. "
        f"A start is the CPU time of a process that only imports, with the interpreter's: medians of {START_TURNS}.",
        [_table(found), _start_table(starts)],
        [*(_bar(case, found) for case in CASES), _start_bar(starts)],
    )


def _starts() -> dict[str, float]:
    """CPU seconds from the start of a process to the end of its imports."""
    program = "import time, {}; print(time.process_time())"
    taken: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(START_TURNS):
        for name, modules in STARTS.items():
            command = [sys.executable, "-c", program.format(modules)]
            taken[name].append(float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
    return {name: middle(seconds) for name, seconds in taken.items()}


def _start_table(starts: Mapping[str, float]) -> Table:
    return Table("Starting", ("imports", "CPU, s"), [[name, f"{seconds:.2f}"] for name, seconds in starts.items()])


def _start_bar(starts: Mapping[str, float]) -> Bar:
    theirs, ours = starts.values()
    return Bar("start, times that of `import openai, numpy`", START_AIM, ours / theirs, " x")


def _turns(case: Case, client: str, calls: int, turns: int) -> Iterator[Calls]:
    on = cores()
    for _ in range(turns):
        with simulator(on.rest, "--latency-ms", LATENCY_MS) as (base_url, _), pinned(on.measured):
            command = [sys.executable, "-m", "benchmarks.lightrag_calls", client, case.task, base_url]
            done = subprocess.run([*command, str(calls), str(case.in_flight)], stdout=subprocess.PIPE, check=True)
        yield Calls(**json.loads(done.stdout))


def _median(calls: Sequence[Calls]) -> Calls:
    return Calls(calls[0].count, middle(each.cpu_s for each in calls), middle(each.wall_s for each in calls))


def _table(found: Found) -> Table:
    rows = [
        [
            f"{case.task}, {case.in_flight} in flight, {client}",
            f"{calls.count / calls.wall_s:,.0f}",
            f"{calls.count / calls.wall_s * TEXTS_A_CALL:,.0f}" if case.task == "embeddings" else "",
            f"{calls.cpu_s / calls.count * 1000:.2f}",
        ]
        for (case, client), calls in found.items()
    ]
    return Table("LightRAG's functions and ours", ("calls", "calls/s", "texts/s", "CPU a call, ms"), rows)


def _bar(case: Case, found: Found) -> Bar:
    theirs, ours = found[case, "lightrag"], found[case, "corpusmill"]
    ratio = (ours.count / ours.wall_s) / (theirs.count / theirs.wall_s)
    return Bar(f"{case.task}, {case.in_flight} in flight, times LightRAG's rate", case.aim, ratio, " x", at_least=True)
