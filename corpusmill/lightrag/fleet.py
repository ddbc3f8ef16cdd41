"""Calls made by the fleet: through its queues, its token bucket and its ledger, and awaited here."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
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
from corpusmill.lightrag.errands import Errand, Errands, Outcome, sought
from corpusmill.lightrag.failures import InvalidResponseError
from corpusmill.lightrag.fleet_counting import count
from corpusmill.lightrag.fleet_failures import failure, given_up
from corpusmill.lightrag.fleet_streams import FleetStreams
from corpusmill.lightrag.local import Local
from corpusmill.lightrag.packing import Pack
from corpusmill.lightrag.places import Where
from corpusmill.lightrag.shelf import Shelf
from corpusmill.lightrag.standing import JobHalted, Standing
from corpusmill.lightrag.turns import Stream
from corpusmill.lightrag.usage import Meter
from corpusmill.lightrag.wires import Letter
from corpusmill.settings import Settings
from corpusmill.spec import COMPLETIONS_PATH, EMBEDDINGS_PATH, REASONING_ANSWERS, JobSpec

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
        self._counting: set[asyncio.Future[list[Outcome]]] = set()
        self._local = Local(Shelf(settings.database_url) if settings.cache and settings.database_url else None)

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
        self._local.close()
        self._ledger.close()

    async def complete(self, ask: Ask, where: Where, meter: Meter) -> str | AsyncIterator[str]:
        """The answer; an iterator of its text where `ask` streams."""
        if ask.headers or ask.query or not where.plain:
            return await self._local.complete(ask, where, meter)
        call = _Call.of(ask, where, self._standing)
        if ask.stream:
            return texts(await self._stream(call, meter), enable_cot=ask.enable_cot)
        return await self._text(call, meter)

    async def _text(self, call: _Call, meter: Meter) -> str:
        fresh = not (call.ask.use_cache and self._cache)
        (outcome,) = await self._outcomes([call.errand(fresh=fresh)], call.where, meter)
        try:
            return call.text(outcome)
        except InvalidResponseError as error:
            if not outcome.hit:
                raise given_up(error) from None
        # Somebody else's answer, of reasoning alone, which is none for this caller.
        (outcome,) = await self._outcomes([call.errand(fresh=False)], call.where, meter)
        return call.text(outcome)

    async def _stream(self, call: _Call, meter: Meter) -> AsyncIterator[answering.Piece]:
        wanted = call.errand(fresh=not (call.ask.use_cache and self._cache))
        errand = sought(wanted, await asyncio.to_thread(self._ledger.answers, wanted.places()))
        if isinstance(errand, KeptAnswer):
            meter.hit()
            return replayed(answering.pieces_of(answering.reply_in(errand.body)))
        wire = (await connections()).wire(call.where)
        try:
            found = await self._streams.open(Stream(errand, call.letter(), wire, meter))
        except JobHalted as halt:
            raise failure(halt.reason, str(halt)) from None
        if not isinstance(found, Outcome):
            return found
        count([found], errand.standing.spec, meter)
        if found.answer is None:
            raise failure(found.error_class, found.error)
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
        fresh = not (pack.use_cache and self._cache)
        standing = self._standing(spec, where)
        errands = [Errand(standing, item, item.key or b"", where.timeout_s, fresh) for item in items]
        outcomes = await self._outcomes(errands, where, meter)
        rows = b"".join(outcome.answer.body for outcome in outcomes if outcome.answer is not None)
        return np.frombuffer(rows, dtype="<f4").reshape(len(items), -1).copy()

    async def _outcomes(self, errands: Sequence[Errand], where: Where, meter: Meter) -> list[Outcome]:
        """What comes of each errand, counted; all have answers.

        Raises:
            tenacity.RetryError, openai.APIError: one has none, or the caller's own deadline is over.
        """
        started = [self._errands.run(errand) for errand in errands]
        deadline_s = where.named_timeout_s
        counted = asyncio.ensure_future(_counted(started, errands[0].standing.spec, meter))
        self._counting.add(counted)
        counted.add_done_callback(self._counting.discard)
        try:
            async with asyncio.timeout(deadline_s):
                # Shielded: what was asked for is paid and counted, also if nobody waits for it any more.
                outcomes = await asyncio.shield(counted)
        except TimeoutError:
            why = (
                f"no answer within {deadline_s:g} s; the fleet goes on, and its answer will be there for the next call"
            )
            raise failure("timeout", why) from None
        for outcome in outcomes:
            if outcome.answer is None:
                raise failure(outcome.error_class, outcome.error)
        return outcomes

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


@dataclass(frozen=True, slots=True)
class _Call:
    """One completion as a job and an item know it."""

    ask: Ask
    where: Where
    standing: Standing
    item: NewItem

    @classmethod
    def of(cls, ask: Ask, where: Where, standing: Callable[[JobSpec, Where], Standing]) -> _Call:
        whole = ask.not_streamed()
        body = whole.wire()
        key = whole.key(where.address) or secrets.token_bytes(32)
        item = NewItem(secrets.token_hex(8), _SOURCE, key, len(body) // _CHARACTERS_A_TOKEN + 1, body=body)
        # To its caller reasoning alone is an answer, so it is one to the worker.
        options = {REASONING_ANSWERS: True} if ask.enable_cot else {}
        return cls(
            ask,
            where,
            standing(JobSpec("request", COMPLETIONS_PATH, ask.model, where.address, options=options), where),
            item,
        )

    def errand(self, *, fresh: bool) -> Errand:
        wanted = (self.item.key or b"") + (b"with reasoning" if self.ask.enable_cot else b"")
        return Errand(self.standing, self.item, wanted, self.where.timeout_s, fresh, self._takes)

    def letter(self) -> Letter:
        timeout_s = self.ask.timeout_s if self.ask.timeout_s is not None else self.where.timeout_s
        return Letter(COMPLETIONS_PATH, self.ask.wire(), timeout_s)

    def text(self, outcome: Outcome) -> str:
        body = outcome.answer.body if outcome.answer is not None else b""
        return answering.text_in(answering.reply_in(body), enable_cot=self.ask.enable_cot)

    def _takes(self, answer: KeptAnswer) -> bool:
        """Whether an answer that is kept is one for this caller."""
        try:
            self.text(Outcome(answer))
        except (InvalidResponseError, RuntimeError):
            return False
        return not answer.truncated


async def _counted(started: Sequence[tuple[Future[Outcome], bool]], spec: JobSpec, meter: Meter) -> list[Outcome]:
    """What errands bring, counted for the one who started them; those of somebody else's are a hit."""
    # Shielded: others may have joined them.
    outcomes = await asyncio.gather(*(asyncio.shield(asyncio.wrap_future(each)) for each, _ in started))
    count([each for each, (_, shared) in zip(outcomes, started, strict=True) if not shared], spec, meter)
    return outcomes
