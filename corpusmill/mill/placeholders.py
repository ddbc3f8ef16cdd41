"""Words in braces that a prompt holds and nobody fills in: braces stay as they are, but some look like a slip."""

from __future__ import annotations

import difflib
import re

_FILLED = ("text", "source")
# Neither `${HOME}` nor `\emph{word}`, and nothing of JSON.
_WORD = re.compile(r"(?<![\w$])\{([A-Za-z_]\w*)\}")
_ALIKE = 0.6


def slips(prompt: str) -> str | None:
    """One line about the words in braces that were meant to be filled in; None when there are none.

    Such a word resembles `text` or `source`, or it is the only one and the prompt has no mark of its own.
    """
    words = list(dict.fromkeys(_WORD.findall(prompt)))
    unfilled = [word for word in words if word not in _FILLED]
    meant = {
        word: near[0] for word in unfilled if (near := difflib.get_close_matches(word.lower(), _FILLED, 1, _ALIKE))
    }
    if not meant and words == unfilled and len(words) == 1:
        meant = {words[0]: "text"}
    told = "; ".join(f"`{{{word}}}` is not filled in; did you mean `{{{mark}}}`?" for word, mark in meant.items())
    return f"the prompt: {told}" if told else None
