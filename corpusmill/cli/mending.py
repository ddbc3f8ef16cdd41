"""`verify` and `retry`: does a job add up, and once more what failed."""

from __future__ import annotations

from typing import Annotated

import typer

from corpusmill.cli.jobs import JobRef
from corpusmill.cli.options import FailureClasses
from corpusmill.cli.output import out


def verify(job: JobRef) -> int:
    """Recount a job from its rows and say whether everything adds up; works while it runs.

    Every item has one result or is open, every success its answer, every failure its class; the counters of job and
    shards are what results and bills come to; no row is left over. Attempts of unknown outcome (a process died, or
    a call timed out, between sending and reply) are told with what they may have cost; they are no mismatch. Exits
    with 1 when something does not add up.
    """
    from corpusmill.cli.following import opened
    from corpusmill.mill.sums import usd

    with opened() as mill:
        found = mill.job(job).verify()
    audit, error = found.audit, found.error()
    ended = audit.succeeded + audit.failed
    out.summary(f"{'✓' if error is None else '✗'} {found.job} {audit.state}: {audit.items:,} items recounted")
    out.summary(
        f"  results   {ended:,}: {audit.succeeded:,} succeeded, {audit.failed:,} failed; {audit.items - ended:,} open"
    )
    out.summary(f"  paid      {audit.paid_attempts:,} attempts, {usd(audit.usd)} USD")
    out.summary(f"  unknown   {audit.unknown_attempts:,} attempts, up to {usd(audit.unknown_usd)} USD")
    if audit.unpriced:
        out.summary(f"  unpriced  {audit.unpriced:,} of these attempts, in neither sum")
    if found.journals_damaged:
        out.summary(
            f"  journals  {found.journals_damaged} damaged, kept for a look; what could be read is in the ledger"
        )
    if error is not None:
        out.trouble(error)
    out.result(found.as_dict())
    return 0 if error is None else error.exit_code


def retry(
    job: JobRef,
    class_: FailureClasses = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return at once; the job goes on.")] = False,
) -> int:
    """Try a job's failed items again, with the key that is set now, and follow it.

    Their failures are forgotten and each gets a new result; what succeeded stays, and nothing of it is bought again.
    Items that failed before any call stay failed: their source would have to change. Without an item to try, nothing
    is started and the exit code says how the job stands.
    """
    from corpusmill.cli.following import conclude, follow, opened

    with opened() as mill:
        found = mill.job(job)
        count = found.retry(class_ or None, detach=detach)
        of = f" of class {', '.join(class_)}" if class_ else ""
        if not count:
            out.note(f"no failed item{of} can be tried again")
            return conclude(found)
        out.note(f"{count:,} failed item{'s' if count > 1 else ''}{of} tried again")
        return follow(found, detach=detach)
