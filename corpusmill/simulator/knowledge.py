"""Answers to LightRAG's prompts in the forms that LightRAG parses, so that a real graph comes out of a text.

Entities are the capitalised names in the text, or its longest words; those named in one sentence are related. It knows
the prompts by their headings and the delimiters by the prompt itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import orjson

_INPUT = re.compile(r"^---Input Text---\n```\n(.*)\n```", re.DOTALL | re.MULTILINE)
_QUERY = re.compile(r"^User Query: (.*?)\n\n---Output---", re.DOTALL | re.MULTILINE)
_AGAIN = "Based on the last extraction task"
_DELIMITER = re.compile(r"`entity(\S+?)entity_name\1")
_END = re.compile(r"Output `(\S+)` as the final line")
_SENTENCE = re.compile(r"[^.!?\n]+")
_NAME = re.compile(r"\b[A-Z][\w'-]*(?: [A-Z][\w'-]*)*")
_WORD = re.compile(r"[^\W\d_]{5,}")
# Capitalised only because a sentence begins.
_STARTERS = frozenset(
    [
        *("a", "an", "and", "as", "at", "but", "by", "each", "every", "for", "from", "he", "how", "if", "in", "it"),
        *("its", "most", "no", "not", "on", "one", "she", "so", "some", "such", "that", "the", "their", "then"),
        *("there", "these", "they", "this", "those", "to", "we", "what", "when", "where", "which", "who", "why"),
    ]
)
_MOST_ENTITIES = 8


class _Relation(NamedTuple):
    source: str
    target: str
    said: str


def knowledge(messages: Sequence[dict[str, Any]]) -> str | None:
    """What a model that follows LightRAG's prompt would write; None: this is none of its prompts."""
    last = messages[-1].get("content")
    if not isinstance(last, str):
        return None
    if query := _QUERY.search(last):
        return _keywords(query.group(1)) if "high_level_keywords" in last else None
    wants_json = "`entities` and `relationships` arrays" in last
    if last.startswith("---Task---") and _AGAIN in last:
        return _written([], [], "", _end(last), wants_json)
    text = _INPUT.search(last)
    if text is None:
        return None
    system = next((str(each.get("content")) for each in messages if each.get("role") == "system"), "")
    entities, relations = _graph(text.group(1))
    delimiter = _DELIMITER.search(system)
    return _written(entities, relations, delimiter.group(1) if delimiter else "<|#|>", _end(last), wants_json)


def _keywords(query: str) -> str:
    names = _names(query) or _words(query)
    themes = [word for word in _words(query) if word.title() not in names] or names
    return orjson.dumps({"high_level_keywords": themes[:4], "low_level_keywords": names[:4]}).decode()


def _graph(text: str) -> tuple[list[str], list[_Relation]]:
    sentences = [" ".join(found.split()) for found in _SENTENCE.findall(text)]
    entities = (_names(text) or [word.title() for word in _words(text)])[:_MOST_ENTITIES]
    relations: dict[tuple[str, ...], _Relation] = {}
    for sentence in sentences:
        there = [name for name in entities if name.lower() in sentence.lower()]
        for source, target in pairwise(there):
            relations.setdefault(tuple(sorted((source, target))), _Relation(source, target, sentence))
    return entities, list(relations.values())


def _names(text: str) -> list[str]:
    found = (_without_starter(name) for name in _NAME.findall(text))
    return _distinct(name for name in found if len(name) > 2)


def _without_starter(name: str) -> str:
    first, _, rest = name.partition(" ")
    return rest if first.lower() in _STARTERS else name


def _words(text: str) -> list[str]:
    return _distinct(sorted((word.lower() for word in _WORD.findall(text)), key=len, reverse=True))


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _end(prompt: str) -> str:
    found = _END.search(prompt)
    return found.group(1) if found else "<|COMPLETE|>"


def _written(
    entities: Sequence[str], relations: Sequence[_Relation], delimiter: str, end: str, wants_json: bool
) -> str:
    if wants_json:
        return orjson.dumps(
            {
                "entities": [{"name": name, "type": "Concept", "description": _about(name)} for name in entities],
                "relationships": [
                    {"source": each.source, "target": each.target, "keywords": "mention", "description": each.said}
                    for each in relations
                ],
            }
        ).decode()
    rows = [("entity", name, "Concept", _about(name)) for name in entities]
    rows += [("relation", each.source, each.target, "mention", each.said) for each in relations]  # type: ignore[misc]
    return "\n".join([*(delimiter.join(row) for row in rows), end])


def _about(name: str) -> str:
    return f"{name} is named in the text."
