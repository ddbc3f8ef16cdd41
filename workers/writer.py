"""The one thread of a worker that writes to SQL.

What calls have to say is gathered for up to a fifth of a second and committed together; leases are renewed on the
way. The thread is never cancelled: it goes on until everything is written or its time is up, and what is not written
by then lies in the journal. While SQL is away it tries again and again; the backlog is bounded, because `full` and
`stale` tell the senders to stop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from corpusmill.errors import CorpusmillError, DiskFull, Unavailable
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Batch, CommitReport, ShardRef
from workers.batches import merged, size_of
from workers.journal import Journal

log = logging.getLogger(__name__)

Told = Callable[[CommitReport], None]

GATHER_S = 0.2
BEAT_S = 0.8  # a pause or a stop is noticed within that time even when there is nothing to write
GROUP_BYTES = 8 << 20
BACKLOG_BYTES = 64 << 20
FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 2.0
REFUSED_RETRY_S = 5.0
# A full disk lets nobody renew a lease. Before shards are claimed again, the other processes have to write what they
# paid for meanwhile, which would be bought again: by then each has tried once more.
ROOM_S = 2 * LONGEST_RETRY_S + 0.5
NOTHING = merged((), held={}, renew=False)
NO_REPORT = CommitReport(frozenset(), frozenset(), {})


@dataclass(frozen=True, slots=True)
class _Entry:
    """One submission, and who is told when it is written."""

    batch: Batch
    attempts: Sequence[bytes]
    then: Told | None
    size: int
    at: float = field(default_factory=time.monotonic)


class Writer:
    """Commits what is submitted, in order. All methods may be called from any thread, and none but `close` waits.

    Args:
        ledger: an open ledger.
        journal: told of every attempt that SQL has.
        worker_id: the owner under which this process claims shards.
        lease_s: how long a claim and a renewal last.
        on_report: called on the writer's thread after each commit, before the `then` of what was in it.
        backlog_bytes: how much may wait to be written before `full`.
    """

    def __init__(
        self,
        ledger: Ledger,
        journal: Journal,
        *,
        worker_id: str,
        lease_s: float,
        on_report: Told,
        backlog_bytes: int = BACKLOG_BYTES,
    ) -> None:
        self._ledger, self._journal, self._on_report = ledger, journal, on_report
        self._worker_id, self._lease_s, self._backlog_bytes = worker_id, lease_s, backlog_bytes
        self._beat_s = min(BEAT_S, lease_s / 4)
        self._changed = threading.Condition()
        self._waiting: deque[_Entry] = deque()
        self._refused: list[_Entry] = []
        self._refused_at = time.monotonic()
        self._backlog = 0
        self._full_at = float("-inf")
        self._held: dict[ShardRef, int] = {}
        self._claimed_at: dict[ShardRef, float] = {}  # of those held that were not renewed yet, at least
        self._committed_at = self._renewed_at = awake_s()
        self._end_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.trouble: CorpusmillError | None = None

    # --- for those who send -------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether to send and claim nothing: too much waits to be written, or the ledger refuses it, or has no room."""
        return self._backlog >= self._backlog_bytes or bool(self._refused) or time.monotonic() - self._full_at < ROOM_S

    @property
    def backlog(self) -> int:
        """Bytes that wait to be written."""
        return self._backlog

    @property
    def stale(self) -> bool:
        """Whether the leases could not be renewed for two thirds of their time: others may soon take the shards."""
        return bool(self._held) and awake_s() - self._renewed_at > self._lease_s * 2 / 3

    def holds(self, ref: ShardRef, fence: int) -> bool:
        """Whether a shard was neither let go nor reported lost."""
        return self._held.get(ref) == fence

    def found_full(self) -> None:
        """The ledger's disk was full just now."""
        self._full_at = time.monotonic()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def hold(self, ref: ShardRef, fence: int, *, since_s: float | None = None) -> None:
        """Renew the lease of a shard that was claimed, and report its job's state, until it is let go.

        `since_s`: when it was asked for, as `awake_s` tells; None: just now. The process may have slept since.
        """
        since_s = awake_s() if since_s is None else since_s
        with self._changed:
            self._renewed_at = min(self._renewed_at, since_s) if self._held else since_s
            self._held[ref], self._claimed_at[ref] = fence, since_s

    def let_go(self, ref: ShardRef) -> None:
        """Renew a shard's lease no more. What a commit closes, releases or finds lost is let go by itself."""
        with self._changed:
            self._held.pop(ref, None)

    def submit(self, batch: Batch, *, attempts: Sequence[bytes] = (), then: Told | None = None) -> None:
        """Have `batch` written with the next commits.

        Args:
            batch: its fences need not name the shards that are held.
            attempts: those that SQL knows all about once this is written; the journal is told.
            then: called on the writer's thread with the report of the commit that wrote it.
        """
        entry = _Entry(batch, attempts, then, size_of(batch))
        with self._changed:
            self._waiting.append(entry)
            self._backlog += entry.size
            self._changed.notify()

    def flush(self) -> Future[None]:
        """A future that is done when everything submitted until now is written."""
        written: Future[None] = Future()
        self.submit(Batch(), then=lambda _: written.set_result(None))
        return written

    def close(self, timeout_s: float) -> bool:
        """Write what there is, for at most `timeout_s`, and end. Returns whether everything was written."""
        with self._changed:
            self._end_at = time.monotonic() + timeout_s
            self._changed.notify()
        self._thread.join(timeout_s + 1)
        return not self._thread.is_alive() and not self._waiting and not self._refused

    # --- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (group := self._gather()) is not None:
            self._write(group)

    def _gather(self) -> list[_Entry] | None:
        """Sleep until there is enough to write or it has waited long enough; None when it is time to end."""
        with self._changed:
            while (wait_s := self._wait_s()) > 0:
                self._changed.wait(wait_s)
            if self._ended() or (self._end_at is not None and not self._waiting):
                return None
            return self._take_group()

    def _wait_s(self) -> float:
        if self._end_at is not None or (self._waiting and self._backlog >= GROUP_BYTES):
            return 0
        wait_s = self._committed_at + self._beat_s - awake_s()
        if self._waiting:
            wait_s = min(wait_s, self._waiting[0].at + GATHER_S - time.monotonic())
        return wait_s

    def _ended(self) -> bool:
        return self._end_at is not None and time.monotonic() >= self._end_at

    def _take_group(self) -> list[_Entry]:
        group: list[_Entry] = []
        size = 0
        while self._waiting and size < GROUP_BYTES:
            group.append(self._waiting.popleft())
            size += group[-1].size
        return group

    def _write(self, group: list[_Entry]) -> None:
        """Write a group however long it takes; when time is up it goes back in front of the queue."""
        self._retry_refused()
        delay_s = FIRST_RETRY_S
        while not self._wrote(group) and group:
            if self._ended():
                with self._changed:
                    self._waiting.extendleft(reversed(group))
                return
            time.sleep(delay_s)
            delay_s = min(delay_s * 2, LONGEST_RETRY_S)

    def _wrote(self, group: list[_Entry]) -> bool:
        """One try; whether nothing of the group is left to be written here."""
        with self._changed:
            held = dict(self._held)
        tried_at = self._committed_at = awake_s()
        renew = bool(held) and tried_at - self._renewed_at >= self._lease_s / 4
        batch = merged((entry.batch for entry in group), held=held, renew=renew)
        try:
            report = NO_REPORT if batch == NOTHING else self._commit(batch)
        except (Unavailable, DiskFull) as error:
            self._note_trouble(error)
            return False
        except Exception as error:
            return self._set_aside(group, error)
        # Before the leases count as fresh: some may be lost.
        self._drop(batch, report)
        self._note_success(tried_at if renew else None, batch)
        self._tell(group, report)
        return True

    def _commit(self, batch: Batch) -> CommitReport:
        return self._ledger.commit(batch, worker_id=self._worker_id, lease_s=self._lease_s)

    def _note_trouble(self, error: CorpusmillError) -> None:
        if type(error) is not type(self.trouble):
            log.warning("cannot write, trying on: %s", error.what)
        self.trouble = error
        if isinstance(error, DiskFull):
            self.found_full()

    def _note_success(self, renewed_at: float | None, batch: Batch) -> None:
        if self.trouble is not None and not self._refused:
            log.warning("writing again")
            self.trouble = None
        if renewed_at is None:
            return
        with self._changed:
            # A lease that came meanwhile was not renewed with the others: it is as old as it was.
            later = {ref for ref, fence in self._held.items() if batch.fences.get(ref) != fence}
            self._claimed_at = {ref: at_s for ref, at_s in self._claimed_at.items() if ref in later}
            self._renewed_at = min([renewed_at, *self._claimed_at.values()])

    def _drop(self, batch: Batch, report: CommitReport) -> None:
        """Hold no more what is lost, closed or given back."""
        with self._changed:
            for ref in (*report.lost, *report.closed, *batch.releasing):
                if self._held.get(ref) == batch.fences.get(ref):
                    self._held.pop(ref, None)

    def _tell(self, group: list[_Entry], report: CommitReport) -> None:
        attempts = [attempt for entry in group for attempt in entry.attempts]
        if attempts:
            self._journal.committed(attempts)
        with self._changed:
            self._backlog -= sum(entry.size for entry in group)
        for told in (self._on_report, *(entry.then for entry in group if entry.then is not None)):
            try:
                told(report)
            except Exception:
                log.exception("somebody who is told of a commit has failed")

    def _set_aside(self, group: list[_Entry], error: Exception) -> bool:
        """The ledger refuses something: find out what, write the rest, and stop sending. The journal keeps it."""
        if len(group) > 1:
            return all([self._wrote([entry]) for entry in group])
        what = error.what if isinstance(error, CorpusmillError) else type(error).__name__
        log.error("the ledger refuses what was submitted to it: nothing more is sent error=%s", what)
        self.trouble = error if isinstance(error, CorpusmillError) else CorpusmillError(f"the ledger failed: {what}")
        self._refused += group
        return True

    def _retry_refused(self) -> None:
        if self._refused and time.monotonic() - self._refused_at >= REFUSED_RETRY_S:
            self._refused_at = time.monotonic()
            self._refused = [entry for entry in self._refused if not self._wrote_after_all(entry)]

    def _wrote_after_all(self, entry: _Entry) -> bool:
        batch = merged([entry.batch], held={}, renew=False)
        try:
            report = self._commit(batch)
        except Exception:
            return False  # logged when it was set aside
        self._drop(batch, report)
        self._tell([entry], report)
        return True


def awake_s() -> float:
    """Seconds on a clock that goes on while the machine sleeps, as leases do; Linux alone has one."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)
