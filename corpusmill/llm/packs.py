"""Which texts share an embedding request, and how a rejected pack is taken apart.

Pure: no I/O, no clock. A request takes up to 2,048 texts and 300,000 tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from corpusmill.llm.errors import CallError

T = TypeVar("T")
MAX_INPUTS = 2048
MAX_TOKENS = 300_000


def pack(
    items: Iterable[T],
    tokens: Callable[[T], int],
    *,
    max_inputs: int = MAX_INPUTS,
    max_tokens: int = MAX_TOKENS,
) -> Iterator[list[T]]:
    """Cut `items` into packs in their order, each as large as a request may be.

    An item above `max_tokens` gets a pack of its own: the endpoint says what it thinks of it.
    """
    pack: list[T] = []
    filled = 0
    for item in items:
        size = tokens(item)
        if pack and (len(pack) >= max_inputs or filled + size > max_tokens):
            yield pack
            pack, filled = [], 0
        pack.append(item)
        filled += size
    if pack:
        yield pack


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
    middle = len(items) // 2
    return [items[:middle], items[middle:]]
