"""`corpusmill simulate`: a provider on this machine that costs nothing."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from corpusmill.cli.output import out

INTERRUPTED = 130


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
            "(KIND@text:MARK) or a key (KIND@key:KEY). An unknown KIND lists all. May be repeated.",
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
    asked for and paid; POST /simulator/faults changes the faults while it runs.
    """
    from corpusmill.simulator.options import Latency, Options
    from corpusmill.simulator.server import run

    options = Options(
        host=host,
        port=port,
        rpm=rpm or None,
        tpm=tpm or None,
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
