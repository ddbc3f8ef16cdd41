"""What the calls of one turn of the loop have to note: one write to the journal, one word to the writer.

Under load dozens of calls leave or come back in a turn. A system call for each, and a lock, would cost more than
everything that is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain

from corpusmill.errors import DiskFull
from corpusmill.ledger.records import Batch
from workers.journal import Journal, Reply, Sent
from workers.writer import Writer


class Turn:
    """Gathers until the turn ends, at which it flushes by itself. Used on the loop only."""

    def __init__(self, journal: Journal, writer: Writer) -> None:
        self._journal, self._writer = journal, writer
        self._departing: list[tuple[Sent, asyncio.Future[None]]] = []
        self._replies: list[Reply] = []

    async def departs(self, call: Sent) -> None:
        """Wait until the journal has it that a call begins.

        Raises:
            DiskFull: it cannot be noted, so the call must not be made.
        """
        loop = asyncio.get_running_loop()
        noted: asyncio.Future[None] = loop.create_future()
        self._end_soon(loop)
        self._departing.append((call, noted))
        try:
            await noted
        except asyncio.CancelledError:
            self.flush()
            self._journal.void(call.attempt_id)
            raise

    def paid(self, reply: Reply) -> None:
        """Note a reply that is billed."""
        self._end_soon(asyncio.get_running_loop())
        self._replies.append(reply)

    def flush(self) -> None:
        """Note everything now: whoever submits to the writer what has to come after it calls this first."""
        replies, self._replies = self._replies, []
        departing, self._departing = self._departing, []
        if replies:
            keep(self._journal, self._writer, replies)
        if departing:
            self._note(departing)

    def _note(self, departing: Sequence[tuple[Sent, asyncio.Future[None]]]) -> None:
        failure: DiskFull | None = None
        try:
            self._journal.sent(*(call for call, _ in departing))
        except DiskFull as error:
            failure = error
        for _, noted in departing:
            if noted.done():
                continue
            if failure is None:
                noted.set_result(None)
            else:
                noted.set_exception(failure)

    def _end_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._departing and not self._replies:
            loop.call_soon(self.flush)


def keep(journal: Journal, writer: Writer, replies: Sequence[Reply]) -> None:
    """Replies that are billed: into the journal at once, into the ledger with the next commit. From any thread."""
    journal.reply(*replies)
    batch = Batch(
        answers=list(chain.from_iterable(reply.answers for reply in replies)),
        results=list(chain.from_iterable(reply.results for reply in replies)),
        usage=list(chain.from_iterable(reply.usage for reply in replies)),
    )
    writer.submit(batch, attempts=[reply.attempt_id for reply in replies])
