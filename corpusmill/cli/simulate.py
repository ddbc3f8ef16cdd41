"""`corpusmill simulate`: a provider on this machine that costs nothing."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from corpusmill.cli.output import out

INTERRUPTED = 130


class Tell(StrEnum):
    """Whose headers tell the limits."""

    openai = "openai"
    project = "project"
    azure = "azure"
    mistral = "mistral"
    none = "none"


class RetryAfter(StrEnum):
    """How a refusal writes the wait."""

    both = "both"
    seconds = "seconds"
    ms = "ms"
    date = "date"
    none = "none"


class Charge(StrEnum):
    """How the limiter charges tokens."""

    estimate = "estimate"
    actual = "actual"


def simulate(
    port: Annotated[int, typer.Option(metavar="PORT", help="Port to listen on; 0 takes a free one.")] = 8901,
    rpm: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Requests a minute; unset or 0: no limit.")
    ] = None,
    tpm: Annotated[int | None, typer.Option(min=0, metavar="N", help="Tokens a minute; unset or 0: no limit.")] = None,
    rpd: Annotated[int | None, typer.Option(min=0, metavar="N", help="Requests a day; unset or 0: no limit.")] = None,
    tpd: Annotated[int | None, typer.Option(min=0, metavar="N", help="Tokens a day; unset or 0: no limit.")] = None,
    day_s: Annotated[
        float, typer.Option(min=0.001, metavar="S", help="Seconds of a day, which begins with the first request.")
    ] = 86_400.0,
    tell: Annotated[
        Tell,
        typer.Option(
            help="Headers that tell the limits: as openai; project adds project-tokens; azure tells requests by ten "
            "seconds, resets in whole seconds and -1; mistral names the minute; none tells nothing."
        ),
    ] = Tell.openai,
    retry_after: Annotated[
        RetryAfter,
        typer.Option(
            help="How a refusal writes the wait: whole seconds, milliseconds, both, an HTTP date, not at all."
        ),
    ] = RetryAfter.both,
    growth: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            metavar="SHARE",
            help="Answer slow_down when a second brings more than 1 + SHARE times the requests of the one before (20 "
            "are free).",
        ),
    ] = None,
    capacity: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Calls served side by side; twice as many take twice as long. Unset: any number."
        ),
    ] = None,
    depth_s: Annotated[
        float, typer.Option(min=0.001, metavar="S", help="Seconds of a limit that may be used up at once.")
    ] = 2.0,
    charge: Annotated[
        Charge,
        typer.Option(
            help="estimate: max(output cap, characters/4), nothing given back, as OpenAI does. actual: put right to "
            "the usage after the answer."
        ),
    ] = Charge.estimate,
    charge_factor: Annotated[
        float, typer.Option(min=0, metavar="F", help="Multiplies the tokens that the limit is charged.")
    ] = 1.0,
    latency_ms: Annotated[
        str, typer.Option(metavar="MEDIAN[:SIGMA]", help="Milliseconds an answer takes, lognormal with that sigma.")
    ] = "0",
    dimensions: Annotated[
        int, typer.Option(min=1, max=16384, metavar="D", help="Length of vectors when the request names none.")
    ] = 1536,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=RATE|KIND@N",
            help="Let requests fail: a share of them, the N-th, those from N to M (KIND@N-M), those with a text "
            "(KIND@text:MARK), a key (KIND@key:KEY) or a service tier (KIND@tier:flex). An unknown KIND lists all. May "
            "be repeated.",
        ),
    ] = None,
    paid: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append one JSON line a paid call, written before the reply leaves."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Draws faults and latencies.")] = 0,
    key: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Accept this key only (repeatable); unset: any key.")
    ] = None,
    models: Annotated[str, typer.Option(metavar="A,B", help="The models there are; unset: any name.")] = "",
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; leave it, except inside a container.")
    ] = "127.0.0.1",
) -> int:
    """Run an OpenAI-compatible endpoint on this machine that enforces limits and fails on demand.

    Prints its base URL. Answers follow from the request alone and cost nothing. GET /simulator/stats shows what was
    asked for and paid; POST /simulator/faults and /simulator/limits change faults and limits while it runs.
    """
    from corpusmill.simulator.options import Latency, Options
    from corpusmill.simulator.server import run

    options = Options(
        host=host,
        port=port,
        rpm=rpm or None,
        tpm=tpm or None,
        rpd=rpd or None,
        tpd=tpd or None,
        day_s=day_s,
        tell=tell.value,
        retry_after=retry_after.value,
        growth=growth,
        capacity=capacity,
        depth_s=depth_s,
        charge=charge.value,
        charge_factor=charge_factor,
        latency=Latency.parse(latency_ms),
        dimensions=dimensions,
        faults=tuple(fault or ()),
        paid=paid,
        seed=seed,
        keys=tuple(key or ()),
        models=tuple(name for name in models.split(",") if name),
    )
    return INTERRUPTED if run(options, _announce) else 0


def _announce(base_url: str) -> None:
    out.line(base_url)
    out.result({"base_url": base_url})
    # Whoever started us through a pipe waits for this line.
    sys.stdout.flush()
