"""The answers that were paid for, kept as a cache: how much there is, and limits by size and age."""

from __future__ import annotations

from typing import Annotated

import typer

from corpusmill.cli.output import out
from corpusmill.cli.purge import DryRun, MaxBytes, Yes


def show() -> None:
    """Say how many answers are kept, how large and old they are, and how many of them something refers to."""
    from corpusmill.cli.following import opened
    from corpusmill.cli.sizes import words
    from corpusmill.cli.times import minute

    with opened() as mill:
        view = mill.place.ledger.purging.cache()
    out.line(f"{view.answers:,} answers, {words(view.bytes)}")
    if view.oldest_at is not None:
        out.line(f"  oldest    {minute(view.oldest_at)}")
    out.line(f"  referred  {view.referred:,} ({words(view.referred_bytes)}) by jobs or collections; these stay")
    free, free_bytes = view.answers - view.referred, view.bytes - view.referred_bytes
    out.line(f"  the rest  {free:,} ({words(free_bytes)}): `corpusmill cache trim` takes them away")
    out.result(
        {
            "answers": view.answers,
            "bytes": view.bytes,
            "oldest_at": view.oldest_at,
            "referred": view.referred,
            "referred_bytes": view.referred_bytes,
        }
    )


def trim(
    max_bytes: MaxBytes = None,
    max_age: Annotated[str | None, typer.Option(metavar="SPAN", help="Answers older than that: 90d, 12h.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Take away answers that nothing refers to: those older than --max-age, and the oldest beyond --max-bytes."""
    from corpusmill.cli.durations import seconds
    from corpusmill.cli.purge import carry_out
    from corpusmill.cli.sizes import parsed
    from corpusmill.mill.purging import PurgeAsk

    ask = PurgeAsk(
        answers=True,
        older_than_s=None if max_age is None else seconds(max_age, flag="--max-age"),
        max_bytes=None if max_bytes is None else parsed(max_bytes, flag="--max-bytes"),
    )
    return carry_out(ask, dry_run=dry_run, yes=yes)
