"""Chaos: two workers and a scheduler on PostgreSQL and Redis work a job off while everything around them fails.

`Ground` is what the runs of a series stand on; `run` does one seed and returns what came of it. The judge is the
simulator's paid count, held against the ledger, which is recounted at the end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from corpusmill.errors import CorpusmillError
from corpusmill.ledger.records import JobView
from tests.faults.inflight import Unsettled, all_settled, unsettled
from tests.faults.plans import PAID_FAULTS, Event, plan
from tests.fixtures.fleet import Fleet, chunks, embeddings
from tests.fixtures.postgres import Postgres, running_postgres
from tests.fixtures.simulator import Simulator, running
from tests.fixtures.valkey import Server, running_server

WINDOW = 50
LATENCY = "250:0.4"
DEADLINE_S = 180.0
STUCK_S = 15.0  # an event whose share is not reached for so long comes all the same


@dataclass
class Outcome:
    """What came of a seed; `wrong` is empty when every promise held."""

    seed: int
    items: int
    lease_s: float
    kind: str
    events: list[str]
    seconds: float = 0.0
    load: float = 0.0
    succeeded: int = 0
    failed: int = 0
    requests: int = 0
    in_flight_at_kills: int = 0
    unsettled_at_suspensions: int = 0
    spoilt_but_paid: int = 0
    paid_twice: int = 0
    unknown_attempts: int = 0
    resumed: int = 0
    wrong: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line of the results file."""
        return json.dumps(asdict(self))

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.items} {self.kind} items, {len(self.events)} faults, {self.seconds:.0f} s: "
            f"{self.succeeded} succeeded, {self.failed} failed, paid twice {self.paid_twice} "
            f"(in flight at kills {self.in_flight_at_kills}, unsettled at suspensions {self.unsettled_at_suspensions}, "
            f"spoilt {self.spoilt_but_paid}), unknown {self.unknown_attempts}: {'; '.join(self.wrong) or 'all held'}"
        )


class Ground:
    """Servers, an endpoint, and a fleet of two workers whose dead are started again."""

    def __init__(self, fleet: Fleet, broker: Server, postgres: Postgres, simulator: Simulator) -> None:
        self.fleet, self.broker, self.postgres, self.simulator = fleet, broker, postgres, simulator
        self.staff: dict[str, subprocess.Popen[bytes]] = {}
        # Who is not to be started again before a moment.
        self._absent: dict[str, float] = {}
        self._later: list[Future[None]] = []
        # One thread for good: a server that it starts dies with it.
        self._clock = ThreadPoolExecutor(2)
        self._log_read = 0

    @property
    def journals(self) -> Path:
        """Where the processes keep theirs."""
        return self.fleet.home / "journal"

    def look_after(self) -> None:
        """Start whoever has ended, as `restart: unless-stopped` does."""
        now = time.monotonic()
        for name in ("worker 0", "worker 1", "scheduler"):
            process = self.staff.get(name)
            if (process is None or process.poll() is not None) and self._absent.get(name, 0) <= now:
                self.staff[name] = self.fleet.start("scheduler" if name == "scheduler" else "workers")

    def later(self, seconds: float, what: Callable[[], object]) -> None:
        """Do it once so many seconds have gone by; on a thread, since we may be waiting for a server that is away."""
        at = time.monotonic() + seconds

        def wait_and_do() -> None:
            time.sleep(max(0.0, at - time.monotonic()))
            what()

        self._later.append(self._clock.submit(wait_and_do))

    def calm(self) -> None:
        """Wait until all that was wrong is undone."""
        for undone in self._later:
            undone.result()
        self._later.clear()
        self.simulator.set_faults()
        self._absent.clear()

    # --- what goes wrong ----------------------------------------------------------------------------------------

    def strike(self, event: Event) -> Unsettled:
        """Let it happen; what was unsettled then, where that may be paid twice."""
        if event.what in ("kill", "suspend", "nap", "terminate"):
            return self._hit(event)
        if event.what == "provider":
            self.simulator.set_faults(*event.rules)
            self.later(event.seconds, self.simulator.set_faults)
        elif event.what == "kill scheduler":
            self.staff["scheduler"].kill()
        elif event.what.endswith("redis"):
            self._disturb_redis(event)
        else:
            self._disturb_postgres(event)
        return Unsettled()

    def _disturb_redis(self, event: Event) -> None:
        if event.what == "flush redis":
            self.broker.flush()
        elif event.what == "restart redis":
            self.broker.kill()
            self.later(event.seconds, self.broker.start)
        else:
            self.broker.pause()
            self.later(event.seconds, self.broker.resume)

    def _disturb_postgres(self, event: Event) -> None:
        if event.what == "cut postgres":
            self.postgres.cut()
        elif event.what == "pause postgres":
            self.postgres.pause()
            self.later(event.seconds, self.postgres.resume)
        else:
            self.postgres.stop(signal.SIGINT if event.what == "restart fast postgres" else signal.SIGQUIT)
            self.later(event.seconds, self.postgres.start)

    def _hit(self, event: Event) -> Unsettled:
        name = f"worker {event.who}"
        process = self.staff[name]
        if process.poll() is not None:
            return Unsettled()
        process.send_signal(signal.SIGTERM if event.what == "terminate" else signal.SIGSTOP)
        if event.what == "terminate":
            self._absent[name] = time.monotonic() + event.seconds
            return Unsettled()
        found = unsettled(self.journals, process.pid)
        if event.what == "kill":
            process.kill()
            self._absent[name] = time.monotonic() + event.seconds
            return Unsettled(found.in_flight)
        self.later(event.seconds, lambda: process.send_signal(signal.SIGCONT))
        return found if event.what == "suspend" else Unsettled()

    def possible(self, event: Event) -> bool:
        """Whether the service that it is to happen to stands: a server that is down cannot be paused."""
        part = "redis" if "redis" in event.what else "postgres" if "postgres" in event.what else ""
        return not part or all(undone.done() for undone in self._later)

    def said(self) -> str:
        """What the processes said since the last look."""
        log = self.fleet.log()
        said, self._log_read = log[self._log_read :], len(log)
        return said


