"""What `Mill` takes by keyword, for type checkers and editors; the meaning stands with `Shape` and `Terms`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypedDict

from corpusmill.errors import UsageError
from corpusmill.ledger.records import Flex, Priority
from corpusmill.mill.ask import OnBadText, Shape, Terms, TooLong
from corpusmill.mill.outputs import absolute
from corpusmill.model_options import ModelOptions


class RunOptions(TypedDict, total=False):
    """How a job is run."""

    out: str | Path | None
    errors_out: str | Path | None
    name: str | None
    labels: Mapping[str, str]
    provider: str | None
    priority: Priority
    budget_usd: Decimal | float | str | None
    first: int | None
    flex: Flex | None
    max_share: float | None
    budget_tokens: int | None
    cache: bool
    retry_failed: bool
    skip_invalid: bool
    force: bool
    detach: bool


class CorpusOptions(RunOptions, total=False):
    """How a job is run, and how its sources become items."""

    chunk_tokens: int
    chunk_overlap: int | None
    chunk: bool
    too_long: TooLong
    text_field: str
    id_field: str | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    on_bad_text: OnBadText


class CompletionOptions(CorpusOptions, total=False):
    """All of that, and the model options by their names in the API; one left out never reaches the wire."""

    response_format: Mapping[str, Any] | None
    max_completion_tokens: int | None
    temperature: float | None
    top_p: float | None
    reasoning_effort: str | None
    service_tier: str | None
    stop: list[str] | None
    frequency_penalty: float | None
    presence_penalty: float | None
    safety_identifier: str | None
    max_tokens: int | None
    extra_body: Mapping[str, Any] | None


_SHAPE = {field.name for field in fields(Shape)}
_TERMS = {field.name for field in fields(Terms)}
_MODEL = {*ModelOptions.model_fields, "response_format"}


def sorted_out(given: Mapping[str, Any], *, model_options: bool = False) -> tuple[Shape, Terms, dict[str, Any]]:
    """Keywords as a shape, terms, and the model options that are set.

    Raises:
        UsageError: a keyword that nothing knows, with the nearest that is known; a budget that is no sum of money.
    """
    known = _SHAPE | _TERMS | (_MODEL if model_options else set())
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise UsageError(f"there is no option {name}", next_step=hint)
    shape = Shape(**{name: value for name, value in given.items() if name in _SHAPE})
    terms = {name: value for name, value in given.items() if name in _TERMS}
    options = {name: value for name, value in given.items() if name in _MODEL and value is not None}
    return shape, Terms(**{**terms, **_converted(terms)}), options


def _converted(terms: Mapping[str, Any]) -> dict[str, Any]:
    converted: dict[str, Any] = {
        name: absolute(Path(terms[name])) for name in ("out", "errors_out") if terms.get(name) is not None
    }
    if terms.get("budget_usd") is not None:
        converted["budget_usd"] = money(terms["budget_usd"])
    if terms.get("max_share") is not None:
        converted["max_share"] = share(terms["max_share"])
    return converted


def money(value: Decimal | float | str) -> Decimal:
    """A sum of USD.

    Raises:
        UsageError: it is none, or negative.
    """
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if amount.is_nan() or amount < 0:
        raise UsageError(f"{value} is no sum of money", next_step="give the budget in USD, for example 2.50")
    return amount


def share(value: float) -> float:
    """A part of the limit.

    Raises:
        UsageError: it is not over 0 and up to 1.
    """
    if not 0 < value <= 1:
        raise UsageError(f"{value} is no part of the limit", next_step="give one over 0 and up to 1: --max-share 0.3")
    return value
