"""Exact token counts for OpenAI's encodings, without a network and without a text that can break them.

tiktoken does the counting; the rank files that it would download at its first use are shipped in
`corpusmill/ranks` and checked against tiktoken's own hashes. tiktoken panics (a BaseException from Rust)
on about a million spaces in one piece, so a long text is encoded in blocks that end where the pattern
that splits words splits anyway: the sum over the blocks is the count of the whole.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from binascii import a2b_base64
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib import resources

import tiktoken
from tiktoken.model import encoding_name_for_model

from corpusmill.errors import CorpusmillError

DEFAULT_ENCODING = "o200k_base"

# Block length in characters. tiktoken panics between 200,000 and 1,000,000 equal characters in one piece.
_BLOCK = 100_000
# Where a block may end: a word, then one space that the next word takes with it, or a line's end and a word.
# Words are split there whatever follows, so both sides count as they do together.
_SEAM = re.compile(r"(?<=[A-Za-z0-9])(?= [A-Za-z])|(?<=\n)(?=[A-Za-z])|(?<=[^\W_])(?=[、。，！？；：「（][^\W\d_])")  # noqa: RUF001
_SEAM_WITHIN = 4_000

_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_PATTERNS = {
    "o200k_base": "|".join(
        (
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + _CONTRACTION,
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + _CONTRACTION,
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        )
    ),
    "cl100k_base": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
}
_RANKS_SHA256 = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}


class Encoding:
    """One encoding: counts and cuts texts in tokens. Safe to share between threads.

    Special tokens such as `<|endoftext|>` are counted as the plain text that they are in a document; a lone
    surrogate counts as U+FFFD. The ranks are loaded on first use (about 0.25 s and 50 MB).
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Encoding({self.name!r})"

    def count(self, text: str) -> int:
        """The number of tokens in `text`; takes time in proportion to its length, whatever it holds."""
        encode = _tiktoken(self.name).encode_ordinary
        if len(text) <= _BLOCK:
            return len(encode(text))
        return sum(len(encode(block)) for block in _blocks(text))

    def encode(self, text: str) -> list[int]:
        """The tokens of `text`."""
        encode = _tiktoken(self.name).encode_ordinary
        return [token for block in _blocks(text) for token in encode(block)]

    def truncate(self, text: str, limit: int) -> str:
        """The longest start of `text` made of whole tokens and whole characters that counts at most `limit` tokens."""
        tokens: list[int] = []
        for block in _blocks(text):
            tokens += _tiktoken(self.name).encode_ordinary(block)
            if len(tokens) > limit:
                break
        else:
            return text
        return self._start_within(text, tokens[:limit], limit)

    def _start_within(self, text: str, tokens: list[int], limit: int) -> str:
        """The characters that `tokens` cover fully; fewer where a cut word counts more alone than it did whole."""
        while tokens:
            cut = _tiktoken(self.name).decode_bytes(tokens).decode("utf-8", errors="ignore")
            if self.count(text[: len(cut)]) <= limit:
                return text[: len(cut)]
            tokens.pop()
        return ""


@cache
def encoding(name: str = DEFAULT_ENCODING) -> Encoding:
    """The encoding of that name: `o200k_base` or `cl100k_base`."""
    if name not in _RANKS_SHA256:
        raise ValueError(f"no ranks for {name}; there are {', '.join(_RANKS_SHA256)}")
    return Encoding(name)


@lru_cache(maxsize=256)
def encoding_for(model: str) -> Encoding:
    """The encoding that `model` uses; o200k_base for a model that nobody knows.

    A gateway's prefix (`openai/gpt-4o`) is looked through.
    """
    try:
        name = encoding_name_for_model(model.rsplit("/", 1)[-1])
    except KeyError:
        name = DEFAULT_ENCODING
    return encoding(name if name in _RANKS_SHA256 else DEFAULT_ENCODING)


def _blocks(text: str) -> Iterator[str]:
    """Cut `text` into blocks of at most `_BLOCK` characters whose counts add up to that of the whole.

    Only where no seam lies within the last 4,000 characters of a block (no ordinary text) may the sum
    differ, by a few tokens a block.
    """
    start = 0
    while len(text) - start > _BLOCK:
        end = start + _BLOCK
        seam = _SEAM.search(text, end - _SEAM_WITHIN, end)
        cut = seam.start() if seam else end
        yield text[start:cut]
        start = cut
    yield text[start:]


@cache
def _tiktoken(name: str) -> tiktoken.Encoding:
    """The library's encoding over our copy of the ranks."""
    ranks = _ranks(name)
    loaded = tiktoken.Encoding(name, pat_str=_PATTERNS[name], mergeable_ranks=ranks, special_tokens={})
    # The library keeps the table that it was made from, 30 MB, only to be pickled, which this one never is.
    ranks.clear()
    return loaded


def _ranks(name: str) -> dict[bytes, int]:
    file = resources.files("corpusmill") / "ranks" / f"{name}.tiktoken.gz"
    data = gzip.decompress(file.read_bytes())
    if hashlib.sha256(data).hexdigest() != _RANKS_SHA256[name]:
        raise CorpusmillError(
            f"the token ranks of {name} are damaged", where=str(file), next_step="reinstall corpusmill"
        )
    # A line is a token and its rank. Taken apart by loops in C: two hundred thousand of them are a tenth of a second.
    words = data.split()
    return dict(zip(map(a2b_base64, words[::2]), map(int, words[1::2]), strict=True))
