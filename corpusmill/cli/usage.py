"""`usage`: the bill, summed from the ledger."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from typing import Annotated, Any

import typer

from corpusmill.cli.output import out


def usage(
    by: Annotated[str, typer.Option(metavar="job|model|day|label:K", help="What to sum by.")] = "job",
    reprice: Annotated[
        bool, typer.Option("--reprice", help="First fill in calls that were unpriced and have a price by now.")
    ] = False,
) -> None:
    """Sum tokens and USD by job, model, day or label."""
    from corpusmill.cli.following import opened
    from corpusmill.mill.sums import usd

    with opened() as mill:
        priced = mill.reprice() if reprice else None
        totals = mill.usage(by)
    if priced is not None:
        out.note(f"{priced:,} calls priced that had no price before")
    sums = _sums(totals)
    rows = [
        (total.group, f"{total.requests:,}", f"{total.prompt_tokens:,}", f"{total.cached_tokens:,}",
         f"{total.completion_tokens:,}", usd(total.usd), usd(total.unknown_usd or Decimal(0)))
        for total in totals
    ]  # fmt: skip
    rows.append(
        ("total", f"{sums['requests']:,}", f"{sums['prompt_tokens']:,}", f"{sums['cached_tokens']:,}",
         f"{sums['completion_tokens']:,}", usd(sums["usd"]), usd(sums["unknown_usd"]))
    )  # fmt: skip
    head = (by.upper(), "REQUESTS", "PROMPT", "CACHED", "COMPLETION", "USD", "UNKNOWN USD")
    out.table(head, rows, right=(1, 2, 3, 4, 5, 6))
    if sums["unpriced_requests"]:
        out.note(f"{sums['unpriced_requests']:,} requests are unpriced and not in the sum: corpusmill usage --reprice")
    groups = [{name: _number(value) for name, value in asdict(total).items()} for total in totals]
    extra = {} if priced is None else {"repriced": priced}
    out.result({"by": by, "groups": groups, "total": {name: _number(sum_) for name, sum_ in sums.items()}, **extra})


_SUMMED = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "unpriced_requests")


def _sums(totals: Any) -> dict[str, Any]:
    """Everything together; money is summed exactly, and is None only when nothing at all is priced."""
    sums: dict[str, Any] = {name: sum(getattr(total, name) for total in totals) for name in _SUMMED}
    known = [total.usd for total in totals if total.usd is not None]
    sums["usd"] = sum(known, Decimal(0)) if known or not totals else None
    sums["unknown_usd"] = sum((total.unknown_usd or Decimal(0) for total in totals), Decimal(0))
    return sums


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value
