"""Which texts share an embedding request, and how a rejected pack is taken apart.

Pure: no I/O, no clock. A request takes up to 2,048 texts and 300,000 tokens, and a text up to 8,192 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from corpusmill.llm.errors import CallError

T = TypeVar("T")
MAX_INPUTS = 2048
MAX_TOKENS = 300_000
MAX_TEXT_TOKENS = 8_192


@dataclass(slots=True)
class Packer(Generic[T]):
    """Fills packs with items in the order in which they come; one is handed out once the next item does not fit.

    A text above `max_text_tokens` gets a pack of its own: the endpoint says what it thinks of it, and of no other.
    """

    max_inputs: int = MAX_INPUTS
    max_tokens: int = MAX_TOKENS
    max_text_tokens: int = MAX_TEXT_TOKENS
    _items: list[T] = field(default_factory=list)
    _tokens: int = 0

    def add(self, item: T, tokens: int) -> list[T]:
        """Put one item into the pack; the pack before it if that had to be closed, else an empty list."""
        closed = [] if self._has_room(tokens) else self.take()
        self._items.append(item)
        self._tokens += tokens
        return closed

    def _has_room(self, tokens: int) -> bool:
        if not self._items:
            return True
        too_long = tokens > self.max_text_tokens or (len(self._items) == 1 and self._tokens > self.max_text_tokens)
        return not too_long and len(self._items) < self.max_inputs and self._tokens + tokens <= self.max_tokens

    def take(self) -> list[T]:
        """Hand out what there is and start anew."""
        items, self._items, self._tokens = self._items, [], 0
        return items

    @property
    def nearly_full(self) -> bool:
        """Whether another text like those inside would not fit."""
        return bool(self._items) and not self._has_room(self._tokens // len(self._items))

    def __len__(self) -> int:
        return len(self._items)


def parts(error: CallError, items: Sequence[T]) -> list[Sequence[T]]:
    """The smaller packs to send instead of a rejected one, in the order to send them; none when that cannot help.

    The text that the error names goes last and alone, the rest together; else the pack is halved. Sent depth first,
    the first text that fails alone is found after eleven calls at most, so a fault of every text shows early.
    """
    if not error.failure.splits or len(items) < 2:
        return []
    bad = error.input_no
    if bad is not None and bad < len(items):
        return [[*items[:bad], *items[bad + 1 :]], items[bad : bad + 1]]
    return halves(items)


def halves(items: Sequence[T]) -> list[Sequence[T]]:
    """Two packs of about as many items."""
    middle = len(items) // 2
    return [items[:middle], items[middle:]]
