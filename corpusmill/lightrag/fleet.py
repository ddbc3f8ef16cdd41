"""Calls made by the fleet: through its queues, its token bucket and its ledger, and awaited here."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpusmill.app import make_app
from corpusmill.endpoint import fingerprint
from corpusmill.errors import SettingsError
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import KeptAnswer, NewItem
from corpusmill.lightrag import answering
from corpusmill.lightrag.asking import Ask
from corpusmill.lightrag.broadcast import replayed, texts
from corpusmill.lightrag.connections import connections
from corpusmill.lightrag.ears import Ears
from corpusmill.lightrag.errands import Errand, Errands, Outcome, Standing, private
from corpusmill.lightrag.fleet_failures import failure
from corpusmill.lightrag.fleet_streams import FleetStreams, Stream
from corpusmill.lightrag.local import Local
from corpusmill.lightrag.packing import Pack
from corpusmill.lightrag.places import Where
from corpusmill.lightrag.tracker import Used
from corpusmill.lightrag.usage import Meter
from corpusmill.lightrag.wires import Letter
from corpusmill.settings import Settings
from corpusmill.spec import COMPLETIONS_PATH, EMBEDDINGS_PATH, JobSpec

_SOURCE = "lightrag"
_CHARACTERS_A_TOKEN = 4


class Fleet:
    """The fleet of a broker and a ledger. What only this process can send, it sends itself."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings, self._ledger = settings, ledger
        self._cache = settings.cache
        self._ears = Ears(settings.redis_url or "")
        self._errands = Errands(ledger, make_app(settings), self._ears, card_for=self._card)
        self._streams = FleetStreams(settings, ledger, self._errands)
        self._local = Local(None)

    @classmethod
    def open(cls, settings: Settings) -> Fleet:
        """Connect to the ledger and the broker.

        Raises:
            SettingsError: no broker and database are configured.
            Unavailable, UsageError: the ledger cannot be opened.
        """
        if settings.broker_url is None or settings.database_url is None:
            raise SettingsError(
                "a fleet needs a broker and a database",
                next_step="set CORPUSMILL_BROKER_URL and CORPUSMILL_DATABASE_URL, or call use_local()",
            )
        fleet = cls(settings, Ledger.open(settings.database_url))
        fleet._errands.start()
        return fleet

    def close(self) -> None:
        """Let go of everything; what is under way stays with the fleet."""
        self._errands.close()
        self._ears.close()
        self._ledger.close()

    async def complete(self, ask: Ask, where: Where, meter: Meter) -> str | AsyncIterator[str]:
        """The answer; an iterator of its text where `ask` streams."""
        if ask.headers or ask.query or not where.plain:
            return await self._local.complete(ask, where, meter)
        spec, item = _completion(ask, where)
        if ask.stream:
            return texts(await self._stream(ask, spec, item, where, meter), enable_cot=ask.enable_cot)
        (answer,) = await self._answers(spec, [item], where, meter, use_cache=ask.use_cache)
        return answering.text_in(answering.reply_in(answer.body), enable_cot=ask.enable_cot)

    async def _stream(
        self, ask: Ask, spec: JobSpec, item: NewItem, where: Where, meter: Meter
    ) -> AsyncIterator[answering.Piece]:
        fresh = not (ask.use_cache and self._cache)
        known = {} if fresh else await asyncio.to_thread(self._ledger.answers, [item.key or b""])
        answer = next(iter(known.values()), None)
        if answer is not None and not answer.truncated:
            meter.hit()
            return replayed(answering.pieces_of(answering.reply_in(answer.body)))
        errand = Errand(self._standing(spec, where), item, item.key or b"", fresh)
        timeout_s = ask.timeout_s if ask.timeout_s is not None else where.timeout_s
        letter = Letter(COMPLETIONS_PATH, ask.wire(), timeout_s)
        wire = (await connections()).wire(where)
        errand = private(errand) if fresh or answer is not None else errand
        found = await self._streams.open(Stream(errand, letter, wire, meter))
        if not isinstance(found, Outcome):
            return found
        if found.answer is None:
            raise failure(found.error_class, found.error)
        _count([] if found.hit else [found], spec, meter)
        return replayed(answering.pieces_of(answering.reply_in(found.answer.body)))

    async def embed(self, pack: Pack, where: Where, meter: Meter) -> NDArray[np.float32]:
        """The vectors of a pack: shape (texts, dimensions), row i for text i."""
        if not pack.texts:
            return np.empty((0, pack.dimensions or 0), dtype=np.float32)
        if not where.plain:
            return await self._local.embed(pack, where, meter)
        spec = JobSpec("embedding", EMBEDDINGS_PATH, pack.model, where.address, dimensions=pack.dimensions)
        items = [
            NewItem(secrets.token_hex(8), _SOURCE, key, len(text) // _CHARACTERS_A_TOKEN + 1, end=len(text), text=text)
            for key, text in zip(pack.keys(where.address), pack.texts, strict=True)
        ]
        answers = await self._answers(spec, items, where, meter, use_cache=pack.use_cache)
        return np.frombuffer(b"".join(answer.body for answer in answers), dtype="<f4").reshape(len(items), -1).copy()

    async def _answers(
        self, spec: JobSpec, items: Sequence[NewItem], where: Where, meter: Meter, *, use_cache: bool
    ) -> list[KeptAnswer]:
        """An answer for each item, counted."""
        standing = self._standing(spec, where)
        fresh = not (use_cache and self._cache)
        started = [self._errands.run(Errand(standing, item, item.key or b"", fresh)) for item in items]
        # Shielded: whoever gives up leaves the errand to others who may have joined it.
        outcomes = await asyncio.gather(*(asyncio.shield(asyncio.wrap_future(future)) for future, _ in started))
        for outcome in outcomes:
            if outcome.answer is None:
                raise failure(outcome.error_class, outcome.error)
        paid = [each for each, (_, shared) in zip(outcomes, started, strict=True) if not (each.hit or shared)]
        _count(paid, spec, meter)
        return [outcome.answer for outcome in outcomes if outcome.answer is not None]

    def _standing(self, spec: JobSpec, where: Where) -> Standing:
        return Standing(spec, self._provider(spec.endpoint), self._fingerprint(where))

    def _provider(self, endpoint: str) -> str:
        """The name of the provider at that endpoint, if it is set here; the workers know it by its address."""
        names = (name for name in self._settings.providers if self._settings.endpoint(name) == endpoint)
        return next(names, "openai")

    def _fingerprint(self, where: Where) -> str:
        return fingerprint(where.key() or "", self._ledger.salt())

    def _card(self, spec: JobSpec) -> Mapping[str, Any] | None:
        from corpusmill.price_book import card_for

        card = card_for(spec.model, spec.endpoint, self._settings.prices)
        return None if card is None else card.as_json()


def _completion(ask: Ask, where: Where) -> tuple[JobSpec, NewItem]:
    """A completion as a job and an item know it."""
    whole = ask.not_streamed()
    body = whole.wire()
    key = whole.key(where.address) or secrets.token_bytes(32)
    item = NewItem(secrets.token_hex(8), _SOURCE, key, len(body) // _CHARACTERS_A_TOKEN + 1, body=body)
    return JobSpec("request", COMPLETIONS_PATH, ask.model, where.address), item


def _count(paid: Sequence[Outcome], spec: JobSpec, meter: Meter) -> None:
    """One call of the tracker's for what one caller asked for: paid, or a hit as a whole."""
    answers = [outcome.answer for outcome in paid if outcome.answer is not None]
    if not answers:
        meter.hit()
        return
    prompt, completion = sum(each.prompt_tokens for each in answers), sum(each.completion_tokens for each in answers)
    used = Used(
        prompt=prompt,
        completion=completion,
        total=prompt + completion,
        cached=sum(each.cached_tokens for each in answers),
        reasoning=sum(each.reasoning_tokens for each in answers),
        model=spec.model,
        base_url=spec.endpoint,
        tier=answers[0].tier,
    )
    meter.paid(used, embedding=spec.queue_kind == "embedding")
