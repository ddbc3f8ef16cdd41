"""How a collection's sources become chunks, as it is remembered: another way would be another collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from corpusmill import intake
from corpusmill.errors import UsageError
from corpusmill.mill.ask import Shape

# These say which files are read; what they found is cut the same way.
_READING = ("include", "exclude", "on_bad_text", "skip_invalid")


def remembered(shape: Shape, encoding: str) -> dict[str, Any]:
    """All that a chunk depends on besides its document."""
    facts = {**asdict(shape), "chunk_overlap": shape.overlap, "id_field": shape.id_name}
    facts["include"], facts["exclude"] = list(shape.include), list(shape.exclude)
    return {**facts, "encoding": encoding, "chunker": intake.CHUNKER_VERSION}


def cut_differently(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs so that the same text would give other chunks: `chunk_tokens 400, now 800`."""
    return [
        f"{name} {before.get(name)}, now {value}"
        for name, value in now.items()
        if name not in _READING and before.get(name) != value
    ]


def refuse_other_cut(name: str, before: Mapping[str, Any], now: Mapping[str, Any], *, recut: bool) -> bool:
    """Whether everything has to be cut anew.

    Raises:
        UsageError: it has to, and nobody asked for it: it may cost as much as the first sync.
    """
    differing = cut_differently(before, now)
    if differing and not recut:
        raise UsageError(
            f"the chunks of {name} were cut otherwise, so everything would be embedded anew",
            where="; ".join(differing),
            next_step="repeat the flags of the last sync, or add --recut",
        )
    return bool(differing)
