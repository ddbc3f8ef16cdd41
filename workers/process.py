"""A worker process: Celery's worker on the asyncio pool, around one runtime.

SIGTERM: nothing more is claimed or sent, calls in flight get `grace_s` to land, everything is written, exit 0.
A second SIGTERM cuts the calls in flight off. SIGQUIT is Celery's cold shutdown: the same without grace.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import sys
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from celery import signals

from corpusmill.app import SHARD_QUEUES, App, make_app
from corpusmill.errors import CorpusmillError
from corpusmill.settings import Settings
from workers import broker, hangs, hub, logs, parent, ready
from workers import loop as loops
from workers.pulse import Pulse
from workers.runtime import SLOTS, Runtime, open_runtime

POOLS = {"asyncio": "workers.asyncpool:TaskPool", "solo": "solo"}
# By name: `tasks` stands above `workers`.
TASKS = ("tasks.completion", "tasks.embedding")
EX_INTERRUPTED = 130

# A full window holds some hundred thousand objects, hardly any of which ends in a cycle. At Python's defaults looking
# for cycles among them took a fifth of a worker's CPU (6,000 chats, November 2026).
GARBAGE_THRESHOLDS = (10_000, 10, 10)


def main(arguments: list[str] | None = None) -> int:
    """Be a worker until told to stop; returns the exit code."""
    options = _parser().parse_args(arguments)
    logs.configure()
    broker.harden()
    try:
        return _run(Settings.load(), options.pool)
    except CorpusmillError as error:
        print(error.told(), file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="workers", description="A corpusmill worker process.")
    parser.add_argument("--pool", choices=POOLS, default="asyncio", help="solo: one shard at a time, for debugging")
    return parser


def _run(settings: Settings, pool: str) -> int:
    app = make_app(settings)
    broker.reach(settings)
    slots = 1 if pool == "solo" else SLOTS
    with ExitStack() as stack:
        thread = loops.current()
        stack.callback(thread.stop)
        opened = open_runtime(settings, slots=slots)
        runtime = thread.run(opened.__aenter__())
        stack.callback(lambda: thread.run(opened.__aexit__(None, None, None)))
        stack.enter_context(hangs.watched(thread.loop, settings.lease_s))
        stack.enter_context(_exported(runtime, thread, hub.watched(app)))
        runtime.runner.spare.serve(app)
        signals_seen = _drain_on_signals(runtime, thread)
        signals.worker_ready.connect(_collect_seldom)
        _tell_when_ready(runtime)
        parent.listen(settings.grace_s, runtime.learn)
        code = _serve(app, pool, slots)
        return EX_INTERRUPTED if "SIGINT" in signals_seen else runtime.exit_code or code


def _exported(runtime: Runtime, thread: loops.LoopThread, listened: Pulse) -> AbstractContextManager[None]:
    """Figures and health for monitors, if a port is set for them."""
    port = runtime.settings.metrics_port
    if not port:
        return nullcontext()
    # Here: a process that nobody asks need not load a server.
    from workers import exporter
    from workers.gauges import WorkerGauges

    gauges = WorkerGauges(runtime, thread, listened)
    return exporter.serving(port, gauges, gauges.health)


def _drain_on_signals(runtime: Runtime, thread: loops.LoopThread) -> list[str]:
    """Celery handles the signals and tells; the drain has to begin before it waits for its pool.

    Returns the list of the signals' names, which grows as they come.
    """
    seen: list[str] = []

    def shutting_down(sig: str = "", **_: Any) -> None:
        seen.append(sig)
        thread.call(runtime.drain)

    signals.worker_shutting_down.connect(shutting_down, weak=False)
    return seen


def _tell_when_ready(runtime: Runtime) -> None:
    """Say what this worker serves; one with a supervisor is handed providers later, by its pipe."""

    def tell(**_: Any) -> None:
        served = runtime.keyring.served()
        serves = ready.providers(served)
        ready.tell(runtime.settings, worker=runtime.worker_id, slots=runtime.slots, serves=serves)
        if not served and not parent.is_there():
            ready.warn_of_none()

    signals.worker_ready.connect(tell, weak=False)


def _collect_seldom(**_: Any) -> None:
    """Leave what was loaded at the start alone for good, and look for cycles in the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def _serve(app: App, pool: str, slots: int) -> int:
    worker = app.Worker(
        hostname=f"worker-{os.getpid()}@{platform.node()}",
        pool=POOLS[pool],
        concurrency=slots,
        include=list(TASKS),
        queues=list(SHARD_QUEUES),
        quiet=True,
        # No need to talk to other workers: SQL knows who is alive.
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    return int(worker.exitcode or 0)
