"""The simplest value that satisfies a JSON Schema, for structured outputs.

Covers what OpenAI's strict mode allows: types, enum, const, properties, items, anyOf, $ref and $defs, and the bounds
on numbers, lengths and counts. Patterns and formats are answered with the formats' own examples.
"""

from __future__ import annotations

from typing import Any

_DEPTH = 12
_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "PT1S",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def example(schema: Any, text: str) -> Any:
    """A value that `schema` accepts; free strings are `text`, cut to the length allowed."""
    return _Example(schema, text).of(schema, _DEPTH)


class _Example:
    def __init__(self, root: Any, text: str) -> None:
        self.root, self.text = root, text

    def of(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, dict):
            return self.text
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        for choice in ("anyOf", "oneOf"):
            if schema.get(choice):
                return self.of(_simplest(schema[choice], depth), depth - 1)
        return self._of_type(_type(schema, depth), schema, depth)

    def _of_type(self, kind: str, schema: dict[str, Any], depth: int) -> Any:
        if kind == "object":
            names = schema.get("properties", {}) if depth > 0 else schema.get("required", ())
            return {name: self.of(schema.get("properties", {}).get(name), depth - 1) for name in names}
        if kind == "array":
            count = max(schema.get("minItems", 0), 1 if depth > 0 and schema.get("maxItems", 1) else 0)
            return [self.of(schema.get("items"), depth - 1) for _ in range(count)]
        if kind == "string":
            return self._string(schema)
        if kind in ("number", "integer"):
            return _number(schema, whole=kind == "integer")
        return True if kind == "boolean" else None

    def _string(self, schema: dict[str, Any]) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        return self.text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        for _ in range(_DEPTH):
            if "$ref" not in schema:
                break
            schema = {**self._at(schema["$ref"]), **{k: v for k, v in schema.items() if k != "$ref"}}
        for part in schema.get("allOf", ()):
            part = self._resolved(part)
            properties = {**schema.get("properties", {}), **part.get("properties", {})}
            schema = {**part, **schema, **({"properties": properties} if properties else {})}
        return schema

    def _at(self, pointer: str) -> dict[str, Any]:
        found = self.root
        for step in pointer.lstrip("#/").split("/") if pointer != "#" else ():
            found = found.get(step.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, dict) else {}
        return found if isinstance(found, dict) else {}


def _type(schema: dict[str, Any], depth: int) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if not isinstance(kind, list):
        return str(kind)
    # Deep inside a schema that contains itself, null is the way out.
    return "null" if "null" in kind and depth <= 0 else str(next((k for k in kind if k != "null"), "null"))


def _simplest(choices: list[Any], depth: int) -> Any:
    nulls = [choice for choice in choices if isinstance(choice, dict) and choice.get("type") == "null"]
    return nulls[0] if nulls and depth <= _DEPTH // 2 else choices[0]


def _number(schema: dict[str, Any], *, whole: bool) -> float | int:
    step = schema.get("multipleOf", 1)
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    if low is None:
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        value: float | int = 0 if high is None or high > 0 else -(-high // step + 1) * step
    else:
        value = -(-low // step) * step
        value += step if value == schema.get("exclusiveMinimum") else 0
    if value > schema.get("maximum", value) or value >= schema.get("exclusiveMaximum", value + 1):
        value = low if low is not None and "minimum" in schema else (low or 0) + 0.001
    return int(value) if whole else value
