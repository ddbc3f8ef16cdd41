"""Everything that a worker process holds open, opened and closed in one place."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from corpusmill.errors import DiskFull, SettingsError, Unavailable
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import CommitReport, ShardRef
from corpusmill.limits import Limiter, Scope
from corpusmill.llm.pool import ClientPool
from corpusmill.settings import Settings
from workers import loop as loops
from workers import upkeep
from workers.announcer import Announcer
from workers.breaker import Breaker
from workers.dispatch import Dispatch
from workers.journal import Journal
from workers.keyring import Keyring
from workers.ledger_thread import LedgerThread
from workers.metrics import Metrics
from workers.pulse import Pulse
from workers.routes import Routes
from workers.shard import ShardReport, ShardRunner
from workers.spare import Spare
from workers.watchdog import Watchdog
from workers.writer import Writer

log = logging.getLogger(__name__)

# Shards at once. About 100 completions each fill a window of 1,000 with some to spare while others end.
SLOTS = 16
# Writing what is paid for gets this long at the end; what is left then lies in the journal.
WRITE_S = 20.0


@dataclass(slots=True)
class Runtime:
    """The open parts of a worker process. Lives on the loop that opened it."""

    settings: Settings
    slots: int
    worker_id: str
    journals: Path
    ledger: Ledger
    thread: LedgerThread
    keyring: Keyring
    writer: Writer
    dispatch: Dispatch
    runner: ShardRunner
    pulse: Pulse = field(default_factory=Pulse)
    exit_code: int = 0
    _running: set[asyncio.Task[ShardReport]] = field(default_factory=set)
    _hurried: bool = False

    async def run_shard(self, ref: ShardRef) -> ShardReport:
        """Run a shard. Cancelling the caller halts the shard; what it has in flight still lands and is written."""
        task = asyncio.create_task(self.runner.run(ref))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if ref in self.runner.held:
                self.runner.held[ref].halt("drain")
            raise

    def learn(self, message: dict[str, object]) -> None:
        """Take over a provider, from any thread, and tell the fleet at once that it can be served here.

        Raises:
            SettingsError: it is no provider.
        """
        self.keyring.add(message)
        loop = loops.current()
        loop.call(lambda: self.runner.routes.heed(self.keyring.endpoints))
        loop.call(lambda: asyncio.ensure_future(upkeep.quietly("beat", lambda: upkeep.beat(self))))

    def drain(self) -> None:
        """Claim and send nothing more; calls in flight have `grace_s` to land. The second time there is no grace."""
        if self.runner.draining:
            self._hurry()
            return
        log.info("draining shards=%d in_flight=%d", len(self.runner.held), self.dispatch.metrics.in_flight)
        self.runner.drain()
        asyncio.get_running_loop().call_later(self.settings.grace_s, self._hurry)

    def _hurry(self) -> None:
        """Cut off the calls in flight: whether they are billed stays unknown."""
        if not self._hurried and self.dispatch.metrics.in_flight:
            log.warning("cutting off calls in flight=%d", self.dispatch.metrics.in_flight)
        self._hurried = True
        for stream in self.runner.routes.streams():
            for delivery in list(stream.deliveries):
                delivery.abandon()

    async def drained(self) -> None:
        """Wait until every shard has ended here."""
        while self._running:
            await asyncio.wait(self._running)


@asynccontextmanager
async def open_runtime(settings: Settings, *, slots: int = SLOTS) -> AsyncIterator[Runtime]:
    """Open everything, hand out the runtime, drain it and close everything.

    Raises:
        SettingsError: no database is configured.
        Unavailable, UsageError: the ledger cannot be opened.
    """
    if settings.database_url is None or settings.redis_url is None:
        raise SettingsError(
            "a worker needs a broker and a database",
            next_step="set CORPUSMILL_BROKER_URL and CORPUSMILL_DATABASE_URL, or run `corpusmill up`",
        )
    async with AsyncExitStack() as stack:
        ledger = stack.enter_context(await asyncio.to_thread(Ledger.open, settings.database_url))
        thread = LedgerThread()
        stack.callback(thread.close)
        limiter = await stack.enter_async_context(Limiter(settings.redis_url, _first_use(ledger, thread)))
        clients = await stack.enter_async_context(ClientPool(settings.window))
        await clients.load_trust()
        runtime = _assembled(settings, slots, ledger, thread)
        runtime.runner.routes = Routes(
            runtime.dispatch,
            clients,
            limiter,
            salt=ledger.salt(),
            own_turns=max(1, settings.window // (2 * slots)),
            shared_turns=settings.window // 4,
        )
        _current[:] = [runtime]
        stack.callback(_current.clear)
        runtime.writer.start()
        stack.push_async_callback(_close, runtime)
        watchdog = Watchdog(runtime.dispatch.metrics)
        watchdog.start()
        stack.callback(watchdog.stop)
        loops = upkeep.start(runtime)
        stack.callback(lambda: [task.cancel() for task in loops])
        yield runtime


def _first_use(ledger: Ledger, thread: LedgerThread) -> Callable[[Scope], Awaitable[bool]]:
    """What tells a new scope from one that Redis has forgotten: the ledger."""

    async def first_use(scope: Scope) -> bool:
        try:
            return await thread.ask(ledger.first_use, scope.digest)
        except (Unavailable, DiskFull):
            return False  # the bucket starts empty, which costs its burst and nothing else

    return first_use


def _assembled(settings: Settings, slots: int, ledger: Ledger, thread: LedgerThread) -> Runtime:
    """The parts wired together: reports of commits reach the shards, and failures the breaker."""
    loop = asyncio.get_running_loop()
    worker_id = f"{platform.node()}:{os.getpid()}:{secrets.token_hex(4)}"
    journals = settings.home / "journal"
    journal = Journal.open(journals)
    announcer = Announcer(settings.redis_url or "")

    def heard(report: CommitReport) -> None:
        _call(loop, runner.heard, report)
        announcer.tell(report)

    writer = Writer(
        ledger,
        journal,
        worker_id=worker_id,
        lease_s=settings.lease_s,
        on_report=heard,
    )
    dispatch = Dispatch(window=settings.window, retry=settings.retry, journal=journal, writer=writer, metrics=Metrics())
    keyring = Keyring(settings, ledger.salt())
    runner = ShardRunner(
        ledger,
        thread,
        worker_id=worker_id,
        lease_s=settings.lease_s,
        keyring=keyring,
        dispatch=dispatch,
        writer=writer,
        spare=Spare(slots),
    )
    dispatch.breaker = Breaker(ledger, thread.ask, runner.held, dispatch)
    return Runtime(settings, slots, worker_id, journals, ledger, thread, keyring, writer, dispatch, runner)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object) -> None:
    """Call on the loop from another thread; nothing once the loop has ended."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *args)


async def _close(runtime: Runtime) -> None:
    """Let everything land and be written; then the fleet may forget this worker."""
    if not runtime.runner.draining:
        runtime.drain()
    await runtime.drained()
    runtime.dispatch.flush()
    await asyncio.to_thread(runtime.dispatch.close, WRITE_S)
    upkeep.tell("in all", runtime.dispatch.metrics)
    if runtime.writer.trouble is None:
        # Maybe the last process here for long: what those that were killed leave unbooked would stay so.
        await upkeep.quietly("adopt", lambda: upkeep.adopt_orphans(runtime))
    await upkeep.quietly("gone", lambda: runtime.thread.ask(runtime.ledger.worker_gone, runtime.worker_id))


_current: list[Runtime] = []


def current() -> Runtime:
    """The runtime of this process; tasks run only where there is one."""
    return _current[0]
