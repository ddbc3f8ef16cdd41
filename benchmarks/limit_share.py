"""How much of a limit two workers use together, and how often the endpoint has to refuse them."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from benchmarks import servers
from benchmarks.fleet import Fleet
from benchmarks.loads import CHAT
from benchmarks.machine import cores
from benchmarks.report import Bar, Section, Table
from benchmarks.simulator import simulator, stats

WORKERS = 2
DEPTH_S = 2.0
LATENCY_MS = "300:0.5"
SAMPLE_S = 0.1
# The share is that of the refill in between: not of the start, when the bucket is full, nor of the end.
START_S, END_S = 5.0, 3.0


@dataclass(frozen=True, slots=True)
class Limit:
    """What the endpoint allows and the workers are told."""

    name: str
    rpm: int
    tpm: int

    @property
    def requests_a_second(self) -> float:
        """How many of our requests the tighter of both lets through."""
        return min(self.rpm, self.tpm / charged()) / 60


@dataclass(frozen=True, slots=True)
class Used:
    """What became of a limit. `share`: paid requests over what the refill allows; 429s over the whole run."""

    limit: Limit
    share: float
    requests: int
    answered_429: int
    paid_twice: int


def charged() -> float:
    """The tokens that the endpoint charges one chat request: its characters over four."""
    text = next(CHAT.texts(1, "measured"))
    return (len(text) + len(CHAT.prompt or "") - len("{text}")) / 4


def limits() -> list[Limit]:
    """One where requests are scarce, and one where tokens are."""
    return [
        Limit("requests are scarce", 3_000, 2_000_000),
        Limit("tokens are scarce", 6_000, 600_000),
    ]


def measure(chosen: Sequence[Limit], seconds: float) -> Section:
    """Two workers under each limit for so long."""
    found = [_used(limit, seconds) for limit in chosen]
    return Section(
        "Two workers under one limit",
        f"{WORKERS} worker processes and a scheduler on PostgreSQL share the endpoint's limit for {seconds:.0f} s at "
        f"{LATENCY_MS} ms latency (lognormal); its bucket is {DEPTH_S:.0f} s deep. They are told RPM and TPM, and "
        "nothing about each other. The share is that of the refill between the first "
        f"{START_S:.0f} s and the last {END_S:.0f} s.",
        [_table(found)],
        [bar for used in found for bar in _bars(used)],
    )


def _used(limit: Limit, seconds: float) -> Used:
    on, told = cores(), ("--rpm", str(limit.rpm), "--tpm", str(limit.tpm), "--depth-s", str(DEPTH_S))
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base_url, _ = stack.enter_context(simulator(on.rest, "--latency-ms", LATENCY_MS, *told))
        database, broker = (
            stack.enter_context(servers.postgres(on.rest)),
            stack.enter_context(servers.valkey(home, on.rest)),
        )
        fleet = Fleet(home, broker.url, database.url, base_url, on, rpm=limit.rpm, tpm=limit.tpm)
        stack.callback(fleet.close)
        stack.enter_context(fleet.scheduler())
        for _ in range(WORKERS):
            stack.enter_context(fleet.worker(on.measured))
        job = fleet.submit(CHAT, int(limit.requests_a_second * (seconds + DEPTH_S)), "measured")
        with _Watch(base_url) as watch:
            fleet.run(job)
        after = stats(base_url)
    share = watch.rate() / limit.requests_a_second
    return Used(limit, share, after["paid_requests"], after["answered_429"], after["duplicates_paid"])


@dataclass(slots=True)
class _Watch:
    """Paid requests over time, read from the endpoint."""

    base_url: str
    seen: list[tuple[float, int]] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def rate(self) -> float:
        """Paid requests a second, start and end left out."""
        first = next(at for at, paid in self.seen if paid)
        last = next(at for at, paid in self.seen if paid == self.seen[-1][1])
        between = [(at, paid) for at, paid in self.seen if first + START_S <= at <= last - END_S]
        (began, before), (ended, after) = between[0], between[-1]
        return (after - before) / (ended - began)

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self.seen.append((time.monotonic(), stats(self.base_url)["paid_requests"]))


def _table(found: Sequence[Used]) -> Table:
    rows = [
        [
            f"{used.limit.name}: {used.limit.rpm:,} RPM, {used.limit.tpm:,} TPM", f"{used.share:.3f}",
            f"{used.requests:,}", f"{used.answered_429:,}", f"{used.paid_twice:,}",
        ]
        for used in found
    ]  # fmt: skip
    return Table("Share of the limit", ("limit", "share used", "paid requests", "answered 429", "paid twice"), rows)


def _bars(used: Used) -> list[Bar]:
    refused = used.answered_429 / (used.requests + used.answered_429)
    return [
        Bar(f"share of the limit, {used.limit.name}", 0.97, used.share, at_least=True),
        Bar(f"answered 429, {used.limit.name}", 0.001, refused),
    ]
