"""Commands about jobs that are there: list, show, follow, pause, go on, end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from corpusmill.cli.options import BudgetTokens, OutFile, budget_usd
from corpusmill.cli.output import out
from corpusmill.cli.times import hour
from corpusmill.errors import UsageError

if TYPE_CHECKING:
    from corpusmill.mill import Job, Summary

JobRef = Annotated[
    str, typer.Argument(metavar="JOB", help="An id, the start of one, a --name (its newest job), or `last`.")
]


def jobs(
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="So many, the newest first.")] = 20,
) -> None:
    """List the jobs, newest first."""
    from corpusmill.cli.following import opened
    from corpusmill.mill.sums import usd

    with opened() as mill:
        listed = mill.jobs(limit)
        summaries = [job.summary() for job in listed]
        rows: list[tuple[str, ...]] = [
            (
                job.id,
                job.view.name or "",
                _state(summary),
                f"{summary.succeeded + summary.failed:,}/{summary.items:,}",
                f"{summary.failed:,}",
                usd(summary.usd),
                job.view.model,
                _when(job.view.created_at),
            )
            for job, summary in zip(listed, summaries, strict=True)
        ]
    if rows:
        head: tuple[str, ...] = ("JOB", "NAME", "STATE", "DONE", "FAILED", "USD", "MODEL", "CREATED")
        if any(summary.schedule for summary in summaries):
            head = (*head[:2], "SCHEDULE", *head[2:])
            rows = [(*row[:2], each.schedule or "", *row[2:]) for row, each in zip(rows, summaries, strict=True)]
        out.table(head, rows, right=tuple(len(head) - n for n in (5, 4, 3)))
    else:
        out.line("no jobs yet; start one with `corpusmill complete`, or try `corpusmill demo`")
    out.result({"jobs": [summary.as_dict() for summary in summaries]})


def show(job: JobRef) -> None:
    """Show one job: its state, numbers, output and next step."""
    from corpusmill.cli.following import opened
    from corpusmill.cli.report import outcome_lines
    from corpusmill.mill.sums import exact

    with opened() as mill:
        found = mill.job(job)
        summary, view = found.summary(), found.view
        for line in outcome_lines(found, summary):
            out.line(line)
        about = [
            ("name", view.name),
            ("model", view.model),
            ("endpoint", view.endpoint),
            ("priority", view.priority),
            ("share", None if view.max_share is None else f"{view.max_share:.0%} of the limit at most"),
            ("schedule", summary.schedule and f"a run of {summary.schedule}"),
            ("labels", ", ".join(f"{key}={value}" for key, value in view.labels.items())),
            ("budget", None if view.budget_usd is None else f"{exact(view.budget_usd)} USD"),
            ("tokens", None if view.budget_tokens is None else f"{view.budget_tokens:,} at most"),
            ("note", view.note),
        ]
        for name, value in about:
            if value:
                out.line(f"  {name:<9} {value}")
        out.result(summary.as_dict())


def watch(
    job: JobRef,
    file: OutFile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an output file that this job did not write.")] = False,
) -> int:
    """Follow a job to its end and write its output; the exit code is the job's."""
    from corpusmill.cli.following import follow, opened

    with opened() as mill:
        found = mill.job(job)
        found.refuse_output(file, force=force)
        found.write_to(file)
        found.start()
        return follow(found, export_to=file, force=force)


def pause(job: JobRef) -> None:
    """Stop sending; what is in flight is finished and saved. `resume` goes on."""
    from corpusmill.cli.following import opened

    with opened() as mill:
        found = mill.job(job)
        found.pause()
        _tell(found)


def resume(
    job: Annotated[
        str | None, typer.Argument(metavar="JOB", help="An id, the start of one, a --name (its newest job), or `last`.")
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            metavar="P", help="Instead of JOB: every job that this provider's account, key or endpoint paused."
        ),
    ] = None,
    budget: Annotated[str | None, typer.Option(metavar="USD", help="A new cap; `none` takes the cap away.")] = None,
    budget_tokens: BudgetTokens = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return at once; the job goes on.")] = False,
) -> int:
    """Go on with a paused, stopped or cancelled job, with the key that is set now, and follow it.

    With --provider P all jobs go on that were paused because P's credit was spent, its key refused, or its endpoint
    dead. They are not followed; without a fleet they go on without a viewer from then on, as with --detach.
    """
    from corpusmill.cli.following import follow, opened
    from corpusmill.mill.options import money

    if (job is None) == (provider is None):
        raise UsageError("name either a job or --provider", next_step="corpusmill resume JOB   or: --provider P")
    if provider is not None:
        if budget is not None or budget_tokens is not None:
            raise UsageError("a budget is for one job", next_step="corpusmill resume JOB --budget USD")
        return _resume_all(provider)
    assert job is not None  # noqa: S101 - one of the two is given
    cap = budget_usd(budget)
    with opened() as mill:
        found = mill.job(job)
        found.resume(budget_usd=None if cap is None else money(cap), budget_tokens=budget_tokens, detach=detach)
        return follow(found, detach=detach)


def _resume_all(provider: str) -> int:
    from corpusmill.cli.following import opened

    with opened() as mill:
        mill.settings.provider(provider)  # a typo is answered with the nearest name
        waiting = mill.waiting_for(provider)
        for each in waiting:
            each.resume(detach=True)
    if waiting:
        out.summary(f"{len(waiting)} job(s) of {provider} go on: {', '.join(each.id for each in waiting)}")
        out.summary("follow one: corpusmill watch JOB")
    else:
        out.summary(f"no job waits for {provider}'s account, key or endpoint")
    out.result({"provider": provider, "resumed": [each.id for each in waiting]})
    return 0


def cancel(job: JobRef) -> None:
    """End a job. What it has paid for is kept; `resume`, or the same command, goes on with the open items."""
    from corpusmill.cli.following import opened

    with opened() as mill:
        found = mill.job(job)
        found.cancel()
        _tell(found)


def _tell(job: Job) -> None:
    from corpusmill.cli.report import outcome_lines

    summary = job.summary()
    for line in outcome_lines(job, summary):
        out.summary(line)
    out.result(summary.as_dict())


def _state(summary: Summary) -> str:
    if summary.parked_until is not None:
        return f"{summary.state} (parked until {hour(summary.parked_until)})"
    return summary.state + (f" ({summary.reason})" if summary.reason else "")


def _when(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M")
