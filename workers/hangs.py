"""A worker whose loop hangs ends itself: its leases would be renewed for ever, and nothing in them would move.

Two watch. A thread sees a loop that does not turn for the time of a lease, and counts its own waking moments, so that
a process that was suspended is not taken for one that hangs. Where even threads stand still, because a library in C
holds the interpreter, a timer of `faulthandler` ends the process after ten leases; these have long lapsed by then.
Nothing is lost either way: what was paid for lies in the journal. Both leave the places in the code, and no values.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

TURN_S = 1.0
# However short the leases: a machine with too much to do is no loop that hangs.
LEAST_PATIENCE_S = 10.0
HOPELESS_LEASES = 10
EX_SOFTWARE = 70


@contextmanager
def watched(loop: asyncio.AbstractEventLoop, lease_s: float) -> Iterator[None]:
    """End the process should `loop` not turn for as long as a lease lasts, while this context is open."""
    watch = _Watch(loop, max(lease_s, LEAST_PATIENCE_S))
    thread = threading.Thread(target=watch.run, name="hangs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.over.set()
        faulthandler.cancel_dump_traceback_later()


class _Watch:
    """Asks the loop to turn, and counts how long it does not."""

    def __init__(self, loop: asyncio.AbstractEventLoop, patience_s: float) -> None:
        self._loop, self._patience_s = loop, patience_s
        self._turned = threading.Event()
        self.over = threading.Event()

    def run(self) -> None:
        """Watch until it is over, or end the process."""
        waited_s = 0.0
        self._ask()
        while not self.over.wait(TURN_S):
            waited_s += TURN_S
            if self._turned.is_set():
                waited_s = 0.0
                self._ask()
            elif waited_s >= self._patience_s:
                self._end()

    def _ask(self) -> None:
        """Have the loop say that it turns, and put off the timer that needs no thread."""
        faulthandler.dump_traceback_later(self._patience_s * HOPELESS_LEASES, exit=True)
        self._turned.clear()
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._turned.set)

    def _end(self) -> None:
        log.critical("the loop has not turned for %.0f s: this process ends, others take its shards", self._patience_s)
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        os._exit(EX_SOFTWARE)
