"""A worker's figures for Prometheus, and what its health check looks at.

Labels are names from lists of ours (failure classes, pause reasons) or of the limiter's scopes, of which a hundred are
told apart. No job, item, key or text is ever one.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from corpusmill.errors import CorpusmillError
from corpusmill.limits import Limiter
from corpusmill.urls import without_password
from workers import broker
from workers.exporter import Health
from workers.families import count, counts, gauge, gauges
from workers.loop import LoopThread
from workers.pulse import Pulse

if TYPE_CHECKING:
    from workers.runtime import Runtime

# A loop that turns answers within milliseconds.
TURN_S = 2.0
MOST_SCOPES = 100
OTHER = "other"

Scope = tuple[str, str]


@dataclass(slots=True)
class _Limit:
    """One limit as this process sees it; several keys of one endpoint count together."""

    rpm: int = 0
    tpm: int = 0
    sent_requests: int = 0
    sent_tokens: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class _Seen:
    """What only the loop may look at."""

    shards: int
    limits: Mapping[Scope, _Limit]
    shut: Mapping[str, int] = field(default_factory=dict)


class WorkerGauges:
    """Reads a runtime; called by the exporter's threads."""

    def __init__(self, runtime: Runtime, loop: LoopThread, hub: Pulse) -> None:
        self._runtime, self._loop, self._hub = runtime, loop, hub

    def collect(self) -> Iterator[Metric]:
        """The figures as they are now; those of the loop are left out while it hangs."""
        yield from self._counted()
        try:
            seen = self._loop.run(_look(self._runtime), timeout_s=TURN_S)
        except TimeoutError:
            return
        yield gauge("corpusmill_shards_held", "Shards that this worker works on.", seen.shards)
        yield gauges("corpusmill_members_shut", "Endpoints left out here, by reason.", "reason", seen.shut)
        yield from _limits(seen.limits)

    def health(self) -> Health:
        """Whether the loop turns, the ledger is written to, and the broker is listened to."""
        return {
            "loop": self._loop_trouble(),
            "ledger": self._ledger_trouble(),
            "broker": self._hub.trouble("the broker was not listened to") or self._broker_trouble(),
        }

    def _counted(self) -> Iterator[Metric]:
        metrics, writer = self._runtime.dispatch.metrics, self._runtime.writer
        yield gauge("corpusmill_in_flight", "Requests under way.", metrics.in_flight)
        yield count("corpusmill_requests", "Requests sent.", metrics.sent)
        yield count("corpusmill_shards", "Shards claimed.", metrics.shards)
        yield count("corpusmill_items_succeeded", "Items that got their answer by a call.", metrics.succeeded)
        yield counts("corpusmill_items_failed", "Items failed, by class.", "class", metrics.failed)
        yield counts("corpusmill_requests_failed", "Requests without a usable answer.", "class", metrics.refused)
        yield count("corpusmill_answers_429", "Answers with status 429.", metrics.answered_429)
        yield count("corpusmill_usd", "What answers cost, in USD; unpriced models count as nothing.", metrics.usd)
        yield count("corpusmill_unknown_usd", "What requests without a reply may have cost.", metrics.unknown_usd)
        yield count("corpusmill_loop_held_up", "Times that the loop stood still over 20 ms.", metrics.loop_held_up)
        yield count("corpusmill_loop_held_up_seconds", "How long it did in all.", metrics.held_up_s)
        longest_s = metrics.longest_hold_up_ms / 1000
        yield gauge("corpusmill_loop_longest_hold_up_seconds", "The longest of them.", longest_s)
        yield gauge("corpusmill_unwritten_bytes", "What waits to be written to SQL.", writer.backlog)
        yield gauge("corpusmill_ledger_trouble", "1: SQL takes nothing.", float(writer.trouble is not None))

    def _loop_trouble(self) -> str | None:
        try:
            self._loop.run(asyncio.sleep(0), timeout_s=TURN_S)
        except (TimeoutError, RuntimeError):
            return f"it has not turned for {TURN_S:.0f} s"
        return None

    def _ledger_trouble(self) -> str | None:
        trouble = self._runtime.writer.trouble
        return trouble.what if trouble is not None else self._runtime.pulse.trouble("it was not reached")

    def _broker_trouble(self) -> str | None:
        try:
            broker.reach(self._runtime.settings)
        except CorpusmillError as error:
            return error.what
        return None


async def _look(runtime: Runtime) -> _Seen:
    routes = runtime.runner.routes
    return _Seen(len(runtime.runner.held), _by_scope(routes.limiter), Counter(routes.shut()))


def _by_scope(limiter: Limiter) -> dict[Scope, _Limit]:
    found: defaultdict[Scope, _Limit] = defaultdict(_Limit)
    for scope, gate in limiter.gates():
        name = (without_password(scope.endpoint), scope.model)
        limit = found[name if name in found or len(found) < MOST_SCOPES else (OTHER, OTHER)]
        limit.rpm += gate.rates.rpm if gate.rates else 0
        limit.tpm += gate.rates.tpm if gate.rates else 0
        limit.sent_requests += gate.sent_requests
        limit.sent_tokens += gate.sent_tokens
        limit.waiting += gate.waiting
    return found


def _limits(limits: Mapping[Scope, _Limit]) -> Iterator[Metric]:
    labels = ("endpoint", "model")
    rpm = GaugeMetricFamily("corpusmill_limit_requests_per_minute", "The fleet's limit; 0: none.", labels=labels)
    tpm = GaugeMetricFamily("corpusmill_limit_tokens_per_minute", "The fleet's limit; 0: none.", labels=labels)
    requests = CounterMetricFamily("corpusmill_admitted_requests", "Requests that the limiter let go.", labels=labels)
    tokens = CounterMetricFamily("corpusmill_admitted_tokens", "What they count against the limit.", labels=labels)
    waiting = GaugeMetricFamily("corpusmill_limiter_waiting", "Requests that wait for leave.", labels=labels)
    for scope, limit in limits.items():
        rpm.add_metric(scope, limit.rpm)
        tpm.add_metric(scope, limit.tpm)
        requests.add_metric(scope, limit.sent_requests)
        tokens.add_metric(scope, limit.sent_tokens)
        waiting.add_metric(scope, limit.waiting)
    yield from (rpm, tpm, requests, tokens, waiting)
