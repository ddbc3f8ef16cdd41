"""`export` and `failures`: what a job has to show so far."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corpusmill.cli.jobs import JobRef
from corpusmill.cli.options import ErrorsFile, FailureClasses
from corpusmill.cli.output import out

if TYPE_CHECKING:
    from corpusmill.mill import Failure


def export(
    job: JobRef,
    file: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where results go; the ending says the format.")],
    errors: ErrorsFile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an output file that this job did not write.")] = False,
) -> None:
    """Write a job's results so far to a file, in the order of the source; works while the job runs."""
    from corpusmill.cli.following import opened

    with opened() as mill:
        found = mill.job(job)
        paths = found.export(file, errors_out=errors, force=force)
        summary = found.summary()
    out.summary(f"{summary.succeeded:,} of {summary.items:,} items written to {', '.join(map(str, paths))}")
    out.result({"job": found.id, "items": summary.succeeded, "out": [str(path) for path in paths]})


def failures(job: JobRef, class_: FailureClasses = None) -> None:
    """List a job's failed items and why they failed: place, id, class, attempts and the last error, redacted."""
    from corpusmill.cli.following import opened
    from corpusmill.cli.report import by_class

    with opened() as mill:
        found = mill.job(job)
        summary = found.summary()
        listed = []
        for failure in found.failures(class_ or None):
            place = f"{failure.source}:{failure.line}" if failure.line else f"{failure.source} chunk {failure.chunk}"
            # Most messages end with it already.
            untold = failure.request_id is not None and failure.request_id not in failure.error
            request = f" ({failure.request_id})" if untold else ""
            out.line(f"{place}  {failure.id}  {failure.error_class}: {failure.error}{request}{_tries(failure)}")
            if out.json:
                listed.append(asdict(failure))
    if summary.failed:
        out.summary(f"{summary.failed:,} failed: {by_class(summary.failed_by_class)}")
        only = "".join(f" --class {name}" for name in class_ or ())
        out.summary(f"try them again: corpusmill retry {found.id}{only}")
    elif summary.state != "stopped":
        out.summary("no item failed")
    if summary.state == "stopped":
        out.summary(f"the job was stopped, since every item fails alike; why: corpusmill show {found.id}")
    out.result(
        {"job": found.id, "failed": summary.failed, "by_class": dict(summary.failed_by_class), "failures": listed}
    )


def _tries(failure: Failure) -> str:
    return f" (attempts: {failure.attempts})" if failure.attempts > 1 else ""
