"""Say what a job would take: chunks, tokens, requests, USD and hours, a model and tier; spends nothing.

The arguments are those of the command itself, so that a plan is one word more; --model may be repeated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from corpusmill.cli.arguments import source
from corpusmill.cli.options import (
    CorpusFlags,
    Dimensions,
    ErrorsFile,
    FlexFlag,
    JobFlags,
    Messages,
    ModelFlags,
    Models,
    Requests,
    Sources,
)
from corpusmill.cli.output import out

if TYPE_CHECKING:
    from corpusmill.mill.plan import Plan


def complete(
    sources: Sources,
    model: Models,
    messages: Messages,
    options: ModelFlags,
    corpus: CorpusFlags,
    flex: FlexFlag,
    job: JobFlags,
) -> None:
    """Plan a completion job."""
    asked = {**options.as_dict(), **corpus.as_dict(), **flex.as_dict(), **job.as_dict()}
    _plan("completion", sources, model, asked, **messages.as_dict())


def embed(sources: Sources, model: Models, corpus: CorpusFlags, job: JobFlags, dimensions: Dimensions = None) -> None:
    """Plan an embedding job."""
    _plan("embedding", sources, model, {**corpus.as_dict(), **job.as_dict()}, dimensions=dimensions)


def run(requests: Requests, flex: FlexFlag, job: JobFlags, errors: ErrorsFile = None) -> None:
    """Plan a live run of an OpenAI Batch request file."""
    _plan("request", [requests], [], {**flex.as_dict(), **job.as_dict(), "errors_out": errors})


def _plan(kind: Any, sources: list[str], models: list[str], asked: dict[str, Any], **facts: Any) -> None:
    from corpusmill.cli.following import opened
    from corpusmill.mill.ask import Ask
    from corpusmill.mill.options import sorted_out

    shape, terms, options = sorted_out(asked, model_options=True)
    ask = Ask(kind=kind, sources=list(map(source, sources)), shape=shape, terms=terms, options=options, **facts)
    with opened() as mill:
        plan = mill.plan(replace(ask, model=models[0]) if models else ask, models)
    _print(plan)
    out.result(plan.as_dict())


def _print(plan: Plan) -> None:
    from corpusmill.cli.progress import span
    from corpusmill.mill.sums import usd

    failing = f", {plan.failing:,} of them would fail before any call" if plan.failing else ""
    out.line(f"{plan.items:,} items from {plan.documents:,} documents{failing}; {plan.prompt_tokens:,} input tokens")
    rows = [
        (
            row.model,
            row.tier,
            f"{row.requests:,}",
            f"{row.prompt_tokens:,}",
            f"{row.completion_tokens:,}",
            usd(row.usd),
            "?" if row.hours is None else span(row.hours * 3600),
        )
        for row in plan.rows
    ]
    out.table(("MODEL", "TIER", "REQUESTS", "INPUT", "OUTPUT", "USD", "TIME"), rows, right=(2, 3, 4, 5, 6))
    out.line(plan.assumption)
    if any(row.hours is None for row in plan.rows):
        out.line("TIME needs limits: set CORPUSMILL_LIMITS__RPM or __TPM")
    else:
        out.line("time: at the limits that are set; latency and other jobs add to it")
    out.line(f"disk: about {plan.disk_bytes / 1e6:,.1f} MB for ledger and output")
