"""How much of a limit the workers use together, and how often the endpoint has to refuse them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import cool_down, servers
from benchmarks.fleet import Fleet
from benchmarks.limit_cases import RPM, TPM, Case
from benchmarks.limit_watch import Watch
from benchmarks.loads import CHAT
from benchmarks.machine import cores
from benchmarks.report import Bar, Line, Plot, Section, Span, Table
from benchmarks.simulator import simulator, stats, tell

END_S = 3.0  # at a job's end the last shards are few
STORM_AT_S, STORM_S, STORM_END_S = 20.0, 10.0, 30.0
CHANGES = ((20.0, 0.5), (35.0, 1.0))  # when, and what is left of the limit
CHANGED_END_S, KILL_AT_S = 50.0, 15.0
STEP_S = 0.5  # between two points of a plot
WIDE_S = 1.0  # what a rate is taken over, to see when it is that of the limit


@dataclass(frozen=True, slots=True)
class Used:
    """What became of a limit. `share`: requests let through over what the case counts; 429s over the whole run.

    `back_s`: after a storm or a change, the seconds until 95 % (at a cut: at most 105 %) of the limit is used.
    """

    case: Case
    share: float
    requests: int
    answered_429: int
    lost: int
    paid_twice: int
    back_s: Sequence[float] = ()
    points: Sequence[tuple[float, float]] = ()


def measure(cases: Sequence[Case], seconds: float) -> Section:
    """The fleet in each case for so long, the cases that learn or in which something happens for longer."""
    found = [used(case, seconds) for case in cases]
    cooled = cool_down.measure()
    return Section(
        "The fleet under one limit",
        f"1, 2 or 4 worker processes and a scheduler on PostgreSQL share {RPM:,} RPM and {TPM:,} TPM for {seconds:.0f} "
        f"s or more; a request is charged {cases[0].charged:.0f} tokens, so tokens are the tighter limit. Workers are "
        "told nothing about each other. The share is that of what the endpoint's bucket and its refill let through "
        "since the first request where the depth is told, else that of the refill after the first seconds (learnt: "
        "the first minute). Latencies are lognormal, 300 ms in the middle.",
        [_table(found), cool_down.table(cooled)],
        [*(bar for one in found for bar in _bars(one)), *cool_down.bars(cooled)],
        plots=[_plot(one) for one in found if one.case.happens == "storm"],
    )


def used(case: Case, seconds: float) -> Used:
    """One case."""
    on, lasts_s = cores(), _lasts_s(case, seconds)
    limits = ("--rpm", str(RPM), "--tpm", str(TPM), "--depth-s", str(case.depth_s))
    flags = ("--latency-ms", case.latency_ms, "--charge-factor", str(case.charge_factor))
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base_url, _ = stack.enter_context(simulator(on.rest, *limits, *flags))
        database = stack.enter_context(servers.postgres(on.rest))
        broker = stack.enter_context(servers.valkey(home, on.rest))
        fleet = Fleet(home, broker.url, database.url, base_url, on, **case.told)
        stack.callback(fleet.close)
        stack.enter_context(fleet.scheduler())
        workers = [stack.enter_context(fleet.worker(on.measured)) for _ in range(case.workers)]
        job = fleet.submit(CHAT, int(case.allowed(lasts_s)), "measured")
        with Watch(base_url) as watch:
            fleet.feed()
            back_s = _events(case, watch, workers)
            fleet.wait(job)
        after, counts = stats(base_url), fleet.ledger.counts(job.id)
    return Used(
        case, _share(case, watch, back_s), after["paid_requests"], after["answered_429"],
        counts.items - counts.succeeded, after["duplicates_paid"], back_s, _points(case, watch),
    )  # fmt: skip


def _lasts_s(case: Case, seconds: float) -> float:
    """How long the job has to go on at the limit."""
    longest = {"storm": STORM_AT_S + STORM_END_S, "change": CHANGED_END_S, "kill": KILL_AT_S + seconds}
    # While limits are learnt, in a storm and under half a limit less is sent: the job is long enough all the same.
    return max(longest.get(case.happens, 0.0), case.warm_s + seconds)


def _events(case: Case, watch: Watch, workers: Sequence[psutil.Process]) -> Sequence[float]:
    """Let happen what happens; gives how long the fleet took to follow."""
    if case.happens == "nothing":
        return ()
    if case.happens == "kill":
        _until(watch, KILL_AT_S)
        workers[0].kill()
        return ()
    if case.happens == "storm":
        _until(watch, STORM_AT_S)
        tell(watch.base_url, "faults", {"faults": ["rate_limit_tokens=1"]})
        _until(watch, STORM_AT_S + STORM_S)
        tell(watch.base_url, "faults", {"faults": []})
        _until(watch, STORM_AT_S + STORM_END_S)
        return (_back_s(watch, STORM_AT_S + STORM_S, case.rate),)
    for at, part in CHANGES:
        _until(watch, at)
        tell(watch.base_url, "limits", {"rpm": int(RPM * part), "tpm": int(TPM * part)})
    _until(watch, CHANGED_END_S)
    return [_back_s(watch, at, case.rate * part) for at, part in CHANGES]


def _until(watch: Watch, at: float) -> None:
    while watch.since() < at:
        time.sleep(0.01)


def _back_s(watch: Watch, since: float, rate: float) -> float:
    """Seconds from `since` until the rate over the next second is the limit's, give or take a twentieth; or NaN."""
    steps = (since + step / 10 for step in range(150))
    return next((at - since for at in steps if abs(watch.rate(at, at + WIDE_S) / rate - 1) <= 0.05), float("nan"))


