"""Embeddings made by this process itself: each text is paid for once, whatever packs it comes in."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from corpusmill.lightrag import answering, retrying
from corpusmill.lightrag.connections import connections
from corpusmill.lightrag.failures import InvalidResponseError
from corpusmill.lightrag.flights import Flights
from corpusmill.lightrag.memory import Cache, Kept
from corpusmill.lightrag.packing import Pack
from corpusmill.lightrag.places import Where
from corpusmill.lightrag.tracker import Used
from corpusmill.lightrag.usage import Meter, used_in
from corpusmill.lightrag.wires import Letter, Wire
from corpusmill.llm.embed import vectors_in
from corpusmill.llm.errors import CallError
from corpusmill.shares import shares
from corpusmill.spec import EMBEDDINGS_PATH

Vectors = NDArray[np.float32]


class LocalVectors:
    """Embeddings by this process. `cache` None: every text is sent."""

    def __init__(self, cache: Cache | None) -> None:
        self._cache = cache
        self._flights: WeakKeyDictionary[asyncio.AbstractEventLoop, Flights[Mapping[bytes, bytes]]]
        self._flights = WeakKeyDictionary()

    async def embed(self, pack: Pack, where: Where, meter: Meter) -> Vectors:
        """The vectors of a pack: shape (texts, dimensions), row i for text i."""
        if not pack.texts:
            return np.empty((0, pack.dimensions or 0), dtype=np.float32)
        wire = (await connections()).wire(where)
        cache = self._cache if pack.use_cache else None
        keys = _keys(pack, where.address) if cache is not None else None
        if cache is None or keys is None:
            return (await _bought(pack, wire, where, meter))[0]
        return await self._through(cache, keys, pack, wire, where, meter)

    async def _through(
        self, cache: Cache, keys: Sequence[bytes], pack: Pack, wire: Wire, where: Where, meter: Meter
    ) -> Vectors:
        """Buy what neither the cache nor a request under way has; a text twice in the pack is sent once."""
        wanted = dict(zip(keys, pack.texts, strict=True))
        rows = dict(await cache.found(list(wanted)))
        rows |= await self._under_way([key for key in wanted if key not in rows])
        missing = [key for key in wanted if key not in rows]
        if missing:
            rows |= await self._sent(cache, missing, pack.only([wanted[key] for key in missing]), wire, where, meter)
        else:
            meter.hit()
        return np.frombuffer(b"".join(rows[key] for key in keys), dtype="<f4").reshape(len(keys), -1).copy()

    async def _under_way(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """What requests of other callers bring; one that fails fails its own caller only."""
        here = self._here()
        flights = {flight for key in keys if (flight := here.find(key)) is not None}
        landed = await asyncio.gather(*map(asyncio.shield, flights), return_exceptions=True)
        return {key: row for each in landed if isinstance(each, dict) for key, row in each.items() if key in keys}

    async def _sent(
        self, cache: Cache, keys: Sequence[bytes], pack: Pack, wire: Wire, where: Where, meter: Meter
    ) -> Mapping[bytes, bytes]:
        async def buy() -> Mapping[bytes, bytes]:
            vectors, used = await _bought(pack, wire, where, meter)
            rows = [row.astype("<f4", copy=False).tobytes() for row in vectors]
            parts = shares(used.prompt, [len(text) for text in pack.texts])
            await cache.keep(
                [
                    Kept(key, row, replace(used, prompt=part, total=part))
                    for key, row, part in zip(keys, rows, parts, strict=True)
                ]
            )
            return dict(zip(keys, rows, strict=True))

        return await asyncio.shield(self._here().start(keys, buy))

    def _here(self) -> Flights[Mapping[bytes, bytes]]:
        return self._flights.setdefault(asyncio.get_running_loop(), Flights())


def _keys(pack: Pack, address: str) -> list[bytes] | None:
    try:
        return pack.keys(address)
    except TypeError:
        return None


async def _bought(pack: Pack, wire: Wire, where: Where, meter: Meter) -> tuple[Vectors, Used]:
    """One request for all texts of the pack, with retries."""
    letter = Letter(EMBEDDINGS_PATH, pack.wire(), where.timeout_s)

    async def once() -> tuple[Vectors, Used]:
        reply = answering.reply_in(await wire.post(letter))
        used = used_in(reply, model=pack.model, base_url=where.address)
        meter.paid(used, embedding=True)
        try:
            return vectors_in(reply, len(pack.texts), None), used
        except CallError as error:
            raise InvalidResponseError(error.message) from None

    return await retrying.with_retries(once, retrying.EMBEDDING)
