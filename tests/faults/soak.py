"""`make soak MINUTES=30`: two workers and a scheduler at full speed, and whether anything grows that should not.

Every ten seconds it looks at the memory and the open files of each process and at the keys in Redis. The first part of
a run is warm-up: interpreters, caches and pools fill. After it memory may grow by less than 1 MB a minute, files and
keys not at all.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median

import psutil

from corpusmill.ledger.records import JobView
from tests.fixtures.fleet import NO_LIMITS, Fleet, chunks, embeddings
from tests.fixtures.postgres import running_postgres
from tests.fixtures.simulator import running
from tests.fixtures.valkey import running_server

EVERY_S = 10.0
# Of the run, and never more than so much.
WARM_UP, LONGEST_WARM_UP_S = 0.25, 300.0
JOB_ITEMS = 4_000
# Jobs that are loaded and not finished: so many that the workers never run dry.
AHEAD = 2
MOST_MB_A_MINUTE = 1.0
# Connections that a pool opens and closes as it needs them.
MOST_FILES_MORE = 10


@dataclass
class Series:
    """What was seen of one thing: (seconds since the start, value)."""

    points: list[tuple[float, float]] = field(default_factory=list)

    def slope_a_minute(self) -> float:
        """By least squares."""
        return float(linear_regression(*zip(*self.points, strict=True)).slope) * 60

    def growth(self) -> float:
        """The middle of the last third over that of the first: one look means little."""
        values = [value for _, value in self.points]
        third = max(1, len(values) // 3)
        return median(values[-third:]) - median(values[:third])

    def since(self, start_s: float) -> Series:
        """Without what was before."""
        return Series([point for point in self.points if point[0] >= start_s])


@dataclass
class Outcome:
    """What a soak came to. `rss` is in MB, by process; `wrong` is empty when nothing grew and the ledger adds up."""

    rss: dict[str, Series] = field(default_factory=dict)
    files: dict[str, Series] = field(default_factory=dict)
    keys: Series = field(default_factory=Series)
    seconds: float = 0.0
    items: int = 0
    paid_twice: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def warm_up_s(self) -> float:
        """How much of it does not count."""
        return min(LONGEST_WARM_UP_S, self.seconds * WARM_UP)

    def judge(self) -> None:
        """Say what grew."""
        for name, series in self.rss.items():
            if (slope := series.since(self.warm_up_s).slope_a_minute()) >= MOST_MB_A_MINUTE:
                self.wrong.append(f"{name} grows by {slope:.2f} MB a minute")
        for name, series in self.files.items():
            if (more := series.since(self.warm_up_s).growth()) > MOST_FILES_MORE:
                self.wrong.append(f"{name} has {more:.0f} files more")
        if (more := self.keys.since(self.warm_up_s).growth()) > 0:
            self.wrong.append(f"Redis has {more:.0f} keys more")
        if self.paid_twice:
            self.wrong.append(f"{self.paid_twice} paid twice")

    def __str__(self) -> str:
        lines = [f"{self.seconds / 60:.1f} minutes, {self.items:,} items, {self.paid_twice} paid twice"]
        for name, series in self.rss.items():
            counted, files = series.since(self.warm_up_s), self.files[name].since(self.warm_up_s)
            first, last = counted.points[0][1], counted.points[-1][1]
            lines.append(
                f"{name}: {first:.0f} to {last:.0f} MB, {counted.slope_a_minute():+.2f} MB a minute; "
                f"{median(value for _, value in files.points):.0f} files, {files.growth():+.0f}"
            )
        keys = self.keys.since(self.warm_up_s)
        lines.append(f"Redis: {median(value for _, value in keys.points):.0f} keys, {keys.growth():+.0f}")
        return "\n".join([*lines, "; ".join(self.wrong) or "nothing grew"])


@contextmanager
def soaking(folder: Path) -> Iterator[Fleet]:
    """A fleet at full speed: no limits, an endpoint that answers soon."""
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        broker = stack.enter_context(running_server())
        simulator = stack.enter_context(running(folder / "paid.jsonl", latency_ms=50))
        fleet = Fleet(folder, broker, postgres.url, simulator, limits=NO_LIMITS, lease_s=30.0)
        stack.callback(fleet.close)
        yield fleet


def soak(fleet: Fleet, minutes: float) -> Outcome:
    """Run jobs for so long, look, and judge."""
    processes = {"scheduler": fleet.scheduler(), "worker 0": fleet.worker(), "worker 1": fleet.worker()}
    watched = {name: psutil.Process(process.pid) for name, process in processes.items()}
    outcome = Outcome({name: Series() for name in watched}, {name: Series() for name in watched})
    jobs: list[JobView] = []
    numbers = itertools.count()
    started = looked = time.monotonic()
    while (seconds := time.monotonic() - started) < minutes * 60:
        jobs = [job for job in jobs if not _finished(fleet, job, outcome)]
        jobs += [_submit(fleet, next(numbers)) for _ in range(AHEAD - len(jobs))]
        if time.monotonic() - looked >= EVERY_S:
            looked = time.monotonic()
            _look(fleet, watched, outcome, seconds)
        time.sleep(0.2)
    for job in jobs:
        outcome.items += fleet.wait(job, within_s=300).succeeded
    outcome.seconds = seconds
    outcome.paid_twice = fleet.simulator.stats()["duplicates_paid"]
    outcome.judge()
    return outcome


def _submit(fleet: Fleet, number: int) -> JobView:
    """Every fourth job is one of embeddings."""
    about = f"Job {number} at {time.time():.0f}"
    texts = [f"{about}: sack {sack} of the mill, and what is in it." for sack in range(JOB_ITEMS)]
    if number % 4 != 3:
        return fleet.complete(texts)
    spec = embeddings(fleet.endpoint, dimensions=256)
    return fleet.submit(spec, chunks(spec, texts), shard_size=1_000)


def _finished(fleet: Fleet, job: JobView, outcome: Outcome) -> bool:
    if fleet.state(job) != "finished":
        return False
    counts, audit = fleet.counts(job), fleet.ledger.audit(job.id)
    outcome.items += counts.succeeded
    if counts.succeeded != JOB_ITEMS or not audit.adds_up:
        outcome.wrong.append(f"{job.public_id}: {counts}, {[str(each) for each in audit.mismatches]}")
    return True


def _look(fleet: Fleet, watched: dict[str, psutil.Process], outcome: Outcome, at_s: float) -> None:
    for name, process in watched.items():
        outcome.rss[name].points.append((at_s, process.memory_info().rss / 1e6))
        outcome.files[name].points.append((at_s, process.num_fds()))
    with fleet.broker.client() as redis:
        outcome.keys.points.append((at_s, float(redis.dbsize())))
    sizes = ", ".join(f"{name} {series.points[-1][1]:.0f} MB" for name, series in outcome.rss.items())
    print(f"{at_s:6.0f} s: {sizes}; {outcome.keys.points[-1][1]:.0f} keys; {outcome.items:,} items", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, print what came of it; 1 when something grew."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="cm-soak-") as folder, soaking(Path(folder)) as fleet:
        outcome = soak(fleet, options.minutes)
        print(outcome)
        if outcome.wrong:
            print(fleet.log()[-3_000:])
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
