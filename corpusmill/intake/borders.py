"""Where a text may be cut, best places first: heading, paragraph, sentence, line, word, anywhere.

A text is a row of atoms: sentences, or lines where there are none. Only an atom too long to be packed is cut
further, at words, or anywhere where it has none. Atoms are made as they are asked for, so a text of any
length costs memory for a few of them. No pattern here goes back over what it has passed: a million spaces take
time in proportion.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from corpusmill.tokens import Encoding


class Level(IntEnum):
    """How good the border at an atom's end is."""

    ANYWHERE = 0
    WORD = 1
    LINE = 2
    SENTENCE = 3
    PARAGRAPH = 4
    HEADING = 5


class Atom(NamedTuple):
    """Characters `start` to `end`, which count about `tokens`; `level` and `mark` are those of its end.

    `mark` tells the place by the characters around it. `white`: it is only white space, and so much of it that it is
    better left out.
    """

    start: int
    end: int
    tokens: int
    level: Level
    mark: int
    white: bool


# The end of a line; a sentence's end with white space after it; a full stop that needs none. One class of characters
# first, so that the search skips from one of them to the next; `++` and `*+` never give back what they took.
_BORDER = re.compile(
    r"""[\n.!?…。！？｡](?:(?<=\n)\s*+|(?<=[.!?…])["'”’)\]*_`]*+(?=\s)\s++|(?<=[。！？｡])["”’）」』]*+\s*+)"""  # noqa: RUF001
)
_HASHED = 24
# Characters of white space that may stand at either end of a chunk.
_LONG_WHITE = 64
_WORD_END = re.compile(r"\s++")
_HEADING = re.compile(r"#{1,6} |=[= ]|\f")
_HEADS = frozenset("#=\f")


def atoms(text: str, start: int, *, room: int, encoding: Encoding) -> Iterator[Atom]:
    """The atoms of `text` from `start` on, each of at most `room` tokens, in order and without a gap.

    Args:
        text: a whole document, or the part of it that is at hand.
        start: a border, from which on the atoms are wanted.
        room: tokens that an atom may count at most, at least 4: a single character may count that many.
        encoding: counts the tokens.
    """
    # White space between sentences is counted with the word after it, as the encoding does, though it is cut before.
    counted = start
    for end, level, mark in _borders(text, start):
        if end - start > 2 * room or (tokens := encoding.count(text[counted:mark])) > room:
            yield from finer(text, start, end, level, room=room, encoding=encoding)
            mark = end
        else:
            yield Atom(start, end, tokens, level, _mark(text, end), _is_white(text[start:end]))
        start, counted = end, mark


def _borders(text: str, start: int) -> Iterator[tuple[int, Level, int]]:
    """The ends of sentences and lines after `start`, each with its level and where its own tokens end."""
    last = start
    for found in _BORDER.finditer(text, start):
        run = found.group()
        newline = run.rfind("\n")
        if newline >= 0:
            # What follows the last line break is the indentation of the next line.
            last = found.start() + newline + 1
            yield last, _level_of_break(text, last, run), last
        elif not text[found.end() : found.end() + 1].islower():
            # A small letter after a full stop: an abbreviation, not a sentence's end.
            last = found.end()
            yield last, Level.SENTENCE, found.start() + len(run.rstrip())
    if len(text) > last:
        yield len(text), Level.HEADING, len(text)


def _level_of_break(text: str, end: int, run: str) -> Level:
    if text[end : end + 1] in _HEADS and _HEADING.match(text, end):
        return Level.HEADING
    if len(run) == 1:
        return Level.LINE
    if run.count("\n") > 1:
        return Level.PARAGRAPH
    return Level.LINE if run[0] == "\n" else Level.SENTENCE


def finer(text: str, start: int, end: int, level: Level, *, room: int, encoding: Encoding) -> Iterator[Atom]:
    """Cut `start` to `end` at words into atoms of at most `room` tokens, each counted by itself; `level` ends the last.

    They surely fit: a token is at least a byte, so a character counts at most 4.
    """
    step = max(1, room // 4)
    while start < end:
        cut, found = (end, level) if end - start <= step else _word_end(text, start + step, min(end, start + 2 * step))
        if cut - start > step and encoding.count(text[start:cut]) > room:
            cut, found = start + step, Level.ANYWHERE
        piece = text[start:cut]
        yield Atom(
            start, cut, encoding.count(piece), level if cut == end else found, _mark(text, cut), _is_white(piece)
        )
        start = cut


def _mark(text: str, at: int) -> int:
    """A number that tells a place by the characters around it."""
    return zlib.crc32(text[max(0, at - _HASHED) : at + _HASHED].encode("utf-8", "surrogatepass"))


def _is_white(piece: str) -> bool:
    return len(piece) > _LONG_WHITE and piece.isspace()


def _word_end(text: str, at: int, latest: int) -> tuple[int, Level]:
    """The end of a word in that range, or a place between characters that a reader sees as one each.

    Which word is told by the text around it, so that after an edit the cuts soon fall where they fell.
    """
    ends = (found.end() for found in _WORD_END.finditer(text, at, latest))
    if (best := max(ends, key=lambda end: (_mark(text, end), end), default=None)) is not None:
        return best, Level.WORD
    cut = at
    while cut < latest and _joins(text[cut]):
        cut += 1
    return (cut if cut < latest else at), Level.ANYWHERE


def _joins(character: str) -> bool:
    """Whether it belongs to the character before: accents, joiners, variation selectors, emoji parts after a joiner."""
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf")
