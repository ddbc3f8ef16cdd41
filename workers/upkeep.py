"""What a worker does now and then: say that it lives, look at its keys, adopt journals, watch its disk."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from corpusmill import logs
from corpusmill.errors import CorpusmillError, DiskFull
from corpusmill.ledger import Ledger
from corpusmill.spells import Spell
from workers import leaving, revival
from workers.journal import adopt
from workers.metrics import Metrics

if TYPE_CHECKING:
    from workers.runtime import Runtime

log = logging.getLogger(__name__)
# What every loop needs, and what is asked for every second.
ledger_away = Spell(log, "the ledger does not do what it is asked")

BEAT_S = 5.0
ADOPT_S = 5.0
WATCH_S = 0.5
RULES_S = 1.0
# How long what SQL has may stay in the journal: a purge says that it goes within minutes.
TURN_S = 60.0
TELL_S = 60.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def start(runtime: Runtime) -> list[asyncio.Task[None]]:
    """Start all loops of a runtime; its owner cancels them."""
    beat_s = min(BEAT_S, runtime.settings.lease_s / 3)
    loops: tuple[tuple[str, float, Callable[[], Awaitable[None]]], ...] = (
        ("beat", beat_s, lambda: beat(runtime)),
        ("memory", beat_s, lambda: leaving.look_at_memory(runtime)),
        ("schema", beat_s, lambda: leaving.look_at_schema(runtime)),
        # Well inside the lease, after which others would buy again what is in there.
        ("adopt", min(ADOPT_S, beat_s), lambda: adopt_orphans(runtime)),
        ("disk", WATCH_S, lambda: _watch(runtime)),
        ("probe", min(revival.PROBE_S, runtime.settings.lease_s), lambda: revival.probe(runtime)),
        ("rules", RULES_S, lambda: follow_rules(runtime)),
        ("journal", TURN_S, lambda: asyncio.to_thread(runtime.dispatch.turn_journal_over)),
        ("figures", TELL_S, Teller(runtime.dispatch.metrics).tell),
    )
    return [asyncio.create_task(_every(seconds, name, what)) for name, seconds, what in loops]


async def _every(seconds: float, name: str, what: Callable[[], Awaitable[None]]) -> None:
    while True:
        await quietly(name, what)
        await asyncio.sleep(seconds)


async def quietly(name: str, what: Callable[[], Awaitable[None]]) -> None:
    """Do it once; a ledger that is away is no reason to end."""
    try:
        await what()
    except CorpusmillError as error:
        ledger_away.trouble(name, error.what)
    except Exception:
        log.exception("upkeep failed what=%s", name)
    else:
        ledger_away.over(name)


async def beat(runtime: Runtime) -> None:
    """Say that this worker lives and what it can serve; follow keys that were rotated."""
    rotations = await asyncio.to_thread(runtime.keyring.refresh)
    for rotation in rotations:
        jobs = await runtime.thread.ask(runtime.ledger.bind_lane, rotation.endpoint, rotation.old, rotation.new)
        log.info("key rotated endpoint=%s jobs=%d", rotation.endpoint, len(jobs))
    await runtime.thread.ask(
        runtime.ledger.worker_beat,
        runtime.worker_id,
        host=platform.node(),
        pid=os.getpid(),
        boot_id=boot_id(),
        slots=0 if runtime.runner.draining else runtime.slots,
        holds=runtime.keyring.holds(),
        lease_s=runtime.settings.lease_s,
    )
    runtime.pulse.beat()


async def adopt_orphans(runtime: Runtime) -> None:
    """Commit what dead processes of this host left in their journals."""
    await asyncio.to_thread(
        adopt_all, runtime.ledger, runtime.journals, worker_id=runtime.worker_id, lease_s=runtime.settings.lease_s
    )


def adopt_all(ledger: Ledger, journals: Path, *, worker_id: str, lease_s: float) -> int:
    """Commit what the journals of dead processes of this host hold; returns the number of batches. Blocks."""
    batches = 0
    for batch in adopt(journals):
        ledger.commit(batch, worker_id=worker_id, lease_s=lease_s)
        batches += 1
    return batches


async def follow_rules(runtime: Runtime) -> None:
    """Hold to the limits that somebody has set since the last look."""
    routes = runtime.runner.routes
    version = await runtime.thread.ask(runtime.ledger.limits_version)
    if version != routes.rules.version:
        routes.rules.take(await runtime.thread.ask(runtime.ledger.limit_rules), version)
        routes.heed(runtime.keyring.endpoints)


async def _watch(runtime: Runtime) -> None:
    """A ledger whose disk is full takes nothing: then nothing may be sent either."""
    trouble = runtime.writer.trouble
    if isinstance(trouble, DiskFull):
        await runtime.dispatch.breaker.disk_full(trouble.what)


class Teller:
    """Logs the counters when they have changed."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics, self._told = metrics, metrics.as_json()

    async def tell(self) -> None:
        """Log them, unless they are as they were the last time."""
        counts = self._metrics.as_json()
        if counts != self._told:
            self._told = counts
            tell("so far", self._metrics)


def tell(when: str, metrics: Metrics) -> None:
    """Log the counters."""
    log.info("%s", when, extra={logs.FACTS: metrics.as_json()})


def boot_id() -> str:
    """What tells this start of the machine from any other."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return str(int(psutil.boot_time()))
