"""How a job went, in words and aligned lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from corpusmill.cli.times import hour
from corpusmill.ledger.records import JobView, WorkerView
from corpusmill.mill import Job, Summary
from corpusmill.mill.sums import usd

# What has to come before a job that was paused for a reason can go on.
_ONCE = {
    "budget": " --budget MORE",
    "billing": "   # once there is credit",
    "key": "   # with the right key set",
    "endpoint": "   # once it answers again",
    "disk": "   # once there is room",
}
_MARKS = {"finished": "✓", "paused": "‖", "stopped": "✗", "cancelled": "✗"}


def outcome_lines(job: Job, summary: Summary, *, with_next: bool = True) -> Iterator[str]:
    """The summary of a job: what was done, what it cost, how fast it was, and what to type next."""
    mark = _MARKS.get(summary.state, "·")
    yield f"{mark} {job.id} {_state(summary)}{_in_seconds(summary.seconds)}"
    following = next_step(summary, missing_key=job.missing_key) if with_next else None
    for name, value in (*_facts(job, summary), *([("next", following)] if following else [])):
        yield f"  {name:<9} {value}"


def _facts(job: Job, summary: Summary) -> Iterator[tuple[str, str]]:
    yield "items", _items(summary)
    if summary.failed:
        yield "failed", by_class(summary.failed_by_class)
    yield "tokens", f"{summary.prompt_tokens:,} in, {summary.completion_tokens:,} out"
    yield "USD", _money(job, summary)
    yield "requests", f"{summary.requests:,} by this command, {summary.requests_total:,} in all{_latency(job)}"
    share = job.share_of_limit()
    if share is not None:
        yield "limit", f"{share:.0%} of it used"
    if summary.out:
        yield "output", summary.out


def next_step(summary: Summary, *, missing_key: str | None = None) -> str | None:
    """What to type next, if anything offers itself; `missing_key` is the variable to set where no key is."""
    if summary.state == "paused":
        before = f"export {missing_key}=… && " if summary.reason == "key" and missing_key else ""
        return f"{before}corpusmill resume {summary.job}{_ONCE.get(summary.reason or 'user', '')}"
    if summary.state == "stopped":
        return f"the corrected command; or, if the endpoint was mended: corpusmill resume {summary.job}"
    if summary.state == "cancelled":
        return f"corpusmill resume {summary.job}   # goes on with the {summary.open:,} open items"
    if summary.state == "finished" and summary.failed:
        return f"corpusmill failures {summary.job}   # then: corpusmill retry {summary.job}"
    if summary.state == "finished" and not summary.out:
        return f"corpusmill export {summary.job} --out FILE"
    if summary.state == "purging":
        return f"corpusmill purge {summary.job}   # goes on with it"
    if summary.state in ("queued", "running"):
        return f"corpusmill watch {summary.job}"
    return None


def by_class(failed: Mapping[str, int]) -> str:
    """`timeout 2, refusal 1`: most frequent first."""
    return ", ".join(f"{name} {count:,}" for name, count in sorted(failed.items(), key=lambda each: -each[1]))


def waiting_for_worker(job: JobView, workers: Sequence[WorkerView], *, embedded_log: Path | None) -> list[str]:
    """Why nobody takes the job, and what to start; `embedded_log` is what the embedded worker writes."""
    if embedded_log is not None and not workers:
        return [f"the worker of this machine is not up yet; if it stays so: tail {embedded_log}"]
    if not workers:
        return [
            f"no worker is running, so {job.public_id} waits",
            "start them, each as a process of its own: corpusmill worker   and   corpusmill scheduler",
        ]
    return [
        f"{len(workers)} worker(s) run, but none holds the provider and key of {job.public_id}",
        f"it needs {job.endpoint} with the key whose fingerprint is {job.key_fingerprint}",
        "give the workers the key of this command: OPENAI_API_KEY and OPENAI_BASE_URL, or CORPUSMILL_PROVIDERS__…",
    ]


def _state(summary: Summary) -> str:
    if summary.parked_until is not None:
        return f"{summary.state}, parked until {hour(summary.parked_until)}: the endpoint allows nothing before"
    return f"{summary.state} ({summary.reason})" if summary.reason else summary.state


def _in_seconds(seconds: float | None) -> str:
    return "" if seconds is None else f", {seconds:,.1f} s"


def _items(summary: Summary) -> str:
    done = f"{summary.items:,}: {summary.succeeded:,} succeeded"
    parts = [
        f"{count:,} {name}" for name, count in (("cached", summary.cached), ("truncated", summary.truncated)) if count
    ]
    inside = f" ({', '.join(parts)})" if parts else ""
    rest = f", {summary.open:,} open" if summary.open else ""
    return f"{done}{inside}, {summary.failed:,} failed{rest}"


def _money(job: Job, summary: Summary) -> str:
    text = usd(summary.usd)
    planned = job.planned_usd()
    if planned is not None and summary.usd is not None:
        text += f" ({usd(planned)} planned)"
    if summary.unknown_usd:
        text += f"; up to {usd(summary.unknown_usd)} more for calls of unknown outcome"
    return text


def _latency(job: Job) -> str:
    found = job.latencies()
    return "" if found is None else f"; latency p50 {found[0] / 1000:.2f} s, p95 {found[1] / 1000:.2f} s"