def _share(case: Case, watch: Watch, back_s: Sequence[float]) -> float:
    """What was let through over what might have been: all in all, or where nothing happens."""
    end = watch.last() - END_S
    if case.counted == "bucket and refill":
        return watch.passed(end) / case.allowed(end)
    if case.happens == "storm":
        return watch.rate(case.warm_s, STORM_AT_S) / case.rate
    if case.happens == "change":
        return watch.rate(CHANGES[-1][0] + 2, CHANGED_END_S) / case.rate
    if case.happens == "kill":
        return watch.rate(KILL_AT_S, KILL_AT_S + 10) / case.rate
    return watch.rate(case.warm_s, end) / case.rate


def _points(case: Case, watch: Watch) -> list[tuple[float, float]]:
    """Tokens a second over time."""
    end = STORM_AT_S + STORM_END_S if case.happens == "storm" else watch.last()
    steps = [step * STEP_S for step in range(int(end / STEP_S))]
    return [(at + STEP_S / 2, watch.rate(at, at + STEP_S) * case.charged) for at in steps]


def _plot(storm: Used) -> Plot:
    limit, end = storm.case.rate * storm.case.charged, STORM_AT_S + STORM_END_S
    return Plot(
        "storm", "Tokens a second against the limit, before, during and after a storm of 429s", "seconds",
        "tokens a second", [Line("fleet", storm.points), Line("limit", [(0, limit), (end, limit)], dashed=True)],
        [Span("429s", STORM_AT_S, STORM_AT_S + STORM_S)],
    )  # fmt: skip


def _table(found: Sequence[Used]) -> Table:
    rows = [
        [
            one.case.name, str(one.case.workers), f"{one.share:.3f}", f"{one.requests:,}", f"{one.answered_429:,}",
            f"{one.lost:,}", f"{one.paid_twice:,}", ", ".join(f"{seconds:.1f} s" for seconds in one.back_s),
        ]
        for one in found
    ]  # fmt: skip
    head = ("case", "workers", "share used", "paid requests", "answered 429", "lost", "paid twice", "follows after")
    return Table("Share of the limit", head, rows)


def _bars(one: Used) -> list[Bar]:
    case, name = one.case, f"{one.case.name}, workers: {one.case.workers}"
    bars = [Bar(f"share of the limit, {name}", 0.97, one.share, at_least=True)]
    if case.at_most_429 < 1:
        refused = one.answered_429 / (one.requests + one.answered_429)
        bars.append(Bar(f"answered 429, {name}", case.at_most_429, refused))
    bars.append(Bar(f"lost, {name}", 0, one.lost))
    if case.happens != "kill":
        bars.append(Bar(f"paid twice, {name}", 0, one.paid_twice))
    aim = 10 if case.happens == "storm" else 2
    return bars + [Bar(f"seconds until the limit is used again, {name}", aim, back, " s") for back in one.back_s]
