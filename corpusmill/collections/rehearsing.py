"""What a sync would take, counted without writing anything: `--dry-run`."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from corpusmill import intake
from corpusmill.collections.writing import Cut
from corpusmill.ledger import Ledger
from corpusmill.mill.estimate import usd_of
from corpusmill.mill.place import Place
from corpusmill.mill.pricing import card_for_model
from corpusmill.spec import JobSpec

_AT_ONCE = 1_000


class Rehearsal:
    """Counts the chunks of new and changed documents by what would become of them."""

    def __init__(self, place: Place, spec: JobSpec, provider: str) -> None:
        self._place, self._spec, self._provider = place, spec, provider
        self._new: set[bytes] = set()
        self._waiting: dict[bytes, int] = {}
        self.reused = self.failed = self.tokens = 0

    @property
    def embedded(self) -> int:
        """Chunks that would be sent."""
        return len(self._new)

    @property
    def usd(self) -> Decimal | None:
        """What they would cost; None for an unpriced model."""
        card = card_for_model(self._place.settings, self._provider, self._spec.model)
        if card is None:
            return None
        return usd_of(card, calls=self.embedded, prompt_tokens=self.tokens, output_tokens=0, tier=None)

    def count(self, cut: Iterable[Cut]) -> None:
        """Take these documents into account."""
        ledger = self._place.ledger if self._place.has_ledger else None
        for _, pieces in cut:
            for piece in pieces:
                self._add(piece, ledger)
        self._settle(ledger)

    def _add(self, piece: intake.Piece, ledger: Ledger | None) -> None:
        if piece.problem is not None:
            self.failed += 1
            return
        key = self._spec.content_key(piece.text, piece.source)
        if key in self._new or key in self._waiting:
            self.reused += 1
            return
        self._waiting[key] = piece.tokens
        if len(self._waiting) >= _AT_ONCE:
            self._settle(ledger)

    def _settle(self, ledger: Ledger | None) -> None:
        there = ledger.collections.answered(list(self._waiting)) if ledger and self._waiting else set()
        self.reused += len(there)
        for key, tokens in self._waiting.items():
            if key not in there:
                self._new.add(key)
                self.tokens += tokens
        self._waiting = {}