@contextmanager
def ground(folder: Path, *, lease_s: float, redis: str | None = None) -> Iterator[Ground]:
    """Servers and a fleet for any number of runs."""
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        broker = stack.enter_context(running_server(redis))
        simulator = stack.enter_context(running(folder / "paid.jsonl", latency_ms=LATENCY))
        home = folder / "home"
        home.mkdir()
        fleet = Fleet(home, broker, postgres.url, simulator, lease_s=lease_s, window=WINDOW, grace_s=10.0)
        stack.callback(fleet.close)
        made = Ground(fleet, broker, postgres, simulator)
        made.look_after()
        yield made


def run(ground: Ground, seed: int, *, items: int) -> Outcome:
    """Do one seed: a job of so many items, and everything that its plan has in store."""
    return _Run(ground, seed, items).go()


class _Run:
    """One seed on its way."""

    def __init__(self, ground: Ground, seed: int, items: int) -> None:
        self.ground, self.fleet = ground, ground.fleet
        self.lease_s = ground.fleet.settings.lease_s
        self.events = plan(seed, lease_s=self.lease_s)
        kind = "embedding" if seed % 4 == 3 else "completion"
        self.outcome = Outcome(seed, items, self.lease_s, kind, [str(event) for event in self.events])
        self.before = ground.simulator.stats()
        self.spoilt_before = self._spoilt()
        self.allowed = 0
        self.job = self._submit()

    def _submit(self) -> JobView:
        seed, count = self.outcome.seed, self.outcome.items
        texts = [f"Seed {seed} at {time.time():.0f}: sack number {number} of the mill." for number in range(count)]
        if self.outcome.kind == "completion":
            return self.fleet.complete(texts, shard_size=25)
        spec = embeddings(self.fleet.endpoint)
        return self.fleet.submit(spec, chunks(spec, texts), shard_size=100)

    def go(self) -> Outcome:
        """Run it to its end and judge."""
        started, waiting, progress = time.monotonic(), list(self.events), (0, time.monotonic())
        while not self._finished():
            if time.monotonic() - started > DEADLINE_S:
                self.outcome.wrong.append(f"not finished within {DEADLINE_S:.0f} s: {self._state()}")
                break
            paid = self._since("paid_inputs")
            if paid != progress[0]:
                progress = paid, time.monotonic()
            stuck = time.monotonic() - progress[1] > STUCK_S
            if waiting and (stuck or paid >= waiting[0].share * self.outcome.items):
                waiting = self._strike(waiting)
                progress = paid, time.monotonic()
            self.ground.look_after()
            time.sleep(0.05)
        self.ground.calm()
        self._settle()
        self.outcome.seconds = time.monotonic() - started
        self.outcome.load = os.getloadavg()[0]
        self._judge()
        return self.outcome

    def _strike(self, waiting: list[Event]) -> list[Event]:
        event, *rest = waiting
        if not self.ground.possible(event):
            return waiting
        found = self.ground.strike(event)
        self.allowed += found.all
        if event.what == "kill":
            self.outcome.in_flight_at_kills += found.in_flight
        else:
            self.outcome.unsettled_at_suspensions += found.all
        return rest

    def _finished(self) -> bool:
        """Whether it is; a job that was paused by a fault of the provider is resumed, as a person would."""
        try:
            view = self.fleet.ledger.job(self.job.id)
            if view.state == "paused":
                self.ground.simulator.set_faults()
                self.fleet.ledger.resume(self.job.id)
                self.outcome.resumed += 1
        except CorpusmillError:
            return False  # the database is away
        return view.state in ("finished", "stopped", "cancelled")

    def _state(self) -> str:
        try:
            return f"{self.fleet.state(self.job)} {self.fleet.counts(self.job)}"
        except CorpusmillError as error:
            return error.what

    def _settle(self) -> None:
        """Let the suspended wake up, the dead be adopted and the last writes come."""
        deadline = time.monotonic() + 60
        while not (all_settled(self.ground.journals) and self.ground.simulator.stats()["in_flight"] == 0):
            self.ground.look_after()
            if time.monotonic() > deadline:
                self.outcome.wrong.append("journals stay unsettled")
                return
            time.sleep(0.1)

    # --- the judge ----------------------------------------------------------------------------------------------

    def _since(self, counter: str) -> int:
        return int(self.ground.simulator.stats()[counter] - self.before[counter])

    def _spoilt(self) -> int:
        counts: dict[str, int] = self.ground.simulator.stats()["faults"]
        return sum(counts.get(kind, 0) for kind in PAID_FAULTS)

    def _judge(self) -> None:
        outcome, wrong = self.outcome, self.outcome.wrong
        audit = self.fleet.ledger.audit(self.job.id)
        outcome.succeeded, outcome.failed = audit.succeeded, audit.failed
        outcome.unknown_attempts, outcome.requests = audit.unknown_attempts, self._since("requests")
        outcome.paid_twice = self._since("duplicates_paid")
        outcome.spoilt_but_paid = self._spoilt() - self.spoilt_before
        wrong += [f"verify: {each}" for each in audit.mismatches]
        if audit.succeeded + audit.failed != outcome.items:
            wrong.append(f"lost: {outcome.items - audit.succeeded - audit.failed} items without a result")
        self._judge_results()
        if outcome.paid_twice > self.allowed + self._per_call() * outcome.spoilt_but_paid:
            wrong.append(f"paid twice {outcome.paid_twice}, which no kill or suspension explains")
        if self._since("paid_requests") > audit.paid_attempts + audit.unknown_attempts:
            wrong.append("the endpoint was paid for calls that the ledger does not know")
        said = self.ground.said()
        wrong += [f"log: {line}" for line in _tracebacks(said)]
        wrong += [f"damaged journal {path.name}" for path in self.ground.journals.glob("*.damaged")]

    def _per_call(self) -> int:
        """How many inputs one call has at most."""
        return 1 if self.outcome.kind == "completion" else 100

    def _judge_results(self) -> None:
        rows = self.fleet.results(self.job)
        numbers = Counter(row.item_no for row in rows)
        if sorted(numbers) != list(range(self.outcome.items)) or max(numbers.values()) > 1:
            self.outcome.wrong.append("items missing or doubled in the export")
        if self.outcome.kind == "completion":
            strange = [row.item_no for row in rows if row.body and f"Seed {self.outcome.seed} at" not in _text(row)]
            if strange:
                self.outcome.wrong.append(f"answers of something else: {strange[:5]}")


def _text(row: Any) -> str:
    """What the endpoint answered; it quotes the text that it was asked about."""
    return bytes(row.body).decode("utf-8", "replace")


def _tracebacks(said: str) -> list[str]:
    """The last lines of the tracebacks in a log: no fault that we make is worth one."""
    found, lines = [], said.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("Traceback"):
            ends = (each for each in lines[number + 1 :] if each and not each.startswith((" ", "Traceback")))
            found.append(next(ends, "?")[:200])
    return found
