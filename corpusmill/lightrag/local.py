"""Calls made by this process itself: cached, pooled, and one request for identical calls at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from corpusmill.lightrag import answering, retrying
from corpusmill.lightrag.asking import Ask
from corpusmill.lightrag.broadcast import Broadcast, replayed, texts
from corpusmill.lightrag.connections import connections
from corpusmill.lightrag.events import Gathered
from corpusmill.lightrag.failures import InvalidResponseError
from corpusmill.lightrag.flights import Flights
from corpusmill.lightrag.local_vectors import LocalVectors
from corpusmill.lightrag.memory import Cache, Kept
from corpusmill.lightrag.packing import Pack
from corpusmill.lightrag.places import Where
from corpusmill.lightrag.tracker import Used
from corpusmill.lightrag.usage import Meter, used_in
from corpusmill.lightrag.wires import Letter, Wire
from corpusmill.spec import COMPLETIONS_PATH, second_key

Reply = Mapping[str, Any]


class Local:
    """This process as its own fleet. `cache` None: every call is made."""

    def __init__(self, cache: Cache | None) -> None:
        self._cache = cache
        self._traffic: WeakKeyDictionary[asyncio.AbstractEventLoop, _Traffic] = WeakKeyDictionary()
        self._vectors = LocalVectors(cache)

    async def complete(self, ask: Ask, where: Where, meter: Meter) -> str | AsyncIterator[str]:
        """The answer; an iterator of its text where `ask` streams."""
        call = await _Call.of(ask, where, meter, self._cache)
        reply = await self._known(call)
        if reply is not None:
            meter.hit()
        elif ask.stream:
            return texts((await self._stream(call)).listen(), enable_cot=ask.enable_cot)
        else:
            reply = await self._reply(call)
        if ask.stream:
            return texts(replayed(answering.pieces_of(reply)), enable_cot=ask.enable_cot)
        return answering.text_in(reply, enable_cot=ask.enable_cot)

    async def embed(self, pack: Pack, where: Where, meter: Meter) -> NDArray[np.float32]:
        """The vectors of a pack: shape (texts, dimensions), row i for text i."""
        return await self._vectors.embed(pack, where, meter)

    def close(self) -> None:
        """Let go of the cache; calls that are under way must have ended."""
        if self._cache is not None:
            self._cache.close()

    async def _known(self, call: _Call) -> Reply | None:
        """An answer that is there already, or that another call of this loop is about to get as a stream or whole."""
        if call.key is None:
            return None
        reply = await call.kept()
        if reply is not None:
            return reply
        here = self._here()
        stream = here.streams.get(call.key)
        if stream is not None and not call.ask.stream:
            try:
                return call.usable(await stream.whole())
            except Exception:
                return None  # its failure is its caller's; this one asks for itself
        flight = here.replies.find(call.flight) if call.ask.stream else None
        return call.usable(await asyncio.shield(flight)) if flight is not None else None

    async def _reply(self, call: _Call) -> Reply:
        if call.key is None:
            return await call.bought()
        reply, shared = await self._here().replies.share(call.flight, call.bought)
        if shared:
            call.meter.hit()
        return reply

    async def _stream(self, call: _Call) -> Broadcast:
        if call.key is None:
            return await call.opened()
        here, key = self._here(), call.key
        stream = here.streams.get(key)
        if stream is not None and not stream.ended:
            call.meter.hit()
            return stream
        stream, shared = await here.openings.share(key, call.opened)
        if shared:
            call.meter.hit()
        if not stream.ended:
            here.streams[key] = stream
        return stream

    def _here(self) -> _Traffic:
        return self._traffic.setdefault(asyncio.get_running_loop(), _Traffic())


class _Traffic:
    """What is under way in one event loop."""

    def __init__(self) -> None:
        self.replies: Flights[Reply] = Flights()
        self.openings: Flights[Broadcast] = Flights()
        self._streams: dict[bytes, Broadcast] = {}

    @property
    def streams(self) -> dict[bytes, Broadcast]:
        """Streams that have not ended, by content key."""
        for key in [key for key, stream in self._streams.items() if stream.ended]:
            del self._streams[key]
        return self._streams


class _Call:
    """One completion and everything that it needs."""

    def __init__(self, ask: Ask, where: Where, meter: Meter, cache: Cache | None, wire: Wire) -> None:
        self.ask, self.meter = ask, meter
        self._wire, self._address = wire, where.address
        self._cache = cache if ask.use_cache else None
        self.key = ask.key(self._address) if self._cache is not None else None
        # Reasoning alone is an answer only with cot, so calls with and without share an answer, not a flight.
        self.flight = (self.key, ask.enable_cot)
        timeout_s = ask.timeout_s if ask.timeout_s is not None else where.timeout_s
        self._letter = Letter(COMPLETIONS_PATH, ask.wire(), timeout_s, ask.headers, ask.query)

    @classmethod
    async def of(cls, ask: Ask, where: Where, meter: Meter, cache: Cache | None) -> _Call:
        unusual = bool(ask.headers or ask.query)
        return cls(ask, where, meter, cache, (await connections()).wire(where, unusual=unusual))

    async def kept(self) -> Reply | None:
        """The answer in the cache, if it is one for this caller."""
        if self._cache is None or self.key is None:
            return None
        places = (self.key, second_key(self.key))
        found = await self._cache.found(places)
        replies = (self.usable(answering.reply_in(found[key])) for key in places if key in found)
        return next((reply for reply in replies if reply is not None), None)

    def usable(self, reply: Reply) -> Reply | None:
        """`reply`, if it is a whole answer for this caller."""
        try:
            answering.text_in(reply, enable_cot=self.ask.enable_cot)
        except (InvalidResponseError, RuntimeError):
            return None
        return reply if answering.is_whole(reply) else None

    async def bought(self) -> Reply:
        """Make the call, with retries; a whole answer is kept."""
        return await retrying.with_retries(self._once, retrying.COMPLETION)

    async def opened(self) -> Broadcast:
        """Open the stream, with retries; once whole, it is kept."""
        return await retrying.with_retries(
            lambda: Broadcast.open(self._wire, self._letter, self._streamed), retrying.COMPLETION
        )

    async def _once(self) -> Reply:
        body = await self._wire.post(self._letter)
        reply = answering.reply_in(body)
        used = used_in(reply, model=self.ask.model, base_url=self._address)
        # Before anything else: whatever the reply is worth, it is paid.
        self.meter.paid(used)
        answering.text_in(reply, enable_cot=self.ask.enable_cot)
        await self._keep(reply, body, used)
        return reply

    async def _streamed(self, gathered: Gathered) -> None:
        reply = gathered.reply()
        used = used_in(reply, model=self.ask.model, base_url=self._address)
        if gathered.says_usage:
            self.meter.paid(used)
        if gathered.finish_reason and self.usable(reply) is not None:
            await self._keep(reply, gathered.body(), used)

    async def _keep(self, reply: Reply, body: bytes, used: Used) -> None:
        if self._cache is not None and self.key is not None and answering.is_whole(reply):
            await self._cache.keep([Kept(self.key, body, used, answering.finish_reason(reply))])
