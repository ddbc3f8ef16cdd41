"""Texts from memory as a source: they are spooled as JSON lines, so that all later steps are those of a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from corpusmill.mill.ask import Ask

# The same name each time: it is part of the job key, and texts that were asked for before are the same job.
_NAME = "texts.jsonl"


@contextmanager
def spooled(ask: Ask) -> Iterator[Ask]:
    """The ask with its texts, if it has any, as a file that is there until the end of the block.

    A text without an id of its own is called by its place, from `0` on.
    """
    if ask.texts is None:
        yield ask
        return
    with tempfile.TemporaryDirectory(prefix="corpusmill-") as folder:
        path = Path(folder, _NAME)
        with path.open("wb") as file:
            file.writelines(_lines(ask.texts, ask.shape.text_field, ask.shape.id_name))
        yield replace(ask, sources=(path,), texts=None)


def _lines(texts: Sequence[str | Mapping[str, Any]], text_field: str, id_field: str) -> Iterator[bytes]:
    for number, text in enumerate(texts):
        record = {text_field: text} if isinstance(text, str) else dict(text)
        yield orjson.dumps({id_field: str(number), **record}, option=orjson.OPT_APPEND_NEWLINE)
