"""How a stream's items become requests: one each, or many texts in a pack."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from corpusmill.llm.packs import MAX_INPUTS, MAX_TEXT_TOKENS, MAX_TOKENS, Packer
from workers.delivery import Delivery
from workers.dispatch import Dispatch
from workers.held import Unit
from workers.stream import Stream
from workers.work import Work

# Texts that fill no pack wait so long for others: a moment, and on while a shard is being claimed that may bring some.
LINGER_S = 0.005
LONGEST_LINGER_S = 0.5
# Where there is a token limit, a pack takes a tenth of a minute's at most, or of the job's part of it: a larger one
# would come in jerks, or never. Not less than the longest text, though.
PACKS_A_MINUTE = 10


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
    """Requests of many texts each: of one shard as far as they are full, what is left over across shards and jobs.

    `share`: the part of the limit that its jobs may use. A pack has to pass at any member of the lane, by the limits
    that hold when it is packed: they may be learnt, or set anew, meanwhile.
    """

    def __init__(self, dispatch: Dispatch, stream: Stream, work: Work, *, share: float) -> None:
        self._dispatch, self._stream, self._work = dispatch, stream, work
        self._share = share
        self._tails: Packer[Unit] = self._packer()
        self._lingering: asyncio.TimerHandle | None = None
        self._linger_until = 0.0

    def send(self, units: Sequence[Unit]) -> None:
        """Pack them; full packs go at once, the rest after a short while."""
        own = self._packer()
        self._tails.max_tokens = own.max_tokens
        for unit in units:
            self._deliver(own.add(unit, unit.item.tokens))
        if own.nearly_full:
            self._deliver(own.take())
        for unit in own.take():
            self._deliver(self._tails.add(unit, unit.item.tokens))
        self._linger()

    def _packer(self) -> Packer[Unit]:
        return Packer(MAX_INPUTS, pack_tokens(self._stream.lane.tpm(self._stream.model), self._share))

    def _linger(self) -> None:
        self._note_waiting()
        if self._lingering is not None:
            self._lingering.cancel()
        loop = asyncio.get_running_loop()
        self._linger_until = loop.time() + LONGEST_LINGER_S
        self._lingering = loop.call_later(LINGER_S, self._flush, loop)

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._dispatch.claiming and len(self._tails) and loop.time() < self._linger_until:
            self._lingering = loop.call_later(LINGER_S, self._flush, loop)
            return
        self._deliver(self._tails.take())
        self._note_waiting()

    def _deliver(self, units: Sequence[Unit]) -> None:
        wanted = [unit for unit in units if unit.shard.wants(unit.item)]
        if wanted:
            Delivery(self._dispatch, self._stream, self._work, wanted)

    def _note_waiting(self) -> None:
        self._stream.waiting_to_be_packed = len(self._tails)


def pack_tokens(tpm: int | None, share: float = 1.0) -> int:
    """The most tokens of a pack under a limit a minute, of which `share` may be used; None or 0: there is none."""
    return min(MAX_TOKENS, max(MAX_TEXT_TOKENS, int(tpm * share) // PACKS_A_MINUTE)) if tpm else MAX_TOKENS
