"""Following a job from the command line: progress, Ctrl-C, the output, and the summary."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from corpusmill.cli.output import out
from corpusmill.cli.progress import progress
from corpusmill.cli.report import outcome_lines, waiting_for_worker
from corpusmill.mill import Job, Mill, Summary
from corpusmill.mill.outcome import explain
from corpusmill.mill.watching import Look

INTERRUPTED = 130
# A worker of one's own needs a moment to come up; only then its absence is worth a word.
_UNSERVED_S = 10.0
_PAUSED_WITHIN_S = 3.0


class Printer:
    """Tells a person what the mill has to say while a job is made."""

    def __init__(self) -> None:
        self._told_s = time.monotonic()

    def note(self, text: str) -> None:
        """A note, as it comes."""
        out.note(text)

    def loading(self, items: int) -> None:
        """How far the loading is, every five seconds."""
        if out.progress and time.monotonic() - self._told_s >= 5:
            self._told_s = time.monotonic()
            out.note(f"loading: {items:,} items")


@contextmanager
def opened() -> Iterator[Mill]:
    """The mill that the settings say, talking to the terminal."""
    with Mill(listener=Printer()) as mill:
        yield mill


def follow(job: Job, *, detach: bool = False, export_to: Path | None = None, force: bool = False) -> int:
    """Follow a job to where it does not go on by itself, write its output and print the summary.

    Args:
        job: the job, started.
        detach: only say how to come back.
        export_to: where to write; None: where the job was told.
        force: replace an output that somebody else wrote.

    Returns:
        The exit code of the command.
    """
    for note in job.notes:
        out.note(note)
    if detach:
        return _left_alone(job)
    if not watched(job):
        return interrupted(job)
    _export(job, export_to, force=force)
    return conclude(job)


def started(job: Job) -> bool:
    """Send a job on its way; False when somebody presses Ctrl-C meanwhile: it may be on its way all the same."""
    try:
        job.start()
    except KeyboardInterrupt:
        return False
    return True


def watched(job: Job) -> bool:
    """Show how the job goes until it does not go on by itself; False when somebody presses Ctrl-C."""
    try:
        _watch(job)
        if not job.wait_for_calls():
            out.note("some calls are still under way; what they bring is saved when it comes")
    except KeyboardInterrupt:
        return False
    return True


def conclude(job: Job) -> int:
    """Print how the job stands, and why it does not go on if so; gives the exit code that says the same."""
    summary = job.summary()
    error = explain(summary, endpoint=job.view.endpoint, missing_key=job.missing_key)
    # An error ends with its own next step.
    for line in outcome_lines(job, summary, with_next=error is None):
        out.summary(line)
    if error is not None:
        out.trouble(error)
    out.result(summary.as_dict())
    return summary.exit_code


def _watch(job: Job) -> None:
    with progress(job.limits) as show:
        unserved_since, told = time.monotonic(), False
        for look in job.looks():
            show(look)
            if look.served or look.job.state == "loading":
                unserved_since = look.at_s
            if not told and look.at_s - unserved_since > _UNSERVED_S:
                told = True
                _tell_unserved(job, look)


def _tell_unserved(job: Job, look: Look) -> None:
    for line in waiting_for_worker(look.job, job.workers(), embedded_log=job.embedded_log):
        out.note(line)


def _export(job: Job, to: Path | None, *, force: bool) -> None:
    summary = job.summary()
    if (to or summary.out) and (summary.succeeded or summary.state == "finished"):
        # What was there before the job started was checked then; a file that has come since is still somebody else's.
        job.export(to, force=force)


def _left_alone(job: Job) -> int:
    summary = job.summary()
    where = f" and writes {summary.out}" if summary.out else ""
    out.summary(f"{job.id} is {summary.state} and needs no command to go on: {summary.items:,} items")
    out.summary(f"`corpusmill watch {job.id}`, or the same command again, follows it{where}; nothing is written before")
    out.result(summary.as_dict())
    return 0


def interrupted(job: Job) -> int:
    """Leave the job, and say how to come back to it; gives the exit code."""
    job.leave()
    summary = _settled(job)
    done = f"{summary.succeeded + summary.failed:,} of {summary.items:,} items done"
    if summary.state == "paused":
        out.note(f"\n{job.id} is paused: {done}; what is in flight is saved, nothing more is sent")
        out.note(f"go on: corpusmill resume {job.id}")
    else:
        out.note(f"\n{job.id} goes on: {done}")
        out.note(f"follow it: corpusmill watch {job.id}   stop it: corpusmill pause {job.id}")
    out.result(summary.as_dict())
    return INTERRUPTED


def _settled(job: Job) -> Summary:
    """The summary once the supervisor has paused the job, if it does: another viewer keeps it running."""
    deadline = time.monotonic() + _PAUSED_WITHIN_S
    while job.pauses_when_left and job.state in ("queued", "running") and time.monotonic() < deadline:
        time.sleep(0.05)
    return job.summary()
