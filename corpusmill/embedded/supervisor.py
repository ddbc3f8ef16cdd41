"""One process that keeps the machinery of one HOME running, and ends when nobody needs it.

1. Holds the lock in HOME; a second one of the same HOME ends at once.
2. Opens the control socket, migrates the ledger, starts Valkey, scheduler and worker.
3. Once a second looks round: pauses jobs that nobody looks at, ends `linger_s` after the last client and active job
   (one started by `up` stays), ends when HOME or its sockets have vanished.
4. Stops the children, removes the socket folder, gives the lock back. Killed, its children see their pipes close.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from corpusmill import __version__
from corpusmill.embedded.control import Control
from corpusmill.embedded.ledger_watch import LedgerWatch
from corpusmill.embedded.lock import Lock, Note
from corpusmill.embedded.place import Place, make_sockets, remove_sockets
from corpusmill.embedded.staff import Staff
from corpusmill.embedded.viewers import LEFT, LOST, Viewers
from corpusmill.errors import CorpusmillError
from corpusmill.settings import Settings
from corpusmill.spells import Spell

log = logging.getLogger(__name__)
unread = Spell(log, "the ledger cannot be read")

LOOK_EVERY_S = 0.5
MOST_LOG_BYTES = 10_000_000


class Supervisor:
    """The life of the process; `run` is all of it."""

    def __init__(self, settings: Settings, place: Place, lock: Lock, log_file: IO[bytes]) -> None:
        self.settings, self.place, self.lock = settings, place, lock
        self.sockets = make_sockets()
        self.staff = Staff(settings, place, self.sockets, log_file)
        self.viewers = Viewers(grace_s=settings.viewer_s)
        self.ledger = LedgerWatch()
        self.control = Control(self)
        self.stays = False
        self._stop_reason: str | None = None
        self._stop_asked = asyncio.Event()
        self._idle_since = time.monotonic()
        self._home = _Same(place.home, place.lock)
        self._socket = _Same(self.sockets.control)

    async def run(self) -> None:
        """Serve until nobody needs it or it is told to stop."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self.stop, f"signal {number.name}")
        try:
            await self.control.open(self.sockets.control)
            self._home.remember()
            self._socket.remember()
            if self.lock.left_behind:
                remove_sockets(Path(self.lock.left_behind.folder))
            self.lock.write(Note(os.getpid(), str(self.sockets.folder)))
            await self._serve()
        except CorpusmillError as error:
            log.error("cannot start: %s", error)
            self.control.fail(error)
        finally:
            await self._end()

    def stop(self, reason: str) -> None:
        """End gracefully; asked a second time, at once."""
        if self._stop_reason is not None:
            self.staff.kill()
        self._stop_reason = self._stop_reason or reason
        self._stop_asked.set()

    def ready(self) -> dict[str, Any]:
        """What a client needs to know."""
        fleet = self.staff.settings
        return {
            "pid": os.getpid(),
            "version": __version__,
            "broker_url": fleet.broker_url,
            "database_url": fleet.database_url,
            "redis_url": fleet.redis_url,
            "environment": self.settings.as_environment(),
        }

    async def _serve(self) -> None:
        await self.ledger.open(self.place.database_url)
        await self.staff.start()
        self.control.set_ready()
        log.info("ready pid=%d", os.getpid())
        while not self._stop_asked.is_set():
            try:
                await asyncio.wait_for(self._stop_asked.wait(), LOOK_EVERY_S)
            except TimeoutError:
                await self._look_round()

    async def _look_round(self) -> None:
        if not self._home():
            self.staff.kill()
        if not (self._home() and self._socket()):
            self.stop("HOME or its sockets have vanished")
            return
        _trim(self.place.log)
        try:
            active = await self._pause_the_unseen()
        except CorpusmillError as error:
            unread.trouble("jobs", error.what)
            return
        unread.over("jobs")
        if self.stays or active or self.control.clients:
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since >= self.settings.linger_s:
            self.stop("nobody needs it")

    async def _pause_the_unseen(self) -> bool:
        """Pause what nobody looks at; return whether any job is still active."""
        active = await self.ledger.active()
        unseen = self.viewers.unseen(active, time.monotonic())
        for job in unseen:
            note = LEFT if self.viewers.left(job.id) else LOST
            log.info("job paused job=%s why=%s", job.public_id, note)
            await self.ledger.pause(job, note)
        return len(active) > len(unseen)

    async def _end(self) -> None:
        reason = self._stop_reason or "it could not start"
        log.info("stopping why=%s", reason)
        self.control.tell_everybody({"stopping": reason})
        if self._home():
            await self._logged(self._pause_all_but_detached)
            await self._logged(self.staff.stop)
        else:
            self.staff.kill()
            await self.staff.stop()
        await self._logged(self.ledger.close)
        await self.control.close()
        remove_sockets(self.sockets.folder)
        self.lock.write(None)
        self.lock.release()

    async def _pause_all_but_detached(self) -> None:
        """What a viewer still looks at must not go on by itself when somebody starts the machinery again."""
        for job in await self.ledger.active():
            if not job.detached:
                await self.ledger.pause(job, "the machinery was stopped")

    async def _logged(self, step: Callable[[], Any]) -> None:
        """One failed step of the end must not keep the rest from ending."""
        try:
            await step()
        except Exception:
            log.exception("at the end")


class _Same:
    """Whether files are still those that we started with, and not gone or others of the same name."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._first: list[tuple[int, int] | None] = []

    def remember(self) -> None:
        self._first = [_identity(path) for path in self._paths]

    def __call__(self) -> bool:
        return self._first == [_identity(path) for path in self._paths]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _trim(log_file: Path) -> None:
    """Keep the log from growing for ever: its writers append, so it can be cut under them."""
    with suppress(OSError):
        if log_file.stat().st_size > MOST_LOG_BYTES:
            tail = log_file.read_bytes()[-MOST_LOG_BYTES // 10 :]
            os.truncate(log_file, 0)
            with log_file.open("ab") as file:
                file.write(tail)
