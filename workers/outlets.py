"""How a stream's items become requests: one each, or many texts in a pack."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from corpusmill.llm.packs import MAX_INPUTS, MAX_TOKENS, Packer
from workers.delivery import Delivery
from workers.dispatch import Dispatch
from workers.held import Unit
from workers.stream import Stream
from workers.work import Work

# A pack that is not full waits so long for more texts: little while nothing else is under way, longer while
# something is, since a shard that ends leaves room for another's beginning.
LINGER_S = 0.05
BUSY_LINGER_S = 0.5
# Where a token limit is set, a pack takes a tenth of a minute's at most: a larger one would come in jerks, or never.
# Not less than the longest text, though.
PACKS_A_MINUTE = 10
LONGEST_TEXT = 8_192


class Outlet(Protocol):
    """Where a shard's units go."""

    def send(self, units: Sequence[Unit]) -> None:
        """Have these units delivered; their shards are told as each lands."""


class Singly:
    """A request for every unit."""

    def __init__(self, dispatch: Dispatch, stream: Stream, work: Work) -> None:
        self._dispatch, self._stream, self._work = dispatch, stream, work

    def send(self, units: Sequence[Unit]) -> None:
        """Begin a delivery for each."""
        for unit in units:
            Delivery(self._dispatch, self._stream, self._work, (unit,))


class InPacks:
    """Requests of many texts each, filled across the shards and jobs of a stream."""

    def __init__(self, dispatch: Dispatch, stream: Stream, work: Work, *, tpm: int | None) -> None:
        self._dispatch, self._stream, self._work = dispatch, stream, work
        self._packer: Packer[Unit] = Packer(MAX_INPUTS, pack_tokens(tpm))
        self._lingering: asyncio.TimerHandle | None = None

    def send(self, units: Sequence[Unit]) -> None:
        """Pack them; a pack goes as soon as it is full, the last one after a short while."""
        for unit in units:
            self._deliver(self._packer.add(unit, unit.item.tokens))
        self._note_waiting()
        if self._lingering is not None:
            self._lingering.cancel()
        linger_s = BUSY_LINGER_S if self._stream.deliveries else LINGER_S
        self._lingering = asyncio.get_running_loop().call_later(linger_s, self._flush)

    def _flush(self) -> None:
        self._deliver(self._packer.take())
        self._note_waiting()

    def _deliver(self, units: Sequence[Unit]) -> None:
        wanted = [unit for unit in units if unit.shard.wants(unit.item)]
        if wanted:
            Delivery(self._dispatch, self._stream, self._work, wanted)

    def _note_waiting(self) -> None:
        self._stream.waiting_to_be_packed = len(self._packer)


def pack_tokens(tpm: int | None) -> int:
    """The most tokens of a pack under a limit a minute; None or 0: none is set."""
    return min(MAX_TOKENS, max(LONGEST_TEXT, tpm // PACKS_A_MINUTE)) if tpm else MAX_TOKENS
