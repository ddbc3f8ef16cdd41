"""`verify`: does a job add up, and what is not known."""

from __future__ import annotations

from corpusmill.cli.jobs import JobRef
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
