"""What stands behind a flag: text or `@FILE`, JSON in a file, `K=V` pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corpusmill.errors import UsageError


def text_argument(value: str) -> str:
    """The text itself, or with `@FILE` what the file holds; `@@` starts a text with an `@`."""
    if value.startswith("@@"):
        return value[1:]
    return _read(value[1:]) if value.startswith("@") else value


def source(name: str) -> str | Path:
    """A source as the mill takes it; `-` is standard input."""
    return name if name == "-" else Path(name)


def json_argument(value: str, *, flag: str) -> dict[str, Any]:
    """The JSON object in `@FILE`, or written out in full.

    Raises:
        UsageError: the file cannot be read, or holds no JSON object.
    """
    text = text_argument(value)
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{flag} is not JSON: {error}", where=value[:80], next_step=f"{flag} @FILE.json") from None
    if not isinstance(parsed, dict):
        raise UsageError(f"{flag} must be a JSON object", where=value[:80], next_step=f"{flag} @FILE.json")
    return parsed


def label_pairs(labels: Sequence[str]) -> dict[str, str]:
    """`K=V` flags as a mapping."""
    pairs = {}
    for label in labels:
        key, mark, value = label.partition("=")
        if not (mark and key.strip()):
            raise UsageError(f"--label {label} is no KEY=VALUE", next_step="for example --label team=search")
        pairs[key.strip()] = value
    return pairs


def positive(value: int | None, *, flag: str) -> None:
    """Refuse zero and below."""
    if value is not None and value < 1:
        raise UsageError(f"{flag} {value} is not a number above 0", next_step=f"{flag} 10")


def _read(name: str) -> str:
    path = Path(name)
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"cannot read {name}: {error.strerror}", where=name, next_step="check the path after @"
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not UTF-8 text", where=name, next_step="convert it to UTF-8") from None
