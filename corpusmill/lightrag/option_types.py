"""How an option's type is read from a flag or a variable, and how its default is written down."""

from __future__ import annotations

import argparse
import json
import types
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_TRUE = ("true", "1", "yes", "t", "on")
_FALSE = ("false", "0", "no", "f", "off", "")


def type_of(options: type, name: str) -> Any:
    """The type of a field, without the None that it may be."""
    hint = get_type_hints(options)[name]
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [each for each in get_args(hint) if each is not type(None)]
        hint = kinds[0] if len(kinds) == 1 else hint
    return {list: list[str], dict: dict}.get(get_origin(hint) or hint, hint)


def parser_for(kind: Any, name: str) -> Callable[[Any], Any]:
    """What turns the text of option `name` into a value; it raises `ArgumentTypeError`, or `ValueError`."""
    levels = _levels(kind)
    if levels:
        return lambda text: _bool_or_level(text, levels, name)
    if kind == list[str]:
        return lambda text: _json(text, list, "array")
    if kind is dict:
        return lambda text: _json(text, dict, "object")
    if kind is bool:
        return _bool
    return kind if callable(kind) else str


def spelt(default: Any, kind: Any) -> str:
    """A default for a `.env` file. One that is none is left empty, which means unset."""
    if kind is dict:
        return _quoted(json.dumps(default or {}))
    if kind == list[str]:
        return _quoted(json.dumps(default or []))
    if default is None:
        return ""
    return str(default).lower() if isinstance(default, bool) else _quoted(str(default))


def _quoted(text: str) -> str:
    """In quotes where a `.env` file would take a part of it for a comment, or for quotes or space around it."""
    if " #" not in text and text == text.strip(" '\""):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _levels(kind: Any) -> tuple[str, ...]:
    """The words beside true and false in `bool | Literal["low", "high"]`."""
    if get_origin(kind) not in (Union, types.UnionType) or bool not in get_args(kind):
        return ()
    return tuple(word for each in get_args(kind) if get_origin(each) is Literal for word in get_args(each))


def _bool(text: Any) -> bool:
    return text if isinstance(text, bool) else str(text).strip().lower() in _TRUE


def _bool_or_level(text: Any, levels: tuple[str, ...], name: str) -> Any:
    """A typing error must not turn off what was to be turned up, so it is refused."""
    word = str(text).strip().lower()
    if isinstance(text, bool) or word in _TRUE + _FALSE:
        return _bool(text)
    if word in levels:
        return word
    raise argparse.ArgumentTypeError(f"{name}={text!r} is not valid: true, false, or one of {', '.join(levels)}")


def _json(text: str, kind: type, called: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"Invalid JSON: {error}") from None
    if not isinstance(value, kind):
        raise argparse.ArgumentTypeError(f"Expected JSON {called}, got {type(value).__name__}")
    return value
