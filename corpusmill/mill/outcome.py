"""Why a job does not go on, as the error that a person reads."""

from __future__ import annotations

from corpusmill.errors import BudgetReached, CorpusmillError, DiskFull, JobStopped, KeyRefused, Unavailable
from corpusmill.mill.summary import Summary
from corpusmill.mill.sums import usd


def explain(summary: Summary, *, endpoint: str, missing_key: str | None = None) -> CorpusmillError | None:
    """The error to show for a job that was stopped or paused; None when it ended well or a person paused it.

    Args:
        summary: how the job stands.
        endpoint: where its calls go, for the second line.
        missing_key: the variable to give a key by, where none is set at all.
    """
    if summary.state == "stopped":
        return JobStopped(
            f"every item fails alike, so the job was stopped: {summary.note or 'the endpoint refuses the requests'}",
            where=_where(summary, endpoint),
            next_step="correct the command and run it again; nothing more was sent",
        )
    return _paused(summary, endpoint, missing_key) if summary.state == "paused" else None


def _paused(summary: Summary, endpoint: str, missing_key: str | None) -> CorpusmillError | None:
    where, resume, note = _where(summary, endpoint), f"corpusmill resume {summary.job}", summary.note
    match summary.reason:
        case "budget":
            spent = "" if summary.usd is None else f" ({usd(summary.usd)} USD spent)"
            said = f"{note or 'the budget is reached'}{spent}"
            return BudgetReached(said, where=where, next_step=f"{resume} --budget MORE, or --budget-tokens MORE")
        case "billing":
            said = note or "the provider's credit is used up"
            return BudgetReached(said, where=where, next_step=f"add credit, then: {resume}")
        case "key" if missing_key:
            return KeyRefused(
                "no key is set, and the endpoint wants one",
                where=where,
                next_step=f"export {missing_key}=…   # then the same command again",
            )
        case "key":
            return KeyRefused(
                note or "the endpoint refused the key",
                where=where,
                next_step="set the right key, then the same command again",
            )
        case "endpoint":
            said = note or "the endpoint cannot be reached"
            return Unavailable(said, where=where, next_step=f"when it answers again: {resume}")
        case "disk":
            return DiskFull(note or "the disk is full", where=where, next_step=f"make room, then: {resume}")
        case _:
            return None


def _where(summary: Summary, endpoint: str) -> str:
    done = summary.succeeded + summary.failed
    return f"{endpoint}: {done:,} of {summary.items:,} items done, none lost"
