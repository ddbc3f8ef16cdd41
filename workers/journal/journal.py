"""The journal of the running process: it appends, and drops what SQL has."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from corpusmill.errors import DiskFull
from workers.journal import folders
from workers.journal.entries import Done, Reply, Sent, Void, encoded
from workers.journal.frames import frame

log = logging.getLogger(__name__)

SEGMENT_BYTES = 16 << 20
# Kept free on the disk for the replies to what is in flight: paid calls are not begun when they might not be saved.
RESERVE_BYTES = 64 << 20
MOST_SEGMENTS = 4


@dataclass(slots=True)
class _Attempt:
    """A call that SQL does not have yet: the oldest segment kept for it, and its `sent` frame until it is answered."""

    segment: int
    sent: bytes | None


class Journal:
    """Append-only, in segments, safe to use from several threads. See the package's docstring for what it promises."""

    def __init__(self, folder: Path, lock: int, *, segment_bytes: int, reserve_bytes: int) -> None:
        self.folder = folder
        self._lock_fd, self._segment_bytes, self._reserve_bytes = lock, segment_bytes, reserve_bytes
        self._mutex = threading.Lock()
        self._attempts: dict[bytes, _Attempt] = {}
        self._kept: Counter[int] = Counter()
        self._oldest = self._number = 0
        self._fd, self._size = -1, 0
        self._room_seen_at = float("-inf")
        self._begin_segment()

    @classmethod
    def open(cls, parent: Path, *, segment_bytes: int = SEGMENT_BYTES, reserve_bytes: int = RESERVE_BYTES) -> Self:
        """Begin the journal of this process in a new folder below `parent`, which is made if need be.

        Raises:
            DiskFull: the folder cannot be made.
        """
        try:
            folder, lock = folders.make_locked(parent)
            return cls(folder, lock, segment_bytes=segment_bytes, reserve_bytes=reserve_bytes)
        except OSError as error:
            raise _cannot_write(error, parent) from error

    def sent(self, *calls: Sent) -> None:
        """Note that calls are about to be made, all of them or none.

        The id of an attempt is 16 bytes, never used before; its estimates are a usage row of outcome `unknown` for
        each job, written should no reply come.

        Raises:
            DiskFull: they cannot be noted, or their replies might not be: do not make them.
        """
        frames = [frame(encoded(call)) for call in calls]
        with self._mutex:
            self._check_room()
            self._append(*frames)
            for call, data in zip(calls, frames, strict=True):
                self._attempts[call.attempt_id] = _Attempt(self._number, data)
            self._kept[self._number] += len(calls)

    def reply(self, *replies: Reply) -> None:
        """Save paid replies before anything else is done with them.

        It raises nothing, for a reply has to reach the writer in any case: on a full disk it is logged that only
        this process has it, and the next call is not noted, so not made.
        """
        frames = [frame(encoded(reply)) for reply in replies]
        with self._mutex:
            try:
                self._append(*frames)
            except DiskFull as error:
                log.error("paid replies are not in the journal replies=%d: %s", len(replies), error.what)
                self._room_seen_at = float("-inf")
            for reply in replies:
                self._note_replied(reply.attempt_id)

    def _note_replied(self, attempt_id: bytes) -> None:
        attempt = self._attempts.get(attempt_id)
        if attempt is None:
            self._attempts[attempt_id] = _Attempt(self._number, None)
            self._kept[self._number] += 1
        else:
            attempt.sent = None

    def void(self, attempt_id: bytes) -> None:
        """Note that a call was not paid for."""
        self._end(Void(attempt_id), [attempt_id])

    def committed(self, attempt_ids: Sequence[bytes]) -> None:
        """Note that SQL has all there is to these attempts, and remove the segments that nobody needs any more."""
        self._end(Done(attempt_ids), attempt_ids)

    def _end(self, entry: Void | Done, attempt_ids: Sequence[bytes]) -> None:
        with self._mutex:
            # On a full disk it goes without saying: to commit an attempt once more changes nothing.
            with suppress(OSError):
                self._write(frame(encoded(entry)))
            for attempt_id in attempt_ids:
                attempt = self._attempts.pop(attempt_id, None)
                if attempt is not None:
                    self._kept[attempt.segment] -= 1
            self._drop_segments()

    def turn_over(self) -> None:
        """Begin another segment, so that what SQL has leaves the disk also where little is sent: call it now and then.

        A segment that holds a call without a reply stays until it is answered, or is carried forward.
        """
        with self._mutex:
            if self._fd < 0 or not self._size:
                return
            # On a full disk the old one goes on.
            with suppress(OSError):
                self._begin_segment()
                self._drop_segments()

    def close(self) -> None:
        """Let go of the journal. With everything committed nothing is left of it; else somebody will adopt it."""
        with self._mutex:
            if self._fd < 0:
                return
            os.close(self._fd)
            self._fd = -1
            if not self._attempts:
                folders.remove(self.folder)
            os.close(self._lock_fd)

    def _begin_segment(self) -> None:
        path = self.folder / folders.SEGMENT.format(self._number + 1)
        opened = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._fd >= 0:
            os.close(self._fd)
        self._number += 1
        self._fd, self._size = opened, 0

    def _append(self, *frames: bytes) -> None:
        try:
            if self._size >= self._segment_bytes:
                self._begin_segment()
                self._drop_segments()
            self._write(frames[0] if len(frames) == 1 else b"".join(frames))
        except OSError as error:
            raise _cannot_write(error, self.folder) from error

    def _write(self, data: bytes) -> None:
        """Write whole frames, or nothing of them."""
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, memoryview(data)[written:])
        except OSError:
            # Should that fail too, half a record stays as a gap, which reading passes over.
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)

    def _drop_segments(self) -> None:
        """Remove segments from the oldest on, never one from the middle: a `done` outlives what it speaks of."""
        if self._number - self._oldest > MOST_SEGMENTS:
            self._carry_forward()
        while self._oldest < self._number and not self._kept[self._oldest]:
            del self._kept[self._oldest]
            (self.folder / folders.SEGMENT.format(self._oldest)).unlink(missing_ok=True)
            self._oldest += 1

    def _carry_forward(self) -> None:
        """Write the oldest segment's unanswered calls anew: one slow call must not keep all that came after it."""
        for attempt in self._attempts.values():
            if attempt.segment == self._oldest and attempt.sent is not None:
                try:
                    self._write(attempt.sent)
                except OSError:
                    return
                self._kept[attempt.segment] -= 1
                self._kept[self._number] += 1
                attempt.segment = self._number

    def _check_room(self) -> None:
        """Look at the disk's free room once a second."""
        now = time.monotonic()
        if now - self._room_seen_at < 1.0:
            return
        disk = os.statvfs(self.folder)
        if disk.f_bavail * disk.f_frsize < self._reserve_bytes:
            raise _no_room(self.folder, self._reserve_bytes)
        self._room_seen_at = now


def _no_room(folder: Path, reserve: int) -> DiskFull:
    return DiskFull(
        f"the journal's disk has less than {reserve >> 20} MB left: nothing more is sent, nothing paid is lost",
        where=str(folder),
        next_step="make room there, then run the same command again",
    )


def _cannot_write(error: OSError, folder: Path) -> DiskFull:
    return DiskFull(
        f"the journal cannot be written: {error.strerror}",
        where=str(folder),
        next_step="make room there or make it writable, or choose another CORPUSMILL_HOME",
    )
